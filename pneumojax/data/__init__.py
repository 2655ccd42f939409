"""Images at rest, and the modules that bring them: `folder`, `phantom`; looked up by name."""

import hashlib
from typing import NamedTuple

import numpy as np

from pneumojax import lookup

CLASSES = ("NORMAL", "PNEUMONIA")  # label 0, label 1


class Images(NamedTuple):
    """A data set in memory, in the order of its names."""

    pixels: np.ndarray  # uint8 [N, S, S], gray
    labels: np.ndarray  # int32 [N], index into CLASSES
    names: tuple[str, ...]  # path below the data directory
    patients: tuple[str, ...]  # patient key; the image's own name where it is unknown
    digests: tuple[str, ...]  # equal for images with equal pixels as published, before any resizing
    skipped: tuple[str, ...] = ()  # unreadable files that `data.on_bad='skip'` left out, with reasons


def load(config, size: int) -> Images:
    """Loads the data set that `config.data` names, gray, `size` x `size` pixels.

    Errors: BadInput for an unknown name, and what the module says of files that it cannot use.
    """
    return lookup.load("pneumojax.data", config.name, "load", "config.data.name").load(config, size)


def fingerprint(images: Images) -> str:
    """SHA-256 over everything that a result can depend on: names, patients, labels and pixels."""
    digest = hashlib.sha256()
    for text in (*images.names, *images.patients, *images.digests):
        digest.update(text.encode(errors="surrogateescape") + b"\0")
    digest.update(np.ascontiguousarray(images.labels, "<i4").tobytes())
    digest.update(str(images.pixels.shape).encode() + np.ascontiguousarray(images.pixels).tobytes())
    return digest.hexdigest()
