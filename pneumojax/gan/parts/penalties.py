"""Penalties that keep a discriminator smooth or modest, as `adversarial.Parts` takes them.

`r1`, `r1_r2` and `gradient_penalty` give a `penalty`. `lazy` and `lecam`, which remember something, give a dict of
fields for `adversarial.with_memory`.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax


def squared_slopes(critic: Callable, images):
    """|gradient of a logit at its image|² [N], for images [N, S, S, C].

    Where D has batch statistics it is the gradient of all logits' sum, which the other images have a part in.
    """
    return (jax.grad(lambda images: critic(images).sum())(images) ** 2).sum((1, 2, 3))


def r1(gamma: float) -> Callable:
    """gamma / 2 · |gradient|² at real images, the mean (Mescheder et al. 2018, equation 9).

    StyleGAN2-ADA's rule for gamma is 0.0002 · size² / batch size (Karras et al. 2020, appendix C).
    """
    return lambda critic, real, fakes, key, extra: gamma / 2 * squared_slopes(critic, real).mean()


def r1_r2(gamma: float) -> Callable:
    """As `r1`, at real and at generated images (R3GAN; Huang et al. 2024, section 2)."""

    def penalty(critic, real, fakes, key, extra):
        return gamma / 2 * (squared_slopes(critic, real).mean() + squared_slopes(critic, fakes).mean())

    return penalty


def gradient_penalty(weight: float) -> Callable:
    """weight · (|gradient| - 1)², somewhere between a real and a generated image (Gulrajani et al. 2017, equation 3).

    Not for a discriminator with batch statistics, whose logits are no function of an image.
    """

    def penalty(critic, real, fakes, key, extra):
        between = jax.random.uniform(key, (len(real), 1, 1, 1))
        squares = squared_slopes(critic, between * real + (1 - between) * fakes)
        return weight * ((jnp.sqrt(squares + 1e-12) - 1) ** 2).mean()  # the root's own slope at 0 is infinite

    return penalty


def lazy(penalty: Callable, every: int) -> dict:
    """A penalty at each `every`-th update of D, the first included, times `every` (Karras et al. 2020b, appendix B).

    One for a GAN: a second one would count with it.
    """

    def now_and_then(critic, real, fakes, key, extra):
        due = extra["lazy_updates"] % every == 0

        def penalised():
            return every * penalty(critic, real, fakes, key, extra)

        # On CPUs convolutions in a `cond` are slow: a step of DCGAN with R1 due took 6.1 s of the cores' time. It took
        # 0.44 s with R1 computed whether due or not, and 0.28 s without (32 filters, 64 pixels, batch 32).
        return jax.lax.platform_dependent(
            due,
            cpu=lambda due: jnp.where(due, penalised(), 0),
            default=lambda due: jax.lax.cond(due, penalised, lambda: jnp.float32(0)),
        )

    return {
        "penalty": now_and_then,
        "extra": {"lazy_updates": jnp.int32(0)},
        "remember": lambda extra, real, fake: {**extra, "lazy_updates": extra["lazy_updates"] + 1},
    }


def lazy_adam(rate: float, beta1: float, beta2: float, every: int) -> optax.GradientTransformation:
    """D's Adam as StyleGAN2 has it beside a lazy penalty (Karras et al. 2020b, appendix B).

    There a penalty is an update of its own, so `every` + 1 stand for `every`, and the rate and the logarithms of the
    betas are multiplied by every / (every + 1). Here it is part of an update; this gives the published settings.
    """
    share = every / (every + 1)
    return optax.adam(rate * share, beta1**share, beta2**share)


def lecam(weight: float = 0.3, decay: float = 0.99) -> dict:
    """Logits are drawn towards the other kind's moving average (Tseng et al. 2021), as in the authors' code with relu.

    weight · (mean relu(real - average fake)² + mean relu(average real - fake)²). An average is of all updates at first,
    later by `decay`; before the first update there is none, and no penalty. 0.3 is for hinge losses.
    """

    def regularizer(real, fake, extra):
        squares = nn.relu(real - extra["lecam_fake"]) ** 2, nn.relu(extra["lecam_real"] - fake) ** 2
        return jnp.where(extra["lecam_updates"] > 0, weight * (squares[0].mean() + squares[1].mean()), 0)

    def remember(extra, real, fake):
        updates = extra["lecam_updates"]
        kept = jnp.minimum(decay, updates / (updates + 1))
        means = {
            f"lecam_{name}": kept * extra[f"lecam_{name}"] + (1 - kept) * logits.mean()
            for name, logits in (("real", real), ("fake", fake))
        }
        return {**extra, **means, "lecam_updates": updates + 1}

    nothing = {"lecam_real": jnp.float32(0), "lecam_fake": jnp.float32(0), "lecam_updates": jnp.int32(0)}
    return {"regularizer": regularizer, "extra": nothing, "remember": remember}
