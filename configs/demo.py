"""The whole study, made small, on embedded phantom pictures: three trials, both protocols, all arms.

python -m pneumojax.main --config=configs/demo.py

Two to four minutes on two CPU cores, compilation included. Pictures of the GANs, of 32 pixels, show lungs, heart
and spine. The classifier's network is an eighth as wide and takes few steps: its numbers show that it runs, and nothing
else.
"""

from configs import default


def get_config():
    """Shrinks everything but the story."""
    c = default.get_config()
    c.data.name = "phantom"
    c.data.phantom_images = (240, 400)
    c.data.subset = (60, 100)
    c.enlarge = 3.0
    c.gan.image_size = 32
    c.gan.latent_dim = 16
    c.gan.filters = 12
    c.gan.batch_size = 16
    c.gan.steps = 400
    c.gan.generator_learning_rate = 2e-3
    c.gan.discriminator_learning_rate = 2e-3
    c.gan.beta1 = 0.0
    c.gan.beta2 = 0.99
    c.gan.flip = False  # phantoms have their hearts on one side
    c.gan.log_every = 50
    c.gan.sample_every = 100
    c.gan.save_every = 400
    c.model.image_size = 64
    c.model.width = 8
    c.classifier.batch_size = 16
    c.classifier.steps = 40
    c.classifier.learning_rate = 0.03
    c.classifier.log_every = 20
    c.classifier.save_every = 80
    return c
