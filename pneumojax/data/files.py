"""From image files, wherever they lie, to `Images`: decoded once, on all cores, and kept in a cache."""

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from absl import logging

from pneumojax import checkpoint, paths, progress
from pneumojax.data import PATIENT_PATTERN, Images, check_pattern, levels
from pneumojax.data.decode import Decoded, Passing, Unreadable, decode, failed
from pneumojax.data.layout import Told
from pneumojax.data.levels import ALONE, Levels
from pneumojax.errors import BadInput, describe

CACHE_VERSION = 7  # raise it when decoding changes


class Source(NamedTuple):
    """Image files by name, a path below the data directory."""

    where: str  # for messages
    told: dict[str, Told]  # name → what it tells, sorted
    read: Callable[[str], bytes]  # the content of one; raises OSError, one without an errno names a remedy
    signature: str  # changes with any file
    left_out: dict[str, int]  # why other files are no images of the set → how many
    levels: Levels = ALONE  # what is black and white in them, once all have been decoded

    @property
    def names(self) -> tuple[str, ...]:
        """The names, sorted."""
        return tuple(self.told)


def images_of(source: Source, config, size: int) -> Images:
    """Decodes all files of a source, size x size pixels; a later call reads them from `config.cache`.

    With `config.residence='stream'` the pixels are let go: what is kept says which files are whole and which are equal.
    A failure that may pass, such as a network's, is not kept: that file is decoded anew. What is black and white where
    a file does not say it is decided by all that can be read (`levels`), and the same at every size.

    Errors: BadInput where a file cannot be read; with `config.on_bad='skip'` those are listed in `Images.skipped`.
    """
    check_pattern(config.patient_pattern, "config.data.patient_pattern")
    keep = config.residence == "device"
    described = "\0".join(
        (str((CACHE_VERSION, size, config.fit, config.window, keep)), source.signature, *source.names)
    )
    key = hashlib.sha256(described.encode(errors="surrogateescape")).hexdigest()[:32]
    home = paths.cache(config.cache, "config.data.cache")
    cache = home and home / f"{key}.npz"
    earlier = cached(cache) if cache else None
    arrays, seen = decode_all(source._replace(levels=Levels(config.window)), size, config.fit, keep, earlier)
    if cache and (earlier is None or arrays["passing"].sum() < earlier["passing"].sum()):
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
    pixels = arrays["pixels"][readable] if keep and not readable.all() else arrays["pixels"]
    gray = levels.facts(seen, int(arrays["turned"][readable].sum()))
    if told_of := levels.words(gray):
        logging.info("%s: gray values: %s", source.where, told_of)
    names = tuple(name for name, ok in zip(source.names, readable, strict=True) if ok)
    told = [source.told[name] for name in names]
    return Images(
        pixels=pixels if keep else tuple((source._replace(levels=seen), name) for name in names),
        labels=np.array([one.label for one in told], np.int32),
        names=names,
        patients=patients_of(source.where, names, arrays["patient"][readable].tolist(), config.patient_pattern),
        digests=tuple(arrays["digest"][readable].tolist()),
        parts=tuple(one.part for one in told),
        subtypes=tuple(one.subtype for one in told),
        skipped=skipped,
        left_out=source.left_out | ({"unreadable": len(skipped)} if skipped else {}),
        gray=gray,
        sides=tuple(arrays["side"][readable].tolist()),
    )


def cached(path: Path) -> dict[str, np.ndarray] | None:
    """What an earlier call decoded; None where there is none, or the disk damaged it."""
    try:
        return checkpoint.read_arrays(path)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def patients_of(where: str, names: Sequence[str], headers: Sequence[str], pattern: str) -> tuple[str, ...]:
    """Each image's patient: as its header tells, else as the pattern, else its own name; the log tells how many are."""
    by_name = ["" if told else patient_key(name, pattern) for name, told in zip(names, headers, strict=True)]
    by_header, by_pattern = (sum(map(bool, keys)) for keys in (headers, by_name))
    alone = len(names) - by_header - by_pattern
    counts = f"by header {by_header}, by pattern {by_pattern}, by neither {alone}"
    logging.info("%s: images whose patient is told: %s; each of the last is a patient of its own", where, counts)
    if alone and not by_pattern and pattern not in ("", PATIENT_PATTERN):
        logging.warning(
            "%s: patient_pattern=%r tells no patient of any image: %d are patients of their own", where, pattern, alone
        )
    return tuple(map(lambda *keys: next(filter(None, keys)), headers, by_name, names))


