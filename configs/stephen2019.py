"""Stephen et al. (2019), table 3's 93.73: four convolutions and two dense layers from scratch, augmented.

    python -m pneumojax.main --config=configs/stephen2019.py --config.data.dir=DIR

The cited figure is the accuracy on the images that it validated on, 2,134 of a split of its own; it trained on 3,722.
What of the network is stated, and what is ours: `pneumojax/models/stephen2019.py`.
"""

from configs import table3


def get_config():
    """Augmentation has Keras's names and units there: shares of the side, degrees."""
    c = table3.get_config()
    c.model.name = "stephen2019"  # stated: its layers
    c.model.image_size = 200  # stated
    c.classifier.rotation = 40.0  # stated; ours, here and below: what moves in is black
    c.classifier.shift = 40  # stated: 0.2 of 200 pixels
    c.classifier.shear = 0.2  # stated as 0.2; ours: that they are degrees, as in Keras
    c.classifier.zoom = 0.2  # stated
    c.classifier.flip = True  # stated
    c.classifier.optimizer = "adam"  # ours
    c.classifier.learning_rate = 1e-3  # ours: Adam's usual one
    c.classifier.batch_size = 32  # ours
    c.classifier.epochs = 50  # ours: 750 steps under `clean`, 8,150 under `official`
    return c
