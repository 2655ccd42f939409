"""What a classifier says, and the scores of a confusion matrix; NaN inside where a class has no image."""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp, softmax

from pneumojax.errors import BadInput


class Prediction(NamedTuple):
    """What one classifier says of one part of the images."""

    protocol: str
    arm: str
    trial: int
    # test, unseen, test_real, test_generated, external/<set>, inner (kept from the training patients, to choose by);
    # test/virus and the like are parts of them
    part: str
    names: list[str]
    patients: list[str]  # a generated image is a patient of its own
    labels: np.ndarray  # int32 [n]
    logits: np.ndarray  # float32 [n, K]
    parts: list[str]  # published folder of each image, '' if none
    subtypes: list[str]  # '' if none
    gan_seed: int = 0
    classifier_seed: int = 0

    @property
    def margins(self) -> dict[int, np.ndarray]:
        """Evidence for class 1 of two, or for each of more: {class: [n]}, which orders images as its softmax does."""
        if self.logits.shape[1] == 2:
            return {1: self.logits[:, 1] - self.logits[:, 0]}
        logits = self.logits.astype(float)
        return {k: own - logsumexp(np.delete(logits, k, 1), axis=1) for k, own in enumerate(logits.T)}

    @property
    def chances(self) -> np.ndarray:
        """The softmax: float64 [n, K]."""
        return softmax(self.logits.astype(float), axis=1)

    @property
    def cells(self) -> np.ndarray:
        """Each image's cell of the confusion matrix, K * true + predicted."""
        return self.logits.shape[1] * self.labels + np.argmax(self.logits, 1)


def scores(confusion_matrix, classes=("NORMAL", "PNEUMONIA")) -> dict[str, float]:
    """Scores of a confusion matrix `[true][predicted]`, K x K: fractions, 0.0 for 0 / 0.

    `f1_macro` is the mean of the class F1s; `f1_paper` the harmonic mean of the two macro figures, which is what the
    paper's table 2 prints. That table's 'Precision' is `recall_macro` and its 'Recall' `precision_macro`.
    `balanced_accuracy` is the field's name for `recall_macro`. `mcc`, from -1, is Matthews' correlation coefficient,
    with more classes Gorodkin's (2004).

    Errors: BadInput where the matrix has not a row and a column for each class.
    """
    matrix = np.asarray(confusion_matrix, float)
    if matrix.shape != (len(classes), len(classes)):
        raise BadInput(f"confusion_matrix is of shape {matrix.shape}; give classes={tuple(classes)!r} one name a row")
    return {name: float(value) for name, value in matrix_scores(matrix, classes).items()}


def matrix_scores(matrices: np.ndarray, classes, undefined: float = 0.0) -> dict[str, np.ndarray]:
    """`scores` of many matrices at once: [..., K, K] → {name: [...]}.

    `undefined` is what a class's own scores are where it has no image; NaN goes on into the means over classes.
    """
    hits, true, predicted = np.diagonal(matrices, axis1=-2, axis2=-1), matrices.sum(-1), matrices.sum(-2)

    def ratio(a, b):
        return np.divide(a, b, out=np.zeros_like(a, dtype=float), where=b != 0)

    def by_class(a, b):
        return np.where(true > 0, ratio(a, b), undefined)

    precision, recall, f1 = by_class(hits, predicted), by_class(hits, true), by_class(2 * hits, true + predicted)
    precision_macro, recall_macro = precision.mean(-1), recall.mean(-1)
    total = true.sum(-1)
    spreads = [np.maximum(total**2 - (side**2).sum(-1), 0) for side in (true, predicted)]
    correlation = ratio(hits.sum(-1) * total - (true * predicted).sum(-1), np.sqrt(spreads[0] * spreads[1]))
    return {
        "accuracy": np.where(true.any(-1), ratio(hits.sum(-1), total), undefined),
        "precision_macro": precision_macro,
        "recall_macro": recall_macro,
        "f1_macro": f1.mean(-1),
        "f1_paper": ratio(2 * precision_macro * recall_macro, precision_macro + recall_macro),
        **{f"precision_{name.lower()}": precision[..., k] for k, name in enumerate(classes)},
        **{f"recall_{name.lower()}": recall[..., k] for k, name in enumerate(classes)},
        "balanced_accuracy": recall_macro,
        "mcc": correlation + np.where((true > 0).all(-1), 0.0, undefined),  # of all but one class alone it is 0 / 0
    }
