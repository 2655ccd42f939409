"""Liang and Zheng (2019), table 3's 96.70: residual, 49 convolutions, dilated, two dense layers.

    python -m pneumojax.main --config=configs/liang2019.py --config.data.dir=DIR

The cited figure is its recall; its accuracy is about 90.5. It was pretrained on ChestX-ray14, whose weights are not at
hand: here it starts from scratch, which is the largest difference. What of the network is stated, and what is ours:
`pneumojax/models/liang2019.py`.
"""

from configs import table3


def get_config():
    """All of it is ours but the network's shape."""
    c = table3.get_config()
    c.model.name = "liang2019"  # counts of layers, residual, dilated: stated; their sizes: ours
    c.model.image_size = 224  # ours
    c.model.weights = "none"  # ours; stated: pretrained on ChestX-ray14
    c.classifier.optimizer = "adam"  # ours
    c.classifier.learning_rate = 1e-3  # ours: Adam's usual one
    c.classifier.batch_size = 32  # ours
    c.classifier.epochs = 50  # ours: as Stephen's
    return c  # ours: no augmentation
