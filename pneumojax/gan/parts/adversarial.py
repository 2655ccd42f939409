"""Adversarial training as pure functions of what a GAN is composed of.

A module writes `compose(config) -> Parts`; `functions(compose)` are then its `init`, `step` and `sample`.
"""

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from pneumojax.errors import BadInput
from pneumojax.gan.parts import ema, precision


class Parts(NamedTuple):
    """A composition. Networks may have variables beside their parameters (batch statistics), or none.

    Attributes:
      generator: called with (latents [N, Z], labels int32 [N], train), makes images [N, S, S, C] in [-1, 1].
      discriminator: called with (images, labels, train), gives logits [N], positive for real.
      optimizers: of the generator and of the discriminator.
      losses: a pair (d, g) as in `losses`.
      penalty: (critic, real, fakes, key, extra) → scalar that is added to d's loss, where `critic(images)` gives logits
        and can be differentiated, and the images are as the discriminator sees them.
      regularizer: (real logits, fake logits, extra) → scalar that is added to d's loss.
      augmentation: (images, key, extra) → images, what the discriminator sees of real and of generated ones.
      extra: the first `State.extra`, a tree that the three above may read: a count of steps, a probability.
      remember: (extra, real logits, fake logits) → extra, called once a batch.
      watched: names of scalars in `extra`, then a dict, that are metrics.
      average: as in `ema`; `sample` then uses the moving average of the generator.
      gradients: instead of `gradients_of`, for networks or losses of another shape.
    """

    generator: nn.Module
    discriminator: nn.Module
    optimizers: tuple[optax.GradientTransformation, optax.GradientTransformation]
    losses: tuple[Callable, Callable]
    penalty: Callable | None = None
    regularizer: Callable | None = None
    augmentation: Callable | None = None
    extra: Any = ()
    remember: Callable = lambda extra, real, fake: extra
    watched: tuple[str, ...] = ()
    average: Callable | None = None
    gradients: Callable | None = None


class State(NamedTuple):
    """Both networks; G's batch statistics, or those of its average, are those that `sample` uses."""

    generator: dict  # {"params"}, and "batch_stats" where there are some
    discriminator: dict
    generator_opt: optax.OptState
    discriminator_opt: optax.OptState
    extra: Any = ()
    average: ema.Average | tuple = ()


def functions(compose: Callable[[Any], Parts]) -> tuple[Callable, Callable, Callable]:
    """`init`, `step` and `sample` of the module whose `compose(config)` this is."""
    return (
        lambda key, config: init(compose(config), key, config),
        lambda state, images, labels, key, config: step(compose(config), state, images, labels, key, config),
        lambda state, latents, labels, config: sample(compose(config), state, latents, labels, config),
    )


def with_memory(parts: Parts, *such: dict) -> Parts:
    """Parts and, beside what they have, others that remember something, each given as a dict of fields.

    Their `extra`, dicts with keys of their own, are put together; penalties and regularizers are added up;
    augmentations and `remember` follow each other.
    """
    for one in such:
        there = parts._asdict()
        parts = parts._replace(
            **{name: JOIN[name](there[name], new) if there[name] else new for name, new in one.items()}
        )
    return parts


def summed(first: Callable, second: Callable) -> Callable:
    """A penalty or regularizer of two."""
    return lambda *inputs: first(*inputs) + second(*inputs)


def in_turn(first: Callable, second: Callable) -> Callable:
    """An augmentation of two."""

    def both(images, key, extra):
        keys = jax.random.split(key)
        return second(first(images, keys[0], extra), keys[1], extra)

    return both


def one_by_one(first: Callable, second: Callable) -> Callable:
    """A `remember` of two."""
    return lambda extra, real, fake: second(first(extra, real, fake), real, fake)


JOIN = {
    "penalty": summed,
    "regularizer": summed,
    "augmentation": in_turn,
    "extra": operator.or_,
    "remember": one_by_one,
    "watched": operator.add,
}


def check(config, **least: int) -> None:
    """Errors: BadInput for a field of `config.gan` below the least that it can be, `check(config, gamma=0)`."""
    for name, value in least.items():
        if getattr(config, name) < value:
            raise BadInput(f"config.gan.{name}={getattr(config, name)}: give {value} or more")


def adam(config) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """Adam for the generator and for the discriminator, as the config has it."""
    rates = config.generator_learning_rate, config.discriminator_learning_rate
    return tuple(optax.adam(rate, config.beta1, config.beta2) for rate in rates)


def init(parts: Parts, key, config) -> State:
    """Random networks and fresh optimisers. Errors: BadInput where the generator makes another size."""
    g_key, d_key = jax.random.split(key)
    labels = jnp.zeros(1, jnp.int32)
    images, g = parts.generator.init_with_output(g_key, jnp.zeros((1, config.latent_dim)), labels, train=True)
    if images.shape[1] != config.image_size:
        raise BadInput(
            f"config.gan.image_size={config.image_size}: {config.name} makes {images.shape[1]} pixels; use that"
        )
    d = parts.discriminator.init(d_key, images, labels, train=True)
    g_optimizer, d_optimizer = parts.optimizers
    average = ema.begin(g) if parts.average else ()
    return State(g, d, g_optimizer.init(g["params"]), d_optimizer.init(d["params"]), parts.extra, average)


