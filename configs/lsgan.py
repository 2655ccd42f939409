"""LSGAN on some 500 X-rays: squared errors for cross-entropy (Mao et al. 2017).

    python -m pneumojax.main --config=configs/lsgan.py --config.data.dir=DIR

Time and KID: experiments/RESULTS.md.
"""

from configs import default


def get_config():
    """Networks of half the width on smaller batches, which see 128,000 images."""
    c = default.get_config()
    c.gan.name = "lsgan"
    c.gan.filters = 32
    c.gan.batch_size = 32
    c.gan.steps = 4000
    return c
