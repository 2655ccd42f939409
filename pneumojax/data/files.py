"""From image files, wherever they lie, to `Images`: decoded once, on all cores, and kept in a cache."""

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from absl import logging
from tqdm import tqdm

from pneumojax import checkpoint
from pneumojax.data import CLASSES, Images
from pneumojax.data.decode import Decoded, Unreadable, decode
from pneumojax.errors import BadInput, describe

CACHE_VERSION = 3  # raise it when decoding changes
PARTS = ("", "train", "val", "test")


class Source(NamedTuple):
    """Image files by name: a path below the data directory, whose last folder is the class."""

    where: str  # for messages
    names: tuple[str, ...]  # sorted
    read: Callable[[str], bytes]  # the content of one; raises OSError, one without an errno names a remedy
    signature: str  # changes with any file


def images_of(source: Source, config, size: int) -> Images:
    """Decodes all files of a source, size x size pixels; a later call reads them from `config.cache`.

    With `config.residence='stream'` the pixels are let go: what is kept says which files are whole and which are equal.

    Errors: BadInput where a file cannot be read; with `config.on_bad='skip'` those are listed in `Images.skipped`.
    """
    keep = config.residence == "device"
    key = hashlib.sha256(f"{CACHE_VERSION} {size} {config.fit} {keep} {source.signature}".encode()).hexdigest()[:32]
    cache = Path(config.cache).expanduser() / f"{key}.npz"
    arrays = cached(cache)
    if arrays is None:
        arrays = decode_all(source, size, config.fit, keep)
        try:
            checkpoint.write_arrays(cache, **arrays)
        except OSError as error:
            logging.warning("images are decoded anew at each start: config.data.cache: %s", describe(error))

    why = arrays["why"].tolist()
    skipped = tuple(f"{name}: {reason}" for name, reason in zip(source.names, why, strict=True) if reason)
    if skipped and config.on_bad == "error":
        raise BadInput(
            f"{len(skipped)} of {len(why)} images in {source.where} cannot be read; repair or remove them, "
            "or pass --config.data.on_bad=skip to go on without them",
            skipped,
        )
    if skipped:
        logging.warning("%d of %d images in %s cannot be read and are left out", len(skipped), len(why), source.where)
    readable = arrays["why"] == ""
    names = tuple(name for name, ok in zip(source.names, readable, strict=True) if ok)
    keys = zip(names, arrays["patients"][readable].tolist(), strict=True)
    return Images(
        pixels=arrays["pixels"][readable] if keep else tuple((source, name) for name in names),
        labels=np.array([label_of(name) for name in names], np.int32),
        names=names,
        patients=tuple(patient or patient_key(name, config.patient_pattern) or name for name, patient in keys),
        digests=tuple(arrays["digests"][readable].tolist()),
        skipped=skipped,
    )


def cached(path: Path) -> dict[str, np.ndarray] | None:
    """What an earlier call decoded; None where there is none, or the disk damaged it."""
    try:
        return checkpoint.read_arrays(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def label_of(name: str) -> int:
    """The class of a file, which is the folder that it lies in."""
    return CLASSES.index(PurePosixPath(name).parent.name)


def part_of(name: str) -> str:
    """`train`, `val` or `test`, where a file lies below one; '' for others, generated images among them."""
    top = name.split("/")[0]
    return top if top in PARTS else ""


def patient_key(name: str, pattern: str) -> str:
    """The groups of `pattern`, found at the start of the file's name, joined; '' where it does not fit."""
    match = re.match(pattern, PurePosixPath(name).name)
    return "".join(filter(None, match.groups())) if match else ""


def subtype(name: str) -> str:
    """`bacteria` or `virus`, where a file's name tells it in either published naming, else ''."""
    match = re.match(r"person\d+_(bacteria|virus)_|(BACTERIA|VIRUS)-", PurePosixPath(name).name)
    return (match[1] or match[2]).lower() if match else ""


def decode_all(source: Source, size: int, fit: str, keep: bool = True) -> dict[str, np.ndarray]:
    """Decodes all files: `digests`, `patients`, `why` one is unreadable; to keep, uint8 `pixels` [N, size, size]."""
    pixels = np.zeros((len(source.names) if keep else 0, size, size), np.uint8)
    decoded = in_parallel(lambda name: read_and_decode(source.read, name, size, fit), source.names)
    rest = []
    progress = tqdm(decoded, "decoding images", len(source.names), unit=" images", mininterval=0.5)
    for index, one in enumerate(progress):
        if keep and one.pixels is not None:
            pixels[index] = one.pixels
        rest.append(one[1:])
    columns = zip(("digests", "patients", "why"), zip(*rest, strict=True), strict=True)
    return {"pixels": pixels} | {name: np.array(column) for name, column in columns}


def content_of(read: Callable, name) -> bytes:
    """What `read(name)` gives. Errors: Unreadable, which says what can be done where the system tells why."""
    try:
        return read(name)
    except OSError as error:
        remedy = ": make it readable, or remove it" if error.errno else ""
        raise Unreadable(f"{error.strerror or describe(error)}{remedy}") from error


def read_and_decode(read: Callable, name, size: int, fit: str) -> Decoded:
    """One image, size x size pixels, from what `read(name)` gives."""
    try:
        content = content_of(read, name)
    except Unreadable as problem:
        return Decoded(None, why=str(problem))
    return decode(content, name, size, fit)


def in_parallel(function: Callable, items: Iterable) -> Iterator:
    """Results of `function(item)`, in order, by threads: the decoders let go of the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(cancel_futures=True)
