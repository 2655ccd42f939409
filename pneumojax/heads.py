"""Fine-tuning on cached features: the frozen stages run once an image, then all heads train together.

It computes what `classify.fit` does for each of them, where nothing before the trained stages changes and images are
not augmented: the heads of all trials, protocols and arms are one more axis of the arrays.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pneumojax import checkpoint, classify, loop, sharding
from pneumojax.classify import Recipe, TrainState
from pneumojax.data import stream
from pneumojax.metrics import Writer


def used(config) -> bool:
    """Whether a study of this `config.classifier` trains on cached features."""
    return config.mode == "head" and not config.flip and not config.shift


class Head(NamedTuple):
    """One of the classifiers that train together."""

    stage: str  # e.g. `trial0/clean/with_gan`
    trained: dict  # {"params", "batch_stats"} to start from
    rows: np.ndarray  # int32 [n], rows of the table to train on
    steps: int
    key: jax.Array


@partial(jax.jit, static_argnames="recipe", donate_argnames="table")
def fill(table, start, variables, images, indices, recipe: Recipe):
    """Writes the features of the images at `indices` [B] into rows `start` … `start + B` of the table."""
    chosen = sharding.split_batch(images[indices])
    features = classify.features_of(recipe, variables, chosen).astype(table.dtype)
    return jax.lax.dynamic_update_slice_in_dim(table, features, start, 0)


def feature_table(
    recipe: Recipe, variables: dict, sources: Sequence[tuple[int, Callable]], shape: tuple[int, ...]
) -> jax.Array:
    """The features of all images, computed once.

    Args:
      recipe: model, `config.classifier` and what is trained.
      variables: {"params", "batch_stats"}, whole; only the frozen ones matter.
      sources: for each array of images their count, and a function that gives them: uint8 [M, S, S] on the
        device, or `stream.Streamed`.
      shape: of one image's features.

    Returns: `config.feature_dtype` [rows, *shape] on the device, source after source, then rows nobody refers to.
    """
    size = recipe.config.predict_batch_size
    table = sharding.replicate(
        jnp.zeros((rows_of_table([count for count, _ in sources], size), *shape), recipe.config.feature_dtype)
    )
    start = 0
    for count, load in sources:
        firsts = range(0, count, size)
        # the last batch goes round to the first images; what that writes is written over or lies behind the end
        rows = np.resize(np.arange(count, dtype=np.int32), (len(firsts), size))
        batches = stream.batches(load(), len(rows), rows.__getitem__)
        for first, batch in zip(firsts, batches, strict=True):
            table = fill(table, start + first, variables, *batch, recipe)
        start += count
    return table


def rows_of_table(counts, batch_size: int) -> int:
    """Rows for so many images from each source, and for what the last batch may write behind them."""
    return sum(counts) + batch_size


@partial(jax.jit, static_argnames="recipe", donate_argnames="states")
def advance(states, frozen, numbers, steps, table, labels, pools: loop.Pool, keys, recipe: Recipe):
    """`classify.advance` for heads along axis 0 of states, pools and keys; metrics are [k, heads]."""

    def one(states, step):
        def of_head(state, pool, key):
            rows = classify.rows_of_step(pool, key, step, recipe)
            return classify.numbered_step(state, frozen, step, steps, table, labels, rows, key, recipe)

        return jax.vmap(of_head)(states, pools, keys)

    return loop.scan(one, states, numbers)


def fit(
    recipe: Recipe,
    frozen: dict,
    heads: Sequence[Head],
    table,
    labels,
    capacity: int,
    workdir: Path,
    writer: Writer,
) -> dict[str, TrainState]:
    """Trains all heads; those with equally many steps as one.

    Args:
      recipe: model, `config.classifier` and what is trained.
      frozen: {"params", "batch_stats"} that are not trained.
      heads: what is to be trained.
      table: features [rows, ...] on the device.
      labels: int32 [rows] on the device.
      capacity: of the pools, at least the longest `rows`.
      workdir: where checkpoints go; each head's last state is also saved as `classify.fit` would.
      writer: where losses go.

    Returns: stage → state after its last step.
    """
    finished = {}
    for steps in sorted({head.steps for head in heads}):
        own = [head for head in heads if head.steps == steps]
        states = stack([classify.start(recipe, head.trained) for head in own])
        pools = stack([loop.make_pool(head.rows, capacity) for head in own])
        keys = jnp.stack([head.key for head in own])
        args = (jnp.float32(steps), table, labels, pools, keys)
        states = loop.train(
            lambda states, numbers, args=args: advance(states, frozen, numbers, *args, recipe),
            sharding.replicate(states),
            steps,
            per_dispatch=recipe.config.log_every,
            save_every=recipe.config.save_every,
            directory=workdir / "checkpoints" / f"heads-{steps}",
            stages=tuple(head.stage for head in own),
            writer=writer,
        )
        for index, head in enumerate(own):
            finished[head.stage] = jax.tree.map(lambda leaf, index=index: leaf[index], states)
            with checkpoint.open_manager(workdir / "checkpoints" / head.stage) as manager:
                if manager.latest_step() is None:
                    checkpoint.save(manager, steps, finished[head.stage])
    return finished


def stack(trees: Sequence):
    """Trees of arrays as one tree with a new axis 0."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
