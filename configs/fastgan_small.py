"""The paper's study with a small FastGAN: for some hundred images a class (Liu et al. 2021).

    python -m pneumojax.main --config=configs/fastgan_small.py --config.data.dir=DIR

Rates, betas and the average are the authors', batches are larger than their 8.
16,000 images a class: 25 minutes for both on two cores beside other work (0.5 s a step alone), KID 0.21 (NORMAL) and
0.21 (PNEUMONIA) at 64 pixels.
Real images of other patients 0.00, noise 4.8 and 5.0: experiments/RESULTS.md.
"""

from configs import default


def get_config():
    """ResNet-18 as in default.py, and another GAN. 20,000 steps of 16 are what the paper gives its small sets."""
    c = default.get_config()
    c.gan.name = "fastgan_small"
    c.gan.latent_dim = 256
    c.gan.filters = 24
    c.gan.batch_size = 16
    c.gan.steps = 20_000
    c.gan.generator_learning_rate = 2e-4
    c.gan.discriminator_learning_rate = 2e-4
    c.gan.beta1 = 0.5
    c.gan.beta2 = 0.999
    return c
