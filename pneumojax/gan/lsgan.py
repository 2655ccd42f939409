"""LSGAN (Mao et al. 2017): DCGAN with squared errors for cross-entropy, which still pull where D is certain."""

from pneumojax.gan import dcgan
from pneumojax.gan.parts import adversarial, losses

CONDITIONAL = False


def compose(config) -> adversarial.Parts:
    """DCGAN's networks and Adam; D's target is 1 for real images and 0 for generated ones, G's is 1."""
    return dcgan.compose(config)._replace(losses=losses.least_squares)


init, step, sample = adversarial.functions(compose)
