"""The paper's study with a small diffusion model in place of the GAN, whose latents are the noise that it begins with.

python -m pneumojax.main --config=configs/edm_small.py --config.data.dir=DIR
"""

from configs import default


def get_config():
    """EDM at 64 pixels, 32 filters at half of them."""
    c = default.get_config()
    c.gan.name = "edm_small"
    c.gan.latent_dim = 4096  # image_size²; any other makes latents seeds
    c.gan.filters = 32
    c.gan.batch_size = 32
    c.gan.generator_learning_rate = 1e-3
    c.gan.beta1 = 0.9
    return c
