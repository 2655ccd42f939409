"""WGAN-GP on some 500 X-rays: a critic with a gradient penalty (Gulrajani et al. 2017).

    python -m pneumojax.main --config=configs/wgan_gp.py --config.data.dir=DIR

16,000 images a class: 4.5 minutes for both on two cores, KID 2.26 (NORMAL) and 2.98 (PNEUMONIA) at 64 pixels.
Real images of other patients 0.00, noise 4.8 and 5.0: experiments/RESULTS.md.
"""

from configs import default


def get_config():
    """Five critic steps and the Adam of the WGAN-GP paper; the critic sees 128,000 images."""
    c = default.get_config()
    c.gan.name = "wgan_gp"
    c.gan.filters = 32
    c.gan.batch_size = 32
    c.gan.d_steps = 5
    c.gan.steps = 800
    c.gan.generator_learning_rate = 1e-4
    c.gan.discriminator_learning_rate = 1e-4
    c.gan.beta1 = 0.0
    c.gan.beta2 = 0.9
    return c
