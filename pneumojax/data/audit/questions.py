"""What a network could learn without a chest: whether looks, sources and signs tell the class, and test from train."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pneumojax.data import CLASSES, splits, trivial
from pneumojax.data.audit.seen import Seen, by, class_of, part_of

BY_LUCK = 0.001  # p values below are called no luck: some ten signs are asked for, each a few times


class Asked(NamedTuple):
    """What is to be told of which images."""

    rows: np.ndarray  # int [n], of all images
    targets: np.ndarray  # int [n], 0 or 1
    groups: np.ndarray  # int [n], equal for images of a patient, and for exact duplicates
    folds: list[tuple[np.ndarray, np.ndarray]]  # of `trivial.split`


def questions(seen: Sequence[Seen]) -> dict[str, Asked]:
    """The class, and test from train, over all and within each class."""
    groups = splits.group([one.patient for one in seen], [one.digest for one in seen])
    labels = np.array([one.told.label for one in seen])
    test = np.array([part_of(one) == "test" for one in seen], int)
    split = (test == 1) | np.array([part_of(one) == "train" for one in seen])
    everything = np.arange(len(seen))
    about = {"PNEUMONIA from NORMAL": (everything, labels), "test from train": (everything[split], test)}
    for label, name in enumerate(CLASSES):
        about[f"test from train among {name}"] = (everything[split & (labels == label)], test)
    return {
        question: Asked(rows, told[rows], groups[rows], trivial.split(told[rows], groups[rows]))
        for question, (rows, told) in about.items()
    }


def ask_features(asked: dict[str, Asked], features: np.ndarray, words: trivial.Words) -> dict[str, dict]:
    """Whether features, float [N, features], tell it to boosted trees: `trivial.told_by`, and its statement."""
    answers = {}
    for question, (rows, targets, groups, folds) in asked.items():
        found = trivial.told_by(features[rows], targets, groups, folds, words.names)
        answers[question] = found | {"statement": trivial.statement(question, found, words)}
    return answers


def ask_values(asked: dict[str, Asked], values: Sequence[str] | np.ndarray) -> dict[str, dict]:
    """Whether values that images have, such as their scanner, or that there is a bar, tell it.

    Returns: question → {"auc", of who guesses each value's share, nothing held out; "p", of Fisher's exact test, or
    chi2 where there are more than two values, of patients}; questions that have one side only are left out.
    """
    values, answers = np.asarray(values), {}
    for question, (rows, targets, groups, _) in asked.items():
        if 0 < targets.sum() < len(targets):
            auc, p = associated(values[rows], targets, groups)
            answers[question] = {"auc": auc, "p": p}
    return answers


def associated(values: np.ndarray, targets: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """(AUC of each value's share of 1, p of the table of values and targets with each group counted once a cell)."""
    from scipy import stats  # half a second to import

    _, codes = np.unique(values, return_inverse=True)
    counts = np.zeros((codes.max() + 1, 2), int)
    np.add.at(counts, (codes, targets), 1)
    zeros, ones = counts[np.argsort(counts[:, 1] / counts.sum(1))].T
    below = np.cumsum(zeros) - zeros
    auc = float(ones @ (below + zeros / 2) / (zeros.sum() * ones.sum()))
    table = np.zeros_like(counts)
    once = np.unique(np.stack([groups, codes, targets], 1), axis=0)
    np.add.at(table, (once[:, 1], once[:, 2]), 1)
    if len(table) == 1:
        return auc, 1.0
    p = stats.fisher_exact(table)[1] if len(table) == 2 else stats.chi2_contingency(table)[1]
    return auc, float(p)


def shares(seen: Sequence[Seen], has: np.ndarray) -> dict[str, dict[str, list[int]]]:
    """Images that have a sign, of how many, by class and by part."""
    rows = range(len(seen))
    return {
        kind: {
            value or "no part": [int(has[own].sum()), len(own)]
            for value, own in by(lambda row, key=key: key(seen[row]), rows).items()
        }
        for kind, key in (("by_class", class_of), ("by_part", part_of))
    }


def statement(what: str, answers: dict[str, dict]) -> str:
    """What `ask_values` found of the class, and of test from train where that is more than luck, in words."""
    texts = []
    for question, found in answers.items():
        luck, strong = found["p"] >= BY_LUCK, found["auc"] >= trivial.HIGH_AUC
        if not luck or question.endswith("from NORMAL"):
            verdict = "that may be luck" if luck else "that is high" if strong else "no luck, but little"
            p = f"p {found['p']:.2f}" if found["p"] >= 0.01 else f"p {found['p']:.0e}"
            texts.append(f"{question} with AUC {found['auc']:.2f} ({p}): {verdict}")
    return f"{what} tells " + "; ".join(texts) + "." if texts else ""
