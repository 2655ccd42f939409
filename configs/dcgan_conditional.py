"""One DCGAN for all classes of some 500 X-rays.

    python -m pneumojax.main --config=configs/dcgan_conditional.py --config.data.dir=DIR

Other classes than two: set `config.gan.num_classes` with `config.data.classes`.
16,000 images a class: 5 minutes for both on two cores, KID 1.86 (NORMAL) and 1.63 (PNEUMONIA) at 64 pixels.
Real images of other patients 0.00, noise 4.8 and 5.0: experiments/RESULTS.md.
"""

from configs import default


def get_config():
    """Half the width on smaller batches; one state takes the steps that two of other GANs take."""
    c = default.get_config()
    c.gan.name = "dcgan_conditional"
    c.gan.filters = 32
    c.gan.batch_size = 32
    c.gan.steps = 8000
    c.gan.beta1 = 0.0  # Miyato and Koyama's
    c.gan.beta2 = 0.9
    return c
