"""Random forests of features: a grid of settings, the best of them, what a forest says. Pure functions of arrays."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pneumojax.data.splits import Split


class Choice(NamedTuple):
    """The settings of one forest, as `forest.DEFAULTS` has them."""

    trees: int
    depth: int
    leaf: int
    share: float


def words(choice: Choice) -> str:
    """'trees 100, depth 0, leaf 1, share 0.0'."""
    return ", ".join(f"{name} {value}" for name, value in choice._asdict().items())


def grid(own) -> list[Choice]:
    """All combinations of the settings of a `config.system`."""
    return [Choice(*one) for one in itertools.product(own.trees, own.depth, own.leaf, map(float, own.share))]


class Examples(NamedTuple):
    """What a forest grows from."""

    features: np.ndarray  # float32 [n, d]
    labels: np.ndarray  # int [n]
    weights: np.ndarray  # float [n]


def chosen(choices: list[Choice], folds: Sequence[Split], examples: Examples, seed: int) -> Choice:
    """The first of the settings with the least log loss in the folds; one that is alone is not tried.

    Args:
      choices: settings.
      folds: places of examples to learn from and to be asked about; all classes are on both sides.
      examples: of all folds.
      seed: of the forests.
    """
    if len(choices) == 1:
        return choices[0]
    return choices[int(np.argmin([log_loss(choice, folds, examples, seed) for choice in choices]))]


def log_loss(choice: Choice, folds: Sequence[Split], examples: Examples, seed: int) -> float:
    """The mean over folds of the log loss of forests on what they did not learn from, in nats; as `chosen`."""
    losses = []
    for train, test in folds:
        own = Examples(*(column[train] for column in examples))
        said = votes(grown(choice, seed, own), examples.features[test])
        losses.append(-said[np.arange(len(test)), examples.labels[test]].mean(dtype=float))
    return float(np.mean(losses))


def grown(choice: Choice, seed: int, examples: Examples):
    """A forest of examples of all classes; the same one for the same arguments.

    Trees grow side by side, each from a seed of its own. They are asked in turn: threads would add up their shares in
    whatever order they come, and sums of floats depend on it.
    """
    from sklearn.ensemble import RandomForestClassifier  # takes a second to import

    forest = RandomForestClassifier(
        choice.trees,
        max_depth=choice.depth or None,
        min_samples_leaf=choice.leaf,
        max_features=choice.share or "sqrt",
        random_state=seed,
        n_jobs=-1,
    )
    return forest.fit(examples.features, examples.labels, examples.weights).set_params(n_jobs=1)


def votes(forest, features: np.ndarray) -> np.ndarray:
    """Logits float32 [n, K]: logarithms of shares of the trees' votes, to which each class has one vote added.

    A tree's vote is split as the classes of the training images in the leaf are. Of T trees a share is from 1 / (T + K)
    to (T + 1) / (T + K) and never 0: Laplace's rule of succession. It keeps the order of images and of classes.
    """
    trees, classes = len(forest.estimators_), len(forest.classes_)
    return np.log((trees * forest.predict_proba(features) + 1) / (trees + classes)).astype(np.float32)
