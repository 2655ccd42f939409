"""A moving average of a generator, which draws better images than the generator (Karras et al. 2018, appendix A.1).

`average` of `adversarial.Parts` is a function (images seen, images of this step) → decay.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Average(NamedTuple):
    """A network's mean over steps, batch statistics included, and how many images it saw."""

    network: dict
    seen: jax.Array  # int32


def half_life(images: float, ramp: float | None = 0.05) -> Callable:
    """A decay by which so many images ago counts half; at first `ramp` times the images seen, if that is fewer.

    StyleGAN2-ADA (Karras et al. 2020) has 10,000 images and a ramp of 0.05; None has none.
    """

    def decay(seen, batch):
        reached = images if ramp is None else jnp.minimum(images, ramp * seen)
        return 0.5 ** (batch / jnp.maximum(reached, 1e-8))

    return decay


def constant(decay: float) -> Callable:
    """The same decay at each step."""
    return lambda seen, batch: jnp.float32(decay)


def begin(network: dict) -> Average:
    """The average before the first step: the network itself, in arrays of its own, so that both can be donated."""
    return Average(jax.tree.map(jnp.copy, network), jnp.int32(0))


def follow(average: Average, network: dict, batch: int, decay: Callable) -> Average:
    """The average after a step on `batch` images."""
    seen = average.seen + batch
    weight = decay(seen, batch)
    return Average(jax.tree.map(lambda mean, new: new + weight * (mean - new), average.network, network), seen)
