"""The images of a study as one table that is indexed by rows: real ones first, generated ones behind them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from pneumojax import augment, sharding
from pneumojax.data import pixels
from pneumojax.data.stream import Streamed

CHUNK = 128  # images that `images` takes at a time


class Table(NamedTuple):
    """Examples and their labels. Rows count `examples` first, then what is added to them."""

    examples: jax.Array | Streamed  # uint8 [N, S, S] or their features [N, …] on the device, or files on disk
    labels: np.ndarray  # int32 [N + M]
    generated: jax.Array | None = None  # uint8 [M, G, G] on the device, which are resized as they are taken
    copies: np.ndarray | None = None  # int32 [M, 2], (example that is shown moved in place of one, number); -1 for none


class Index(NamedTuple):
    """Where the rows of batches lie; arrays of one shape, int32."""

    places: np.ndarray  # among the examples; any, for a generated one
    drawn: np.ndarray  # among the generated ones; -1 for a real one
    moved: np.ndarray | None = None  # number of the copy that an example is shown as; -1 as it is; None: all are


def index_of(table: Table, rows: np.ndarray) -> Index:
    """Where rows of any shape lie."""
    real = len(table.examples)
    places, drawn = np.minimum(rows, real - 1).astype(np.int32), np.maximum(rows - real, -1).astype(np.int32)
    if table.copies is None:
        return Index(places, drawn)
    source, moved = np.moveaxis(np.where(drawn[..., None] < 0, np.int32(-1), table.copies[drawn]), -1, 0)
    is_copy = source >= 0
    return Index(np.where(is_copy, source, places), np.where(is_copy, -1, drawn), moved)


def feed(table: Table, batches: Sequence[np.ndarray]) -> Iterator[tuple[jax.Array, Index]]:
    """The batches of a table, each an array of rows of any shape, wherever they lie.

    Yields: (examples on the device, index): all of them, or those of this batch alone, which were read ahead of time.
    """
    indices = [index_of(table, rows) for rows in batches]
    if not isinstance(table.examples, Streamed):
        yield from ((table.examples, index) for index in indices)
        return
    for images, index in zip(table.examples.read_ahead([i.places.ravel() for i in indices]), indices, strict=True):
        yield images, index._replace(places=np.arange(index.places.size, dtype=np.int32).reshape(index.places.shape))


def take(examples, generated, index: Index):
    """Inside jit: the examples of an index [B]; generated ones resized to the size of the others, copies moved."""
    chosen = examples[index.places]
    if index.moved is not None:
        chosen = jnp.where(index.moved[:, None, None] < 0, chosen, augment.copies(chosen, index.moved))
    if generated is None:
        return chosen
    drawn = pixels.resized(generated[jnp.maximum(index.drawn, 0)], chosen.shape[-1])
    return jnp.where(index.drawn[:, None, None] < 0, chosen, drawn)


def images(table: Table, rows: np.ndarray) -> np.ndarray:
    """The examples of rows [n] in the host's memory, for systems that compute there: uint8 [n, S, S]."""
    table = sharding.local(table)
    fed = feed(table, np.array_split(rows, -(-len(rows) // CHUNK)))
    return np.concatenate([np.asarray(take(examples, table.generated, index)) for examples, index in fed])
