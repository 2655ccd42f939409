"""DCGAN of all classes at once: one generator that is told the class, one discriminator that judges by it.

As in cGANs with projection (Miyato and Koyama 2018): D's logit has a term by the label, and each class has scales and
biases of its own in G's batch norms, at first the same. Classes joined to the latent are not for some hundred images:
there G told them apart at once and drew one picture of each, as Shahbazi et al. 2022 describe ('Collapse by
conditioning').
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from pneumojax.gan import dcgan
from pneumojax.gan.parts import adversarial
from pneumojax.gan.parts.layers import UpConvolution, initializer

CONDITIONAL = True
DEFAULTS = {"num_classes": 2}  # that of config.data.classes


class ConditionalBatchNorm(nn.Module):
    """Batch norm of x [N, S, S, C] over all classes, then a scale and a bias by the label int32 [N]."""

    classes: int

    @nn.compact
    def __call__(self, x, labels, train: bool):
        known = jax.nn.one_hot(labels, self.classes, dtype=x.dtype)  # the gradient of a look-up is a scatter-add

        def of_class(name, init):
            return nn.Dense(x.shape[-1], use_bias=False, kernel_init=init, name=name)(known)[:, None, None]

        x = dcgan.batch_norm(use_running_average=not train, use_scale=False, use_bias=False)(x)
        return x * of_class("scale", nn.initializers.ones) + of_class("bias", nn.initializers.zeros)


class Generator(nn.Module):
    """Latents [N, Z] and labels int32 [N] → images [N, S, S, 1] in [-1, 1]: DCGAN's with conditional batch norms.

    S is the largest power of two, 8 or more, that `image_size` reaches.
    """

    filters: int
    image_size: int
    classes: int

    @nn.compact
    def __call__(self, latents, labels, train: bool):
        *below, top = dcgan.widths(self.filters, self.image_size)
        x = nn.Dense(16 * top, use_bias=False, kernel_init=initializer)(latents)
        x = x.reshape(-1, 4, 4, top)
        for features in reversed(below):
            x = nn.relu(ConditionalBatchNorm(self.classes)(x, labels, train))
            x = UpConvolution(features)(x)
        x = nn.relu(ConditionalBatchNorm(self.classes)(x, labels, train))
        return jnp.tanh(UpConvolution(1, use_bias=True)(x))


def compose(config) -> adversarial.Parts:
    """DCGAN's losses and Adam."""
    return dcgan.compose(config)._replace(
        generator=Generator(config.filters, config.image_size, config.num_classes),
        discriminator=dcgan.Discriminator(config.filters, classes=config.num_classes),
    )


init, step, sample = adversarial.functions(compose)
