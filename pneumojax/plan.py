"""What a study will do, and whether it can: drawn and checked before anything is written."""

from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

import numpy as np
from absl import logging

from pneumojax import arms, gan, offers, protocols
from pneumojax.arms import Arm
from pneumojax.data import Images, splits
from pneumojax.errors import BadInput
from pneumojax.stage import Stage, seed_of

Plans = dict[tuple[int, str], "Plan"]  # by trial and protocol
MADE = ("generated", "permuted")  # kinds of blocks that GANs make; those of the latter saw permuted labels


class Block(NamedTuple):
    """Images that one trial and protocol adds to the table, one after another."""

    kind: str  # one of MADE; or made of other images: shuffled, low_resolution, copies
    first: int  # row of the first
    labels: np.ndarray  # int32 [n]
    source: np.ndarray  # int [n], the rows that they are made of; [0] of what GANs make
    seed: int = 0  # of the GANs

    @property
    def rows(self) -> np.ndarray:
        """Of its images."""
        return self.first + np.arange(len(self.labels))


class Plan(NamedTuple):
    """One protocol of one trial, in rows of the study's table."""

    trial: int
    protocol: str
    seen_by_gan: np.ndarray  # rows of the real images that the GAN is trained on
    inner: np.ndarray  # rows of those that are kept from it, to choose its best state by
    blocks: list[Block]  # what it adds to the table
    arms: dict[Stage, Arm]  # for the first seed of classifiers
    record: dict  # this protocol's entry in splits.json, rows for names

    def gan_stages(self, module: ModuleType, classes) -> dict[Stage, tuple[Block, tuple[int, ...]]]:
        """The states that its GANs need → the images that each makes, and their labels; none where no arm has them."""
        used, found = rows_of(self.arms.values()), {}
        for block in self.blocks:
            if block.kind in MADE and np.isin(block.rows, used).any():
                for name, labels in gan.states(module, classes).items():
                    if np.isin(block.labels, labels).any():
                        own = name if block.kind == "generated" else f"{name}.{block.kind}"
                        found[Stage(self.trial, self.protocol, gan=own, gan_seed=block.seed)] = block, labels
        return found


def rows_of(arms: Iterable[Arm]) -> np.ndarray:
    """All rows that arms are trained and tested on, some more than once."""
    return np.concatenate([rows for arm in arms for rows in (arm.train, arm.extra, *arm.tests.values())])


class World(NamedTuple):
    """All images that a study speaks of: its own, the external ones, then generated ones; a column each, by row."""

    names: list[str]
    labels: np.ndarray  # int32
    patients: list[str]  # a generated image is a patient of its own
    parts: list[str]
    subtypes: list[str]
    groups: np.ndarray  # int, equal for images that share a patient or their pixels; a generated one's below 0, its own


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
    collection = protocols.Collection(own.names, own.labels, groups, own.parts, subsets, count)
    labels = np.concatenate([own.labels, np.zeros(count - len(own.labels), np.int32)])  # external ones are not offered
    plans, shared = {}, {trial for trial, subset in subsets.items() if not subset.disjoint}
    for trial in config.trials:
        for protocol in config.protocols:
            plan, labels = plan_of(trial, protocol, collection, labels, external, config)
            plans[trial, protocol] = plan
            shared |= {trial} if not plan.record.get("disjoint_from_earlier_trials", True) else set()
    overlapping = [trial for trial in config.trials if trial in shared]
    if overlapping:
        logging.warning("trials %s share patients with earlier ones: the images do not suffice", overlapping)
    offered = {plan.protocol: {stage.arm: arm for stage, arm in plan.arms.items()} for plan in plans.values()}
    offers.say_what_lacks(config, offered)
    return compact(plans, count), overlapping


def plan_of(trial: int, protocol: str, collection, labels: np.ndarray, external, config) -> tuple[Plan, np.ndarray]:
    """One trial and protocol, and the labels of all rows that there are then; `labels` are those before, int32 [n]."""
    blocks, given, record = [], {}, {}
    for seed in range(config.gan.seeds):
        drawn = protocols.PROTOCOLS[protocol](collection._replace(first_generated=len(labels)), config, trial)
        new, labels = blocks_of(drawn, labels, seed, [config.seed, trial, seed, 10])
        blocks += new
        controls = {block.kind: block.rows for block in blocks}  # of this seed, or else of the first
        offer = arms.Offer(
            plain=drawn.plain,
            pooled=drawn.pooled,
            equal_steps=protocol in protocols.REAL_TEST,
            seed=seed_of(config.seed, trial, protocol, "arms"),
            config=config.classifier,
            labels=labels,
            controls=controls,
        )
        found = offers.arms_of(offer, protocol, config, external)
        if seed:  # an arm without any of the new images is that of the first seed
            made = np.concatenate([block.rows for block in new])
            found = {name: arm for name, arm in found.items() if np.isin(rows_of([arm]), made).any()}
        else:
            seen, inner = inner_part(drawn.seen_by_gan, collection, config, trial)
            record = drawn.record | ({"gan_inner": inner} if len(inner) else {})
        if seed and "with_gan" in record:
            record[f"with_gan-gan{seed}"] = drawn.record["with_gan"]
        given |= {Stage(trial, protocol, arm=name, gan_seed=seed): arm for name, arm in found.items()}
    return Plan(trial, protocol, seen, inner, blocks, given, record), labels


