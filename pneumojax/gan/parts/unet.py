"""A small U-Net for denoising: DDPM++ (Song et al. 2021) as EDM has it (Karras et al. 2022), less its attention."""

import math
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from pneumojax.gan.parts.layers import initializer

# They pad themselves, which is fastest here on CPUs: at 32 channels of 32x32 pixels, batch 32, 6 ms of CPU time, where
# `layers.padded` before them makes it 26, and nine matrix products in their place 20.
convolution = partial(nn.Conv, kernel_size=(3, 3), kernel_init=initializer)
dense = partial(nn.Dense, kernel_init=initializer)


def norm(x):
    """Group norm in eight groups, or in as many as divide the channels. Of the module that calls it."""
    return nn.GroupNorm(math.gcd(x.shape[-1], 8), epsilon=1e-5)(x)


def halved(x):
    """Means of 2x2 pixels, [N, 2S, 2S, C] → [N, S, S, C]."""
    n, side, _, channels = x.shape
    return x.reshape(n, side // 2, 2, side // 2, 2, channels).mean((2, 4))


def doubled(x):
    """Each pixel four times, [N, S, S, C] → [N, 2S, 2S, C]. The gradient is a sum; that of `jnp.repeat` scatters."""
    n, side, _, channels = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (n, side, 2, side, 2, channels))
    return x.reshape(n, 2 * side, 2 * side, channels)


def to_depth(x):
    """2x2 pixels become channels, [N, 2S, 2S, C] → [N, S, S, 4 C]."""
    n, side, _, channels = x.shape
    x = x.reshape(n, side // 2, 2, side // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, side // 2, side // 2, 4 * channels)


def to_space(x):
    """The inverse of `to_depth`."""
    n, side, _, channels = x.shape
    x = x.reshape(n, side, side, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * side, 2 * side, channels // 4)


class Block(nn.Module):
    """Two 3x3 convolutions beside a way around, [N, S, S, C] and an embedding [N, E] → [N, S, S, F]."""

    features: int
    dropout: float

    @nn.compact
    def __call__(self, x, embedding, train: bool):
        y = convolution(self.features)(nn.silu(norm(x)))
        scale, shift = jnp.split(dense(2 * self.features)(embedding)[:, None, None], 2, -1)
        y = nn.silu(norm(y) * (1 + scale) + shift)
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        y = convolution(self.features, kernel_init=nn.initializers.zeros)(y)
        if x.shape[-1] != self.features:
            x = dense(self.features)(x)
        return (x + y) * 0.5**0.5


class UNet(nn.Module):
    """Images [N, S, S, C] and features of the noise [N, K] → [N, S, S, C], zero at first. S is even.

    2x2 pixels are taken as channels of one, and the side is halved while it is even and above 8: to 32, 16 and 8 of 64.
    """

    filters: int
    dropout: float

    @nn.compact
    def __call__(self, images, features, train: bool):
        embedding = features
        for _ in range(2):
            embedding = nn.silu(dense(4 * self.filters)(embedding))
        x = to_depth(images)
        channels = x.shape[-1]
        x = convolution(self.filters)(x)
        skips = []
        while x.shape[1] % 2 == 0 and x.shape[1] > 8:
            x = Block(self.filters * min(4, 2 ** len(skips)), self.dropout)(x, embedding, train)
            skips.append(x)
            x = halved(x)
        for _ in range(2):
            x = Block(self.filters * min(4, 2 ** len(skips)), self.dropout)(x, embedding, train)
        for skip in reversed(skips):
            x = jnp.concatenate([doubled(x), skip], -1)
            x = Block(skip.shape[-1], self.dropout)(x, embedding, train)
        return to_space(convolution(channels, kernel_init=nn.initializers.zeros)(nn.silu(norm(x))))
