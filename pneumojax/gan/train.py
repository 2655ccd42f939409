"""Trains any GAN that keeps the contract, and draws images from it; what another run has made is not made again."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from pneumojax import checkpoint, gan, hosts, loop
from pneumojax.data import pixels
from pneumojax.data.table import Table
from pneumojax.gan import cache, drawing, watch
from pneumojax.gan.drawing import Order, Recipe
from pneumojax.gan.watch import Looks, Watch
from pneumojax.jobs import Batch, Diverged, Job, Place, layout_of
from pneumojax.stage import Stage

NO_LOOKS = Looks()


def step(state, batch: Batch, key, constants, recipe: Recipe):
    """One step of a GAN: `gan.step` on uint8 images [N, S, S], which are put into its range and flipped."""
    del constants
    flip_key, step_key = jax.random.split(key)
    images = pixels.to_tanh_range(batch.examples)
    if recipe.config.flip:
        flipped = jax.random.bernoulli(flip_key, shape=(len(images), 1, 1, 1))
        images = jnp.where(flipped, images[:, :, ::-1], images)
    return gan.step(recipe.gan, state, images, batch.labels, step_key, recipe.config)


@partial(jax.jit, static_argnames="recipe", compiler_options=loop.QUICK_COMPILATION)
def fresh(key, recipe: Recipe):
    """A new state, computed on the device."""
    return recipe.gan.init(key, recipe.config)


def make(
    recipe: Recipe, orders: Sequence[Order], table: Table, place: Place, looks: Looks = NO_LOOKS
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
    lacking = {stage: entry for stage, entry in entries.items() if entry and not images_path(workdir, stage).exists()}
    made: dict[Stage, np.ndarray | Diverged] = {}
    with cache.alone(list(lacking.values())):
        for stage, entry in lacking.items():  # another run may have made them since
            cache.fetch(entry, stage, images_path(workdir, stage), place)
        jobs = [job_of(recipe, order, place) for order in orders]
        sights = {} if all(job.done for job in jobs) else {o.stage: sight_of(o, table, looks) for o in orders}
        show = partial(look, recipe, by_stage, Watch(looks, sights, {}), place)
        for job, state in loop.train(step, jobs, table, {}, recipe, after=show):
            stage = job.stage
            if isinstance(state, Diverged):
                made[stage] = state
            elif not job.done:
                folder = watch.drawn_from(place, stage, sights[stage].choosing)
                state = state if folder == place.checkpoints(stage) else loop.newest(folder, state)
                images = np.concatenate(list(drawing.generate(recipe, by_stage[stage], state).values()))
                checkpoint.write_arrays(images_path(workdir, stage), images=images)
                cache.deliver(entries[stage], stage, images_path(workdir, stage), place)
    if hosts.first():
        drawing.animate(recipe, orders, place)
    at_rest = [stage for stage in by_stage if stage not in made]
    images_of = {stage: partial(checkpoint.read_arrays, images_path(workdir, stage)) for stage in at_rest}
    return made | {stage: hosts.agreed(read)["images"] for stage, read in images_of.items()}


def content_key(recipe: Recipe, order: Order, table: Table, looks: Looks = NO_LOOKS, spread: bool = False) -> str:
    """The name of what is made, by all that its bits depend on; `spread`: each job on a device of its own."""
    seen = {"pixels": np.asarray(table.examples[order.rows]), "labels": table.labels[order.rows]}
    if looks.every:
        seen |= {"inner": np.asarray(table.examples[order.inner]), "inner_labels": table.labels[order.inner]}
    measured = [looks.every, looks.images, looks.name]
    named = [order.classes[label] for label in sorted(order.wanted)]
    wanted = json.dumps([order.seed, sorted(order.wanted.items()), named, spread, measured])
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
    why = watch.collapse(sight_of(order, table, NO_LOOKS), drawn)
    if why:
        logging.warning("%s has collapsed, or has not learnt yet: %s", order.stage.name, why)
    return why


def images_path(workdir: Path, stage: Stage) -> Path:
    """Where the generated images of a stage are kept."""
    return workdir / "checkpoints" / f"{stage.name}.npz"


def steps_of(config, order: Order) -> int:
    """Steps of one state: those of the config, or as many as see its epochs."""
    return config.steps or -(-config.epochs * (len(order.rows) // config.batch_size) // config.d_steps)


def job_of(recipe: Recipe, order: Order, place: Place) -> Job:
    """The training of one state."""
    config, key = recipe.config, jax.random.key(order.seed)
    steps = steps_of(config, order)
    return Job(
        stage=order.stage,
        start=lambda: fresh(jax.random.fold_in(key, 0), recipe),
        rows=loop.epochs(order.rows, config.batch_size, steps * config.d_steps, order.seed).reshape(steps, -1),
        key=jax.random.fold_in(key, 1),
        place=place,
        done=hosts.agreed(images_path(place.workdir, order.stage).exists),
    )


def look(recipe: Recipe, orders: dict[Stage, Order], watching: Watch, place: Place, stage: Stage, step: int, state):
    """Shows and measures what a state draws, where either is due, and keeps the state if it should be kept."""
    config, order, looks, sight = recipe.config, orders[stage], watching.looks, watching.sights[stage]
    is_last = step == steps_of(config, order)

    def due(every: int) -> bool:
        return every > 0 and (is_last or step % every < config.log_every)

    if due(config.sample_every) or due(looks.every):
        drawn, kid = drawing.fixed(recipe, order, state), None
        if due(config.sample_every):
            place.writer.write_grid(stage, step, drawing.sheet(order, step, drawn, sight.real))
        if due(looks.every):
            wanted = dict.fromkeys(order.wanted, looks.images)
            kid = watch.kid(sight, drawing.generate(recipe, order._replace(wanted=wanted), state), looks)
        if kid is not None:
            place.writer.write_scalars(stage, step, {"kid": kid})
            logging.info("%s step %d kid %.4f, %s", stage.name, step, kid, looks.name)
        watch.keep(watching, stage, step, state, watch.collapse(sight, drawn), kid, place)
