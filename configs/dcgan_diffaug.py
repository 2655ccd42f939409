"""DCGAN with DiffAugment (Zhao et al. 2020) and an average of the generator on some 500 X-rays.

    python -m pneumojax.main --config=configs/dcgan_diffaug.py --config.data.dir=DIR

Time and KID: experiments/RESULTS.md.
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
