"""A small FastGAN (Liu et al. 2021, 'Towards faster and stabilized GAN training for … few-shot image synthesis').

Skip-layer excitation in the generator; a discriminator that must also draw real images again from what it makes of
them; hinge losses with random margins, DiffAugment, and a moving average of the generator. The paper begins at 256
pixels, and its excitation leads to the side sixteen times as large; here to the one eight times as large, from 32
pixels up (4 → 32, 8 → 64, 16 → 128). It is the paper's, without what the authors' code has beyond it: a second,
smaller image, and links within D. Besides,

- kernels are spectrally normalised only where no batch norm follows, which takes their scale out as well;
- what D draws is compared pixel by pixel, as weights for the authors' perceptual distance cannot be had here;
- both networks are updated from the same forward pass, where the authors update G by the new D;
- noise is a function of the latent, and images are drawn by running batch statistics.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from pneumojax.gan.parts import adversarial, augment, ema, noise
from pneumojax.gan.parts.layers import down_convolution, padded, spectral
from pneumojax.gan.parts.resampling import doubling, halved, same

CONDITIONAL = False
DEFAULTS = {
    "policies": ("brightness", "contrast", "translation"),  # of DiffAugment, on all that D sees
    "average_images": 5_500,  # so many images ago counts half in the generator that is sampled
    "reconstruction": 1.0,  # weight of the mean absolute difference between real images and those that D draws again
}

initializer = nn.initializers.normal(0.02)
batch_norm = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5)
leaky_relu = partial(nn.leaky_relu, negative_slope=0.2)


def sides(image_size: int) -> list[int]:
    """4, 8, … up to the largest power of two, 32 or more, that `image_size` reaches."""
    return [2**power for power in range(2, max(5, image_size.bit_length() - 1) + 1)]


class Convolution(nn.Module):
    """3x3, without bias: [N, S, S, C] → [N, S, S, F], or as `convolve` makes it."""

    features: int

    @nn.compact
    def __call__(self, x, convolve=same):
        return convolve(x, self.param("kernel", initializer, (3, 3, x.shape[-1], self.features)))


def gated(x, train: bool):
    """Batch norm and a gated linear unit, which halves the features. A part of the module that calls it."""
    return nn.glu(batch_norm(use_running_average=not train)(x))


def enlarged(x, kernel):
    """Pixels doubled, then a 3x3 convolution with padding 1: [N, S, S, C] → [N, 2S, 2S, F]."""
    return doubling(x, kernel)[:, 1:-1, 1:-1]


class UpBlock(nn.Module):
    """[N, S, S, C] → [N, 2S, 2S, F]; with two noises [N, 2S, 2S, 1] it has a second convolution."""

    features: int

    @nn.compact
    def __call__(self, x, train: bool, noises=()):
        x = Convolution(2 * self.features)(x, enlarged)
        for number, one in enumerate(noises):
            if number:
                x = Convolution(2 * self.features)(gated(x, train))
            x += self.param(f"noise_strength_{number}", nn.initializers.zeros, ()) * one.astype(x.dtype)
        return gated(x, train)


class Excitation(nn.Module):
    """What features of a large image are multiplied by, told by a small one: [N, S, S, C] → [N, 1, 1, F] in 0…1."""

    features: int

    @nn.compact
    def __call__(self, small):
        n, size, _, channels = small.shape
        x = small.reshape(n, 4, size // 4, 4, size // 4, channels).mean((2, 4)).reshape(n, -1)
        x = nn.swish(nn.Dense(self.features, use_bias=False, kernel_init=initializer)(x))
        x = nn.Dense(self.features, use_bias=False, kernel_init=initializer)(x)
        return nn.sigmoid(x)[:, None, None]


class Generator(nn.Module):
    """Latents [N, Z] → images [N, S, S, 1] in [-1, 1], S the last of `sides`. Every other size has noise inputs."""

    filters: int
    image_size: int

    @nn.compact
    def __call__(self, latents, labels, train: bool):
        first, *others = sides(self.image_size)
        wide = {side: self.filters * others[-1] // side for side in (first, *others)}
        noises = iter(noise.maps(latents, [side for side in others[::2] for _ in range(2)]))
        x = nn.Dense(first**2 * 2 * wide[first], use_bias=False, kernel_init=initializer)(latents)
        x = gated(x.reshape(-1, first, first, 2 * wide[first]), train)
        at = {first: x}
        for side in others:
            own = (next(noises), next(noises)) if side in others[::2] else ()
            x = UpBlock(wide[side])(x, train, own)
            if side >= 32:
                x *= Excitation(wide[side])(at[side // 8])
            at[side] = x
        return jnp.tanh(Convolution(1)(x))


class DownBlock(nn.Module):
    """[N, 2S, 2S, C] → [N, S, S, F], the mean of two convolutions and of one after the mean of pixels."""

    features: int

    @nn.compact
    def __call__(self, x, train: bool):
        def normalised(y):
            return leaky_relu(batch_norm(use_running_average=not train)(y))

        y = normalised(down_convolution(x, self.features, use_bias=False))
        y = normalised(Convolution(self.features)(y))
        short = nn.Dense(self.features, use_bias=False, kernel_init=initializer)(halved(x))
        return (y + normalised(short)) / 2


class Decoder(nn.Module):
    """Features [N, 8, 8, C] → images [N, side, side, 1] in [-1, 1]."""

    filters: int
    side: int

    @nn.compact
    def __call__(self, x, train: bool):
        while x.shape[1] < self.side:
            x = UpBlock(self.filters * self.side // (2 * x.shape[1]))(x, train)
        return jnp.tanh(Convolution(1)(x))


class Discriminator(nn.Module):
    """Images [N, S, S, 1] → logits [N, 5, 5], positive for real, each of a part of the image.

    With `quarters` (one of four, a one [N, 2, 2] among zeros) → (logits, drawn, drawn quarters), both [N, S/2, S/2, 1]:
    the whole image from 8x8 features, and of each a quarter from its part of the 16x16 features.
    """

    filters: int

    @nn.compact
    def __call__(self, images, labels, quarters=None, *, train: bool):
        if self.is_initializing():
            quarters = jnp.ones((len(images), 2, 2))
        x = leaky_relu(spectral(unpadded(self.filters, 3), padded(images), train))
        features, before = self.filters, x
        while x.shape[1] > 8:
            before, features = x, 2 * features
            x = DownBlock(features)(x, train)
        y = nn.Dense(features, use_bias=False, kernel_init=initializer)(x)
        y = leaky_relu(batch_norm(use_running_average=not train)(y))
        logits = spectral(unpadded(1, 4), y, train)[..., 0]
        if quarters is None:
            return logits
        side = images.shape[1] // 2
        drawn = Decoder(self.filters, side)(x, train), Decoder(self.filters, side)(quarter(before, quarters), train)
        return logits, *drawn


def unpadded(features: int, side: int) -> nn.Conv:
    """A convolution without padding and bias."""
    return nn.Conv(features, (side, side), padding="VALID", use_bias=False, kernel_init=initializer)


def quarter(x, which):
    """A quarter of each image, by `which` [N, 2, 2], a one among zeros: [N, S, S, C] → [N, S/2, S/2, C].

    A product, since the gradient of a look-up is a scatter-add.
    """
    n, size, _, channels = x.shape
    return jnp.einsum("nahbwc,nab->nhwc", x.reshape(n, 2, size // 2, 2, size // 2, channels), which.astype(x.dtype))


def beyond(logits, key):
    """The hinge loss of logits that are to stay below a margin of their own, between -1 and -0.8: the mean."""
    return nn.relu(jax.random.uniform(key, logits.shape, minval=0.8, maxval=1) + logits).mean()


def gradients_of(parts: adversarial.Parts, state: adversarial.State, images, labels, key, config):
    """As `adversarial.gradients_of`, for a discriminator that draws as well."""
    latent_key, real_key, fake_key, quarter_key, *margin_keys = jax.random.split(key, 6)
    latents = jax.random.normal(latent_key, (len(images), config.latent_dim))
    quarters = jax.nn.one_hot(jax.random.randint(quarter_key, len(images), 0, 4), 4).reshape(-1, 2, 2)

    def generate(params):
        variables = {**state.generator, "params": params}
        return adversarial.forward(parts.generator, variables, latents, labels, dtype=config.dtype)

    def judge(variables, pictures, *which):
        return adversarial.forward(parts.discriminator, variables, pictures, labels, *which, dtype=config.dtype)

    def see(pictures, key):
        return parts.augmentation(pictures, key, state.extra)

    def d_loss_of(params):
        (real, *drawn), others = judge({**state.discriminator, "params": params}, seen, quarters)
        fake, others = judge({**others, "params": params}, seen_fakes)
        wanted = halved(seen), quarter(seen, quarters)
        error = sum(jnp.abs(one - other).mean() for one, other in zip(drawn, wanted, strict=True))
        hinge = beyond(-real, margin_keys[0]) + beyond(fake, margin_keys[1])
        return hinge + config.reconstruction * error, (real, fake, others, error)

    def g_loss_of(fakes):
        return -judge(state.discriminator, see(fakes, fake_key))[0].mean()

    fakes, pull_back, g_others = jax.vjp(generate, state.generator["params"], has_aux=True)
    seen, seen_fakes = see(images, real_key), see(fakes, fake_key)
    (d_loss, found), d_gradient = jax.value_and_grad(d_loss_of, has_aux=True)(state.discriminator["params"])
    real, fake, d_others, error = found
    g_loss, fakes_gradient = jax.value_and_grad(g_loss_of)(fakes)
    (g_gradient,) = pull_back(fakes_gradient)
    metrics = {
        "d_loss": d_loss,
        "g_loss": g_loss,
        "reconstruction_loss": error,
        "d_real": nn.sigmoid(real).mean(),
        "d_fake": nn.sigmoid(fake).mean(),
    }
    return (g_gradient, d_gradient), (g_others, d_others), (real, fake), metrics


def compose(config) -> adversarial.Parts:
    """Adam; the losses are in `gradients_of`. Errors: BadInput for a field below 0, and for an unknown policy."""
    adversarial.check(config, average_images=0, reconstruction=0)
    return adversarial.Parts(
        generator=Generator(config.filters, config.image_size),
        discriminator=Discriminator(config.filters),
        optimizers=adversarial.adam(config),
        losses=(),
        augmentation=augment.diffaugment(config.policies),
        average=ema.half_life(config.average_images),
        gradients=gradients_of,
    )


init, step, sample = adversarial.functions(compose)
