"""Trains any GAN that keeps the contract, and draws images from it; what another run has made is not made again."""

import io
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import FrozenConfigDict
from PIL import Image

from pneumojax import checkpoint, gan, loop
from pneumojax.data import pixels
from pneumojax.data.table import Table
from pneumojax.gan import cache, watch
from pneumojax.gan.watch import Looks, Watch
from pneumojax.jobs import Batch, Diverged, Job, Place, layout_of
from pneumojax.stage import Stage

GRID = 8  # images along each side of a sample grid
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
    inner: np.ndarray = np.zeros(0, int)  # int [m], images of the table that it does not see, to choose its state by


def step(state, batch: Batch, key, constants, recipe: Recipe):
    """One step of a GAN: `gan.step` on uint8 images [N, S, S], which are put into its range and flipped."""
    del constants
    flip_key, step_key = jax.random.split(key)
    images = pixels.to_tanh_range(batch.examples)
    if recipe.config.flip:
        flipped = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
        images = jnp.where(flipped, images[:, :, ::-1], images)
    return gan.step(recipe.gan, state, images, batch.labels, step_key, recipe.config)


@partial(jax.jit, static_argnames="recipe")
def draw(state, latents, labels, recipe: Recipe):
    """Samples [N, Z] → uint8 [N, S, S]; through uint8, as real images go."""
    return pixels.from_tanh_range(recipe.gan.sample(state, latents, labels, recipe.config))


@partial(jax.jit, static_argnames="recipe", compiler_options=loop.QUICK_COMPILATION)
def fresh(key, recipe: Recipe):
    """A new state, computed on the device."""
    return recipe.gan.init(key, recipe.config)


def make(
    recipe: Recipe, orders: Sequence[Order], table: Table, place: Place, looks: Looks
) -> dict[Stage, np.ndarray | Diverged]:
    """Trains what was not trained before, here or by another run that shares `config.cache`, and draws the images.

    Args:
      recipe: a module that keeps the contract of `pneumojax.gan`, and `config.gan`.
      orders: what is to be made.
      table: uint8 [N, S, S], S = config.image_size.
      place: where checkpoints, losses and sample grids go.
      looks: how its pictures are measured while it trains.

    Returns: stage → uint8 [wanted, S, S], label after label; or how it diverged.
    """
    workdir, by_stage = place.workdir, {order.stage: order for order in orders}
    spread = layout_of(len(orders), together=False).spread
    keys = {order.stage: content_key(recipe, order, table, looks, spread) for order in orders}
    entries = {stage: cache.entry_of(recipe.config, key) for stage, key in keys.items()}
    for stage, entry in entries.items():
        images = images_path(workdir, stage)
        # a run that was killed may have made and not delivered
        (cache.deliver if images.exists() else cache.fetch)(entry, stage, images, place)
    made: dict[Stage, np.ndarray | Diverged] = {}
    jobs = [job_of(recipe, order, workdir) for order in orders]
    sights = {} if all(job.done for job in jobs) else {o.stage: sight_of(o, table, looks) for o in orders}
    show = partial(look, recipe, by_stage, Watch(looks, sights, {}), place)
    for job, state in loop.train(step, jobs, table, {}, recipe, place, after=show):
        stage = job.stage
        if isinstance(state, Diverged):
            made[stage] = state
        elif not job.done:
            images = generate(recipe, by_stage[stage], watch.chosen(place, stage, state, sights[stage]))
            checkpoint.write_arrays(images_path(workdir, stage), images=images)
            cache.deliver(entries[stage], stage, images_path(workdir, stage), place)
    at_rest = [stage for stage in by_stage if stage not in made]
    return made | {stage: checkpoint.read_arrays(images_path(workdir, stage))["images"] for stage in at_rest}


def content_key(recipe: Recipe, order: Order, table: Table, looks: Looks, spread: bool = False) -> str:
    """The name of what is made, by all that its bits depend on; `spread`: each job on a device of its own."""
    seen = {"pixels": np.asarray(table.examples[order.rows]), "labels": table.labels[order.rows]}
    if looks.every:
        seen |= {"inner": np.asarray(table.examples[order.inner]), "inner_labels": table.labels[order.inner]}
    measured = [looks.every, looks.images, looks.name]
    wanted = json.dumps([order.seed, sorted(order.wanted.items()), spread, measured])
    return cache.key_of(recipe.gan, recipe.config, sys.modules[__name__], seen | {"wanted": wanted})


def sight_of(order: Order, table: Table, looks: Looks) -> watch.Sight:
    """The real images that a GAN's pictures are held against, by label."""

    def of_label(rows: np.ndarray) -> dict[int, np.ndarray]:
        own = {label: rows[table.labels[rows] == label] for label in order.wanted}
        return {label: np.asarray(table.examples[chosen]) for label, chosen in own.items()}

    return watch.sight(of_label(order.rows), of_label(order.inner), looks)


