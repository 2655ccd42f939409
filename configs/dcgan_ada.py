"""DCGAN with adaptive augmentation (Karras et al. 2020) and an average of the generator on some 500 X-rays.

    python -m pneumojax.main --config=configs/dcgan_ada.py --config.data.dir=DIR

16,000 images a class: 4.5 minutes for both on two cores, KID 2.17 (NORMAL) and 2.21 (PNEUMONIA) at 64 pixels.
Real images of other patients 0.00, noise 4.8 and 5.0: experiments/RESULTS.md.
"""

from configs import default


def get_config():
    """Networks of half the width on smaller batches, which see 128,000 images."""
    c = default.get_config()
    c.gan.name = "dcgan_ada"
    c.gan.filters = 32
    c.gan.batch_size = 32
    c.gan.steps = 4000
    return c
