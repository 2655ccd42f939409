"""R3GAN with few filters (Huang et al. 2024, 'The GAN is dead; long live the GAN!'): no tricks but a loss that holds.

Relativistic pairs with R1 and R2 at each step, between residual networks without normalisation. Layers, start and
resampling are those of the authors' code; 48 filters at 64 pixels and 24 at 128 are an eighth of its FFHQ networks.
Rates, betas and gamma stay what the config says, where the authors' follow a schedule.

Their 3x3 convolutions have groups of 16 features, here two groups that are a convolution each. With their gradients'
gradients, which R1 needs, a block took 0.94 (24 features, 64 pixels) and 0.72 (48, 32 pixels) of the time of one with a
dense 3x3 on CPU; as one grouped convolution of XLA's its gradient alone took 12 and 7 times as long.
"""

import math
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from pneumojax.gan.parts import adversarial, ema, losses, penalties
from pneumojax.gan.parts.layers import convolution, padded

CONDITIONAL = False
DEFAULTS = {
    "gamma": 1.0,  # weight of R1 and R2, halved
    "average_images": 10_000,  # so many images ago counts half in the generator that is sampled
}

BLOCKS = 2  # a stage
GROUPS = 2  # of a 3x3 convolution
SLOPE = 0.2
leaky_relu = partial(nn.leaky_relu, negative_slope=SLOPE)
linear = partial(nn.Dense, use_bias=False, kernel_init=nn.initializers.variance_scaling(1, "fan_in", "normal"))


def stages(filters: int, image_size: int) -> list[tuple[int, int]]:
    """(side, features) from 4x4 to the image: `filters` there, twice as many at each half, down to 32x32."""
    sides = [4 * 2**doublings for doublings in range(max(1, image_size.bit_length() - 2))]
    return [(side, filters * max(1, sides[-1] // max(side, 32))) for side in sides]


def bilinear(side: int, dtype) -> np.ndarray:
    """The matrix [2 side, side] that doubles a row of pixels: 3/4 of the nearer, 1/4 of the other, 0 beyond the end.

    Half of its transpose halves a row. Two matrix products take no time beside a block, and have no scatter-adds.
    """
    matrix = np.zeros((2 * side, side), dtype)
    for new in range(2 * side):
        for old, weight in ((new // 2, 3 / 4), (new // 2 + (1 if new % 2 else -1), 1 / 4)):
            if 0 <= old < side:
                matrix[new, old] = weight
    return matrix


def resampled(x, matrix):
    """Rows and columns by a matrix [new, old]: [N, old, old, C] → [N, new, new, C]."""
    return jnp.einsum("yh,nhwc,xw->nyxc", matrix, x, matrix)


class Grouped(nn.Module):
    """A 3x3 convolution in `GROUPS`, which see nothing of each other: [N, S, S, C] → [N, S, S, C]."""

    kernel_init: nn.initializers.Initializer

    @nn.compact
    def __call__(self, x):
        features = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (3, 3, features // GROUPS, features))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        layout = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        pairs = zip(*(jnp.split(array, GROUPS, -1) for array in (padded(x), kernel)), strict=True)
        return jnp.concatenate([convolution(*pair, (1, 1), "VALID", **layout) for pair in pairs], -1) + bias


class Block(nn.Module):
    """x + 1x1(3x3(1x1(x))), twice as wide within, for x [N, S, S, C]; the identity at first.

    As in Fixup (Zhang et al. 2019, section 3) the last kernel starts at zero, and the others the smaller, the more
    `blocks` the network has.
    """

    blocks: int

    @nn.compact
    def __call__(self, x):
        features, variance = x.shape[-1], 2 / (1 + SLOPE**2) / math.sqrt(self.blocks)
        scaled = nn.initializers.variance_scaling(variance, "fan_in", "normal")
        y = leaky_relu(nn.Dense(2 * features, kernel_init=scaled)(x))
        y = leaky_relu(Grouped(scaled)(y))
        return x + nn.Dense(features, use_bias=False, kernel_init=nn.initializers.zeros)(y)


class Generator(nn.Module):
    """Latents [N, Z] → images [N, S, S, 1]; of no bound in training, cut to [-1, 1] otherwise.

    S is the largest power of two, 4 or more, that `image_size` reaches.
    """

    filters: int
    image_size: int

    @nn.compact
    def __call__(self, latents, labels, train: bool):
        path = stages(self.filters, self.image_size)
        side, features = path[0]
        basis = self.param("basis", nn.initializers.normal(1), (side, side, features))
        x = basis * linear(features)(latents)[:, None, None]
        for side, features in path:
            if side > x.shape[1]:
                x = x if features == x.shape[-1] else linear(features)(x)
                x = resampled(x, bilinear(x.shape[1], x.dtype))
            for _ in range(BLOCKS):
                x = Block(BLOCKS * len(path))(x)
        x = linear(1)(x)
        return x if train else jnp.clip(x, -1, 1)


class Discriminator(nn.Module):
    """Images [N, S, S, 1] → logits [N]; the larger is the more real, one alone says nothing."""

    filters: int

    @nn.compact
    def __call__(self, images, labels, train: bool):
        path = stages(self.filters, images.shape[1])
        x = linear(self.filters)(images)
        for side, features in reversed(path):
            if side < x.shape[1]:
                x = resampled(x, bilinear(side, x.dtype).T / 2)
                x = x if features == x.shape[-1] else linear(features)(x)
            for _ in range(BLOCKS):
                x = Block(BLOCKS * len(path))(x)
        basis = self.param("basis", nn.initializers.normal(1 / x.shape[1]), x.shape[1:])
        return linear(1)((x * basis).sum((1, 2)))[:, 0]


def compose(config) -> adversarial.Parts:
    """Adam; the generator is averaged. Errors: BadInput for a field below 0."""
    adversarial.check(config, gamma=0, average_images=0)
    return adversarial.Parts(
        generator=Generator(config.filters, config.image_size),
        discriminator=Discriminator(config.filters),
        optimizers=adversarial.adam(config),
        losses=losses.relativistic,
        penalty=penalties.r1_r2(config.gamma),
        average=ema.half_life(config.average_images),
    )


init, step, sample = adversarial.functions(compose)
