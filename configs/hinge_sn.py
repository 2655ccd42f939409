"""Hinge losses and a spectrally normalised critic on some 500 X-rays (Miyato et al. 2018).

    python -m pneumojax.main --config=configs/hinge_sn.py --config.data.dir=DIR

16,000 images a class: 5 minutes for both on two cores, KID 1.63 (NORMAL) and 1.95 (PNEUMONIA) at 64 pixels.
Real images of other patients 0.00, noise 4.8 and 5.0: experiments/RESULTS.md.
"""

from configs import default


def get_config():
    """DCGAN's generator at half the width; as many images as the other GANs see."""
    c = default.get_config()
    c.gan.name = "hinge_sn"
    c.gan.filters = 32
    c.gan.batch_size = 32
    c.gan.steps = 4000
    c.gan.discriminator_learning_rate = 4e-4  # a normalised critic is slow
    c.gan.beta1 = 0.0  # with DCGAN's 0.5 and 0.999 images were half as diverse (500 steps, 32 pixels)
    c.gan.beta2 = 0.9
    return c