def collapse(order: Order, table: Table, images: np.ndarray) -> str | None:
    """Why images that a GAN made, uint8 [wanted, S, S], are all but the same; None where they differ."""
    counts = sorted(order.wanted.items())
    parts = np.split(images, np.cumsum([count for _, count in counts])[:-1])
    drawn = {label: part for (label, _), part in zip(counts, parts, strict=True) if len(part)}
    why = watch.collapse(sight_of(order, table, Looks()), drawn)
    if why:
        logging.warning("%s has collapsed: %s", order.stage.name, why)
    return why


def images_path(workdir: Path, stage: Stage) -> Path:
    """Where the generated images of a stage are kept."""
    return workdir / "checkpoints" / f"{stage.name}.npz"


def job_of(recipe: Recipe, order: Order, workdir: Path) -> Job:
    """The training of one state."""
    config, key = recipe.config, jax.random.key(order.seed)
    steps = config.steps or config.epochs * (len(order.rows) // (config.batch_size * config.d_steps))
    return Job(
        stage=order.stage,
        start=lambda: fresh(jax.random.fold_in(key, 0), recipe),
        rows=loop.epochs(order.rows, config.batch_size * config.d_steps, steps, order.seed),
        key=jax.random.fold_in(key, 1),
        done=images_path(workdir, order.stage).exists(),
    )


def look(recipe: Recipe, orders: dict[Stage, Order], watching: Watch, place: Place, stage: Stage, step: int, state):
    """Shows and measures what a state draws, where either is due, and keeps the state if it should be kept."""
    config, order, looks, sight = recipe.config, orders[stage], watching.looks, watching.sights[stage]
    is_last = step == len(job_of(recipe, order, place.workdir).rows)

    def due(every: int) -> bool:
        return every > 0 and (is_last or step % every < config.log_every)

    if due(config.sample_every) or due(looks.every):
        tiles, labels = fixed_samples(recipe, order, state)
        why, kid = watch.collapse(sight, {label: tiles[labels == label] for label in order.wanted}), None
        if due(config.sample_every):
            place.writer.write_grid(stage, step, png(grid(tiles)))
        if due(looks.every):
            wanted = order._replace(wanted=dict.fromkeys(order.wanted, looks.images))
            kid = watch.kid(sight, by_label(recipe, wanted, state), looks)
        if kid is not None:
            place.writer.write_scalars(stage, step, {"kid": kid})
        watch.keep(watching, stage, step, state, why, kid, place)


def fixed_samples(recipe: Recipe, order: Order, state) -> tuple[np.ndarray, np.ndarray]:
    """What a state draws of the same latents at every step: uint8 [GRID², S, S], and their labels, in turn."""
    key = jax.random.fold_in(jax.random.key(order.seed), 2)
    latents = jax.random.normal(key, (GRID * GRID, recipe.config.latent_dim))
    labels = np.resize(sorted(order.wanted), GRID * GRID).astype(np.int32)
    return np.asarray(draw(state, latents, jnp.asarray(labels), recipe)), labels


def generate(recipe: Recipe, order: Order, state) -> np.ndarray:
    """The images that are wanted of a state, label after label: uint8 [wanted, S, S]."""
    return np.concatenate(list(by_label(recipe, order, state).values()))


def by_label(recipe: Recipe, order: Order, state) -> dict[int, np.ndarray]:
    """The images that are wanted of a state, label → uint8 [n, S, S]."""
    config, key = recipe.config, jax.random.fold_in(jax.random.key(order.seed), 3)
    drawn = {}
    for label, count in sorted(order.wanted.items()):
        chunks = -(-count // CHUNK)
        latents = jax.random.normal(jax.random.fold_in(key, label), (chunks, CHUNK, config.latent_dim))
        labels = jnp.full(CHUNK, label, jnp.int32)
        made = jax.device_get([draw(state, chunk, labels, recipe) for chunk in latents])
        drawn[label] = np.concatenate([np.zeros((0, config.image_size, config.image_size), np.uint8), *made])[:count]
    return drawn


def grid(tiles: np.ndarray) -> np.ndarray:
    """[GRID², S, S] → one picture [GRID·S, GRID·S]."""
    size = tiles.shape[1]
    return tiles.reshape(GRID, GRID, size, size).transpose(0, 2, 1, 3).reshape(GRID * size, GRID * size)


def png(picture: np.ndarray) -> bytes:
    """uint8 [H, W] as a PNG."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG", optimize=True)
    return content.getvalue()
