"""DCGAN with adaptive augmentation (ADA; Karras et al. 2020) and an average of the generator: for some hundred images.

D sees real and generated images under random changes, the more of them the surer it is of the real ones.
"""

from pneumojax.gan import dcgan
from pneumojax.gan.parts import adversarial, augment, ema

CONDITIONAL = False
DEFAULTS = {
    "ada_target": 0.6,  # the mean sign of D's logits of real images that is aimed at
    "ada_images": 100_000,  # in so many images the probability of a change can go from 0 to 1
    "average_images": 10_000,  # so many images ago counts half in the generator that is sampled
}


def compose(config) -> adversarial.Parts:
    """DCGAN, augmented and averaged. Errors: BadInput for a count of images that is too low."""
    adversarial.check(config, ada_images=1, average_images=0)
    parts = dcgan.compose(config)._replace(average=ema.half_life(config.average_images))
    return adversarial.with_memory(parts, augment.adaptive(config.ada_target, config.ada_images))


init, step, sample = adversarial.functions(compose)