def step(parts: Parts, state: State, images, labels, key, config) -> tuple[State, dict]:
    """Updates D on each of `config.d_steps` batches, and G on the last, from the same forward pass as D.

    A batch is every d_steps-th image: batches that are split over devices stay so.
    """
    batches = [array.reshape(-1, config.d_steps, *array.shape[1:]) for array in (images, labels)]
    for number in range(1, config.d_steps):  # no `lax.scan`, in which convolutions are slow on CPUs
        batch = [array[:, number] for array in batches]
        after, _ = update(parts, state, *batch, jax.random.fold_in(key, number), config)
        state = after._replace(generator=state.generator, generator_opt=state.generator_opt, average=state.average)
    return update(parts, state, *(array[:, 0] for array in batches), key, config)


def update(parts: Parts, state: State, images, labels, key, config) -> tuple[State, dict]:
    """One update of both networks from the same forward pass; D sees real and generated images as a batch each.

    The generated images have the labels of the real ones. The batch is computed in `config.accumulate` pieces, whose
    gradients are averaged before either network moves; batch statistics are then those of a piece.
    """
    pieces = [array.reshape(-1, config.accumulate, *array.shape[1:]) for array in (images, labels)]
    found = []
    for number in range(config.accumulate):
        piece = [array[:, number] for array in pieces]
        if number:  # or all pieces would be in memory at the same time
            piece, found = jax.lax.optimization_barrier((piece, found))
            key = jax.random.fold_in(key, number)
        gradients, others, logits, metrics = (parts.gradients or gradients_of)(parts, state, *piece, key, config)
        state = state._replace(
            generator={**state.generator, **others[0]}, discriminator={**state.discriminator, **others[1]}
        )
        found.append((gradients, logits, metrics))
    gradients, _, metrics = jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]) / len(leaves), *found)
    real, fake = (jnp.concatenate(logits) for logits in zip(*(logits for _, logits, _ in found), strict=True))

    g_optimizer, d_optimizer = parts.optimizers
    generator, g_opt = moved(state.generator, gradients[0], g_optimizer, state.generator_opt)
    discriminator, d_opt = moved(state.discriminator, gradients[1], d_optimizer, state.discriminator_opt)
    average = ema.follow(state.average, generator, len(images), parts.average) if parts.average else ()
    extra = parts.remember(state.extra, real, fake)
    metrics |= {name: extra[name] for name in parts.watched}
    return State(generator, discriminator, g_opt, d_opt, extra, average), metrics


def moved(network: dict, gradient, optimizer: optax.GradientTransformation, opt) -> tuple[dict, optax.OptState]:
    """A network and its optimiser's state after one update of the parameters."""
    updates, opt = optimizer.update(gradient, opt, network["params"])
    return {**network, "params": optax.apply_updates(network["params"], updates)}, opt


def gradients_of(parts: Parts, state: State, images, labels, key, config):
    """What one forward pass gives.

    Returns: gradients and other variables of (G, D), logits (real, fake), metrics.
    """
    d_loss, g_loss = parts.losses
    latents = jax.random.normal(key, (len(images), config.latent_dim))
    real_key, fake_key, penalty_key = jax.random.split(jax.random.fold_in(key, 0), 3)

    def generate(params):
        return forward(parts.generator, {**state.generator, "params": params}, latents, labels, dtype=config.dtype)

    def judge(variables, pictures):
        return forward(parts.discriminator, variables, pictures, labels, dtype=config.dtype)

    def see(pictures, key):
        return parts.augmentation(pictures, key, state.extra) if parts.augmentation else pictures

    def d_loss_of(params):
        variables = {**state.discriminator, "params": params}
        real, others = judge(variables, seen)
        fake, others = judge({**others, "params": params}, seen_fakes)
        loss, metrics = d_loss(real, fake), {}
        if parts.penalty:
            penalty = parts.penalty(
                lambda pictures: judge(variables, pictures)[0], seen, seen_fakes, penalty_key, state.extra
            )
            metrics["penalty"] = penalty
            loss += penalty
        if parts.regularizer:
            metrics["regularizer"] = parts.regularizer(real, fake, state.extra)
            loss += metrics["regularizer"]
        return loss, (real, fake, others, metrics)

    def g_loss_of(fakes):
        fake, _ = judge(state.discriminator, see(fakes, fake_key))
        return g_loss(fake, real)

    fakes, pull_back, g_others = jax.vjp(generate, state.generator["params"], has_aux=True)
    seen, seen_fakes = see(images, real_key), see(fakes, fake_key)
    d_value, d_gradient = jax.value_and_grad(d_loss_of, has_aux=True)(state.discriminator["params"])
    d_value, (real, fake, d_others, metrics) = d_value
    g_value, fakes_gradient = jax.value_and_grad(g_loss_of)(fakes)
    (g_gradient,) = pull_back(fakes_gradient)
    metrics |= {
        "d_loss": d_value,
        "g_loss": g_value,
        "d_real": jnp.mean(nn.sigmoid(real)),
        "d_fake": jnp.mean(nn.sigmoid(fake)),
    }
    return (g_gradient, d_gradient), (g_others, d_others), (real, fake), metrics


def forward(network: nn.Module, variables: dict, *inputs, dtype: str):
    """In training mode: the output, and the variables beside the parameters as they are afterwards."""
    others = [name for name in variables if name != "params"]
    return precision.applied(network, variables, *inputs, dtype=dtype, train=True, mutable=others)


def sample(parts: Parts, state: State, latents, labels, config):
    """Images by the generator's running batch statistics, so that each depends on its own latent and label alone."""
    generator = state.average.network if parts.average else state.generator
    return precision.applied(parts.generator, generator, latents, labels, dtype=config.dtype, train=False)
