"""3x3 convolutions that keep, double or halve an image's side, and the filters beside them, fast on every device."""

import jax.numpy as jnp
import numpy as np

from pneumojax.gan.parts.convolution import convolution
from pneumojax.gan.parts.layers import padded

# A 3x3 kernel and 2x2 pixels alike are one of 4x4: which of its three rows are added up in each of the four.
FOLDED = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 1]], np.float32)


def folded(kernel):
    """[3, 3, C, F] → [2, 2, 2, 2, C, F]: rows 2u + a and columns 2v + b of the kernel of 4x4, as [u, v, a, b, C, F]."""
    rows = FOLDED.astype(kernel.dtype).reshape(2, 2, 3)
    return jnp.einsum("uap,vbq,pqcf->uvabcf", rows, rows, kernel)


def same_convolution(x, kernel):
    """3x3, padding 1: [N, S, S, C] → [N, S, S, F]."""
    return convolution(padded(x), kernel)


def doubling_convolution(x, kernel):
    """Pixels doubled, then 3x3: [N, S, S, C] → [N, 2S + 2, 2S + 2, F], with a border of one pixel, to be filtered.

    In sub-pixel form: of each four neighbours a 2x2 convolution makes the four pixels between their centres.
    """
    n, size, _, channels = x.shape
    phases = folded(kernel)[:, :, ::-1, ::-1].transpose(0, 1, 4, 2, 3, 5).reshape(2, 2, channels, -1)
    y = convolution(padded(x), phases).reshape(n, size + 1, size + 1, 2, 2, -1)
    return y.transpose(0, 1, 3, 2, 4, 5).reshape(n, 2 * size + 2, 2 * size + 2, -1)


def halving_convolution(x, kernel):
    """3x3, then the mean of 2x2 pixels: [N, 2S + 2, 2S + 2, C], with a border of one pixel, → [N, S, S, F].

    A 2x2 convolution of 2x2 pixels as features; one of stride 2 would have slow gradients of gradients.
    """
    n, size, _, channels = x.shape
    pixels = x.reshape(n, size // 2, 2, size // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return convolution(
        pixels.reshape(n, size // 2, size // 2, 4 * channels), folded(kernel / 4).reshape(2, 2, 4 * channels, -1)
    )


def doubled(x):
    """Each pixel four times: [N, S, S, C] → [N, 2S, 2S, C]."""
    n, size, _, channels = x.shape
    y = jnp.broadcast_to(x[:, :, None, :, None], (n, size, 2, size, 2, channels))
    return y.reshape(n, 2 * size, 2 * size, channels)


def halved(x):
    """The mean of 2x2 pixels: [N, 2S, 2S, C] → [N, S, S, C]."""
    n, size, _, channels = x.shape
    return x.reshape(n, size // 2, 2, size // 2, 2, channels).mean((2, 4))


def smoothed(x):
    """The filter (1, 2, 1) / 4 in both directions, without padding: [N, S + 2, S + 2, C] → [N, S, S, C].

    Before `halved` and after `doubled`, or the convolutions that these are part of, it makes the filter (1, 3, 3, 1) of
    StyleGAN2. A sum of slices, which is faster than a convolution of each channel.
    """
    rows = x[:, :-2] / 4 + x[:, 1:-1] / 2 + x[:, 2:] / 4
    return rows[:, :, :-2] / 4 + rows[:, :, 1:-1] / 2 + rows[:, :, 2:] / 4


def bordered(x, width: int = 1):
    """With zeros around: [N, S, S, C] → [N, S + 2 width, S + 2 width, C]."""
    return jnp.pad(x, ((0, 0), (width, width), (width, width), (0, 0)))
