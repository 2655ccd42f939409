"""The protocols: who may be seen and who is tested, as rows.

`paper` does what the paper did: the GAN sees the whole subset, and the pool of real and generated images is split
80/20, so the test set holds generated images. The others show the GAN the training part only and test on real images
only: `clean` splits the same subset by patient before anything is trained, `disjoint` tests all trials on the same part
of all patients and trains each on a subset of the others, `official` takes the published folders train and test,
`patient_kfold` each fold of all images in turn.
"""

from typing import NamedTuple

import numpy as np

from pneumojax.arms import Material
from pneumojax.data import splits
from pneumojax.errors import BadInput

NOBODY = np.zeros(0, int)


class Collection(NamedTuple):
    """The images that protocols draw from, in the order of their names; generated ones get rows behind all others."""

    names: tuple[str, ...]
    labels: np.ndarray  # int32 [N]
    groups: np.ndarray  # int [N], the first row of those that share a patient or their pixels
    parts: tuple[str, ...]  # published folder of each
    subsets: dict[int, splits.Subset]  # trial → its subset, for the protocols in SUBSET
    first_generated: int  # row of the first image that this trial's and protocol's GAN makes


class Drawn(NamedTuple):
    """What one protocol draws for one trial."""

    seen_by_gan: np.ndarray  # rows of the real images that the GAN is trained on
    generated: np.ndarray  # int [classes], images that it is to make
    plain: Material
    pooled: Material
    record: dict  # this protocol's entry in splits.json; rows for names


def wanted(rows: np.ndarray, collection: Collection, config) -> tuple[np.ndarray, np.ndarray]:
    """Generated images of each class that enlarge those at `rows` to `config.enlarge` times as many, and their rows."""
    total = splits.count(rows, collection.labels, config.data.classes)
    counts = splits.held_out(total, config.enlarge - 1)
    return counts, collection.first_generated + np.arange(counts.sum())


def real_tests(split: splits.Split, unseen: np.ndarray, record: dict, collection: Collection, config, trial) -> Drawn:
    """The protocols that test on real images only.

    `config.data.fraction` takes a part of the training patients, for learning curves; the test stays as it is.
    `config.evaluate.inner` keeps a part of them from GANs and classifiers, the part `inner` of the tests.

    Errors: BadInput where a class would be missing on a side of that.
    """
    train = split.train
    if config.data.fraction < 1:
        seed = (config.seed, trial, 4)
        train = splits.part_of_groups(train, collection.labels, collection.groups, config.data.fraction, seed)
        record = record | {"not_used": np.setdiff1d(split.train, train)}
    tests = {"test": split.test, "unseen": unseen}
    if config.evaluate.inner:
        why = f"config.evaluate.inner={config.evaluate.inner}: no patient is split; change it, or bring more patients"
        seed, classes = (config.seed, trial, 8), config.data.classes
        train, tests["inner"] = splits.hold_out_groups(
            train, collection.labels, collection.groups, classes, config.evaluate.inner, seed, why
        )
    counts, generated = wanted(train, collection, config)
    return Drawn(
        seen_by_gan=train,
        generated=counts,
        plain=Material(train, NOBODY, tests),
        pooled=Material(train, generated, tests),
        record={"train": train, **tests, **record},
    )


def clean(collection: Collection, config, trial: int) -> Drawn:
    """The trial's subset split by patient; `unseen` are all images outside of it."""
    subset = collection.subsets[trial]
    split = splits.hold_out_groups(
        subset.chosen,
        collection.labels,
        collection.groups,
        config.data.classes,
        config.data.test_fraction,
        (config.seed, trial, 1),
    )
    record = {
        "subset": subset.chosen,
        "excluded": subset.excluded,
        "disjoint_from_earlier_trials": subset.disjoint,
    }
    return real_tests(split, unseen_of(collection, trial), record, collection, config, trial)


def unseen_of(collection: Collection, trial: int) -> np.ndarray:
    """The images outside of a trial's subset, less those of patients who are in it."""
    subset = collection.subsets[trial]
    return np.setdiff1d(np.arange(len(collection.labels)), np.concatenate([subset.chosen, subset.excluded]))


