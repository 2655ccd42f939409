"""DCGAN of all classes at once: one generator that is told the class, one discriminator that judges by it.

The class is embedded and joined to the latent, as in StyleGAN2-ADA and R3GAN, so that few images a class still train
every other layer together; D judges it by projection (Miyato and Koyama 2018).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from pneumojax.gan import dcgan
from pneumojax.gan.parts import adversarial

CONDITIONAL = True
DEFAULTS = {"num_classes": 2}  # that of config.data.classes


class Generator(nn.Module):
    """Latents [N, Z] and labels int32 [N] → images [N, S, S, 1] in [-1, 1]: DCGAN's, from 2 Z numbers."""

    classes: int
    filters: int
    image_size: int

    @nn.compact
    def __call__(self, latents, labels, train: bool):
        known = jax.nn.one_hot(labels, self.classes, dtype=latents.dtype)  # the gradient of a look-up is a scatter-add
        embedded = nn.Dense(latents.shape[1], use_bias=False, kernel_init=nn.initializers.normal(1), name="embedding")(known)
        joined = jnp.concatenate((latents, embedded), 1)
        return dcgan.Generator(self.filters, self.image_size)(joined, labels, train)


def compose(config) -> adversarial.Parts:
    """DCGAN's losses and Adam."""
    return dcgan.compose(config)._replace(
        generator=Generator(config.num_classes, config.filters, config.image_size),
        discriminator=dcgan.Discriminator(config.filters, classes=config.num_classes),
    )


init, step, sample = adversarial.functions(compose)
