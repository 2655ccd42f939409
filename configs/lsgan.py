"""LSGAN on some 500 X-rays: squared errors for cross-entropy (Mao et al. 2017).

    python -m pneumojax.main --config=configs/lsgan.py --config.data.dir=DIR

16,000 images a class: 3.5 minutes for both on two cores, KID 3.91 (NORMAL) and 4.33 (PNEUMONIA) at 64 pixels.
Collapsed, as with other rates that were tried. Real images 0.00, noise 4.8 and 5.0: experiments/RESULTS.md.
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