def blocks_of(drawn: protocols.Drawn, labels: np.ndarray, seed: int, rng_seed) -> tuple[list[Block], np.ndarray]:
    """What a protocol and a seed of its GANs could add to the table, and the labels of all rows there are then."""
    real, blocks = drawn.plain.real, []

    def add(kind: str, own: np.ndarray, source: np.ndarray) -> None:
        nonlocal labels
        blocks.append(Block(kind, len(labels), own.astype(np.int32), source, seed))
        labels = np.concatenate([labels, blocks[-1].labels])

    made = np.repeat(np.arange(len(drawn.generated)), drawn.generated)
    add("generated", made, protocols.NOBODY)
    if (chosen := splits.first_ones(blocks[0].rows, real, labels, 1.0)) is not None:
        add("permuted", labels[chosen], protocols.NOBODY)
        add("shuffled", np.random.default_rng(rng_seed).permutation(labels[chosen]), chosen)
    if seed == 0:
        add("low_resolution", labels[real], real)
        add("copies", labels[real], real)
    return blocks, labels


def compact(plans: Plans, count: int) -> Plans:
    """Plans less the blocks that no arm asks for, but for generated ones, which splits.json names; rows move up."""
    used = rows_of(arm for plan in plans.values() for arm in plan.arms.values())
    kept = [[b for b in p.blocks if b.kind == "generated" or np.isin(b.rows, used).any()] for p in plans.values()]
    there = np.concatenate([np.arange(count), *(block.rows for blocks in kept for block in blocks)])

    def moved(value):
        if isinstance(value, dict):
            return {key: moved(one) for key, one in value.items()}
        return np.searchsorted(there, value) if isinstance(value, np.ndarray) else value

    found = {}
    for (key, plan), blocks in zip(plans.items(), kept, strict=True):
        found[key] = plan._replace(
            blocks=[
                b._replace(first=int(moved(b.rows)[0]) if len(b.labels) else 0, source=moved(b.source)) for b in blocks
            ],
            arms={
                stage: arm._replace(train=moved(arm.train), extra=moved(arm.extra), tests=moved(arm.tests))
                for stage, arm in plan.arms.items()
            },
            record=moved(plan.record),
        )
    return found


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


def world(images: Images, plans: Plans, classes) -> World:
    """The columns of all rows."""
    names, patients = list(images.names), list(images.patients)
    labels, groups = [images.labels], splits.group(images.patients, images.digests)
    for plan in plans.values():
        numbers: dict[tuple[str, int], int] = {}  # of each kind and class, those there are
        for block in plan.blocks:
            labels.append(block.labels)
            groups = np.concatenate([groups, groups[block.source] if len(block.source) else -block.rows])
            if len(block.source):
                patients += [patients[row] for row in block.source]
                names += [f"{block.kind}/{names[row]}" for row in block.source]
                continue
            for label in block.labels.tolist():
                number = numbers.get((block.kind, label), 0)
                numbers[block.kind, label] = number + 1
                names.append(f"{block.kind}/{classes[label]}/{number}")
                patients.append(names[-1])
    empty = [""] * (len(names) - len(images.names))
    parts, subtypes = [*images.parts, *empty], [*images.subtypes, *empty]
    return World(names, np.concatenate(labels), patients, parts, subtypes, groups)


def labels_for_gans(own: Images, config) -> dict[str, np.ndarray]:
    """What the GANs of each kind of block take for the labels of the study's images: int32 [N].

    `permuted` ones are drawn by patient, or patients' looks would tell them: each gets the label of another one's.
    """
    groups = splits.group(own.patients, own.digests)
    heads = np.unique(groups)
    of_head = np.zeros(len(groups), np.int32)
    of_head[heads] = np.random.default_rng([config.seed, 7]).permutation(own.labels[heads])
    return {"generated": own.labels, "permuted": of_head[groups]}


def check_batches(plans: Plans, labels: dict[str, np.ndarray], gan_module: ModuleType, config) -> None:
    """Errors: BadInput where a batch has more images than there are to train on; `labels` are those for GANs."""
    for plan in plans.values():
        batches = []  # (field, images in a batch, images there are)
        for stage, arm in plan.arms.items():
            of = f" of {stage.arm}" if "batch_size" in arm.overrides else ""
            batch = arm.overrides.get("batch_size", config.classifier.batch_size)
            there = min(len(rows) for rows in (arm.train, arm.extra) if len(rows) or rows is arm.train)
            batches.append((f"config.classifier.batch_size={batch}{of}", batch, there))
        for block, own in plan.gan_stages(gan_module, config.data.classes).values():
            batch, seen = config.gan.batch_size, labels[block.kind][plan.seen_by_gan]
            batches.append((f"config.gan.batch_size={batch}", batch, int(np.isin(seen, own).sum())))
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
