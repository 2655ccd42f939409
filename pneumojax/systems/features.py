"""What the frozen stages of a network make of images, computed once an image."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from pneumojax import classify, progress, sharding, tuning
from pneumojax.classify import Recipe
from pneumojax.data import table as tables
from pneumojax.data.table import Table
from pneumojax.errors import BadInput

ENDLESS = 1e30  # not infinite: states are finite


def shape_of(recipe: Recipe, size: int) -> tuple[int, ...]:
    """The shape of one image's features, for images of size x size pixels."""
    return tuning.stages(recipe.model, size)[recipe.tuning.begin].inputs.shape[1:]


def rows_of(images: int, batch_size: int) -> int:
    """Rows of a table of features: whole batches."""
    return -(-images // batch_size) * batch_size


def check(recipe: Recipe, size: int, images: int) -> None:
    """Errors: BadInput where the features of so many images take more memory than is allowed."""
    shape, config = shape_of(recipe, size), recipe.config
    rows = rows_of(images, config.predict_batch_size)
    gigabytes = rows * math.prod(shape) * jnp.dtype(config.feature_dtype).itemsize / 1e9
    if gigabytes > config.feature_memory:
        raise BadInput(
            f"config.classifier.feature_memory={config.feature_memory}: the features of {rows} images, "
            f"{' x '.join(map(str, shape))} {config.feature_dtype} each, take {gigabytes:.1f} gigabytes; "
            "raise it, give config.classifier.feature_dtype='bfloat16', fewer trials or protocols, or 0 for none there"
        )


@partial(jax.jit, static_argnames="recipe", donate_argnames="features")
def fill(features, start, variables, examples, generated, index: tables.Index, recipe: Recipe):
    """Writes the features of the images at an index [B] into rows `start` … `start + B`."""
    images = sharding.split_batch(tables.take(examples, generated, index))
    made = classify.features_of(recipe, variables, images).astype(features.dtype)
    return jax.lax.dynamic_update_slice_in_dim(features, made, start, 0)


def table_of(recipe: Recipe, variables: dict, table: Table, size: int) -> Table:
    """The features of all images of a table.

    Args:
      recipe: model, `config.classifier` and what is trained.
      variables: {"params", "batch_stats"}, whole; only the frozen ones matter.
      table: images of size x size pixels.
      size: pixels a side.

    Returns: `config.feature_dtype` [rows, …] on the device, in the rows that the images have, and their labels.
    """
    batch, images = recipe.config.predict_batch_size, len(table.labels)
    rows = np.resize(np.arange(images), (rows_of(images, batch) // batch, batch))  # the last goes round to the first
    features = sharding.replicate(jnp.zeros((rows.size, *shape_of(recipe, size)), recipe.config.feature_dtype))
    for number, (examples, index) in enumerate(progress.over(tables.feed(table, rows), "features", rows.size, batch)):
        features = fill(features, number * batch, variables, examples, table.generated, index, recipe)
    return Table(jax.block_until_ready(features), table.labels)


@jax.jit
def sums(features, rows):
    """Of features at rows [n]: sums over all but channels of them and of their squares, float32 [C] each."""
    chosen = features[rows].astype(jnp.float32)
    chosen = chosen.reshape(-1, chosen.shape[-1])
    return chosen.sum(0), (chosen * chosen).sum(0)


def scaling_of(table: Table, rows: np.ndarray, batch_size: int) -> dict:
    """Mean and deviation of each channel over the images that are trained on, and their pixels.

    Args:
      table: of features [N, …, C].
      rows: int [n], of them.
      batch_size: of images at a time.

    Returns: {"mean", "deviation"}, float32 [C]; the deviation of a channel that is constant is all but endless, so that
    the channel is 0 and nothing comes of it.
    """
    pieces = np.array_split(rows, -(-len(rows) // batch_size))
    first, second = (
        np.sum(own, 0) for own in zip(*(sharding.fetched(sums(table.examples, p)) for p in pieces), strict=True)
    )
    count = len(rows) * math.prod(table.examples.shape[1:-1])
    mean = np.float64(first) / count
    deviation = np.sqrt(np.maximum(np.float64(second) / count - mean**2, 0))
    constant = deviation <= 1e-4 * np.abs(mean) + 1e-12  # what rounding leaves of it
    return {"mean": np.float32(mean), "deviation": np.float32(np.where(constant, ENDLESS, deviation))}
