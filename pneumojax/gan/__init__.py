"""GANs, one module each, looked up by name. A module in this folder that keeps this contract needs no other change.

    CONDITIONAL: bool
        False: one state is trained for each class, and labels are to be ignored.
        True: one state is trained on all classes.
    init(key, config) -> state
        A tree of arrays. `config` is the run's `config.gan`, frozen; it may hold fields of the module's own.
    step(state, images, labels, key, config) -> (state, metrics)
        One step of both networks on a batch: images float32 [N, S, S, 1] in [-1, 1], labels int32 [N]; metrics are
        named scalars, the losses called d_loss and g_loss.
    sample(state, latents, labels, config) -> images
        float32 [N, S, S, 1] in [-1, 1] for latents [N, Z] from N(0, 1). Deterministic, and each image depends on
        its own latent and label alone.

S is `config.image_size`, Z is `config.latent_dim`. All three functions are pure and are compiled by their caller.
"""

from types import ModuleType

from pneumojax import lookup


def load(name: str) -> ModuleType:
    """The module of a GAN. Errors: BadInput for an unknown name."""
    return lookup.load("pneumojax.gan", name, "CONDITIONAL", "config.gan.name")


def states(module: ModuleType, classes) -> dict[str, tuple[int, ...]]:
    """The states that a GAN needs: name → labels that it is trained on."""
    if module.CONDITIONAL:
        return {"all": tuple(range(len(classes)))}
    return {name.lower(): (label,) for label, name in enumerate(classes)}
