"""Trains any GAN that keeps the contract, and draws images from it."""

import io
from functools import partial
from pathlib import Path
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from pneumojax import checkpoint, loop, sharding
from pneumojax.data import CLASSES, pixels
from pneumojax.metrics import Writer

GRID = 8  # images along each side of a sample grid
CHUNK = 128  # images generated at a time


@partial(jax.jit, static_argnames=("gan", "config"), donate_argnames="state")
def advance(state, steps, images, labels, pool: loop.Pool, key, gan: ModuleType, config):
    """Steps of a GAN of the numbers `steps` [k]; images uint8 [N, S, S] stay on the device."""
    order_key, flip_key, step_key = jax.random.split(key, 3)

    def one(state, step):
        rows = loop.batch_of(pool, order_key, step, config.batch_size)
        batch, batch_labels = sharding.split_batch((pixels.to_tanh_range(images[rows]), labels[rows]))
        if config.flip:
            flipped = jax.random.bernoulli(jax.random.fold_in(flip_key, step), shape=(len(batch), 1, 1, 1))
            batch = jnp.where(flipped, batch[:, :, ::-1], batch)
        return gan.step(state, batch, batch_labels, jax.random.fold_in(step_key, step), config)

    return loop.scan(one, state, steps)


@partial(jax.jit, static_argnames=("gan", "config"))
def draw(state, latents, labels, gan: ModuleType, config):
    """Samples [N, Z] → uint8 [N, S, S]; through uint8, as real images go."""
    return pixels.from_tanh_range(gan.sample(state, latents, labels, config))


@partial(jax.jit, static_argnames=("gan", "config"), compiler_options=loop.QUICK_COMPILATION)
def fresh(key, gan: ModuleType, config):
    """A new state, computed on the device."""
    return gan.init(key, config)


def parts(gan: ModuleType) -> dict[str, tuple[int, ...]]:
    """The states that a GAN needs: name → labels that it is trained on."""
    if gan.CONDITIONAL:
        return {"all": tuple(range(len(CLASSES)))}
    return {name.lower(): (label,) for label, name in enumerate(CLASSES)}


def train(gan: ModuleType, config, images, labels, rows, key, stage: str, workdir: Path, writer: Writer) -> dict:
    """Trains the state or states of a GAN on the images at `rows`, going on from checkpoints where there are some.

    Args:
      gan: a module that keeps the contract of `pneumojax.gan`.
      config: `config.gan`, frozen.
      images: uint8 [N, S, S] on the device, S = config.image_size.
      labels: int32 [N] on the device.
      rows: int32 [n], the images that may be seen.
      key: everything random is folded from it.
      stage: name of the stage, e.g. `trial0/clean`.
      workdir: where checkpoints and sample grids go.
      writer: where losses go.

    Returns: {part: state}, parts as `parts` gives them.
    """
    labels_at_rest = np.asarray(labels)
    states = {}
    for number, (part, part_labels) in enumerate(parts(gan).items()):
        own = rows[np.isin(labels_at_rest[rows], part_labels)]
        part_key = jax.random.fold_in(key, number)
        states[part] = train_part(
            gan, config, images, labels, own, part_labels, part_key, f"{stage}/gan_{part}", workdir, writer
        )
    return states


def train_part(gan, config, images, labels, rows, part_labels, key, stage, workdir, writer):
    """One state of `train`."""
    init_key, train_key, grid_key = jax.random.split(key, 3)
    steps = config.steps or config.epochs * (len(rows) // config.batch_size)
    pool = loop.make_pool(rows, len(images))
    latents = jax.random.normal(grid_key, (GRID * GRID, config.latent_dim))
    grid_labels = jnp.asarray(np.resize(part_labels, GRID * GRID), jnp.int32)

    def show(step, state):
        if step % config.sample_every < config.log_every or step == steps:
            picture = grid(np.asarray(draw(state, latents, grid_labels, gan, config)))
            write_png(workdir / "samples" / f"generated-{stage.replace('/', '-')}-{step:06d}.png", picture)
            writer.write_images(step, {f"{stage}/generated": picture})

    return loop.train(
        lambda state, numbers: advance(state, numbers, images, labels, pool, train_key, gan, config),
        sharding.replicate(fresh(init_key, gan, config)),
        steps,
        per_dispatch=config.log_every,
        save_every=config.save_every,
        directory=workdir / "checkpoints" / stage,
        stages=(stage,),
        writer=writer,
        after=show,
    )


def generate(gan: ModuleType, config, states: dict, counts, key) -> np.ndarray:
    """Generates images class after class, `counts` of each: uint8 [sum(counts), S, S]."""
    pictures = [np.zeros((0, config.image_size, config.image_size), np.uint8)]
    for part, part_labels in parts(gan).items():
        for label in part_labels:
            chunks = -(-int(counts[label]) // CHUNK)
            latents = jax.random.normal(jax.random.fold_in(key, label), (chunks, CHUNK, config.latent_dim))
            labels = jnp.full(CHUNK, label, jnp.int32)
            drawn = jax.device_get([draw(states[part], chunk, labels, gan, config) for chunk in latents])
            pictures.append(np.concatenate([pictures[0], *drawn])[: counts[label]])
    return np.concatenate(pictures)


def grid(tiles: np.ndarray) -> np.ndarray:
    """[GRID², S, S] → one picture [GRID·S, GRID·S]."""
    size = tiles.shape[1]
    return tiles.reshape(GRID, GRID, size, size).transpose(0, 2, 1, 3).reshape(GRID * size, GRID * size)


def write_png(path: Path, picture: np.ndarray) -> None:
    """Writes uint8 [H, W] as a PNG."""
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG", optimize=True)
    checkpoint.write_bytes(path, content.getvalue())
