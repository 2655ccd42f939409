"""What a study will do, and whether it can: drawn and checked before anything is written."""

import inspect
from types import ModuleType
from typing import NamedTuple

import numpy as np
from absl import logging

from pneumojax import arms, gan, lookup, protocols
from pneumojax.arms import Arm
from pneumojax.config import with_overrides
from pneumojax.data import Images, splits
from pneumojax.errors import BadInput, describe
from pneumojax.stage import Stage, seed_of

Plans = dict[tuple[int, str], "Plan"]  # by trial and protocol


class Plan(NamedTuple):
    """One protocol of one trial, in rows of the study's table."""

    trial: int
    protocol: str
    seen_by_gan: np.ndarray  # rows of the real images that the GAN is trained on
    inner: np.ndarray  # rows of those that are kept from it, to choose its best state by
    generated: np.ndarray  # int [classes], images that it is to make
    first_generated: int  # row of the first of them
    arms: dict[str, Arm]
    record: dict  # this protocol's entry in splits.json, rows for names

    def gan_stages(self, module: ModuleType, classes) -> dict[Stage, tuple[int, ...]]:
        """The states that its GAN needs → the labels that each is trained on; none where no arm has what it makes."""
        rows = [rows for arm in self.arms.values() for rows in (arm.train, *arm.tests.values())]
        if np.concatenate(rows).max() < self.first_generated:
            return {}
        states = gan.states(module, classes).items()
        wanted = {name: labels for name, labels in states if self.generated[list(labels)].any()}
        return {Stage(self.trial, self.protocol, gan=name): labels for name, labels in wanted.items()}


class World(NamedTuple):
    """All images that a study speaks of: its own, the external ones, then generated ones; a column each, by row."""

    names: list[str]
    labels: np.ndarray  # int32
    patients: list[str]  # a generated image is a patient of its own
    parts: list[str]
    subtypes: list[str]
    groups: np.ndarray  # int, equal for images that share a patient or their pixels; a generated one is alone


def draw(own: Images, external: dict[str, np.ndarray], count: int, config) -> tuple[Plans, list[int]]:
    """What each trial and protocol will do.

    Args:
      own: images of the study itself.
      external: rows of further test sets, which every arm is scored on.
      count: of real images, external ones included; generated ones get the rows behind them.
      config: of the study.

    Returns: (plans, trials that share patients).

    Errors: BadInput where the images do not suffice, or an arm is not known or misses fields.
    """
    groups = splits.group(own.patients, own.digests)
    subsets = {}
    if set(config.protocols) & set(protocols.SUBSET):
        classes = config.data.classes
        subsets = splits.draw_subsets(own.labels, groups, config.data.subset, classes, config.trials, config.seed)
    overlapping = [trial for trial, subset in subsets.items() if not subset.disjoint]
    if overlapping:
        logging.warning("trials %s share patients with earlier ones: the images do not suffice", overlapping)
    collection = protocols.Collection(own.names, own.labels, groups, own.parts, subsets, count)
    plans = {}
    for trial in config.trials:
        for protocol in config.protocols:
            drawn = protocols.PROTOCOLS[protocol](collection, config, trial)
            seen, inner = inner_part(drawn.seen_by_gan, collection, config, trial)
            first = collection.first_generated
            plans[trial, protocol] = Plan(
                trial,
                protocol,
                seen,
                inner,
                drawn.generated,
                first,
                arms_of(drawn, protocol, trial, config, external),
                drawn.record | ({"gan_inner": inner} if len(inner) else {}),
            )
            collection = collection._replace(first_generated=first + int(drawn.generated.sum()))
    return plans, overlapping


def inner_part(rows: np.ndarray, collection: protocols.Collection, config, trial: int) -> splits.Split:
    """Of the rows that a GAN may see those that it does, and those kept from it, by patient under every protocol.

    Errors: BadInput where a class has none that it sees, or fewer than two that are kept.
    """
    if config.quality.inner == 0:
        return splits.Split(rows, np.zeros(0, int))
    classes, field = config.data.classes, f"config.quality.inner={config.quality.inner}"
    split = splits.hold_out_groups(
        rows,
        collection.labels,
        collection.groups,
        classes,
        config.quality.inner,
        (config.seed, trial, 5),
        f"{field}: no patient is split; change it or bring images of more patients",
    )
    for name, kept in zip(classes, splits.count(split.test, collection.labels, classes), strict=True):
        if kept < 2:
            raise BadInput(
                f"{field}: it keeps one image of {name}, and a KID takes two; raise it or config.data.subset"
            )
    return split


def arms_of(drawn: protocols.Drawn, protocol: str, trial: int, config, external) -> dict[str, Arm]:
    """The arms of `config.arms` that have a place under a protocol, by the last part of their words."""
    offer = arms.Offer(
        plain=drawn.plain,
        pooled=drawn.pooled,
        equal_steps=protocol in protocols.REAL_TEST,
        seed=seed_of(config.seed, trial, protocol, "arms"),
        config=config.classifier,
    )
    given = {word.rpartition(".")[2]: arm_of(word, offer) for word in config.arms}
    found = {name: arm._replace(tests=arm.tests | external) for name, arm in given.items() if arm}
    if not found:
        raise BadInput(f"config.arms={config.arms}: none has a place under the protocol {protocol}; add 'without_gan'")
    for name, arm in found.items():
        if arm.against not in (None, *found):
            why = "is not among them; add it"
            if arm.against in given:
                why = f"has no place under {protocol} with config.enlarge={config.enlarge}; give None there as well"
            raise BadInput(f"config.arms={config.arms}: {name} counts against {arm.against}, which {why}")
    return found


