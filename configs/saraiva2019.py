"""Saraiva et al. (2019), table 3's 95.30: seven convolutions and three dense layers from scratch.

    python -m pneumojax.main --config=configs/saraiva2019.py --config.data.dir=DIR

The cited figure is the mean of a k-fold over all images, k not known here, folds by image as far as is told: patients
may be on both sides. `patient_kfold` is that with whole patients. What of the network is stated, and what is ours:
`pneumojax/models/saraiva2019.py`.
"""

from configs import table3


def get_config():
    """All of it is ours but the counts of layers."""
    c = table3.get_config()
    c.model.name = "saraiva2019"  # counts of layers: stated; their sizes: ours
    c.model.image_size = 200  # ours: as Stephen's, so that these rows differ in their networks
    c.classifier.optimizer = "adam"  # ours
    c.classifier.learning_rate = 1e-3  # ours: Adam's usual one
    c.classifier.batch_size = 32  # ours
    c.classifier.epochs = 50  # ours: as Stephen's
    return c  # ours: no augmentation
