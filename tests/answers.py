"""Answers of classifiers as the statistics take them."""

import numpy as np

from pneumojax.evaluate import Prediction

CLASSES = ("NORMAL", "PNEUMONIA")


def prediction(labels, margins, patients=None, **kwargs) -> Prediction:
    """Of two classes by margins [n], or of K by logits [n, K]."""
    labels = np.asarray(labels, np.int32)
    logits = np.asarray(margins, np.float32)
    if logits.ndim == 1:
        logits = np.stack([np.zeros_like(logits), logits], 1)
    names = [f"image{i}" for i in range(len(labels))]
    unknown = [""] * len(labels)
    fields = {"protocol": "clean", "arm": "with_gan", "trial": 0, "part": "test", "names": names} | kwargs
    return Prediction(
        **({"parts": unknown, "subtypes": unknown, "patients": list(patients or names)} | fields),
        labels=labels,
        logits=logits,
    )
