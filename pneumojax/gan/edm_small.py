"""A small denoising diffusion model (EDM, Karras et al. 2022), a baseline to GANs under their contract.

A U-Net learns to take Gaussian noise of any deviation sigma off an image; the sampler follows the ordinary differential
equation that this defines from pure noise to an image (equations 1 to 8 and table 1; algorithm 1, which is
deterministic). Such models repeat the images of small sets more than GANs do, and the usual scores are the better for
it: never show them without their copy rate.

The Adam is the generator's of the config; there is no discriminator whose rate could be read.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from pneumojax.errors import BadInput
from pneumojax.gan.parts import ema, precision
from pneumojax.gan.parts.unet import UNet

CONDITIONAL = False
DEFAULTS = {
    "sampler_steps": 18,  # of Heun's method: 2 n - 1 passes of the network
    "dropout": 0.1,  # in the network while it trains (paper: 0.05 to 0.25, table 7)
    "augment": 0.0,  # probability that a training image is shifted, and that it is scaled (paper: 0.12 to 0.15)
}
SIGMA_DATA = 0.5  # deviation of images in [-1, 1] (table 1); 0.48 of children's chest X-rays
SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0  # of the sampler (table 1)
P_MEAN, P_STD = -1.2, 1.2  # of the logarithm of sigma in training (table 1)
FREQUENCIES = 2.0 ** np.arange(6)  # of the sines that tell the network the noise's level
average_of = ema.half_life(10_000)


class State(NamedTuple):
    """The denoiser, and the moving average of it that `sample` uses; there are no batch statistics."""

    network: dict  # {"params"}
    opt: optax.OptState
    average: ema.Average


def init(key, config) -> State:
    """A network that predicts zero. Errors: BadInput for a size or another field that it cannot have."""
    check(config)
    side = config.image_size
    features = level_features(jnp.ones(1), jnp.zeros((1, 3)))
    network = network_of(config).init(key, jnp.zeros((1, side, side, 1)), features, train=False)
    return State(network, optimizer_of(config).init(network["params"]), ema.begin(network))


def check(config) -> None:
    """Errors: BadInput with field, value and remedy for the first field that this model cannot have."""
    for field, fits, remedy in (
        ("image_size", config.image_size % 2 == 0 and config.image_size >= 8, "give an even number, from 8"),
        ("d_steps", config.d_steps == 1, "a diffusion model has no discriminator; give 1"),
        ("accumulate", config.accumulate == 1, "edm_small computes a batch at once; give 1"),
        ("sampler_steps", config.sampler_steps >= 2, "give 2 or more"),
        ("dropout", 0 <= config.dropout < 1, "give a fraction from 0, below 1"),
        ("augment", 0 <= config.augment <= 1, "give a probability within 0…1"),
    ):
        if not fits:
            raise BadInput(f"config.gan.{field}={config[field]}: {remedy}")


def network_of(config) -> UNet:
    """The network inside the denoiser."""
    return UNet(config.filters, config.dropout)


def optimizer_of(config) -> optax.GradientTransformation:
    """Adam, at one rate from the first step on."""
    return optax.adam(config.generator_learning_rate, config.beta1, config.beta2)


def preconditioning(sigma):
    """(c_skip, c_out, c_in, c_noise) for noise of deviations sigma (table 1), of the shape of sigma."""
    total = jnp.sqrt(sigma**2 + SIGMA_DATA**2)
    return (SIGMA_DATA / total) ** 2, sigma * SIGMA_DATA / total, 1 / total, jnp.log(sigma) / 4


def level_features(sigma, transformed):
    """What the network knows of its input: sigma [N], how the image was transformed [N, 3] → [N, 15], float32.

    Computed before the network is given it, since bfloat16 would blur the angles.
    """
    angles = preconditioning(sigma)[3][:, None] * FREQUENCIES
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles), transformed], 1)


def denoise(config, variables, noisy, sigma, transformed=None, **kwargs):
    """The expected image (equation 7).

    Args:
      noisy: float32 [N, S, S, 1], an image with noise of deviations sigma [N].
      transformed: [N, 3], zeros by default.
      kwargs: of the network.
    """
    transformed = jnp.broadcast_to(jnp.zeros(3), (*noisy.shape[:1], 3)) if transformed is None else transformed
    c_skip, c_out, c_in, _ = (c[:, None, None, None] for c in preconditioning(sigma))
    inputs = c_in * noisy, level_features(sigma, transformed)
    found = precision.applied(network_of(config), variables, *inputs, dtype=config.dtype, **kwargs)
    return c_skip * noisy + c_out * found


def loss_of(denoiser: Callable, images, key):
    """Mean squared error at random levels of noise, weighted so that all count the same at first (equation 2, table 1).

    Args:
      denoiser: (noisy [N, S, S, 1], sigma [N]) → images.
    """
    level_key, noise_key = jax.random.split(key)
    sigma = jnp.exp(P_MEAN + P_STD * jax.random.normal(level_key, (len(images),)))
    noise = sigma[:, None, None, None] * jax.random.normal(noise_key, images.shape)
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    return jnp.mean(weight[:, None, None, None] * (denoiser(images + noise, sigma) - images) ** 2)


def transform(images, probability: float, key):
    """Images scaled and shifted at random, black where nothing is left, and how, so that samples need not be (F.2).

    Returns: images, and [N, 3] standard normal numbers or 0: of scale (a deviation of a fifth of an octave), of rows
    and of columns (of an eighth of the side).
    """
    value_key, which_key = jax.random.split(key)
    count, side = len(images), images.shape[1]
    chosen = jax.random.bernoulli(which_key, probability, (count, 2))[:, jnp.array([0, 1, 1])]
    drawn = jnp.where(chosen, jax.random.normal(value_key, (count, 3)), 0)
    scale = jnp.tile(2 ** (0.2 * drawn[:, :1]), 2)
    shift = side * (0.125 * drawn[:, 1:] + (1 - scale) / 2)  # about the middle

    def one(image, scale, shift):
        return jax.image.scale_and_translate(image, image.shape, (0, 1), scale, shift, "linear", antialias=False)

    return jax.vmap(one)(images + 1, scale, shift) - 1, drawn


def step(state: State, images, labels, key, config) -> tuple[State, dict]:
    """One update of the denoiser and of its average."""
    loss_key, dropout_key, transform_key = jax.random.split(key, 3)
    transformed = None
    if config.augment:
        images, transformed = transform(images, config.augment, transform_key)

    def loss(params):
        def denoiser(noisy, sigma):
            rngs = {"dropout": dropout_key}
            return denoise(config, {"params": params}, noisy, sigma, transformed, train=True, rngs=rngs)

        return loss_of(denoiser, images, loss_key)

    value, gradient = jax.value_and_grad(loss)(state.network["params"])
    updates, opt = optimizer_of(config).update(gradient, state.opt, state.network["params"])
    network = {"params": optax.apply_updates(state.network["params"], updates)}
    average = ema.follow(state.average, network, len(images), average_of)
    return State(network, opt, average), {"denoising_loss": value}


def sample(state: State, latents, labels, config):
    """Images by the average of the denoiser.

    Where `config.latent_dim` is image_size², the latents are the noise that sampling begins with, and images change
    with them continuously. Any other latent is a seed of this noise: images between two latents have nothing of either.
    """
    shape = config.image_size, config.image_size, 1
    noise = latents.reshape(-1, *shape) if latents.shape[1] == config.image_size**2 else noise_from(latents, shape)

    def denoiser(noisy, sigma):
        return denoise(config, state.average.network, noisy, jnp.broadcast_to(sigma, noisy.shape[:1]), train=False)

    return jnp.clip(heun(denoiser, noise, config.sampler_steps), -1, 1)


def noise_from(latents, shape):
    """Standard normal noise [N, *shape], each from a key that all bits of its own latent [N, Z] were folded into."""

    def one(words):
        key, _ = jax.lax.scan(lambda key, word: (jax.random.fold_in(key, word), None), jax.random.key(0), words)
        return jax.random.normal(key, shape)

    return jax.vmap(one)(jax.lax.bitcast_convert_type(latents, jnp.uint32))


def sigmas(steps: int) -> np.ndarray:
    """The levels of noise that the sampler passes, falling (equation 5), float64 [steps]; 0 comes after."""
    roots = np.linspace(SIGMA_MAX ** (1 / RHO), SIGMA_MIN ** (1 / RHO), steps)
    return roots**RHO


def heun(denoiser: Callable, noise, steps: int):
    """The images that the noise leads to (algorithm 1).

    Args:
      denoiser: (noisy [N, …], sigma, a scalar) → images.
      noise: float32 [N, …], standard normal.
    """
    levels = jnp.asarray(sigmas(steps), jnp.float32)

    # XLA's loops on CPUs slow down gradients of convolutions, not these: six steps of 32 images of 64 pixels take 1.7 s
    # of CPU time either way. As a loop any number of steps compiles in 3.5 s, six written out in 5.8.
    def onward(x, interval):
        now, then = interval
        slope = (x - denoiser(x, now)) / now
        guess = x + (then - now) * slope
        return x + (then - now) * (slope + (guess - denoiser(guess, then)) / then) / 2, None

    x, _ = jax.lax.scan(onward, levels[0] * noise, (levels[:-1], levels[1:]))
    return denoiser(x, levels[-1])  # Euler's step to 0
