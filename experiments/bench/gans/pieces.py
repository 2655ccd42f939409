"""Where the time of a step goes: pieces of it, each compiled and timed alone, on both sides.

Pieces overlap: `gradients` has the forward passes, the penalty and the augmentations in it, and a step is about
`gradients` and `optimiser`. Alone, a piece keeps what the whole may throw away; ours are not given their buffers back.
"""

import multiprocessing
import time
from collections.abc import Callable

import numpy as np

from experiments.bench.gans.setting import Setting, finish, our_config, twin_of

REPEATS = 7


def our_pieces(setting: Setting) -> dict[str, Callable]:
    """Name → function that runs a piece and waits for it."""
    config = our_config(setting)
    import jax
    import jax.numpy as jnp

    from pneumojax import gan

    module, count = gan.load(setting.variant), setting.batch
    state = jax.jit(module.init, static_argnames="config")(jax.random.key(0), config=config)
    images = jax.random.uniform(jax.random.key(1), (count, setting.size, setting.size, 1), minval=-1)
    labels = jnp.arange(count, dtype=jnp.int32) % 2
    named = adversarial_pieces if hasattr(module, "compose") else edm_pieces

    def waited_for(piece: Callable) -> Callable:
        compiled = jax.jit(piece)
        return lambda: jax.block_until_ready(compiled(state, images, labels, jax.random.key(2)))

    return {name: waited_for(piece) for name, piece in named(module, config).items()}


def adversarial_pieces(module, config) -> dict[str, Callable]:
    """Functions of (state, images, labels, key)."""
    import jax

    from pneumojax.gan.parts import adversarial, ema

    parts = module.compose(config)

    def forward(network, variables, *inputs):
        return adversarial.forward(network, variables, *inputs, dtype=config.dtype)

    def g(state, images, labels, key):
        latents = jax.random.normal(key, (len(images), config.latent_dim))
        return forward(parts.generator, state.generator, latents, labels)

    def d(state, images, labels, key):
        return forward(parts.discriminator, state.discriminator, images, labels)

    def penalty(state, images, labels, key):
        def value(params):
            def critic(pictures):
                variables = {**state.discriminator, "params": params}
                return forward(parts.discriminator, variables, pictures, labels[: len(pictures)])[0]

            return parts.penalty(critic, images, images[::-1], key, state.extra)

        return jax.grad(value)(state.discriminator["params"])

    def update(state, images, labels, key):
        networks = (state.generator, state.generator_opt), (state.discriminator, state.discriminator_opt)
        moved = [
            adversarial.moved(network, network["params"], optimizer, opt)
            for (network, opt), optimizer in zip(networks, parts.optimizers, strict=True)
        ]
        return moved, ema.follow(state.average, moved[0][0], len(images), parts.average) if parts.average else ()

    def gradients(state, images, labels, key):
        return (parts.gradients or adversarial.gradients_of)(parts, state, images, labels, key, config)

    pieces = {"G": g, "D": d, "gradients": gradients, "optimiser": update}
    if parts.penalty:
        pieces["penalty"] = penalty
    if parts.augmentation:
        pieces["augmentation"] = lambda state, images, labels, key: parts.augmentation(images, key, state.extra)
    return pieces


def edm_pieces(module, config) -> dict[str, Callable]:
    """Functions of (state, images, labels, key)."""
    import jax
    import jax.numpy as jnp
    import optax

    from pneumojax.gan.parts import ema

    def denoise(params, noisy, sigma, key):
        rngs = {"dropout": key}
        return module.denoise(config, {"params": params}, noisy, sigma, train=True, rngs=rngs)

    def network(state, images, labels, key):
        return denoise(state.network["params"], images, jnp.ones(len(images)), key)

    def gradients(state, images, labels, key):
        def loss(params):
            return module.loss_of(lambda noisy, sigma: denoise(params, noisy, sigma, key), images, key)

        return jax.grad(loss)(state.network["params"])

    def update(state, images, labels, key):
        params = state.network["params"]
        updates, opt = module.optimizer_of(config).update(params, state.opt, params)
        network = {"params": optax.apply_updates(params, updates)}
        return network, opt, ema.follow(state.average, network, len(images), module.average_of)

    return {"network": network, "gradients": gradients, "optimiser": update}


def their_pieces(setting: Setting) -> dict[str, Callable]:
    """As `our_pieces`, by PyTorch."""
    import torch

    twin, config, device = twin_of(setting)
    shape = (setting.batch, 1, setting.size, setting.size)
    images, labels = torch.rand(shape, device=device) * 2 - 1, torch.arange(setting.batch, device=device) % 2
    whole = (array.repeat_interleave(config.d_steps, 0) for array in (images, labels))
    twin.step(*whole)  # so that the optimisers have gradients

    def waited_for(piece: Callable) -> Callable:
        def run():
            piece(images, labels)
            finish(device)

        return run

    return {name: waited_for(piece) for name, piece in twin.pieces.items()}


def timed(pieces_of: Callable, setting: Setting) -> dict[str, float]:
    """Name → milliseconds, the median of some runs after a first one."""
    found = {}
    for name, piece in pieces_of(setting).items():
        piece()
        seconds = []
        for _ in range(REPEATS):
            started = time.perf_counter()
            piece()
            seconds.append(time.perf_counter() - started)
        found[name] = 1000 * float(np.median(seconds))
    return found


def table(setting: Setting) -> str:
    """A Markdown table of both sides; each has a process of its own, one after the other."""
    context = multiprocessing.get_context("spawn")
    sides = []
    for pieces_of in (our_pieces, their_pieces):
        with context.Pool(1) as pool:
            sides.append(pool.apply(timed, (pieces_of, setting)))
    rows = [f"| {name} | {sides[0][name]:.3g} | {sides[1][name]:.3g} |" for name in sides[0]]
    how = "compiled" if setting.compiled else "eager"
    heads = (
        f"| {setting.variant}, {setting.filters} filters, batch {setting.batch} | pneumojax, ms | PyTorch {how}, ms |"
    )
    return "\n".join([heads, "|---|---|---|", *rows])
