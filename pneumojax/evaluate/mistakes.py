"""The images that the networks of an arm are wrong about, the surest first."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pneumojax.evaluate.scores import Prediction


class Mistake(NamedTuple):
    """An image that is said to be what it is not."""

    name: str
    label: int  # what it is
    said: int  # the class with the highest mean probability
    chance: float  # that probability, 0…1
    networks: int  # whose mean it is


def mistakes(predictions: Sequence[Prediction], count: int) -> list[Mistake]:
    """At most `count` images, by the mean probability over the networks that were shown them; alike ones by name.

    Args:
      predictions: of one arm and one part, a network each.
      count: images.
    """
    sums: dict[str, np.ndarray] = {}
    labels: dict[str, int] = {}
    shown: dict[str, int] = {}
    for p in predictions:
        for name, label, chances in zip(p.names, p.labels.tolist(), p.chances, strict=True):
            sums[name] = sums.get(name, 0.0) + chances
            shown[name] = shown.get(name, 0) + 1
            labels[name] = label
    found = []
    for name, chances in sums.items():
        said = int(np.argmax(chances))
        if said != labels[name]:
            found.append(Mistake(name, labels[name], said, float(chances[said] / shown[name]), shown[name]))
    return sorted(found, key=lambda one: (-one.chance, one.name))[:count]
