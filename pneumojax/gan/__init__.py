"""GANs, one module each, looked up by name. A module in this folder that keeps this contract needs no other change.

    CONDITIONAL: bool
        False: one state is trained for each class, and labels are to be ignored.
        True: one state is trained on all classes.
    init(key, config) -> state
        A tree of arrays. `config` is the run's `config.gan`, frozen. Errors: BadInput where the module cannot make
        `config.image_size`.
    step(state, images, labels, key, config) -> (state, metrics)
        One step on images float32 [D * N, S, S, C] in [-1, 1] with labels int32 [D * N], D = `config.d_steps` batches.
        The state keeps its structure, shapes and dtypes; not all of it need change. Metrics are finite scalars of any
        names, losses end in `_loss`.
    sample(state, latents, labels, config) -> images
        float32 [N, S, S, C] in [-1, 1] for latents [N, Z] from N(0, 1). Deterministic, and each image depends on
        its own latent and label alone; says which batch statistics it uses.
    DEFAULTS: dict, optional
        The module's own fields of `config.gan` and their values.

S is `config.image_size`, Z is `config.latent_dim`. All three functions are pure and are compiled by their caller.
`parts` has what to compose them of; a module may as well write its own.
"""

import contextlib
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np

from pneumojax import lookup
from pneumojax.errors import BadInput, describe


def load(name: str) -> ModuleType:
    """The module of a GAN. Errors: BadInput for an unknown name, and for a module that lacks a function."""
    return lookup.load("pneumojax.gan", name, "CONDITIONAL init step sample", "config.gan.name")


def states(module: ModuleType, classes) -> dict[str, tuple[int, ...]]:
    """The states that a GAN needs: name → labels that it is trained on."""
    if module.CONDITIONAL:
        return {"all": tuple(range(len(classes)))}
    return {name.lower(): (label,) for label, name in enumerate(classes)}


def check(module: ModuleType, config) -> None:
    """Errors: BadInput where `init` or `sample` break the contract, as far as shapes tell; nothing is computed."""
    latents = jax.ShapeDtypeStruct((2, config.latent_dim), jnp.float32)
    labels = jax.ShapeDtypeStruct((2,), jnp.int32)
    with _told_of(config, "init"):
        state = jax.eval_shape(lambda: module.init(jax.random.key(0), config))
    with _told_of(config, "sample"):
        sampled = jax.eval_shape(lambda *inputs: module.sample(*inputs, config), state, latents, labels)
    size = config.image_size
    if _kind(sampled) != _kind(jax.ShapeDtypeStruct((2, size, size, 1), jnp.float32)):
        raise _broken(config, f"sample does not give float32 [N, {size}, {size}, 1]")


def step(module: ModuleType, state, images, labels, key, config):
    """`module.step`. Errors: BadInput while it is compiled, where it breaks the contract as far as shapes tell."""
    with _told_of(config, "step"):
        after = module.step(state, images, labels, key, config)
    metrics = after[1] if isinstance(after, tuple) and len(after) == 2 and isinstance(after[1], dict) else {}
    if not any(str(name).endswith("_loss") for name in metrics):
        raise _broken(config, "step gives no (state, {…_loss: scalar})")
    if not all(isinstance(name, str) and _is_real_scalar(value) for name, value in metrics.items()):
        raise _broken(config, "a metric of step is no scalar, or its name is no text")
    if _kind(after[0]) != _kind(state):
        raise _broken(config, "step changes the state's structure, shapes or dtypes")
    return after


@contextlib.contextmanager
def _told_of(config, name: str):
    try:
        yield
    except BadInput:
        raise
    except Exception as error:  # a module may raise anything
        raise _broken(config, f"{name} fails: {type(error).__name__}: {describe(error)}") from error


def _broken(config, what: str) -> BadInput:
    return BadInput(f"config.gan.name={config.name!r}: {what}; see the contract in pneumojax/gan/__init__.py")


def _is_real_scalar(value) -> bool:
    known = isinstance(value, jax.Array | np.ndarray | np.number | int | float)  # to jnp a text has a shape, and None
    return known and jnp.shape(value) == () and not jnp.iscomplexobj(value)


def _kind(tree):
    """Structure, shapes and dtypes."""
    return jax.tree.structure(tree), [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(tree)]
