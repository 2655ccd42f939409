"""Parts as scores and each patient's influence on them, from which all intervals and tests are made.

The influence of a patient is the derivative of a score with respect to the patient's weight; the sum of their squares
is the infinitesimal jackknife's variance, by clusters. They add up: over the trials of a mean, and with a minus sign
over the arms of a contrast, so a patient in several trials or arms is one cluster.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from pneumojax.evaluate.ranks import auc, average_precision, brier
from pneumojax.evaluate.scores import Prediction, matrix_scores

STEP = 1e-5  # of a cell's count, to either side, for derivatives: errors are of its square


class Part(NamedTuple):
    """Scores of one part by one network."""

    names: tuple[str, ...]  # of the scores
    values: np.ndarray  # [S]; NaN where undefined
    patients: list[str]  # [P], each once
    influence: np.ndarray  # [P, S]
    images: np.ndarray  # [P, 1 + 2K]: a patient's images; those of each class; those taken for each class


class Estimate(NamedTuple):
    """A sum of weighted parts: a mean over trials, or a difference of two."""

    names: tuple[str, ...]
    value: np.ndarray  # [S]; NaN where it is undefined in any of them
    by_trial: np.ndarray  # [T, S], whose mean is `value`
    influence: np.ndarray  # [P, S]
    patients: np.ndarray  # [S]: the effective number of patients that a score is of
    variance: np.ndarray  # [S]: of `value` under new patients; NaN of fewer than two


def part_of(prediction: Prediction, classes) -> Part:
    """All scores of a part. `auc` and `auprc` are of class 1 against class 0, or the mean of each against the rest."""
    labels, cells = prediction.labels, prediction.cells
    names, values, influence = of_matrix(cells, classes)
    ranks: dict[str, list] = {"auc": [], "auprc": []}
    for k, margin in prediction.margins.items():
        ranks["auc"].append(auc(margin, labels == k))
        ranks["auprc"].append(average_precision(margin, labels == k))
    found = {name: tuple(np.mean([one[i] for one in own], 0) for i in (0, 1)) for name, own in ranks.items()}
    if len(classes) > 2:
        found |= {f"auc_{name.lower()}": own for name, own in zip(classes, ranks["auc"], strict=True)}
    found["brier"] = brier(prediction.chances, labels)
    values = np.concatenate([values, [value for value, _ in found.values()]])
    influence = np.column_stack([influence, *(own for _, own in found.values())])
    return gathered((*names, *found), values, influence, cells, prediction.patients, len(classes))


def of_matrix(cells: np.ndarray, classes) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Scores of a confusion matrix, by the cell of each image [n]: names, values [S], influence of images [n, S]."""
    size = len(classes)
    counts = np.bincount(cells, minlength=size**2).astype(float)
    used = np.flatnonzero(counts)
    steps = np.zeros((len(used), size**2))
    steps[np.arange(len(used)), used] = STEP * counts[used]
    matrices = (counts + np.concatenate([np.zeros((1, size**2)), steps, -steps])).reshape(-1, size, size)
    scores = matrix_scores(matrices, classes, np.nan)
    value, up, down = np.split(np.stack([*scores.values()], -1), [1, 1 + len(used)])
    slopes = np.zeros((size**2, value.shape[1]))
    slopes[used] = (up - down) / (2 * STEP * counts[used, None])
    return [*scores], value[0], slopes[cells]


def gathered(names, values, influence: np.ndarray, cells, patients: Sequence[str], size: int) -> Part:
    """A `Part` of what is known by image: influence [n, S] and cell [n], for K = size classes."""
    index = {name: i for i, name in enumerate(dict.fromkeys(patients))}
    codes = np.fromiter((index[name] for name in patients), int, len(patients))
    kinds = np.eye(size)
    columns = [np.ones((len(cells), 1)), kinds[cells // size], kinds[cells % size]]
    of_patients = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))), (len(index), len(codes)))
    return Part(tuple(names), values, [*index], of_patients @ influence, of_patients @ np.concatenate(columns, 1))


def effective(images: np.ndarray) -> np.ndarray:
    """Kish's effective number of patients who have so many images [P, C]: [C]; 0 of no image.

    Of patients with equally many it is their number. It is what is known at the least, whether or not the images of a
    patient are alike.
    """
    squares = (images**2).sum(0)
    return np.divide(images.sum(0) ** 2, squares, out=np.zeros_like(squares), where=squares > 0)


def patients_of(names: Sequence[str], images: np.ndarray, classes) -> np.ndarray:
    """The effective number of patients that each score is of [S]: a recall is of those of its class, a precision of
    those taken for it, accuracy and Brier score of all; what compares classes is of the class with the fewest.
    """
    size, counts = len(classes), effective(images)
    whole, of_class, taken = counts[0], counts[1 : 1 + size], counts[1 + size :]
    known = {"accuracy": whole, "brier": whole}
    for k, name in enumerate(classes):
        rest = effective((images[:, 0] - images[:, 1 + k])[:, None])[0]
        own = {"recall": of_class[k], "precision": taken[k], "auc": min(of_class[k], rest)}
        known |= {f"{kind}_{name.lower()}": value for kind, value in own.items()}
    return np.array([known.get(name, of_class.min()) for name in names])


def trial_weights(trials: Sequence[int]) -> list[float]:
    """What each network of one arm counts for in its mean: trials alike, and the seeds of a trial alike."""
    return [1 / trials.count(trial) / len(set(trials)) for trial in trials]


def combined(parts: Sequence[Part], weights: Sequence[float], trials: Sequence[int], classes) -> Estimate:
    """The weighted sum of parts that have the same scores, as one estimate."""
    known = parts[0].patients
    if any(part.patients != known for part in parts):
        known = [*dict.fromkeys(name for part in parts for name in part.patients)]
    index = {name: i for i, name in enumerate(known)}
    influence = np.zeros((len(index), len(parts[0].names)))
    images = np.zeros((len(index), parts[0].images.shape[1]))
    order = {trial: i for i, trial in enumerate(dict.fromkeys(trials))}
    by_trial = np.zeros((len(order), influence.shape[1]))
    for part, weight, trial in zip(parts, weights, trials, strict=True):
        rows = [index[name] for name in part.patients] if part.patients != known else slice(None)
        influence[rows] += weight * part.influence
        images[rows] += part.images
        by_trial[order[trial]] += len(order) * weight * part.values
    patients = patients_of(parts[0].names, images, classes)
    correction = np.divide(patients, patients - 1, out=np.full_like(patients, np.nan), where=patients > 1 + 1e-9)
    variance = correction * (influence**2).sum(0)
    return Estimate(parts[0].names, by_trial.mean(0), by_trial, influence, patients, variance)


def mean_of(parts: Sequence[Part], trials: Sequence[int], classes) -> Estimate:
    """The mean over trials, seeds averaged in a trial."""
    return combined(parts, trial_weights(trials), trials, classes)


def difference_of(
    treated: Sequence[Part], control: Sequence[Part], trials: tuple[Sequence[int], Sequence[int]], classes
) -> Estimate:
    """The mean of some networks less that of others, of the same trials, patient by patient."""
    weights = [*trial_weights(trials[0]), *(-own for own in trial_weights(trials[1]))]
    return combined([*treated, *control], weights, [*trials[0], *trials[1]], classes)


def selected(part: Part, names: Sequence[str]) -> Part:
    """A part with some of its scores alone."""
    columns = [part.names.index(name) for name in names]
    return part._replace(names=tuple(names), values=part.values[columns], influence=part.influence[:, columns])