def disjoint(collection: Collection, config, trial: int) -> Drawn:
    """The same test patients in all trials, a fraction of all; each trains on a subset of the others of its own.

    Training sets without a patient in common make trials replicates of the procedure, as far as the images suffice.
    """
    labels, groups, classes = collection.labels, collection.groups, config.data.classes
    everything = np.arange(len(labels))
    seed = (config.seed, 0, 9)
    why = "no patient is split; raise config.data.test_fraction or bring images of more patients"
    others, test = splits.hold_out_groups(everything, labels, groups, classes, config.data.test_fraction, seed, why)
    counts = config.data.subset
    subset = splits.draw_subsets(labels[others], groups[others], counts, classes, (trial,), config.seed)[trial]
    chosen = others[subset.chosen]
    record = {
        "subset": chosen,
        "excluded": np.setdiff1d(others, chosen),
        "disjoint_from_earlier_trials": subset.disjoint,
    }
    return real_tests(splits.Split(chosen, test), NOBODY, record, collection, config, trial)


def official(collection: Collection, config, trial: int) -> Drawn:
    """Train and test as published; a trial is a seed. The images of `val` are used for nothing.

    Errors: BadInput where the data have no such folders.
    """
    parts, groups = np.array(collection.parts), collection.groups
    split = splits.Split(*(np.flatnonzero(parts == side) for side in ("train", "test")))
    why = "the data have no such folder; bring the published set, or leave out 'official'"
    splits.check_sides(split, collection.labels, config.data.classes, why)
    used = np.sort(np.concatenate(split))
    record = {
        "subset": used,
        "excluded": np.setdiff1d(np.arange(len(parts)), used),
        "groups_on_both_sides": len(set(groups[split.train].tolist()) & set(groups[split.test].tolist())),
    }
    return real_tests(split, NOBODY, record, collection, config, trial)


def patient_kfold(collection: Collection, config, trial: int) -> Drawn:
    """All images, those of fold number `trial` to test on; no patient is in two folds.

    Errors: BadInput where there is no such fold, or one lacks a class.
    """
    folds = config.data.folds
    if trial >= folds:
        raise BadInput(
            f"config.trials={config.trials}: with config.data.folds={folds} the folds of patient_kfold are "
            f"0 to {folds - 1}; give these, or more folds"
        )
    split = splits.fold_of_groups(collection.labels, collection.groups, config.data.classes, folds, trial, config.seed)
    record = {"subset": np.arange(len(collection.labels)), "excluded": NOBODY}
    return real_tests(split, NOBODY, record, collection, config, trial)


def paper(collection: Collection, config, trial: int) -> Drawn:
    """Split by image, generated images in training and test (paper, sections 5 and 6)."""
    subset, classes, fraction = collection.subsets[trial], config.data.classes, config.data.test_fraction
    counts, generated = wanted(subset.chosen, collection, config)
    labels = np.concatenate([collection.labels, np.zeros(collection.first_generated - len(collection.labels), int)])
    labels = np.concatenate([labels, np.repeat(np.arange(len(classes)), counts)])
    names = [*(collection.names[row] for row in subset.chosen), *generated_names(counts, classes)]
    pool = np.concatenate([subset.chosen, generated])[sorted(range(len(names)), key=names.__getitem__)]
    without = splits.hold_out_images(subset.chosen, labels, classes, fraction, (config.seed, trial, 2))
    pooled = splits.hold_out_images(pool, labels, classes, fraction, (config.seed, trial, 3))
    unseen = unseen_of(collection, trial)
    is_real = [rows < len(collection.labels) for rows in pooled]
    tests = {
        "test": pooled.test,
        "test_real": pooled.test[is_real[1]],
        "test_generated": pooled.test[~is_real[1]],
        "unseen": unseen,
    }
    return Drawn(
        seen_by_gan=subset.chosen,
        generated=counts,
        plain=Material(without.train, NOBODY, {"test": without.test, "unseen": unseen}),
        pooled=Material(pooled.train[is_real[0]], pooled.train[~is_real[0]], tests),
        record={"subset": subset.chosen, "without_gan": without._asdict(), "with_gan": pooled._asdict()},
    )


def generated_names(counts: np.ndarray, classes) -> list[str]:
    """Names of the images that one GAN generates, class after class, as splits.json and predictions.csv have them."""
    return [f"generated/{name}/{number}" for name, n in zip(classes, counts, strict=True) for number in range(n)]


PROTOCOLS = {
    "clean": clean,
    "paper": paper,
    "disjoint": disjoint,
    "official": official,
    "patient_kfold": patient_kfold,
}
SUBSET = ("clean", "paper")  # those that draw a trial's subset
REAL_TEST = ("clean", "disjoint", "official", "patient_kfold")  # those whose arms have the same real images to test on
