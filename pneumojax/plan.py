"""What a study will do, and whether it can: drawn and checked before anything is written."""

from types import ModuleType
from typing import NamedTuple

import numpy as np
from absl import logging

from pneumojax import arms, gan, lookup, protocols
from pneumojax.arms import Arm
from pneumojax.config import with_overrides
from pneumojax.data import Images, splits
from pneumojax.errors import BadInput
from pneumojax.stage import Stage, seed_of

Plans = dict[tuple[int, str], "Plan"]  # by trial and protocol


class Plan(NamedTuple):
    """One protocol of one trial, in rows of the study's table."""

    trial: int
    protocol: str
    seen_by_gan: np.ndarray  # rows of the real images that the GAN is trained on
    generated: np.ndarray  # int [classes], images that it is to make
    first_generated: int  # row of the first of them
    arms: dict[str, Arm]
    record: dict  # this protocol's entry in splits.json, rows for names

    def gan_stages(self, module: ModuleType, classes) -> dict[Stage, tuple[int, ...]]:
        """The states that its GAN needs → the labels that each is trained on; none where nothing is generated."""
        if not self.generated.sum():
            return {}
        return {
            Stage(self.trial, self.protocol, gan=name): labels for name, labels in gan.states(module, classes).items()
        }


class World(NamedTuple):
    """All images that a study speaks of: its own, the external ones, then generated ones; a column each, by row."""

    names: list[str]
    labels: np.ndarray  # int32
    patients: list[str]  # a generated image is a patient of its own
    parts: list[str]
    subtypes: list[str]


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
            first = collection.first_generated
            plans[trial, protocol] = Plan(
                trial,
                protocol,
                drawn.seen_by_gan,
                drawn.generated,
                first,
                arms_of(drawn, protocol, trial, config, external),
                drawn.record,
            )
            collection = collection._replace(first_generated=first + int(drawn.generated.sum()))
    return plans, overlapping


def arms_of(drawn: protocols.Drawn, protocol: str, trial: int, config, external) -> dict[str, Arm]:
    """The arms of `config.arms` that have a place under a protocol."""
    offer = arms.Offer(
        plain=drawn.plain,
        pooled=drawn.pooled,
        equal_steps=protocol in protocols.REAL_TEST,
        seed=seed_of(config.seed, trial, protocol, "arms"),
        config=config.classifier,
    )
    found = {}
    for name in config.arms:
        arm = lookup.function("pneumojax.arms", name, "config.arms")(offer)
        if arm is not None:
            with_overrides(config.classifier, arm.overrides)
            found[name.rpartition(".")[2]] = arm._replace(tests=arm.tests | external)
    if not found:
        raise BadInput(f"config.arms={config.arms}: none has a place under the protocol {protocol}; add 'without_gan'")
    against = {name: arm.against for name, arm in found.items() if arm.against not in (None, *found)}
    if against:
        name, missing = next(iter(against.items()))
        raise BadInput(f"config.arms={config.arms}: {name} counts against {missing}, which is not among them; add it")
    return found


def world(images: Images, plans: Plans, classes) -> World:
    """The columns of all rows."""
    columns = World(list(images.names), images.labels, list(images.patients), list(images.parts), list(images.subtypes))
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
        )
    return columns


def check_batches(plans: Plans, labels: np.ndarray, gan_module: ModuleType, config) -> None:
    """Errors: BadInput where a batch has more images than there are to train on."""
    for plan in plans.values():
        smallest = {"classifier": min(len(arm.train) for arm in plan.arms.values())}
        wanted = {"classifier": config.classifier.batch_size, "gan": config.gan.batch_size * config.gan.d_steps}
        states = plan.gan_stages(gan_module, config.data.classes).values()
        if states:
            smallest["gan"] = min(int(np.isin(labels[plan.seen_by_gan], own).sum()) for own in states)
        for field, there in smallest.items():
            if wanted[field] > there:
                steps = (
                    f", config.gan.d_steps={config.gan.d_steps}" if field == "gan" and config.gan.d_steps > 1 else ""
                )
                raise BadInput(
                    f"config.{field}.batch_size={config[field].batch_size}{steps}: more than the {there} images there "
                    f"are to train on; lower it or raise config.data.subset or config.data.fraction"
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
