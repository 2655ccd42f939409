"""DCGAN with DiffAugment (Zhao et al. 2020) and an average of the generator: for some hundred images.

D sees real and generated images under the same random changes alone, so it cannot learn the real ones by heart.
"""

from pneumojax.gan import dcgan
from pneumojax.gan.parts import adversarial, augment, ema

CONDITIONAL = False
DEFAULTS = {
    "policies": tuple(augment.POLICIES),  # brightness, contrast, translation, cutout, or some of them
    "average_images": 10_000,  # so many images ago counts half in the generator that is sampled
}


def compose(config) -> adversarial.Parts:
    """DCGAN, augmented and averaged. Errors: BadInput for a policy that is not known, and for a count below 0."""
    adversarial.check(config, average_images=0)
    return dcgan.compose(config)._replace(
        augmentation=augment.diffaugment(config.policies), average=ema.half_life(config.average_images)
    )


init, step, sample = adversarial.functions(compose)
