"""How well a simple classifier tells one set of images from another, by cross-validation."""

from collections.abc import Iterator

import numpy as np

from pneumojax.gan.quality import inputs
from pneumojax.gan.quality.inputs import Undefined

FOLDS = 5


def tell_auc(real, generated, groups, seed: int, generated_groups=None) -> float:
    """How well a classifier tells generated images from real ones: 0.5 not at all, 1.0 always.

    L2 logistic regression on standardised features, in 5 folds that keep a real patient's images together and the two
    sets' proportion; the mean of the folds' areas under the ROC curve, generated against real. A little below
    0.5 is chance. Send both sets through the GAN's size, or it is the size that is told.

    Args:
      real: float [n, d].
      generated: float [m, d].
      groups: [n], whose each real image is: any labels.
      seed: of the folds.
      generated_groups: [m] where `generated` are real images of other patients; else each is a group of its own.

    Errors: as `kid`; Undefined for fewer than 5 patients or generated images.
    """
    from sklearn.metrics import roc_auc_score  # a second to import

    real, generated = inputs.features(real=real, generated=generated)
    own = [inputs.column("groups", groups, len(real)), np.arange(len(generated))]
    if generated_groups is not None:
        own[1] = inputs.column("generated_groups", generated_groups, len(generated))
    return float(np.mean([roc_auc_score(labels, logits) for labels, logits in held_out(real, generated, own, seed)]))


def tell_accuracy(one, other, seed: int, groups=None) -> float:
    """How well a classifier tells two sets apart, as the mean of its recalls for either: 0.5 not at all, 1.0 always.

    The fingerprint of a generator: on images of two GANs of which it is not their class that differs, say trained on
    permuted labels. On features, or on `thumbnails` of 8x8, which hold nothing of pneumonia.

    Args:
      one: float [n, d].
      other: float [m, d].
      seed: of the folds.
      groups: ([n], [m]), whose each image is, where they are real: no group of either set is in two folds. Else each
        image is a group of its own.

    Errors: as `tell_auc`.
    """
    one, other = inputs.features(one=one, other=other)
    own = [np.arange(len(array)) for array in (one, other)]
    if groups is not None:
        own = [inputs.column("groups", *pair) for pair in zip(groups, map(len, own), strict=True)]
    labels, logits = (np.concatenate(parts) for parts in zip(*held_out(one, other, own, seed), strict=True))
    return float(np.mean([((logits > 0) == label)[labels == label].mean() for label in (0, 1)]))


def held_out(one: np.ndarray, other: np.ndarray, groups: list[np.ndarray], seed: int) -> Iterator[tuple]:
    """Of each fold: labels, 1 for `other`, and logits of a classifier of the other folds; groups of either set."""
    from sklearn.linear_model import LogisticRegression  # a second to import
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    codes = [np.unique(own, return_inverse=True)[1] for own in groups]
    for own, what in zip(codes, ("patients", "images"), strict=True):
        if (count := own.max() + 1) < FOLDS:
            raise Undefined(f"one of the sets has {count} {what}; {FOLDS} folds take {FOLDS} or more")
    features, labels = np.concatenate([one, other]), np.repeat([0, 1], [len(one), len(other)])
    joined = np.concatenate([codes[0], codes[0].max() + 1 + codes[1]])
    for fit, test in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed).split(features, labels, joined):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        yield labels[test], classifier.fit(features[fit], labels[fit]).decision_function(features[test])
