"""Kermany et al. (2018), table 3's 92.80: Inception V3 with ImageNet weights, all frozen but a new last layer.

    python -m pneumojax.main --config=configs/kermany2018.py --config.data.dir=DIR

`torchvision` downloads the weights (extra `torch`); --config.model.weights=FILE takes a file or a converted folder.
They cannot be had where this was written: `configs/kermany2018_squeezenet.py` is the same with another trunk.

The cited figure is the accuracy on the published test folder (`official`); beside it stand sensitivity 93.2,
specificity 90.1 and AUC 96.8. torchvision's head, which is used here, has dropout 0.5 before its layer; whether theirs
has any is not told.
"""

from configs import table3


def get_config():
    """Features are computed once an image, as stated: pictures of 8 x 8 x 2048, 3 gigabytes of all 5,856 images."""
    c = table3.get_config()
    c.model.name = "inception_v3"  # stated
    c.model.image_size = 299  # ours: what the weights are for
    c.model.weights = "torchvision"  # ImageNet's: stated; torchvision's: ours
    c.data.fit = "stretch"  # ours
    c.classifier.mode = "head"  # stated: convolutions frozen, a softmax layer trained on cached features
    c.classifier.optimizer = "adam"  # stated
    c.classifier.learning_rate = 1e-3  # stated
    c.classifier.new_layer_rate = 1.0  # stated: the rate is the new layer's
    # stated: 1000, which `official` alone may have, by a flag; ours: `clean` has 499 images to train on
    c.classifier.batch_size = 400
    c.classifier.epochs = 100  # stated as the most; ours: all of them, since when they stopped is not known
    return c  # stated: no augmentation; ours: gray in three channels
