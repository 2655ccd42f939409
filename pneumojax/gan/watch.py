"""What is seen of a GAN while it trains: whether its pictures differ, how near they come, which state is the best.

Where images were kept from the GAN to choose by, the state with the lowest KID against them is kept in
`checkpoints/<stage>.kept`, and images are drawn from it. Else the last state is drawn from, and what is kept there is
the last one before the pictures became all but the same, if they did.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import logging

from pneumojax import checkpoint, loop
from pneumojax.gan import quality
from pneumojax.jobs import Place
from pneumojax.stage import Stage


class Looks(NamedTuple):
    """How pictures are measured while a GAN trains."""

    every: int = 0  # steps between two measurements; 0: none is made
    images: int = 0  # generated of each class for one
    embed: Callable | None = None  # uint8 [N, S, S] → features float32 [N, d]
    name: str = ""  # of what makes them


class Sight(NamedTuple):
    """What the pictures of one GAN are held against, by label."""

    real: dict[int, np.ndarray]  # uint8 [n, S, S], at the GAN's size
    features: dict[int, np.ndarray]  # float [n, d] of them or, where some were kept from the GAN, of those; or none
    choosing: bool  # whether the features are of images that the GAN does not see


class Watch(NamedTuple):
    """What is watched."""

    looks: Looks
    sights: dict[Stage, Sight]
    good: dict[Stage, tuple[int, Any]]  # (step, state) of the last look whose pictures differed; changes


def sight(real: dict[int, np.ndarray], inner: dict[int, np.ndarray], looks: Looks) -> Sight:
    """What a GAN's pictures are held against: its training images, and those kept from it, if there are some."""
    choosing = all(len(images) for images in inner.values())
    held_against = (inner if choosing else real) if looks.every else {}
    return Sight(real, {label: looks.embed(images) for label, images in held_against.items()}, choosing)


def spread(sight: Sight, drawn: dict[int, np.ndarray]) -> float:
    """How much pictures, label → uint8 [n, S, S], differ from each other, relative to real ones; of the worst label."""
    return min(quality.spread(images) / quality.spread(sight.real[label]) for label, images in drawn.items())


def kid(sight: Sight, drawn: dict[int, np.ndarray], looks: Looks) -> float:
    """The KID of pictures, label → uint8 [n, S, S]; the mean of the labels."""
    found = []
    for label, images in drawn.items():
        scale = quality.scale_of(sight.features[label])
        found.append(quality.kid(scale * sight.features[label], scale * looks.embed(images)))
    return float(np.mean(found))


def keep(watch: Watch, stage: Stage, step: int, state, seen: dict[str, float], place: Place) -> None:
    """Keeps a state, or the last good one, where it should be kept; `seen` are its "spread" and, if due, "kid"."""
    choosing, good = watch.sights[stage].choosing, watch.good
    if seen["spread"] < quality.COLLAPSED:
        if stage in good:
            what = f"their spread is {seen['spread']:.3f} of that of real ones, below {quality.COLLAPSED}"
            logging.warning("%s step %d has collapsed, its pictures are all but the same: %s", stage.name, step, what)
            if not choosing:
                save(stage, *good.pop(stage), {}, place)
        return
    good[stage] = step, state
    if choosing and "kid" in seen and seen["kid"] < lowest(place, stage):
        save(stage, step, state, {"kid": seen["kid"]}, place)


def save(stage: Stage, step: int, state, record: dict, place: Place) -> None:
    """Keeps a state, in place of the one that was kept before; the record comes last, so that it never comes alone."""
    folder = kept(place, stage)
    with checkpoint.open_manager(folder) as manager:
        checkpoint.save(manager, step, state, place.record(folder))  # does nothing where one of a later step is there
    checkpoint.write_json(record_of(folder), {"step": step, **record})


def kept(place: Place, stage: Stage) -> Path:
    """Where the state that is kept lies."""
    own = place.checkpoints(stage)
    return own.with_name(f"{own.name}.kept")


def record_of(folder: Path) -> Path:
    """What is known of it: {"step", "kid"}."""
    return folder.with_name(f"{folder.name}.json")


def lowest(place: Place, stage: Stage) -> float:
    """The lowest KID so far, of the state that is kept."""
    path = record_of(kept(place, stage))
    if not path.exists():
        return np.inf
    with checkpoint.record_of_run(path):
        return float(checkpoint.read_json(path)["kid"])


def chosen(place: Place, stage: Stage, last, sight: Sight):
    """The state that images are drawn from: the last one, or that of the lowest KID."""
    if not sight.choosing or not record_of(kept(place, stage)).exists():
        return last
    return loop.newest(kept(place, stage), last)
