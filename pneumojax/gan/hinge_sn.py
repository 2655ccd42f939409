"""DCGAN with hinge losses and a spectrally normalised critic (Lim and Ye 2017; Miyato et al. 2018).

Each kernel of the critic is divided by its largest singular value, which bounds its slope; batch norms, which would
scale it up again, are left out. A convolution's kernel counts as the matrix [16 · features in, features out] (Miyato et
al., section 2.1). The generator is DCGAN's.
"""

import flax.linen as nn

from pneumojax.gan import dcgan
from pneumojax.gan.parts import adversarial, losses
from pneumojax.gan.parts.layers import halving, initializer, padded, spectral

CONDITIONAL = False


class Critic(nn.Module):
    """Images [N, S, S, 1] → logits [N], positive for real. DCGAN's layers, each with a bias and without batch norm."""

    filters: int

    @nn.compact
    def __call__(self, images, labels, train: bool):
        x = images
        for features in dcgan.widths(self.filters, images.shape[1]):
            x = nn.leaky_relu(spectral(halving(features), padded(x), train), 0.1)
        return spectral(nn.Dense(1, kernel_init=initializer), x.reshape(x.shape[0], -1), train)[:, 0]


def compose(config) -> adversarial.Parts:
    """DCGAN's generator and Adam."""
    return dcgan.compose(config)._replace(discriminator=Critic(config.filters), losses=losses.hinge)


init, step, sample = adversarial.functions(compose)
