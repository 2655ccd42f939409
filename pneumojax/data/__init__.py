"""Images at rest, and the modules that bring them: `folder`, `kermany`, `phantom`; looked up by name."""

import hashlib
import re
from collections import Counter
from typing import NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from pneumojax import lookup
from pneumojax.errors import BadInput

FOLDERS_SHOWN = 8  # in a message
CLASSES = ("NORMAL", "PNEUMONIA")  # of the published set, and where config.data.classes says nothing else
# The patient in both published namings of the set of Kermany et al.: kinds of pneumonia are merged.
PATIENT_PATTERN = r"(person\d+)|((?:NORMAL2-)?IM-\d+)|(?:NORMAL|BACTERIA|VIRUS)(-\d+)"


class Images(NamedTuple):
    """A data set in memory, in the order of its names."""

    pixels: np.ndarray | tuple  # uint8 [N, S, S], gray; to stream: source and name there of each
    labels: np.ndarray  # int32 [N], index into the classes
    names: tuple[str, ...]  # path below the data directory
    patients: tuple[str, ...]  # patient key; the image's own name where it is unknown
    digests: tuple[str, ...]  # equal for images with equal pixels and equal original size
    parts: tuple[str, ...]  # published folder, `train`, `val` or `test`; '' for none
    subtypes: tuple[str, ...]  # `bacteria`, `virus`; '' for none
    skipped: tuple[str, ...] = ()  # unreadable files that `data.on_bad='skip'` left out, with reasons
    left_out: dict[str, int] = {}  # why files are not among the images → how many
    gray: dict = {}  # how stored values became gray: `levels.facts`, and of external sets "external": {name: facts}
    sides: tuple[int, ...] = ()  # pixels of the originals' shorter side; none where they are drawn at any size


def load(config, size: int) -> Images:
    """Loads the data set that `config.data` names, gray, `size` x `size` pixels; a log line tells what is used.

    Errors: BadInput for an unknown name, and what the module says of files that it cannot use.
    """
    images = lookup.load("pneumojax.data", config.name, "load", "config.data.name").load(config, size)
    used = ", ".join(f"{what} {n}" for what, n in counted(images, config.classes).items())
    left_out = ", ".join(f"{n} {why}" for why, n in images.left_out.items()) or "nothing"
    where = config.dir or config.name
    logging.info("%s: %d images are used: %s; left out: %s", where, len(images.names), used, left_out)
    return images


def counted(images: Images, classes) -> dict[str, int]:
    """Images of each part and class, `train/NORMAL`; of each class where there are no parts."""
    counts = Counter(zip(images.parts, images.labels.tolist(), strict=True))
    return {f"{part}/{classes[label]}".lstrip("/"): n for (part, label), n in sorted(counts.items())}


def check_memory(counts: dict[int, int], config) -> None:
    """Errors: BadInput where images take more than `config.memory`: twice their pixels, as decoded and on the device.

    Args:
      counts: pixels of a side → how many images.
    """
    gigabytes = 2 * sum(count * size**2 for size, count in counts.items()) / 1e9
    if gigabytes > config.memory:
        listed = " and ".join(f"{count} images of {size} x {size} pixels" for size, count in counts.items() if count)
        raise BadInput(
            f"config.data.memory={config.memory}: {listed} take {gigabytes:.3g} gigabytes, as they are decoded and as "
            "they lie on the device; raise it, or give config.data.residence='stream'"
        )


def check_classes(images: Images, config) -> None:
    """Errors: BadInput where a class has no image."""
    folders = sorted({name.rpartition("/")[0] for name in images.names})
    for label, wanted in enumerate(config.classes):
        if not np.any(images.labels == label):
            found = ", ".join((*folders[:FOLDERS_SHOWN], *images.left_out))
            raise BadInput(
                f"config.data.dir={config.dir!r} has no readable image of class {wanted}: found {found}; "
                "bring some, or give other config.data.classes"
            )


def check_pattern(pattern: str, field: str) -> None:
    """Errors: BadInput where a pattern of patients does not compile."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError, TypeError) as error:
        raise BadInput(f"{field}={pattern!r} is no regular expression ({error}); mend it") from error


def with_external(images: Images, config, size: int) -> tuple[Images, dict[str, list[str]]]:
    """Adds the external test sets that `config.external` names.

    An entry is (name, directory) or (name, directory, its own `patient_pattern`); '' is none, None the config's.
    An external image with the pixels of an image that is already there is left out: it could have been trained on.

    Returns: (all images, {name of the set: names of its images, `external/<set>/…`}).

    Errors: BadInput as the module `folder` has them.
    """
    sets = {}
    for name, directory, *own in config.external:
        pattern = next((one for one in own if one is not None), config.patient_pattern)
        check_pattern(pattern, f"config.data.external: patient_pattern of {name}")
        loaded = load(ConfigDict({**config, "name": "folder", "dir": directory, "patient_pattern": pattern}), size)
        known = set(images.digests)
        fresh = [row for row, digest in enumerate(loaded.digests) if digest not in known]
        prefix = f"external/{name}/"
        names = [prefix + loaded.names[row] for row in fresh]
        left_out = loaded.left_out
        if known_too := len(loaded.names) - len(fresh):
            logging.warning("%s: %d images are in the study too and are left out", name, known_too)
            left_out = left_out | {"in the study too": known_too}
        sets[name] = names
        images = Images(
            pixels=joined(images.pixels, loaded.pixels, fresh),
            labels=np.concatenate([images.labels, loaded.labels[fresh]]),
            names=(*images.names, *names),
            patients=(*images.patients, *(prefix + loaded.patients[row] for row in fresh)),
            digests=(*images.digests, *(loaded.digests[row] for row in fresh)),
            parts=(*images.parts, *("" for _ in fresh)),
            subtypes=(*images.subtypes, *(loaded.subtypes[row] for row in fresh)),
            skipped=(*images.skipped, *(prefix + line for line in loaded.skipped)),
            left_out=images.left_out | {prefix + why: count for why, count in left_out.items()},
            gray=images.gray | {"external": images.gray.get("external", {}) | {name: loaded.gray}},
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
