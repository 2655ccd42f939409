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

from types import ModuleType

from pneumojax import lookup


def load(name: str) -> ModuleType:
    """The module of a GAN. Errors: BadInput for an unknown name, and for a module that lacks a function."""
    return lookup.load("pneumojax.gan", name, "CONDITIONAL init step sample", "config.gan.name")


def states(module: ModuleType, classes) -> dict[str, tuple[int, ...]]:
    """The states that a GAN needs: name → labels that it is trained on."""
    if module.CONDITIONAL:
        return {"all": tuple(range(len(classes)))}
    return {name.lower(): (label,) for label, name in enumerate(classes)}
