"""3x3 convolutions that keep, double or halve an image's side, and the filters beside them, fast on every device."""

import jax.numpy as jnp
import numpy as np

from pneumojax.gan.parts import layers

# The rows of a 3x3 kernel that meet row u of a 2x2 window where it makes row a of the two between the window's centres.
MEETING = np.array([[[1, 1, 0], [1, 0, 0]], [[0, 0, 1], [0, 1, 1]]], np.float32)  # [u, a, row]


def convolution(x, kernel, stride: int = 1):
    """Without padding: [N, S, S, C] with a kernel [K, K, C, F]. Its derivatives of any order are fast on CPUs."""
    strides, numbers = (stride, stride), ("NHWC", "HWIO", "NHWC")
    return layers.convolution(x, kernel, strides, "VALID", dimension_numbers=numbers)


def same(x, kernel):
    """3x3, padding 1: [N, S, S, C] → [N, S, S, F]."""
    return convolution(layers.padded(x), kernel)


def doubling(x, kernel):
    """Pixels doubled, then 3x3: [N, S, S, C] → [N, 2S + 2, 2S + 2, F], a border of one pixel with it.

    In sub-pixel form, as `layers.UpConvolution`: of each four neighbours a 2x2 convolution makes the four pixels
    between their centres. 16 products a pixel of x and pair of features, where 3x3 on doubled pixels has 36.
    """
    n, size, _, channels = x.shape
    rows = MEETING.astype(kernel.dtype)
    phases = jnp.einsum("uap,vbq,pqcf->uvcabf", rows, rows, kernel).reshape(2, 2, channels, -1)
    y = convolution(layers.padded(x), phases).reshape(n, size + 1, size + 1, 2, 2, -1)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * size + 2, 2 * size + 2, -1)


def doubled(x):
    """Each pixel four times: [N, S, S, C] → [N, 2S, 2S, C]."""
    n, size, _, channels = x.shape
    y = jnp.broadcast_to(x[:, :, None, :, None], (n, size, 2, size, 2, channels))
    return y.reshape(n, 2 * size, 2 * size, channels)


def halved(x):
    """The mean of 2x2 pixels: [N, 2S, 2S, C] → [N, S, S, C]."""
    n, size, _, channels = x.shape
    return x.reshape(n, size // 2, 2, size // 2, 2, channels).mean((2, 4))


def filtered(x, *taps: float):
    """A filter along rows and columns, divided by its sum, without padding: [N, S, S, C] → [N, S - taps + 1, …, C].

    A sum of slices, which is faster than a convolution of each channel.
    """
    side = x.shape[1] - len(taps) + 1
    weights = [tap / sum(taps) for tap in taps]
    x = sum(weight * x[:, at : at + side] for at, weight in enumerate(weights))
    return sum(weight * x[:, :, at : at + side] for at, weight in enumerate(weights))


def bordered(x, width: int = 1):
    """With zeros around: [N, S, S, C] → [N, S + 2 width, S + 2 width, C]."""
    return jnp.pad(x, ((0, 0), (width, width), (width, width), (0, 0)))
