"""A folder of pictures loaded as the program does, and what came of it against the grays that it should have."""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging as absl_logging
from PIL import Image

from configs import default
from pneumojax import data
from pneumojax.errors import BadInput

SIDE = 32  # pixels at which pictures are held; JPEGs up to twice that are decoded whole


class Expected(NamedTuple):
    """What should come of one picture: one of `grays`, or, where there is none, a reason that it is refused."""

    grays: tuple[np.ndarray, ...] = ()  # float [H, W] in 0…255; each is right
    why: str = ""  # a regular expression for the refusal; with grays: it may be refused as well
    most: float = 1.0  # gray levels that a pixel may differ by at SIDE, in a right picture
    patient: str = ""  # pictures with equal ones are of one patient; '' where the header tells none
    how: str = ""  # it was made


class Loaded(NamedTuple):
    """What a load gave and what it said."""

    images: data.Images | None
    error: BadInput | None
    said: list[str]  # log lines


@contextmanager
def listening() -> Iterator[list[str]]:
    """The lines that are logged meanwhile, which are not shown, nor are bars of progress."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = absl_logging.get_absl_logger()
    level, others, up = logger.level, logger.handlers, logger.propagate
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    try:
        with redirect_stderr(io.StringIO()):
            yield lines
    finally:
        logger.handlers, logger.propagate = others, up
        logger.setLevel(level)


def load(folder: Path, size: int = SIDE, **fields) -> Loaded:
    """`data.load` of a folder, with `fields` of `config.data`; the cache lies beside it."""
    config = default.get_config().data
    config.update(dir=str(folder), cache=str(folder.parent / "cache"), **fields)
    with listening() as said:
        try:
            return Loaded(data.load(config, size), None, said)
        except BadInput as error:
            return Loaded(None, error, said)


def alike(gray: np.ndarray) -> bool | None:
    """Whether all pixels are alike when rounded; None where rounding decides."""
    span = float(gray.max() - gray.min())
    if span > 1.01:
        return False
    return True if span < 1e-6 or np.all(np.abs(gray % 1 - 0.5) > 0.01) and np.ptp(np.round(gray)) == 0 else None


def with_alikes(expected: Expected) -> Expected:
    """A picture whose pixels are all alike is refused."""
    found = [alike(gray) for gray in expected.grays]
    if not found or not any(one is None or one for one in found):
        return expected
    grays = tuple(gray for gray, one in zip(expected.grays, found, strict=True) if not one)
    return expected._replace(grays=grays, why="|".join(filter(None, (expected.why, "all pixels are alike"))))


def judged(root: Path, expected: dict[str, Expected], **fields) -> tuple[str, str, Loaded]:
    """Loads the pictures below `root` and compares each with what it should be.

    A set with a picture that is refused is loaded twice: the error names that picture and no other, and
    `on_bad='skip'` leaves it out and nothing else.

    Returns: (result and detail as in `Outcome`, what was loaded).
    """
    expected = {name: with_alikes(one) for name, one in expected.items()}
    loaded = load(root, **fields)
    refused = {}
    if loaded.error:
        if "\n" in str(loaded.error):
            return "wrong", f"an error of several lines: {loaded.error}", loaded
        refused = dict(line.split(": ", 1) for line in loaded.error.details)
        if not refused:
            return "wrong", f"refused as a whole: {loaded.error}", loaded
        loaded = load(root, on_bad="skip", **fields)
        if loaded.error:
            return "wrong", f"refused under on_bad=skip: {loaded.error}", loaded
        if loaded.images.skipped != tuple(f"{name}: {why}" for name, why in refused.items()):
            return "wrong", f"skipped {loaded.images.skipped}, but the error names {refused}", loaded
    names = set(loaded.images.names)
    if names | set(refused) != set(expected) or names & set(refused):
        return "wrong", f"used {sorted(names)}, refused {sorted(refused)} of {sorted(expected)}", loaded
    problems = [*_refusals(expected, refused), *_grays(expected, loaded.images), *_patients(expected, loaded.images)]
    if problems:
        return "wrong", "; ".join(problems), loaded
    return ("refused" if refused else "right"), "", loaded


def _refusals(expected: dict[str, Expected], refused: dict[str, str]) -> Iterator[str]:
    for name, one in expected.items():
        if name not in refused and not one.grays:
            yield f"{name} is taken, it should be refused: {one.why}"
        if name in refused and not (one.why and re.search(one.why, refused[name])):
            yield f"{name} is refused ({refused[name]}), expected: {one.why or 'a picture'}"


def _grays(expected: dict[str, Expected], images: data.Images) -> Iterator[str]:
    for name, pixels in zip(images.names, images.pixels, strict=True):
        apart = [np.abs(pixels.astype(float) - held(gray)) for gray in expected[name].grays]
        if apart and min(one.max() for one in apart) > expected[name].most:
            best = min(apart, key=lambda one: one.max())
            should = held(expected[name].grays[0])
            yield (
                f"{name} differs by {best.max():.0f} at most, {best.mean():.1f} in the mean: "
                f"{pixels.min()}…{pixels.max()}, should be {should.min():.0f}…{should.max():.0f}"
            )


def _patients(expected: dict[str, Expected], images: data.Images) -> Iterator[str]:
    keys = dict(zip(images.names, images.patients, strict=True))
    for name, key in keys.items():
        patient = expected[name].patient
        if bool(patient) != (key != name):
            yield f"{name} of patient {patient!r} is {key!r}"
        if len(patient) > 3 and patient in key:
            yield f"{name}: the number {patient!r} itself is told"
        others = {other for other in keys if patient and expected[other].patient == patient}
        if patient and others != {other for other in keys if keys[other] == key}:
            yield f"{name}: images of {patient!r} are {sorted(others)}, not those of {key!r}"


def held(gray: np.ndarray) -> np.ndarray:
    """float [H, W] in 0…255 → float [SIDE, SIDE], as Pillow has it."""
    levels = np.round(np.clip(gray, 0, 255)).astype(np.uint8)
    return np.asarray(Image.fromarray(levels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)).astype(float)
