"""Thresholds chosen on an inner part and applied elsewhere, and what deciding by a threshold is worth."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from pneumojax.evaluate.calibration import NO_INNER, weights_of
from pneumojax.evaluate.influence import gathered, mean_of, of_matrix
from pneumojax.evaluate.intervals import number, of_patients
from pneumojax.evaluate.scores import Prediction

POINTS = {"sens90": (1, 0.90), "sens95": (1, 0.95), "spec90": (0, 0.90), "spec95": (0, 0.95)}  # class, its recall
CHANCES = np.arange(1, 50) / 50  # thresholds of a decision curve


def operating(predictions: Sequence[Prediction], inner: Sequence[Prediction | None], classes) -> dict | None:
    """{point: {"threshold", "recall_<class>"…, "interval": {…}} or None, "why": {point: reason}} of an arm's networks.

    Each network's threshold is the strictest that keeps 90 or 95% of class 1 (`sens90`) or 0 (`spec90`) on its own
    `inner` part; `threshold` is its mean over trials, a probability. Class 1 is said above it.

    Returns: None for more than two classes.
    """
    if len(classes) != 2:
        return None
    found, why = {}, {}
    for point, (label, recall) in POINTS.items():
        chosen = [threshold(p, label, recall, classes) if p else (np.nan, NO_INNER) for p in inner]
        if reasons := [reason for _, reason in chosen if reason]:
            found[point], why[point] = None, reasons[0]
        else:
            found[point] = at_thresholds(predictions, [value for value, _ in chosen], classes)
    return found | {"why": why}


def threshold(inner: Prediction, label: int, recall: float, classes) -> tuple[float, str]:
    """The margin above which class 1 is said, so that at least `recall` of a class is found; and why there is none."""
    margin = inner.margins[1].astype(float)
    own = np.sort(margin[inner.labels == label])
    if not len(own):
        return np.nan, f"the inner part has no image of {classes[label]}"
    if np.ptp(margin) == 0:
        return np.nan, "on the inner part the logits are all alike"
    kept = int(np.ceil(recall * len(own) - 1e-9))
    return (np.nextafter(own[-kept], -np.inf), "") if label == 1 else (own[kept - 1], "")


def at_thresholds(predictions: Sequence[Prediction], thresholds: Sequence[float], classes) -> dict:
    """Recalls of networks that say class 1 above a margin, the mean over trials, with intervals by patient."""
    parts = []
    for p, least in zip(predictions, thresholds, strict=True):
        cells = 2 * p.labels + (p.margins[1].astype(float) > least)
        parts.append(gathered(*of_matrix(cells, classes), cells, p.patients, 2))
    mean = mean_of(parts, [p.trial for p in predictions], classes)
    values, intervals = dict(zip(mean.names, mean.value, strict=True)), of_patients(mean)
    recalls = [f"recall_{name.lower()}" for name in classes]
    return {
        "threshold": float(np.average(expit(thresholds), weights=weights_of(predictions))),
        **{name: number(values[name]) for name in recalls},
        "interval": {name: intervals[name] for name in recalls},
    }


def decision_curve(predictions: Sequence[Prediction]) -> dict | None:
    """Net benefit an image (Vickers & Elkin 2006) of taking for class 1 whose probability is above a threshold t: right
    ones less t / (1 - t) of the wrong ones, the mean over trials; beside it of taking all so. Of none it is 0.

    Returns: {"threshold", "model", "treat_all"}, lists; None for more than two classes, or where one is absent.
    """
    if any(p.logits.shape[1] != 2 or len(set(p.labels.tolist())) < 2 for p in predictions):
        return None
    price = CHANCES / (1 - CHANCES)
    model, everyone = [], []
    for p in predictions:
        chance, ill = p.chances[:, 1], p.labels == 1
        kinds = chance[ill], chance[~ill]
        right, wrong = (len(own) - np.searchsorted(np.sort(own), CHANCES, "right") for own in kinds)
        model.append((right - price * wrong) / len(chance))
        everyone.append(ill.mean() - price * (~ill).mean())
    lists = (CHANCES, *(np.average(rows, axis=0, weights=weights_of(predictions)) for rows in (model, everyone)))
    return dict(zip(("threshold", "model", "treat_all"), (np.round(own, 6).tolist() for own in lists), strict=True))
