"""DCGAN on some 500 X-rays, at the size that the other GANs of this folder have: what they are measured against.

python -m pneumojax.main --config=configs/dcgan.py --config.data.dir=DIR

The paper's own, twice as wide on batches of 128, is that of configs/default.py. Time and KID: experiments/RESULTS.md.
"""

from configs import default


def get_config():
    """DCGANs of half the width on smaller batches; as many images as the paper's 1,000 epochs hold."""
    c = default.get_config()
    c.gan.filters = 32
    c.gan.batch_size = 32
    c.gan.steps = 4000
    return c
