"""DCGAN on some 500 X-rays, at the size that the other GANs of this folder have: what they are measured against.

python -m pneumojax.main --config=configs/dcgan.py --config.data.dir=DIR

The paper's own, twice as wide on batches of 128, is that of configs/default.py.
Here 16,000 images a class: 3 minutes for both on two cores, KID 2.55 (NORMAL) and 1.93 (PNEUMONIA) at 64 pixels.
Real images of other patients 0.00, noise 4.8 and 5.0: experiments/RESULTS.md.
"""

from configs import default


def get_config():
    """DCGANs of half the width on smaller batches; as many images as the paper's 1,000 epochs hold."""
    c = default.get_config()
    c.gan.filters = 32
    c.gan.batch_size = 32
    c.gan.steps = 4000
    return c
