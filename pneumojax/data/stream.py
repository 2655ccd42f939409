"""Images that stay on disk, for sets larger than memory: decoded by workers while the device computes (extra `grain`).

Batches come in the order that is asked for, so the position of a training is the number of its step, which its
checkpoints hold anyway.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from pneumojax import data, sharding
from pneumojax.data import Images, files
from pneumojax.errors import BadInput

AHEAD = 4  # batches read ahead, times the cores


@dataclasses.dataclass(frozen=True)
class Streamed:
    """Image files, decoded when they are asked for."""

    files: tuple[tuple[files.Source, str], ...]  # where a row's image lies: source and name there
    size: int  # pixels a side
    fit: str

    def __len__(self) -> int:
        return len(self.files)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The images of rows [B], uint8 [B, S, S]. Errors: BadInput where a file has changed and cannot be read."""
        images = {row: self.read_one(row) for row in set(rows.tolist())}
        return np.stack([images[row] for row in rows.tolist()])

    def read_one(self, row: int) -> np.ndarray:
        """uint8 [S, S] of one image."""
        source, name = self.files[row]
        decoded = files.read_and_decode(source.read, name, self.size, self.fit, source.levels)
        if decoded.why:
            raise BadInput(f"{source.where}: {name} was readable at the start and is not now: {decoded.why}")
        return decoded.pixels

    def read_ahead(self, batches: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """`read` of each batch of rows, from several threads, ahead of time."""
        library, workers = grain(), os.cpu_count()
        options = library.ReadOptions(num_threads=workers, prefetch_buffer_size=AHEAD * workers)
        yield from library.MapDataset.range(len(batches)).map(lambda n: self.read(batches[n])).to_iter_dataset(options)


def grain():
    """The library. Errors: BadInput where it is not installed."""
    try:
        import grain
    except ImportError as error:
        raise BadInput("config.data.residence='stream' wants an extra: pip install 'pneumojax[stream]'") from error
    return grain


def real_images(images: Images, config):
    """The real images: uint8 [N, S, S] on the device, or streamed from disk. Errors: BadInput where they cannot be."""
    size = config.model.image_size
    if config.data.residence == "stream":
        if not isinstance(images.pixels, tuple):
            raise BadInput(
                f"config.data.residence='stream': {config.data.name} is drawn in memory and not read from files; "
                "give 'device'"
            )
        grain()
        return Streamed(images.pixels, size, config.data.fit)
    data.check_memory({size: len(images.names)}, config.data)  # before the device has them; all is checked by the plan
    return jax.block_until_ready(sharding.replicate(images.pixels))  # or a copy of the host's would be kept
