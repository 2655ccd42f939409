"""DCGAN at 64x64 (Radford et al. 2016), as the paper uses it; the file to copy for a new GAN.

Five transposed 4x4 convolutions with four batch norms and ReLUs, then tanh, against five 4x4 convolutions with three
batch norms and four leaky ReLUs (paper, section 5). What the paper leaves open is taken from the MathWorks example
that it matches layer for layer: both networks are updated from the same forward pass, and each of D's batches, real
and generated, has batch statistics of its own.
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from pneumojax.errors import BadInput

CONDITIONAL = False
SIZE = 64  # pixels; the five layers fix it: 1 → 4 → 8 → 16 → 32 → 64

initializer = nn.initializers.glorot_uniform()
batch_norm = partial(nn.BatchNorm, momentum=0.9, epsilon=1e-5)


class State(NamedTuple):
    """Both networks; G's batch statistics are those that `sample` uses."""

    generator: dict  # {"params", "batch_stats"}
    discriminator: dict
    generator_opt: optax.OptState
    discriminator_opt: optax.OptState


class UpConvolution(nn.Module):
    """Transposed 4x4 convolution, stride 2, padding 1: [N, S, S, C] → [N, 2S, 2S, F].

    Written in sub-pixel form: a 2x2 convolution makes the four pixels that each input pixel becomes, then they are
    interleaved. It is the same linear map, several times faster where XLA is slow at dilated inputs.
    """

    features: int
    use_bias: bool = False

    @nn.compact
    def __call__(self, x):
        n, size, _, channels = x.shape
        kernel = self.param("kernel", initializer, (4, 4, channels, self.features))
        # Output pixel 2i + a sums kernel rows 3 - a - 2u over input rows i + a - 1 + u, u = 0, 1.
        flipped = kernel[::-1, ::-1].reshape(2, 2, 2, 2, channels, self.features)
        phases = flipped.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, channels, 4 * self.features)
        padded = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))
        y = jax.lax.conv_general_dilated(
            padded, phases, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ).reshape(n, size + 1, size + 1, 2, 2, self.features)
        rows = jnp.stack((y[:, :-1, :, 0], y[:, 1:, :, 1]), 2)
        pixels = jnp.stack((rows[:, :, :, :-1, 0], rows[:, :, :, 1:, 1]), 4)
        y = pixels.reshape(n, 2 * size, 2 * size, self.features)
        return y + self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else y


class Generator(nn.Module):
    """Latents [N, Z] → images [N, 64, 64, 1] in [-1, 1]. The first transposed convolution, from 1x1, is a Dense."""

    filters: int

    @nn.compact
    def __call__(self, latents, train: bool):
        f = self.filters
        x = nn.Dense(16 * 8 * f, use_bias=False, kernel_init=initializer)(latents)
        x = x.reshape(-1, 4, 4, 8 * f)
        for features in (4 * f, 2 * f, f):
            x = nn.relu(batch_norm(use_running_average=not train)(x))
            x = UpConvolution(features)(x)
        x = nn.relu(batch_norm(use_running_average=not train)(x))
        return jnp.tanh(UpConvolution(1, use_bias=True)(x))


class Discriminator(nn.Module):
    """Images [N, 64, 64, 1] → logits [N], positive for real."""

    filters: int

    @nn.compact
    def __call__(self, images, train: bool):
        def convolution(x, features, **kwargs):
            x = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))
            return nn.Conv(features, (4, 4), (2, 2), "VALID", kernel_init=initializer, **kwargs)(x)

        f = self.filters
        x = nn.leaky_relu(convolution(images, f), 0.2)
        for features in (2 * f, 4 * f, 8 * f):
            x = convolution(x, features, use_bias=False)
            x = nn.leaky_relu(batch_norm(use_running_average=not train)(x), 0.2)
        return nn.Dense(1, kernel_init=initializer)(x.reshape(x.shape[0], -1))[:, 0]


def networks(config) -> tuple[Generator, Discriminator]:
    """Both modules at the width of the config."""
    return Generator(config.filters), Discriminator(config.filters)


def optimizers(config) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Adam for the generator and for the discriminator."""
    return tuple(
        optax.adam(rate, config.beta1, config.beta2)
        for rate in (config.generator_learning_rate, config.discriminator_learning_rate)
    )


def init(key, config) -> State:
    """Random networks and fresh optimisers."""
    if config.image_size != SIZE:
        raise BadInput(f"config.gan.image_size={config.image_size}: dcgan's five layers make {SIZE} pixels; use that")
    generator, discriminator = networks(config)
    g_key, d_key = jax.random.split(key)
    g = generator.init(g_key, jnp.zeros((1, config.latent_dim)), train=True)
    d = discriminator.init(d_key, jnp.zeros((1, SIZE, SIZE, 1)), train=True)
    g_optimizer, d_optimizer = optimizers(config)
    return State(g, d, g_optimizer.init(g["params"]), d_optimizer.init(d["params"]))


def step(state: State, images, labels, key, config):
    """One Adam step of both networks on binary cross-entropy, G's in its non-saturating form."""
    del labels
    generator, discriminator = networks(config)
    g_optimizer, d_optimizer = optimizers(config)
    latents = jax.random.normal(key, (images.shape[0], config.latent_dim))

    def generate(params):
        variables = {"params": params, "batch_stats": state.generator["batch_stats"]}
        return generator.apply(variables, latents, train=True, mutable=["batch_stats"])

    def judge(params, batch_stats, pictures):
        variables = {"params": params, "batch_stats": batch_stats}
        return discriminator.apply(variables, pictures, train=True, mutable=["batch_stats"])

    def g_loss_of(fakes):
        logits, _ = judge(state.discriminator["params"], state.discriminator["batch_stats"], fakes)
        return jnp.mean(nn.softplus(-logits))

    def d_loss_of(params):
        real, stats = judge(params, state.discriminator["batch_stats"], images)
        fake, stats = judge(params, stats["batch_stats"], fakes)
        return jnp.mean(nn.softplus(-real)) + jnp.mean(nn.softplus(fake)), (stats, real, fake)

    fakes, pull_back, g_stats = jax.vjp(generate, state.generator["params"], has_aux=True)
    g_loss, fakes_gradient = jax.value_and_grad(g_loss_of)(fakes)
    (g_gradient,) = pull_back(fakes_gradient)
    (d_loss, (d_stats, real, fake)), d_gradient = jax.value_and_grad(d_loss_of, has_aux=True)(
        state.discriminator["params"]
    )

    g_updates, g_opt = g_optimizer.update(g_gradient, state.generator_opt)
    d_updates, d_opt = d_optimizer.update(d_gradient, state.discriminator_opt)
    state = State(
        generator={"params": optax.apply_updates(state.generator["params"], g_updates), **g_stats},
        discriminator={"params": optax.apply_updates(state.discriminator["params"], d_updates), **d_stats},
        generator_opt=g_opt,
        discriminator_opt=d_opt,
    )
    metrics = {
        "d_loss": d_loss,
        "g_loss": g_loss,
        "d_real": jnp.mean(nn.sigmoid(real)),
        "d_fake": jnp.mean(nn.sigmoid(fake)),
    }
    return state, metrics


def sample(state: State, latents, labels, config):
    """Images by the generator's running batch statistics, so that each depends on its own latent alone."""
    del labels
    return Generator(config.filters).apply(state.generator, latents, train=False)
