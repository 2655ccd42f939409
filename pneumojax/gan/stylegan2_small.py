"""A small StyleGAN2 (Karras et al. 2020, 'Analyzing and improving the image quality of StyleGAN').

A mapping of two layers, modulated convolutions, noise inputs, and grays that are added up over the sizes, against
residual blocks and the deviation within groups of a batch; R1 and the generator's moving average as StyleGAN2-ADA has
them for a small size (Karras et al. 2020, 'Training generative adversarial networks with limited data'). As there are
some hundred images, what D sees is augmented (Zhao et al. 2020). Left out are style mixing, path length regularisation
and truncation; latents are as wide as styles.
"""

import math
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from pneumojax.gan.parts import adversarial, augment, ema, losses, noise, penalties
from pneumojax.gan.parts.resampling import bordered, convolution, doubled, doubling, filtered, halved, same

CONDITIONAL = False
DEFAULTS = {
    "gamma": 2e-4,  # R1's weight as a multiple of size² / batch size
    "policies": ("brightness", "contrast", "translation", "cutout"),  # of DiffAugment, on all that D sees
    "average_images": 10_000,  # so many images ago counts half in the generator that is sampled
}

WIDEST = 512  # features
leaky_relu = partial(nn.leaky_relu, negative_slope=0.2)