def patient_key(name: str, pattern: str) -> str:
    """The groups of `pattern`, or all of it where it has none, found at the start of a file's name; else ''.

    Of several groups the matching ones are joined by '/', which no file's name has.
    """
    match = re.match(pattern, PurePosixPath(name).name)
    return "/".join(filter(None, match.groups() if match.re.groups else (match[0],))) if match else ""


def decode_all(
    source: Source, size: int, fit: str, keep: bool, earlier: dict | None = None
) -> tuple[dict[str, np.ndarray], Levels]:
    """Decodes all files, each as a set of its own, then those again that are shown otherwise in this set.

    Where `earlier` holds them, those alone whose failure may have passed, and whom that makes to be shown otherwise.

    Returns: (columns named as the fields of `Decoded`; uint8 `pixels` [N, size, size] only to `keep`; the levels of the
    set).
    """
    if earlier is None:
        count = len(source.names)
        pixels = np.zeros((count if keep else 0, size, size), np.uint8)
        found, rows = [Decoded(None)] * count, list(range(count))
    else:
        pixels, rows = earlier["pixels"], np.flatnonzero(earlier["passing"]).tolist()
        columns = (earlier[field].tolist() for field in Decoded._fields[1:])
        found = [Decoded(None, *row) for row in zip(*columns, strict=True)]

    def decode_rows(rows: list[int], shown: Levels, what: str) -> None:
        decoded = in_parallel(lambda row: read_and_decode(source.read, source.names[row], size, fit, shown), rows)
        for row, one in zip(rows, progress.over(decoded, what, len(rows)), strict=True):
            if keep and one.pixels is not None:
                pixels[row] = one.pixels
            # what cannot be read at the set's levels has had its say in them
            own = found[row][-3:] if one.why else one[-3:]
            found[row] = Decoded(None, *one[1:-3], *own)

    def of_set() -> Levels:
        return alone._replace(ranges=levels.together(one.own for one in found if one.group))

    alone = source.levels
    before, anew = of_set(), set(rows)
    decode_rows(rows, alone, "decoding images")
    seen = of_set()
    stale = [
        row
        for row, one in enumerate(found)
        if one.group and levels.used(one.own, alone if row in anew else before) != levels.used(one.own, seen)
    ]
    decode_rows(stale, seen, "decoding images at the set's gray levels")
    columns = zip(Decoded._fields[1:], zip(*(one[1:] for one in found), strict=True), strict=True)
    return {"pixels": pixels} | {field: np.array(column) for field, column in columns}, seen


def content_of(read: Callable, name) -> bytes:
    """What `read(name)` gives. Errors: Passing, which says what can be done where the system tells why."""
    try:
        return read(name)
    except OSError as error:
        remedy = ": make it readable, or remove it" if error.errno else ""
        raise Passing(f"{error.strerror or describe(error)}{remedy}") from error


def read_and_decode(read: Callable, name, size: int, fit: str, shown: Levels = ALONE) -> Decoded:
    """One image, size x size pixels, from what `read(name)` gives, shown by the levels of its set."""
    try:
        content = content_of(read, name)
    except Unreadable as problem:
        return failed(problem)
    return decode(content, name, size, fit, shown)


def in_parallel(function: Callable, items: Iterable) -> Iterator:
    """Results of `function(item)`, in order, by threads: the decoders let go of the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            yield from pool.map(function, items)
        finally:
            pool.shutdown(cancel_futures=True)
