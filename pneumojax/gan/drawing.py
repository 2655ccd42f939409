"""Draws images from the states of GANs, and pictures of them."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import FrozenConfigDict

from pneumojax import checkpoint, metrics, sharding
from pneumojax.data import pixels
from pneumojax.gan import pictures
from pneumojax.jobs import Place
from pneumojax.stage import Stage

CHUNK = 128  # images generated at a time


class Recipe(NamedTuple):
    """What a compiled program depends on besides its arrays. Hashable, for jit."""

    gan: ModuleType
    config: FrozenConfigDict  # config.gan


class Order(NamedTuple):
    """One state of a GAN that is to be trained, and the images that it is to make."""

    stage: Stage
    rows: np.ndarray  # int [n], the images of the table that it may see
    wanted: dict[int, int]  # label → images
    seed: int
    classes: Sequence[str]  # names of the labels, for pictures
    inner: np.ndarray = np.zeros(0, int)  # int [m], images of the table that it does not see, to choose its state by


@partial(jax.jit, static_argnames="recipe")
def draw(state, latents, labels, recipe: Recipe):
    """Samples [N, Z] → uint8 [N, S, S]; through uint8, as real images go."""
    return pixels.from_tanh_range(recipe.gan.sample(state, latents, labels, recipe.config))


def generate(recipe: Recipe, order: Order, state) -> dict[int, np.ndarray]:
    """The images that are wanted of a state: label → uint8 [wanted, S, S]. Fewer are the first ones of more."""
    config, key = recipe.config, jax.random.fold_in(jax.random.key(order.seed), 3)
    made = {}
    for label, count in sorted(order.wanted.items()):
        chunks = -(-count // CHUNK)
        latents = jax.random.normal(jax.random.fold_in(key, label), (chunks, CHUNK, config.latent_dim))
        labels = jnp.full(CHUNK, label, jnp.int32)
        drawn = sharding.fetched([draw(state, chunk, labels, recipe) for chunk in latents])
        made[label] = np.concatenate([np.zeros((0, config.image_size, config.image_size), np.uint8), *drawn])[:count]
    return made


def fixed(recipe: Recipe, order: Order, state) -> dict[int, np.ndarray]:
    """What a state draws of the same latents at every step, for all classes: label → uint8 [tiles of a sheet, S, S]."""
    key, counts = jax.random.fold_in(jax.random.key(order.seed), 2), pictures.counts(recipe.config.image_size)
    latents = jnp.concatenate(
        [
            jax.random.normal(key, (counts.generated, recipe.config.latent_dim)),
            great_circles(key, 1, counts.between, recipe.config.latent_dim),
        ]
    )
    labels = {label: jnp.full(len(latents), label, jnp.int32) for label in sorted(order.wanted)}
    return {label: sharding.fetched(draw(state, latents, own, recipe)) for label, own in labels.items()}


def great_circles(key, count: int, points: int, latent_dim: int) -> np.ndarray:
    """Latents from one to another along great circles, float32 [count * points, Z], path after path.

    cos t · a + sin t · b of independent a and b from N(0, 1) is from N(0, 1) at every t: each is what a GAN has learnt.
    """
    ends = np.asarray(jax.random.normal(jax.random.fold_in(key, 1), (count, 2, latent_dim)))
    angles = np.linspace(0, np.pi / 2, points)
    weights = np.stack([np.cos(angles), np.sin(angles)], 1)[None, :, :, None]
    return (weights * ends[:, None]).sum(2).astype(np.float32).reshape(-1, latent_dim)


def sheet(order: Order, step: int, drawn: dict[int, np.ndarray], real: dict[int, np.ndarray]) -> bytes:
    """A PNG of what `fixed` draws, class below class, with real images beside."""
    sheets = []
    for label, tiles in drawn.items():
        own, counts = real[label], pictures.counts(tiles.shape[1])
        shown = np.linspace(0, len(own) - 1, min(counts.real, len(own))).astype(int)  # of many patients
        parts = tiles[: counts.generated], own[shown], tiles[counts.generated :]
        sheets.append(pictures.sheet(order.classes[label], step, *parts))
    return pictures.png(pictures.below(sheets))


def animate(recipe: Recipe, orders: Sequence[Order], place: Place) -> None:
    """Animates the sheets of each state, where there are several, beside them."""
    lines = [metrics.parted(row) for row in metrics.read(place.workdir)]
    for order in orders:
        path = place.workdir / "samples" / pictures.progress_name(order.stage)
        of_step = {step: values["grid"] for step, stage, values in lines if stage == order.stage and "grid" in values}
        sheets = [place.workdir / name for _, name in sorted(of_step.items())]
        if len(sheets) > 1 and not path.exists() and all(map(Path.exists, sheets)):
            read = map(pictures.read, sheets)
            frames = [pictures.frame(one, recipe.config.image_size, len(order.wanted)) for one in read]
            checkpoint.write_bytes(path, pictures.webp(frames, quality=60))
