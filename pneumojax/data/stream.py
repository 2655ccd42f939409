"""Images that stay on disk, for sets larger than memory: decoded by workers while the device computes (extra `grain`).

Batches come in the order that is asked for, by number: the position of a training is the number of its step, which its
checkpoints hold anyway.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator

import jax
import numpy as np

from pneumojax.data import files, pixels
from pneumojax.errors import BadInput

AHEAD = 4  # batches read ahead, times the cores


@dataclasses.dataclass(frozen=True)
class Streamed:
    """A table of images of S x S pixels as `augment.enlarge` makes them: real ones on disk, then generated ones."""

    files: tuple[tuple[files.Source, str], ...]  # where a row's image lies: source and name there
    size: int
    fit: str
    generated: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((0, 1, 1), np.uint8))  # [M, G, G]

    def __len__(self) -> int:
        return len(self.files) + len(self.generated)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images of rows [B], uint8 [B, S, S]. Errors: BadInput where a file has changed and cannot be read."""
        batch = np.zeros((len(rows), self.size, self.size), np.uint8)
        is_real = rows < len(self.files)
        for index in np.flatnonzero(is_real):
            batch[index] = self.read_real(rows[index])
        if not is_real.all():
            # all rows at a time, so that one program serves any mixture
            drawn = self.generated[np.where(is_real, 0, rows - len(self.files))]
            batch = np.where(is_real[:, None, None], batch, pixels.resize(drawn, self.size))
        return batch

    def read_real(self, row: int) -> np.ndarray:
        """uint8 [S, S] of one real image."""
        source, name = self.files[row]
        decoded = files.read_and_decode(source.read, name, self.size, self.fit)
        if decoded.why:
            raise BadInput(f"{source.where}: {name} was readable at the start and is not now: {decoded.why}")
        return decoded.pixels


def batches(table, count: int, rows_of: Callable[[int], np.ndarray]) -> Iterator[tuple]:
    """Batches of a table, wherever it lies.

    Args:
      table: `Streamed`, or uint8 [N, S, S] on the device.
      count: of batches.
      rows_of: number of a batch → its rows [B]; called from several threads, ahead of time.

    Yields: (images, rows [B] of these images that make the batch): the table itself, or the batch alone.
    """
    if not isinstance(table, Streamed):
        yield from ((table, rows_of(number)) for number in range(count))
        return
    library, workers = grain(), os.cpu_count()
    options = library.ReadOptions(num_threads=workers, prefetch_buffer_size=AHEAD * workers)
    read = library.MapDataset.range(count).map(lambda number: table.read(rows_of(number)))
    for batch in read.to_iter_dataset(options):
        yield batch, np.arange(len(batch), dtype=np.int32)


def grain():
    """The library. Errors: BadInput where it is not installed."""
    try:
        import grain
    except ImportError as error:
        raise BadInput("config.data.residence='stream' wants an extra: pip install 'pneumojax[stream]'") from error
    return grain


def resized(table, size: int) -> jax.Array:
    """All real images of a table at another size, uint8 [N, size, size] on the device."""
    if not isinstance(table, Streamed):
        return pixels.resize(table, size)
    count = len(table.files)
    # the last chunk goes round to the first images, so that one program serves all
    rows = np.resize(np.arange(count), (-(-count // pixels.CHUNK), pixels.CHUNK))
    chunks = batches(table, len(rows), rows.__getitem__)
    small = np.concatenate([np.asarray(pixels.resize(chunk, size)) for chunk, _ in chunks])
    return jax.numpy.asarray(small[:count])
