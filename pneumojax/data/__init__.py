"""Images at rest, and the modules that bring them: `folder`, `kermany`, `phantom`; looked up by name."""

import hashlib
from typing import NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from pneumojax import lookup
from pneumojax.errors import BadInput

CLASSES = ("NORMAL", "PNEUMONIA")  # label 0, label 1
# The patient in both published namings of the set of Kermany et al.: kinds of pneumonia are merged.
PATIENT_PATTERN = r"(person\d+)|((?:NORMAL2-)?IM-\d+)|(?:NORMAL|BACTERIA|VIRUS)(-\d+)"


class Images(NamedTuple):
    """A data set in memory, in the order of its names."""

    pixels: np.ndarray | tuple  # uint8 [N, S, S], gray; to stream: source and name there of each
    labels: np.ndarray  # int32 [N], index into CLASSES
    names: tuple[str, ...]  # path below the data directory
    patients: tuple[str, ...]  # patient key; the image's own name where it is unknown
    digests: tuple[str, ...]  # equal for images with equal pixels and equal original size
    skipped: tuple[str, ...] = ()  # unreadable files that `data.on_bad='skip'` left out, with reasons


def load(config, size: int) -> Images:
    """Loads the data set that `config.data` names, gray, `size` x `size` pixels.

    Errors: BadInput for an unknown name, and what the module says of files that it cannot use.
    """
    return lookup.load("pneumojax.data", config.name, "load", "config.data.name").load(config, size)


def check_classes(images: Images, config) -> None:
    """Errors: BadInput where a class has no image."""
    for label, wanted in enumerate(CLASSES):
        if not np.any(images.labels == label):
            raise BadInput(f"config.data.dir={config.dir!r} has no readable image of class {wanted}")


def with_external(images: Images, config, size: int) -> tuple[Images, dict[str, list[str]]]:
    """Adds the external test sets that `config.external` names.

    An external image with the pixels of an image that is already there is left out: it could have been trained on.

    Returns: (all images, {name of the set: names of its images, `external/<set>/…`}).

    Errors: BadInput as the module `folder` has them.
    """
    sets = {}
    for name, directory in config.external:
        loaded = load(ConfigDict({**config, "name": "folder", "dir": directory}), size)
        known = set(images.digests)
        fresh = [row for row, digest in enumerate(loaded.digests) if digest not in known]
        prefix = f"external/{name}/"
        names = [prefix + loaded.names[row] for row in fresh]
        if len(fresh) < len(loaded.names):
            left_out = len(loaded.names) - len(fresh)
            logging.warning("%s: %d images are in the study too and are left out", name, left_out)
        sets[name] = names
        images = Images(
            pixels=joined(images.pixels, loaded.pixels, fresh),
            labels=np.concatenate([images.labels, loaded.labels[fresh]]),
            names=(*images.names, *names),
            patients=(*images.patients, *(prefix + loaded.patients[row] for row in fresh)),
            digests=(*images.digests, *(loaded.digests[row] for row in fresh)),
            skipped=(*images.skipped, *(prefix + line for line in loaded.skipped)),
        )
    return images, sets


def joined(pixels, more, rows: list[int]):
    """The `Images.pixels` of one set and of the rows of another."""
    if isinstance(pixels, tuple):
        return (*pixels, *(more[row] for row in rows))
    return np.concatenate([pixels, more[rows]])


def fingerprint(images: Images) -> str:
    """SHA-256 over everything that a result can depend on: names, patients, labels and, by their digests, pixels."""
    digest = hashlib.sha256(np.ascontiguousarray(images.labels, "<i4").tobytes())
    for text in (*images.names, *images.patients, *images.digests):
        digest.update(text.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()
