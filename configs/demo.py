"""The whole study, made small, on embedded phantom pictures: three trials, both protocols, all arms.

python -m pneumojax.main --config=configs/demo.py

About a minute and a half on two CPU cores, compilation included. The network is an eighth as wide: its numbers
show that it runs, and nothing else.
"""

from configs import default


def get_config():
    """Shrinks everything but the story."""
    c = default.get_config()
    c.data.name = "phantom"
    c.data.phantom_images = (120, 200)
    c.data.subset = (24, 40)
    c.enlarge = 4.0
    c.gan.filters = 8
    c.gan.batch_size = 16
    c.gan.steps = 60
    c.gan.log_every = 20
    c.gan.sample_every = 60
    c.gan.save_every = 60
    c.model.image_size = 64
    c.model.width = 8
    c.classifier.batch_size = 16
    c.classifier.steps = 40
    c.classifier.learning_rate = 0.03
    c.classifier.log_every = 20
    c.classifier.save_every = 80
    c.evaluate.resamples = 500
    return c
