"""Real images and the generated ones that enlarge them, as one table on the device."""

import dataclasses

import jax.numpy as jnp
import numpy as np

from pneumojax import sharding
from pneumojax.data import pixels, stream


def enlarge(real, generated: np.ndarray, capacity: int):
    """The table that classifiers train and are tested on.

    Args:
      real: uint8 [N, S, S] on the device, or `stream.Streamed`.
      generated: uint8 [M, G, G], resized here to S x S.
      capacity: rows for generated images, at least M; the same for all trials, so that programs compile once.

    Returns: uint8 [N + capacity, S, S] on the device: real images, generated ones, then black rows nobody refers to;
    or a stream of as many.
    """
    padded = np.zeros((capacity, *generated.shape[1:]), np.uint8)
    padded[: len(generated)] = generated
    if isinstance(real, stream.Streamed):
        return dataclasses.replace(real, generated=padded)
    return jnp.concatenate([real, pixels.resize(sharding.replicate(padded), real.shape[1])])
