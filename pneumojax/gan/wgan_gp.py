"""WGAN-GP (Gulrajani et al. 2017): the distance between real and generated images, by a critic with slopes of about 1.

DCGAN's networks, but the critic has layer norms for batch norms, as the paper advises (section 4): its penalty is about
the slope at one image. `config.d_steps` is the critic's updates for one of the generator's, 5 in the paper.
"""

import flax.linen as nn

from pneumojax.gan import dcgan
from pneumojax.gan.parts import adversarial, losses, penalties

CONDITIONAL = False
DEFAULTS = {"penalty": 10.0}  # weight of (slope - 1)²


def layer_norm(use_running_average: bool) -> nn.Module:
    """Over all of an image, with a scale and a bias for each feature; it has no average to use."""
    del use_running_average
    return nn.LayerNorm(reduction_axes=(1, 2, 3), feature_axes=-1)


def compose(config) -> adversarial.Parts:
    """DCGAN's generator and Adam, with a critic, its loss and its penalty. Errors: BadInput for a field below 0."""
    adversarial.check(config, penalty=0)
    return dcgan.compose(config)._replace(
        discriminator=dcgan.Discriminator(config.filters, layer_norm),
        losses=losses.wasserstein,
        penalty=penalties.gradient_penalty(config.penalty),
    )


init, step, sample = adversarial.functions(compose)
