"""What features that see no anatomy tell: a baseline that any classifier of a data set is to be measured against."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FEATURES = ("width", "height", "aspect ratio", "mean gray", "contrast", "file size")  # contrast: standard deviation
FOLDS = 5
TREES, LEAVES = 50, 8  # small: with scikit-learn's 100 of 31 leaves, folds score lower
CHANCE_SIGMAS = 3.0  # above 0.5 by more than so many standard errors, an AUC is not chance
HIGH_AUC = 0.7


class Words(NamedTuple):
    """How features and what they tell are called."""

    names: Sequence[str]  # of the features, in their order
    all: str
    of_class: str  # what it means that they tell a class
    of_part: str


TRIVIAL = Words(
    FEATURES,
    "Features that see no anatomy",
    "A classifier can score so without having looked at a lung; measure it against this.",
    "The parts were not made alike; a score on one says little of the other.",
)


def split(targets: np.ndarray, groups: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """FOLDS pairs of rows to fit on and to predict, no group on both sides; none where either target has fewer groups.

    Args:
      targets: int [N], 0 or 1.
      groups: [N], equal within a group.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # a second to import

    if min(len(set(groups[targets == side].tolist())) for side in (0, 1)) < FOLDS:
        return []
    return list(StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(targets, targets, groups))


def told_by(features: np.ndarray, targets: np.ndarray, groups: np.ndarray, folds: list, names: Sequence[str]) -> dict:
    """How well features tell 1 from 0: boosted trees, cross-validated.

    Args:
      features: float [N, features].
      targets: int [N], 0 or 1.
      groups: [N], equal within a group.
      folds: of `split(targets, groups)`, which takes as long as all fits.
      names: of the features, in their order.

    Returns: {"images", "patients", "auc", "chance_up_to", "accuracy", "majority", "single": {feature: its AUC alone}};
    "images" and "patients" only, where there are no folds.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier  # a second to import
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import cross_val_predict
    from threadpoolctl import threadpool_limits

    counts = {"images": len(targets), "patients": len(set(groups.tolist()))}
    if not folds:
        return counts
    zeros, ones = (len(set(groups[targets == side].tolist())) for side in (0, 1))
    model = HistGradientBoostingClassifier(max_iter=TREES, max_leaf_nodes=LEAVES, random_state=0)
    with threadpool_limits(1, "openmp"):  # on busy cores its threads wait for one another, ten times as long
        shares = cross_val_predict(model, features, targets, cv=folds, method="predict_proba")[:, 1]
    # Hanley and McNeil 1982, at AUC 0.5; patients for images, which are not independent
    error = ((zeros + ones + 1) / (12 * zeros * ones)) ** 0.5
    return counts | {
        "auc": float(roc_auc_score(targets, shares)),
        "chance_up_to": float(0.5 + CHANCE_SIGMAS * error),
        "accuracy": float(np.mean((shares > 0.5) == targets)),
        "majority": float(max(targets.mean(), 1 - targets.mean())),
        "single": {name: float(roc_auc_score(targets, column)) for name, column in zip(names, features.T, strict=True)},
    }


def statement(question: str, found: dict, words: Words = TRIVIAL) -> str:
    """What `told_by` found, in words."""
    if "auc" not in found:
        return f"Too few patients to ask for {question}: {FOLDS} on either side are needed."
    auc, limit = found["auc"], found["chance_up_to"]
    text = f"{words.all} tell {question} with AUC {auc:.2f} (chance is 0.50, up to {limit:.2f} by luck)"
    best, alone = max(found["single"].items(), key=lambda item: abs(item[1] - 0.5))
    text += f"; {best} alone {max(alone, 1 - alone):.2f}"
    if auc <= limit:
        return f"{text}: no better than chance."
    if auc < HIGH_AUC:
        return f"{text}: better than chance, but little."
    return f"{text}: that is high. {words.of_part if question.startswith('test') else words.of_class}"
