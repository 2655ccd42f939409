"""R3GAN, narrow, on some 500 X-rays (Huang et al. 2024).

    python -m pneumojax.main --config=configs/r3gan_small.py --config.data.dir=DIR

Two minutes a class on two cores (28 steps of 32 images) bring it to KID 3.35 (NORMAL) and 3.41 (PNEUMONIA) at 64
pixels: hardly begun. 16,000 images a class would take an hour there and were not run.
Real images of other patients 0.00, noise 4.8 and 5.0: experiments/RESULTS.md.
"""

from configs import default


def get_config():
    """A sixteenth of the authors' width, for two CPU cores; `filters` = 48 is an eighth, at three times the cost."""
    c = default.get_config()
    c.gan.name = "r3gan_small"
    c.gan.latent_dim = 64
    c.gan.filters = 24
    c.gan.batch_size = 32
    c.gan.steps = 4000
    c.gan.generator_learning_rate = 5e-4
    c.gan.discriminator_learning_rate = 5e-4
    c.gan.beta1 = 0.0
    c.gan.beta2 = 0.99
    return c
