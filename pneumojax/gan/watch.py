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

from pneumojax import checkpoint, embedding, hosts
from pneumojax.gan import quality
from pneumojax.jobs import Place
from pneumojax.stage import Stage


class Looks(NamedTuple):
    """How pictures are measured while a GAN trains."""

    every: int = 0  # steps between two measurements; 0: none is made
    images: int = 0  # generated of each class for one
    embed: Callable | None = None  # uint8 [N, S, S] → features float32 [N, d]
    name: str = ""  # of what makes them


def looks_of(config) -> Looks:
    """How GANs' pictures are measured while they train. Errors: BadInput where the features' network cannot be had."""
    own = config.quality
    if not own.every:
        return Looks()
    made = embedding.load(own.features, own.weights, config.model.cache)
    if own.inner and own.weights == "none":
        logging.warning("config.quality.inner: states are chosen as a random network sees them; set quality.weights")
    return Looks(own.every, own.images, made.features, made.name)


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


def collapse(sight: Sight, drawn: dict[int, np.ndarray]) -> str | None:
    """Why pictures, label → uint8 [n, S, S], are all but the same, or show nothing; None where they do."""
    reasons = (quality.collapsed(sight.real[label], images) for label, images in drawn.items())
    return next(filter(None, reasons), None)


def kid(sight: Sight, drawn: dict[int, np.ndarray], looks: Looks) -> float | None:
    """The KID of pictures, label → uint8 [n, S, S], the mean of the labels; None where one of them has none."""
    found = []
    for label, images in drawn.items():
        real = sight.features[label]
        scale = quality.measured(quality.scale_of, real).value
        found.append(scale and quality.measured(quality.kid, scale * real, scale * looks.embed(images)).value)
    return None if None in found else float(np.mean(found))


def keep(watch: Watch, stage: Stage, step: int, state, why: str | None, kid: float | None, place: Place) -> None:
    """Keeps a state, or the last good one, where it should be kept.

    Args:
      watch: what is watched.
      stage: whose state it is.
      step: how many steps are done.
      state: a tree of arrays.
      why: it has collapsed, if it has.
      kid: of its pictures, if it was measured.
      place: where checkpoints go.
    """
    choosing, good = watch.sights[stage].choosing, watch.good
    if choosing and kid is not None and kid < hosts.agreed(lambda: lowest(place, stage)):
        save(stage, step, state, {"kid": kid}, place)
    if not why:
        good[stage] = step, state
    elif stage in good:
        logging.warning("%s has collapsed after step %d: %s", stage.name, step, why)
        last_good = good.pop(stage)
        if not choosing:
            save(stage, *last_good, {}, place)


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


def drawn_from(place: Place, stage: Stage, choosing: bool) -> Path:
    """Where the state lies that images are drawn from: the last, or that of the lowest KID where one was chosen."""
    own = kept(place, stage)
    return own if choosing and hosts.agreed(record_of(own).exists) else place.checkpoints(stage)