def widths(filters: int, image_size: int) -> dict[int, int]:
    """Side → features, from 4 pixels up: `filters` at the image's side, twice as many at each half, at most WIDEST."""
    sides = [2**power for power in range(2, max(3, image_size.bit_length() - 1) + 1)]
    return {side: min(WIDEST, filters * sides[-1] // side) for side in sides}


def equalised(module: nn.Module, *shape: int, rate: float = 1.0):
    """A kernel [..., C, F] from N(0, 1), scaled where it is used, so that Adam moves all layers alike.

    The equalised learning rate (Karras et al. 2018, section 4.1), `rate` of the usual one.
    """
    kernel = module.param("kernel", nn.initializers.normal(1 / rate), shape)
    return kernel * (rate / math.sqrt(math.prod(shape[:-1])))


class Dense(nn.Module):
    """[..., C] → [..., F] with an equalised learning rate, `rate` of the usual one."""

    features: int
    rate: float = 1.0
    bias: float | None = 0.0  # at first

    @nn.compact
    def __call__(self, x):
        y = x @ equalised(self, x.shape[-1], self.features, rate=self.rate)
        if self.bias is None:
            return y
        return y + self.rate * self.param("bias", nn.initializers.constant(self.bias / self.rate), (self.features,))


class Convolution(nn.Module):
    """3x3 with bias and activation: [N, S, S, C] → [N, S, S, F], or [N, S / 2, S / 2, F] of the filtered image."""

    features: int
    down: bool = False

    @nn.compact
    def __call__(self, x):
        kernel = equalised(self, 3, 3, x.shape[-1], self.features)
        y = smaller(x, kernel) if self.down else same(x, kernel)
        return activated(y + self.param("bias", nn.initializers.zeros, (self.features,)))


class StyledConvolution(nn.Module):
    """3x3, modulated by the style, then noise, bias and activation: [N, S, S, C] → [N, S, S, F], or [N, 2S, 2S, F]."""

    features: int
    up: bool = False

    @nn.compact
    def __call__(self, x, style, noise):
        kernel = equalised(self, 3, 3, x.shape[-1], self.features)
        y = modulated(x, kernel, Dense(x.shape[-1], bias=1.0)(style), larger if self.up else same)
        y += self.param("noise_strength", nn.initializers.zeros, ()) * noise.astype(x.dtype)
        return activated(y + self.param("bias", nn.initializers.zeros, (self.features,)))


class ToGray(nn.Module):
    """1x1, modulated and not demodulated: [N, S, S, C] → [N, S, S, 1]."""

    @nn.compact
    def __call__(self, x, style):
        scales = Dense(x.shape[-1], bias=1.0)(style)
        return Dense(1)(x * scales[:, None, None])


class Generator(nn.Module):
    """Latents [N, Z] → images [N, S, S, 1], cut to [-1, 1] but in training, where D is to see what goes beyond.

    S is the largest power of two, 8 or more, that `image_size` reaches.
    """

    filters: int
    image_size: int

    @nn.compact
    def __call__(self, latents, labels, train: bool):
        features = widths(self.filters, self.image_size)
        style = latents * jax.lax.rsqrt((latents**2).mean(1, keepdims=True) + 1e-8)
        for _ in range(2):
            style = activated(Dense(latents.shape[1], rate=0.01)(style))
        first, *others = features
        noises = iter(noise.maps(latents, [first, *(side for side in others for _ in range(2))]))
        start = self.param("start", nn.initializers.normal(1.0), (first, first, features[first]))
        x = jnp.broadcast_to(start, (*latents.shape[:1], *start.shape))
        x = StyledConvolution(features[first])(x, style, next(noises))
        images = ToGray()(x, style)
        for side in others:
            x = StyledConvolution(features[side], up=True)(x, style, next(noises))
            x = StyledConvolution(features[side])(x, style, next(noises))
            images = filtered(bordered(doubled(images)), 1, 2, 1) + ToGray()(x, style)
        return images if train else jnp.clip(images, -1, 1)


class Discriminator(nn.Module):
    """Images [N, S, S, 1] → logits [N], positive for real. An image's logit depends on the others of its group."""

    filters: int

    @nn.compact
    def __call__(self, images, labels, train: bool):
        features = list(widths(self.filters, images.shape[1]).values())[::-1]
        x = activated(Dense(features[0])(images))
        for wide, wider in zip(features[:-1], features[1:], strict=True):
            y = Convolution(wide)(x)
            y = Convolution(wider, down=True)(y)
            x = (y + Dense(wider, bias=None)(halved(filtered(bordered(x), 1, 2, 1)))) * math.sqrt(0.5)
        x = Convolution(features[-1])(jnp.concatenate([x, deviation(x)], -1))
        x = activated(Dense(features[-1])(x.reshape(len(x), -1)))
        return Dense(1)(x)[:, 0]


def activated(x):
    """Leaky ReLU that keeps the variance of N(0, 1) about where it is."""
    return leaky_relu(x) * math.sqrt(2)


def modulated(x, kernel, scales, convolve):
    """A convolution whose kernel is multiplied by scales [N, C] over its inputs and then has norm 1 for each output.

    Section 2.2 of the paper has kernels of each image's own, and so a grouped convolution. It is the same to scale the
    inputs before, and the outputs after, a convolution that all images share.
    """
    norms = jax.lax.rsqrt(scales**2 @ (kernel**2).sum((0, 1)) + 1e-8)
    return convolve(x * scales[:, None, None], kernel) * norms[:, None, None]


def deviation(x):
    """The mean deviation within a group of images, as one more feature: [N, S, S, C] → [N, S, S, 1].

    Minibatch standard deviation (Karras et al. 2018, section 3), of groups of neighbours.
    """
    size = group(len(x))
    groups = x.reshape(-1, size, *x.shape[1:])
    found = jnp.sqrt(groups.var(1) + 1e-8).mean((1, 2, 3))[:, None, None, None, None]
    return jnp.broadcast_to(found, (*groups.shape[:-1], 1)).reshape(*x.shape[:-1], 1)


def larger(x, kernel):
    """Convolved at twice the side, then filtered: [N, S, S, C] → [N, 2S, 2S, F].

    The authors' transposed convolution with the filter (1, 3, 3, 1), which is (1, 1), the doubling, and (1, 2, 1).
    """
    return filtered(doubling(x, kernel), 1, 2, 1)


def smaller(x, kernel):
    """Filtered, then convolved with stride 2: [N, 2S, 2S, C] → [N, S, S, F]."""
    return convolution(filtered(bordered(x, 2), 1, 3, 3, 1), kernel, 2)


def group(images: int) -> int:
    """Images in a group: as many, up to four, as divide a batch."""
    return math.gcd(images, 4)


def r1(gamma: float) -> Callable:
    """R1 at the first group of real images.

    The authors have R1 of a whole batch at each 16th update, times 16. That R1 at each update has the same mean and
    costs as little, and a step has no branch: convolutions in one of XLA's are fifty times slower on CPUs.
    """
    whole = penalties.r1(gamma)
    return lambda critic, real, fakes, key, extra: whole(critic, real[: group(len(real))], fakes, key, extra)


def compose(config) -> adversarial.Parts:
    """Adam on the non-saturating loss with R1. Errors: BadInput for a field below 0, and for an unknown policy."""
    adversarial.check(config, gamma=0, average_images=0)
    return adversarial.Parts(
        generator=Generator(config.filters, config.image_size),
        discriminator=Discriminator(config.filters),
        optimizers=adversarial.adam(config),
        losses=losses.non_saturating,
        penalty=r1(config.gamma * config.image_size**2 / config.batch_size),
        augmentation=augment.diffaugment(config.policies),
        average=ema.half_life(config.average_images),
    )


init, step, sample = adversarial.functions(compose)
