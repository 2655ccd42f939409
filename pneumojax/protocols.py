"""The protocols: what each arm is trained on and for how long, and the parts that it is tested on.

`paper` does what the paper did: the GAN sees the whole subset, and the pool of real and generated images is split
80/20, so the test set holds generated images. The others show the GAN the training part only and test on real images
only: `clean` splits the same subset by patient before anything is trained, `official` takes the published folders
train and test, `patient_kfold` each fold of all images in turn.
"""

from typing import NamedTuple

from pneumojax.data import splits
from pneumojax.errors import BadInput


class Collection(NamedTuple):
    """The images that protocols draw from."""

    labels: dict[str, int]  # by name
    groups: dict[str, str]  # by name: images that share a patient or their pixels
    subsets: dict[int, splits.Subset]  # trial → its subset, for the protocols in SUBSET


class Arm(NamedTuple):
    """One classifier of one trial."""

    train: list[str]  # names
    steps: int  # of the optimiser
    parts: dict[str, list[str]]  # part of the test → names


class Plan(NamedTuple):
    """One protocol of one trial."""

    seen_by_gan: list[str]  # names of the real images that the GAN is trained on
    generated: list[str]  # names of the images that it is to make, class after class
    arms: dict[str, Arm]
    record: dict  # this protocol's entry in splits.json

    def and_scored_on(self, parts: dict[str, list[str]]) -> "Plan":
        """The same, its arms tested on further parts as well."""
        return self._replace(arms={name: arm._replace(parts=arm.parts | parts) for name, arm in self.arms.items()})


def optimiser_steps(config, images: int, images_without_gan: int) -> int:
    """Steps for as many epochs over `images` as the arm without GAN makes over its own."""
    if config.steps:
        return round(config.steps * images / images_without_gan)
    return config.epochs * (images // config.batch_size)


def those_that_differ(generated: list[str], arms: dict[str, Arm]) -> dict[str, Arm]:
    """The arms; only the one without GAN where no image is generated, as with `config.enlarge=1`."""
    return arms if generated else {"without_gan": arms["without_gan"]}


def with_and_without_gan(
    split: splits.Split, unseen: list[str], record: dict, collection: Collection, config, trial: int
) -> Plan:
    """The arms of all protocols that test on real images only, with equal numbers of optimiser steps.

    `with_gan_epochs` is the arm that is matched by epochs instead, which is the paper's way. `config.data.fraction`
    takes a part of the training patients, for learning curves; the test stays as it is.
    """
    labels, groups, _ = collection
    train = split.train
    if config.data.fraction < 1:
        train = splits.part_of_groups(train, labels, groups, config.data.fraction, (config.seed, trial, 4))
        record = record | {"not_used": sorted(set(split.train) - set(train))}
    generated = splits.generated_names(splits.count(train, labels), config.enlarge)
    parts = {"test": split.test, "unseen": unseen}
    steps = optimiser_steps(config.classifier, len(train), len(train))
    enlarged = train + generated
    enlarged_steps = optimiser_steps(config.classifier, len(enlarged), len(train))
    return Plan(
        seen_by_gan=train,
        generated=generated,
        arms=those_that_differ(
            generated,
            {
                "without_gan": Arm(train, steps, parts),
                "with_gan": Arm(enlarged, steps, parts),
                "with_gan_epochs": Arm(enlarged, enlarged_steps, parts),
            },
        ),
        record={"train": train, "test": split.test, "unseen": unseen, **record},
    )


def clean(collection: Collection, config, trial: int) -> Plan:
    """The trial's subset split by patient; `unseen` are all images outside of it."""
    labels, groups, subsets = collection
    subset = subsets[trial]
    seed = (config.seed, trial, 1)
    split = splits.hold_out_groups(subset.chosen, labels, groups, config.data.test_fraction, seed)
    record = {
        "subset": subset.chosen,
        "excluded": subset.excluded,
        "disjoint_from_earlier_trials": subset.disjoint,
    }
    return with_and_without_gan(split, unseen_of(collection, trial), record, collection, config, trial)


def unseen_of(collection: Collection, trial: int) -> list[str]:
    """The images outside of a trial's subset, less those of patients who are in it."""
    subset = collection.subsets[trial]
    return sorted(set(collection.labels) - set(subset.chosen) - set(subset.excluded))


def official(collection: Collection, config, trial: int) -> Plan:
    """Train and test as published; a trial is a seed. The images of `val` are used for nothing.

    Errors: BadInput where the data have no such folders.
    """
    labels, groups, _ = collection
    sides = {side: sorted(name for name in labels if name.startswith(f"{side}/")) for side in ("train", "test")}
    split = splits.Split(**sides)
    splits.check_sides(split, labels, "the data have no such folder; bring the published set, or leave out 'official'")
    used = sorted(split.train + split.test)
    record = {
        "subset": used,
        "excluded": sorted(set(labels) - set(used)),
        "groups_on_both_sides": len({groups[n] for n in split.train} & {groups[n] for n in split.test}),
    }
    return with_and_without_gan(split, [], record, collection, config, trial)


def patient_kfold(collection: Collection, config, trial: int) -> Plan:
    """All images, those of fold number `trial` to test on; no patient is in two folds.

    Errors: BadInput where there is no such fold, or one lacks a class.
    """
    labels, groups, _ = collection
    if trial >= config.data.folds:
        raise BadInput(
            f"config.trials={config.trials}: with config.data.folds={config.data.folds} the folds of patient_kfold are "
            f"0 to {config.data.folds - 1}; give these, or more folds"
        )
    split = splits.fold_of_groups(labels, groups, config.data.folds, trial, config.seed)
    return with_and_without_gan(split, [], {"subset": sorted(labels), "excluded": []}, collection, config, trial)


def paper(collection: Collection, config, trial: int) -> Plan:
    """Split by image, generated images in training and test, equal numbers of epochs (paper, sections 5 and 6)."""
    labels, _, subsets = collection  # the paper knows no patients
    subset = subsets[trial]
    fraction = config.data.test_fraction
    generated = splits.generated_names(splits.count(subset.chosen, labels), config.enlarge)
    pool_labels = labels | splits.labels_of_generated(generated)
    without = splits.hold_out_images(subset.chosen, labels, fraction, (config.seed, trial, 2))
    pooled = splits.hold_out_images(subset.chosen + generated, pool_labels, fraction, (config.seed, trial, 3))
    unseen = unseen_of(collection, trial)
    steps = optimiser_steps(config.classifier, len(without.train), len(without.train))
    pooled_steps = optimiser_steps(config.classifier, len(pooled.train), len(without.train))
    return Plan(
        seen_by_gan=subset.chosen,
        generated=generated,
        arms=those_that_differ(
            generated,
            {
                "without_gan": Arm(without.train, steps, {"test": without.test, "unseen": unseen}),
                "with_gan": Arm(
                    pooled.train,
                    pooled_steps,
                    {
                        "test": pooled.test,
                        "test_real": [name for name in pooled.test if name in labels],
                        "test_generated": [name for name in pooled.test if name not in labels],
                        "unseen": unseen,
                    },
                ),
            },
        ),
        record={
            "subset": subset.chosen,
            "without_gan": without._asdict(),
            "with_gan": pooled._asdict(),
        },
    )


PROTOCOLS = {"clean": clean, "paper": paper, "official": official, "patient_kfold": patient_kfold}
SUBSET = ("clean", "paper")  # those that draw a trial's subset
REAL_TEST = ("clean", "official", "patient_kfold")  # those whose arms have the same real images to test on
