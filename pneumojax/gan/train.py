"""Trains any GAN that keeps the contract, and draws images from it; what another run has made is not made again."""

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
from ml_collections import FrozenConfigDict

from pneumojax import checkpoint, loop, metrics
from pneumojax.data import pixels
from pneumojax.data.table import Table
from pneumojax.gan import cache, pictures
from pneumojax.jobs import Batch, Diverged, Job, Place, layout_of
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


def step(state, batch: Batch, key, constants, recipe: Recipe):
    """One step of a GAN: `gan.step` on uint8 images [N, S, S], which are put into its range and flipped."""
    del constants
    flip_key, step_key = jax.random.split(key)
    images = pixels.to_tanh_range(batch.examples)
    if recipe.config.flip:
        flipped = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
        images = jnp.where(flipped, images[:, :, ::-1], images)
    return recipe.gan.step(state, images, batch.labels, step_key, recipe.config)


@partial(jax.jit, static_argnames="recipe")
def draw(state, latents, labels, recipe: Recipe):
    """Samples [N, Z] → uint8 [N, S, S]; through uint8, as real images go."""
    return pixels.from_tanh_range(recipe.gan.sample(state, latents, labels, recipe.config))


@partial(jax.jit, static_argnames="recipe", compiler_options=loop.QUICK_COMPILATION)
def fresh(key, recipe: Recipe):
    """A new state, computed on the device."""
    return recipe.gan.init(key, recipe.config)


def make(recipe: Recipe, orders: Sequence[Order], table: Table, place: Place) -> dict[Stage, np.ndarray | Diverged]:
    """Trains what was not trained before, here or by another run that shares `config.cache`, and draws the images.

    Args:
      recipe: a module that keeps the contract of `pneumojax.gan`, and `config.gan`.
      orders: what is to be made.
      table: uint8 [N, S, S], S = config.image_size.
      place: where checkpoints, losses and sample grids go.

    Returns: stage → uint8 [wanted, S, S], label after label; or how it diverged.
    """
    workdir, by_stage = place.workdir, {order.stage: order for order in orders}
    spread = layout_of(len(orders), together=False).spread
    keys = {order.stage: content_key(recipe, order, table, spread) for order in orders}
    entries = {stage: cache.entry_of(recipe.config, key) for stage, key in keys.items()}
    for stage, entry in entries.items():
        images = images_path(workdir, stage)
        # a run that was killed may have made and not delivered
        (cache.deliver if images.exists() else cache.fetch)(entry, stage, images, place)
    made: dict[Stage, np.ndarray | Diverged] = {}
    jobs = [job_of(recipe, order, workdir) for order in orders]
    show = partial(show_samples, recipe, by_stage, table, place)
    for job, state in loop.train(step, jobs, table, {}, recipe, place, after=show):
        stage = job.stage
        if isinstance(state, Diverged):
            made[stage] = state
        elif not job.done:
            images = generate(recipe, by_stage[stage], state)
            checkpoint.write_arrays(images_path(workdir, stage), images=images)
            cache.deliver(entries[stage], stage, images_path(workdir, stage), place)
    show_progress(recipe, orders, place)
    at_rest = [stage for stage in by_stage if stage not in made]
    return made | {stage: checkpoint.read_arrays(images_path(workdir, stage))["images"] for stage in at_rest}


def content_key(recipe: Recipe, order: Order, table: Table, spread: bool = False) -> str:
    """The name of what is made, by all that its bits depend on; `spread`: each job on a device of its own."""
    seen = {"pixels": np.asarray(table.examples[order.rows]), "labels": table.labels[order.rows]}
    named = [order.classes[label] for label in sorted(order.wanted)]
    wanted = json.dumps([order.seed, sorted(order.wanted.items()), named, spread])
    return cache.key_of(recipe.gan, recipe.config, sys.modules[__name__], seen | {"wanted": wanted})


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


def show_samples(
    recipe: Recipe, orders: dict[Stage, Order], table: Table, place: Place, stage: Stage, step: int, state
) -> None:
    """Writes a sheet of samples of fixed latents, each `config.sample_every` steps and at the end.

    Real images stand beside; all classes of a state have the same latents.
    """
    config, order = recipe.config, orders[stage]
    last = len(job_of(recipe, order, place.workdir).rows)
    if step % config.sample_every < config.log_every or step == last:
        key, counts = jax.random.fold_in(jax.random.key(order.seed), 2), pictures.counts(config.image_size)
        fixed = jax.random.normal(key, (counts.generated, config.latent_dim))
        latents = jnp.concatenate([fixed, great_circles(key, 1, counts.between, config.latent_dim)])
        sheets = []
        for label in sorted(order.wanted):
            drawn = np.asarray(draw(state, latents, jnp.full(len(latents), label, jnp.int32), recipe))
            own = order.rows[table.labels[order.rows] == label]
            shown = own[np.linspace(0, len(own) - 1, min(counts.real, len(own))).astype(int)]  # of many patients
            parts = drawn[: counts.generated], np.asarray(table.examples[shown]), drawn[counts.generated :]
            sheets.append(pictures.sheet(order.classes[label], step, *parts))
        place.writer.write_grid(stage, step, pictures.png(pictures.below(sheets)))


def great_circles(key, count: int, points: int, latent_dim: int) -> np.ndarray:
    """Latents from one to another along great circles, float32 [count * points, Z], path after path.

    cos t · a + sin t · b of independent a and b from N(0, 1) is from N(0, 1) at every t: each is what a GAN has learnt.
    """
    ends = np.asarray(jax.random.normal(jax.random.fold_in(key, 1), (count, 2, latent_dim)))
    angles = np.linspace(0, np.pi / 2, points)
    weights = np.stack([np.cos(angles), np.sin(angles)], 1)[None, :, :, None]
    return (weights * ends[:, None]).sum(2).astype(np.float32).reshape(-1, latent_dim)


def show_progress(recipe: Recipe, orders: Sequence[Order], place: Place) -> None:
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


def generate(recipe: Recipe, order: Order, state) -> np.ndarray:
    """The images that are wanted of a state, label after label: uint8 [wanted, S, S]."""
    config, key = recipe.config, jax.random.fold_in(jax.random.key(order.seed), 3)
    images = [np.zeros((0, config.image_size, config.image_size), np.uint8)]
    for label, count in sorted(order.wanted.items()):
        chunks = -(-count // CHUNK)
        latents = jax.random.normal(jax.random.fold_in(key, label), (chunks, CHUNK, config.latent_dim))
        labels = jnp.full(CHUNK, label, jnp.int32)
        drawn = jax.device_get([draw(state, chunk, labels, recipe) for chunk in latents])
        images.append(np.concatenate([images[0], *drawn])[:count])
    return np.concatenate(images)
