"""Scores of ranks and of probabilities, each with the influence of every image on it."""

import numpy as np


def auc(margin: np.ndarray, positive: np.ndarray) -> tuple[float, np.ndarray]:
    """Area under the ROC curve of images [n], `positive` bool, ties counted half.

    Returns: (area, the derivative of it with respect to each image's weight [n]); NaN where a class is absent. Summed
    by patient and squared, these are Obuchowski's clustered variance (1997), and DeLong's where each has one image.
    """
    winners, losers = margin[positive], margin[~positive]
    if not len(winners) or not len(losers):
        return np.nan, np.full(len(margin), np.nan)
    won = below(losers, winners) / len(losers)
    area = won.mean()
    influence = np.empty(len(margin))
    influence[positive] = (won - area) / len(winners)
    influence[~positive] = (1 - below(winners, losers) / len(winners) - area) / len(losers)
    return area, influence


def below(values: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """How many values are below each bound, equal ones counted half."""
    values = np.sort(values)
    return (np.searchsorted(values, bounds, "left") + np.searchsorted(values, bounds, "right")) / 2


def average_precision(margin: np.ndarray, positive: np.ndarray) -> tuple[float, np.ndarray]:
    """Area under the precision-recall curve as a sum of steps, as scikit-learn has it: the mean of the precisions at
    the thresholds of the positive images.

    Returns: (area, its derivative with respect to each image's weight [n]); NaN where a class is absent.
    """
    count = np.count_nonzero(positive)
    if count in (0, len(margin)):
        return np.nan, np.full(len(margin), np.nan)
    thresholds, at = np.unique(-margin, return_inverse=True)  # the highest margin first
    positives, images = (np.bincount(at, weights, len(thresholds)) for weights in (positive, np.ones(len(margin))))
    true, chosen = np.cumsum(positives), np.cumsum(images)
    precision = true / chosen
    area = (positives * precision).sum() / count
    # an image changes the precision at its own threshold and at all lower ones
    of_true = np.cumsum((positives * (chosen - true) / chosen**2)[::-1])[::-1]
    of_false = -np.cumsum((positives * true / chosen**2)[::-1])[::-1]
    influence = np.where(positive, precision[at] - area + of_true[at], of_false[at])
    return area, influence / count


def brier(chances: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Half the squared distance of probabilities [n, K] from the truth, in 0…1: of two classes (p - y)².

    Returns: (mean, its derivative with respect to each image's weight [n]); NaN of no image.
    """
    if not len(labels):
        return np.nan, np.zeros(0)
    losses = ((chances - np.eye(chances.shape[1])[labels]) ** 2).sum(1) / 2
    return losses.mean(), (losses - losses.mean()) / len(labels)
