"""DCGAN (Radford et al. 2016), which the paper uses at 64x64; the file to copy for new networks.

Five transposed 4x4 convolutions with four batch norms and ReLUs, then tanh, against five 4x4 convolutions with three
batch norms and four leaky ReLUs (paper, section 5). For half or double the side, down to 8x8, each has a layer less or
more. What the paper leaves open is taken from the MathWorks example that it matches layer for layer: both networks are
updated from the same forward pass, and each of D's batches, real and generated, has batch statistics of its own.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from pneumojax.gan.parts import adversarial, losses
from pneumojax.gan.parts.layers import UpConvolution, down_convolution, initializer, projection

CONDITIONAL = False

batch_norm = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5)


def widths(filters: int, image_size: int) -> list[int]:
    """Features of the hidden layers, twice as many at each half of the image's side, down to 4x4 pixels."""
    return [filters * 2**halvings for halvings in range(max(1, image_size.bit_length() - 3))]


class Generator(nn.Module):
    """Latents [N, Z] → images [N, S, S, 1] in [-1, 1]. The first transposed convolution, from 1x1, is a Dense.

    S is the largest power of two, 8 or more, that `image_size` reaches.
    """

    filters: int
    image_size: int

    @nn.compact
    def __call__(self, latents, labels, train: bool):
        *below, top = widths(self.filters, self.image_size)
        x = nn.Dense(16 * top, use_bias=False, kernel_init=initializer)(latents)
        x = x.reshape(-1, 4, 4, top)
        for features in reversed(below):
            x = nn.relu(batch_norm(use_running_average=not train)(x))
            x = UpConvolution(features)(x)
        x = nn.relu(batch_norm(use_running_average=not train)(x))
        return jnp.tanh(UpConvolution(1, use_bias=True)(x))


class Discriminator(nn.Module):
    """Images [N, S, S, 1] → logits [N], positive for real; `norm(use_running_average=…)` makes its hidden norms."""

    filters: int
    norm: Callable[..., nn.Module] = batch_norm
    classes: int = 0  # more: it judges by the labels too, by projection

    @nn.compact
    def __call__(self, images, labels, train: bool):
        first, *others = widths(self.filters, images.shape[1])
        x = nn.leaky_relu(down_convolution(images, first), 0.2)
        for features in others:
            x = down_convolution(x, features, use_bias=False)
            x = nn.leaky_relu(self.norm(use_running_average=not train)(x), 0.2)
        x = x.reshape(x.shape[0], -1)
        logits = nn.Dense(1, kernel_init=initializer)(x)[:, 0]
        return logits + projection(x, labels, self.classes) if self.classes else logits


def compose(config) -> adversarial.Parts:
    """Adam on binary cross-entropy."""
    return adversarial.Parts(
        generator=Generator(config.filters, config.image_size),
        discriminator=Discriminator(config.filters),
        optimizers=adversarial.adam(config),
        losses=losses.non_saturating,
    )


init, step, sample = adversarial.functions(compose)
