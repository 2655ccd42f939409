"""Whether probabilities of two classes are what they say: slope, intercept, reliability, and a temperature."""

from collections.abc import Sequence

import numpy as np
from scipy.special import expit

from pneumojax.evaluate.influence import gathered, mean_of, trial_weights
from pneumojax.evaluate.intervals import number, straight
from pneumojax.evaluate.scores import Prediction

BINS = 15  # of equal mass, for reliability and `ece`
COLDEST, HOTTEST = 1e-3, 1e3  # temperatures looked at
NAMES = ("intercept", "slope")
NO_INNER = "no part of the training patients was kept from this network"
TURNS = 100  # of Newton's method
FLAT = 1e-9  # curvature of a likelihood that has no peak to speak of


def calibration(predictions: Sequence[Prediction], inner: Sequence[Prediction | None]) -> dict | None:
    """{"before": CURVE, "after": CURVE with "temperature", or None, "why": reason or None} of the networks of an arm.

    CURVE is {"intercept", "slope", "interval": {each: [low, high]}, "ece", "reliability": [[mean predicted, observed,
    images]…]}: means over trials, but reliability is of all networks' answers together. `slope` is that of a logistic
    regression of the truth on the margin, `intercept` that with the slope held at 1 (Cox 1958); 1 and 0 are right.
    The temperature divides the logits, fitted to each network's own `inner` part (Guo et al. 2017).

    Returns: None for more than two classes, or where one is absent.
    """
    if any(p.logits.shape[1] != 2 or len(set(p.labels.tolist())) < 2 for p in predictions):
        return None
    margins = [p.margins[1].astype(float) for p in predictions]
    found = [temperature(p.margins[1].astype(float), p.labels) if p else (np.nan, NO_INNER) for p in inner]
    why = next((why for _, why in found if why), None)
    after = None
    if not why:
        values = [value for value, _ in found]
        after = {"temperature": float(np.average(values, weights=weights_of(predictions)))}
        after |= curve(predictions, [m / value for m, value in zip(margins, values, strict=True)])
    return {"before": curve(predictions, margins), "after": after, "why": why}


def weights_of(predictions: Sequence[Prediction]) -> list[float]:
    """What each network counts for in the mean of its arm."""
    return trial_weights([p.trial for p in predictions])


def curve(predictions: Sequence[Prediction], margins: Sequence[np.ndarray]) -> dict:
    """A CURVE of networks by their margins."""
    parts = []
    for p, margin in zip(predictions, margins, strict=True):
        fits = intercept_of(margin, p.labels), slope_of(margin, p.labels)
        columns = [np.array([value for value, _ in fits]), np.column_stack([own for _, own in fits])]
        parts.append(gathered(NAMES, *columns, p.cells, p.patients, 2))
    mean = mean_of(parts, [p.trial for p in predictions], ("0", "1"))
    columns = zip(mean.value, np.sqrt(mean.variance), mean.patients, strict=True)
    labels, chances = [p.labels for p in predictions], [expit(margin) for margin in margins]
    errors = [error_of(reliability(*own)) for own in zip(chances, labels, strict=True)]
    return {
        **{name: number(value) for name, value in zip(NAMES, mean.value, strict=True)},
        "interval": dict(zip(NAMES, (straight(value, error, n - 1) for value, error, n in columns), strict=True)),
        "ece": float(np.average(errors, weights=weights_of(predictions))),
        "reliability": reliability(np.concatenate(chances), np.concatenate(labels)),
    }


def intercept_of(margin: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """What to add to all margins so that as many images as are of class 1 are expected, and the images' influence."""
    from scipy.optimize import brentq  # half a second to import

    far = np.abs(margin).max() + 50
    value = brentq(lambda added: (labels - expit(margin + added)).sum(), -far, far)
    chance = expit(margin + value)
    bent = (chance * (1 - chance)).sum()
    if bent < FLAT:  # chances of 0 and 1 alone: many values will do
        return np.nan, np.full(len(margin), np.nan)
    return value, (labels - chance) / bent


def slope_of(margin: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """The slope of the truth on the margin, beside a free intercept, and the images' influence on it.

    NaN where the margins are all alike, or tell the classes without error, so that no slope is steep enough.
    """
    scale, sides = margin.std(), [margin[labels == k] for k in (0, 1)]
    apart = sides[0].max() <= sides[1].min() or sides[1].max() <= sides[0].min()
    if scale < 1e-9 or apart:
        return np.nan, np.full(len(margin), np.nan)
    design = np.column_stack([np.ones(len(margin)), (margin - margin.mean()) / scale])
    fitted = np.zeros(2)
    for _ in range(TURNS):
        chance = expit(design @ fitted)
        bent = (design * (chance * (1 - chance))[:, None]).T @ design
        if np.linalg.eigvalsh(bent)[0] < FLAT:
            return np.nan, np.full(len(margin), np.nan)
        step = np.linalg.solve(bent, design.T @ (labels - chance))
        fitted = fitted + step / max(1.0, np.abs(step).max())  # full steps leap from one end to the other
        if np.abs(step).max() < 1e-10:
            break
    else:
        return np.nan, np.full(len(margin), np.nan)
    influence = (labels - chance) * (design @ np.linalg.inv(bent)[:, 1])
    return fitted[1] / scale, influence / scale


def temperature(margin: np.ndarray, labels: np.ndarray) -> tuple[float, str]:
    """The temperature with the least cross-entropy, and why there is none: NaN then."""
    from scipy.optimize import brentq  # half a second to import

    def pull(log_steepness):
        return (margin * (labels - expit(np.exp(log_steepness) * margin))).sum()

    if len(set(labels.tolist())) < 2:
        return np.nan, "the inner part lacks a class"
    if pull(np.log(1 / HOTTEST)) <= 0:
        return np.nan, "on the inner part the logits tell nothing"
    if pull(np.log(1 / COLDEST)) >= 0:
        return np.nan, "on the inner part no answer is wrong: no temperature is cold enough"
    return float(np.exp(-brentq(pull, np.log(1 / HOTTEST), np.log(1 / COLDEST)))), ""


def reliability(chances: np.ndarray, labels: np.ndarray) -> list[list[float]]:
    """[[mean predicted, observed, images]…] of bins of equal mass; equal chances are in one bin."""
    ordered = np.sort(chances)
    edges = np.unique(ordered[np.arange(1, BINS) * len(chances) // BINS])  # the first of each next bin
    at = np.searchsorted(edges, chances, "right")
    counts = np.bincount(at, minlength=len(edges) + 1)
    used = counts > 0
    sums = [np.bincount(at, values, len(edges) + 1)[used] / counts[used] for values in (chances, labels)]
    return [list(row) for row in zip(*(values.tolist() for values in (*sums, counts[used])), strict=True)]


def error_of(bins: list[list[float]]) -> float:
    """Expected calibration error: the mean distance of predicted from observed, by images."""
    predicted, observed, images = np.transpose(bins)
    return float(np.average(np.abs(predicted - observed), weights=images))
