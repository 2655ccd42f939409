"""DCGAN with DiffAugment (Zhao et al. 2020) and an average of the generator on some 500 X-rays.

    python -m pneumojax.main --config=configs/dcgan_diffaug.py --config.data.dir=DIR

16,000 images a class: 3.5 minutes for both on two cores, KID 1.43 (NORMAL) and 1.59 (PNEUMONIA) at 64 pixels.
Real images of other patients 0.00, noise 4.8 and 5.0: experiments/RESULTS.md.
"""

from configs import default


def get_config():
    """Networks of half the width on smaller batches, which see 128,000 images."""
    c = default.get_config()
    c.gan.name = "dcgan_diffaug"
    c.gan.filters = 32
    c.gan.batch_size = 32
    c.gan.steps = 4000
    return c
