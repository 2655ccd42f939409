"""A small diffusion model on some 500 X-rays, in place of the GAN (EDM, Karras et al. 2022).

    python -m pneumojax.main --config=configs/edm_small.py --config.data.dir=DIR

16,000 images a class: 14 minutes for both on two cores, KID 0.80 (NORMAL) and 1.04 (PNEUMONIA) at 64 pixels, no copies.
Real images of other patients 0.00, noise 4.8 and 5.0: experiments/RESULTS.md. About a fifth of a second a sample.
"""

from configs import default


def get_config():
    """32 filters at half of 64 pixels; as many images as the paper's 1,000 epochs hold."""
    c = default.get_config()
    c.gan.name = "edm_small"
    c.gan.latent_dim = 4096  # image_size², so that latents are the noise; any other makes them its seeds
    c.gan.filters = 32
    c.gan.batch_size = 32
    c.gan.steps = 4000
    c.gan.generator_learning_rate = 1e-3
    c.gan.beta1 = 0.9
    return c
