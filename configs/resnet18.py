"""The paper's best row: ResNet-18 at 224 pixels with ImageNet weights, its last layer fine-tuned on the published set.

    python -m pneumojax.main --config=configs/resnet18.py --config.data.dir=DIR

`torchvision` downloads the weights (extra `torch`); --config.model.weights=FILE takes a file or a converted folder.
Time and score: not measured, the weights cannot be had where this was written. The paper prints 99.0, under its own
protocol.
"""

from configs import default


def get_config():
    """The paper fine-tunes the last layer; all layers: --config.classifier.mode=full."""
    c = default.get_config()
    c.data.name = "kermany"
    c.model.weights = "torchvision"
    c.classifier.mode = "head"
    return c
