"""The paper's study with a small StyleGAN2: for some hundred images a class (Karras et al. 2020).

    python -m pneumojax.main --config=configs/stylegan2_small.py --config.data.dir=DIR

Rates and betas are those that StyleGAN2-ADA takes for sizes below 1024 by itself, as are R1's weight and the average's
half-life.
Two minutes a class on two cores (44 steps of 32 images) bring it to KID 2.40 (NORMAL) and 2.62 (PNEUMONIA) at 64
pixels: hardly begun. 16,000 images a class would take 40 minutes there and were not run.
Real images of other patients 0.00, noise 4.8 and 5.0: experiments/RESULTS.md.
"""

from configs import default


def get_config():
    """ResNet-18 as in default.py, and another GAN. 32 filters at 64 pixels are a channel base of 2,048."""
    c = default.get_config()
    c.gan.name = "stylegan2_small"
    c.gan.latent_dim = 128
    c.gan.filters = 32
    c.gan.batch_size = 32
    c.gan.steps = 10_000
    c.gan.generator_learning_rate = 2.5e-3
    c.gan.discriminator_learning_rate = 2.5e-3
    c.gan.beta1 = 0.0
    c.gan.beta2 = 0.99
    return c
