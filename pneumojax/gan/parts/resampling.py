"""3x3 convolutions and small filters that keep, double or halve an image's side, in forms that are fast on CPUs."""

import jax
import jax.numpy as jnp
import numpy as np

from pneumojax.gan.parts.layers import padded

# Which rows of a 3x3 kernel meet row u of a 2x2 window where it writes row a of the two that lie inside the window.
FOLDED = np.array([[[1, 1, 0], [1, 0, 0]], [[0, 0, 1], [0, 1, 1]]], np.float32)  # [u, a, row]


def convolution(x, kernel, stride: int = 1):
    """[N, S, S, C] with a kernel [K, K, C, F], without padding."""
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=numbers)


def same_convolution(x, kernel):
    """3x3 convolution, padding 1: [N, S, S, C] → [N, S, S, F]."""
    return convolution(padded(x), kernel)


def up_convolution(x, kernel):
    """Each pixel doubled, then a 3x3 convolution: [N, S, S, C] → [N, 2S + 2, 2S + 2, F], a border of one pixel with it.

    In sub-pixel form: a 2x2 convolution makes the four pixels between the centres of four, with the rows of the kernel
    that meet the same pixel added up. 16 products a pixel of the input instead of 36.
    """
    n, size, _, channels = x.shape
    folded = jnp.einsum("uap,vbq,pqcf->uvcabf", *[FOLDED.astype(kernel.dtype)] * 2, kernel)
    y = convolution(padded(x), folded.reshape(2, 2, channels, -1))
    y = y.reshape(n, size + 1, size + 1, 2, 2, -1).transpose(0, 1, 3, 2, 4, 5)
    return y.reshape(n, 2 * size + 2, 2 * size + 2, -1)


def doubled(x):
    """Each pixel four times: [N, S, S, C] → [N, 2S, 2S, C]."""
    n, size, _, channels = x.shape
    y = jnp.broadcast_to(x[:, :, None, :, None], (n, size, 2, size, 2, channels))
    return y.reshape(n, 2 * size, 2 * size, channels)


def halved(x, times: int = 1):
    """The mean of each 2^times x 2^times pixels: [N, S, S, C] → [N, S / 2^times, S / 2^times, C]."""
    n, size, _, channels = x.shape
    side = 2**times
    return x.reshape(n, size // side, side, size // side, side, channels).mean((2, 4))


def filtered(x, taps: tuple[float, ...], stride: int = 1):
    """A separable filter, divided by its sum, without padding: [N, S, S, C] → [N, R, R, C].

    R is (S - len(taps)) // stride + 1. Sums of slices, which are faster than convolutions of one channel each.
    """
    last = x.shape[1] - len(taps) + 1
    weights = [tap / sum(taps) for tap in taps]
    rows = sum(weight * x[:, at : at + last : stride] for at, weight in enumerate(weights))
    return sum(weight * rows[:, :, at : at + last : stride] for at, weight in enumerate(weights))