def arm_of(word: str, offer: arms.Offer) -> Arm | None:
    """What the function that `config.arms` names makes of an offer. Errors: BadInput, which names the word."""
    function = lookup.function("pneumojax.arms", word, "config.arms")
    try:
        arm = function(offer)
        if not isinstance(arm, Arm | None):
            raise BadInput(f"it gives {type(arm).__name__}; let it give pneumojax.arms.Arm, or None for no place")
        if arm is not None:
            check_arm(arm, offer)
    except Exception as error:  # a function may raise anything
        kind = "" if isinstance(error, BadInput) else f"{type(error).__name__}: "
        raise BadInput(f"config.arms: {word}: {kind}{describe(error)}") from error
    return arm


def own_modules(config) -> tuple[str, ...]:
    """Files of the modules from elsewhere that `config.arms` names."""
    functions = [lookup.function("pneumojax.arms", word, "config.arms") for word in config.arms if "." in word]
    return tuple(sorted({inspect.getfile(function) for function in functions}))


def check_arm(arm: Arm, offer: arms.Offer) -> None:
    """Errors: BadInput for an arm that cannot be trained, or not be tested honestly."""
    if not isinstance(arm.train, np.ndarray) or arm.train.dtype.kind != "i":
        raise BadInput("its `train` is no int array; give rows, as offer.plain.real has them")
    offered = [rows for material in (offer.plain, offer.pooled) for rows in (material.real, material.generated)]
    if not np.isin(arm.train, np.concatenate(offered)).all():
        raise BadInput("it trains on rows that it was not offered; take them from offer.plain and offer.pooled")
    if np.isin(arm.train, np.concatenate([np.zeros(0, int), *arm.tests.values()])).any():
        raise BadInput("it trains on images that it is tested on; leave them out of either")
    if not len(arm.tests.get("test", ())):
        raise BadInput("it has no image in its part 'test'; raise config.data.test_fraction or config.data.subset")
    if not isinstance(arm.steps, int | np.integer) or arm.steps < 1:
        raise BadInput(f"its `steps` are {arm.steps!r}; give a whole number above 0")
    if own := {"steps", "epochs"} & set(arm.overrides):
        raise BadInput(f"its `overrides` hold {min(own)}, which nothing reads; give the arm's `steps`")
    with_overrides(offer.config, arm.overrides)


def world(images: Images, plans: Plans, classes) -> World:
    """The columns of all rows."""
    texts = map(list, (images.patients, images.parts, images.subtypes))
    columns = World(list(images.names), images.labels, *texts, splits.group(images.patients, images.digests))
    for plan in plans.values():
        names = protocols.generated_names(plan.generated, classes)
        empty = [""] * len(names)
        labels = np.repeat(np.arange(len(classes), dtype=np.int32), plan.generated)
        columns = World(
            columns.names + names,
            np.concatenate([columns.labels, labels]),
            columns.patients + names,
            columns.parts + empty,
            columns.subtypes + empty,
            np.concatenate([columns.groups, len(columns.names) + np.arange(len(names))]),
        )
    return columns


def check_batches(plans: Plans, labels: np.ndarray, gan_module: ModuleType, config) -> None:
    """Errors: BadInput where a batch has more images than there are to train on."""
    for plan in plans.values():
        batches = []  # (field, images in a batch, images there are)
        for name, arm in plan.arms.items():
            of = f" of {name}" if "batch_size" in arm.overrides else ""
            batch = arm.overrides.get("batch_size", config.classifier.batch_size)
            batches.append((f"config.classifier.batch_size={batch}{of}", batch, len(arm.train)))
        for own in plan.gan_stages(gan_module, config.data.classes).values():
            batch = config.gan.batch_size
            batches.append((f"config.gan.batch_size={batch}", batch, int(np.isin(labels[plan.seen_by_gan], own).sum())))
        for field, batch, there in sorted(batches, key=lambda one: one[2]):
            if batch > there:
                raise BadInput(
                    f"{field}: more than the {there} images there are to train on; lower it or raise "
                    "config.data.subset or config.data.fraction"
                )


def say_enlarged(plans: Plans, own: Images, config) -> None:
    """Says how many of the images that GANs see are smaller than what they make."""
    seen = np.unique(np.concatenate([plan.seen_by_gan for plan in plans.values()]))
    if own.sides and (small := sum(own.sides[row] < config.gan.image_size for row in seen)):
        what = "GANs see them enlarged and learn the blur; lower it"
        logging.warning(
            "config.gan.image_size=%d: %d of %d images are smaller: %s", config.gan.image_size, small, len(seen), what
        )


def official_groups_on_both_sides(plans: Plans) -> int:
    """Groups of one patient or picture that the published folders train and test share; 0 without that protocol."""
    return max((plan.record.get("groups_on_both_sides", 0) for plan in plans.values()), default=0)


def record(plans: Plans, names: list[str]) -> list[dict]:
    """The trials of splits.json: names for rows."""

    def named(value):
        if isinstance(value, dict):
            return {key: named(one) for key, one in value.items()}
        return [names[row] for row in value] if isinstance(value, np.ndarray) else value

    trials: dict[int, dict] = {}
    for plan in plans.values():
        trials.setdefault(plan.trial, {"trial": plan.trial})[plan.protocol] = named(plan.record)
    return list(trials.values())
