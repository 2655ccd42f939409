"""The paper's AlexNet: as `configs/resnet18.py`, with the rates of MATLAB's example for it.

    python -m pneumojax.main --config=configs/alexnet.py --config.data.dir=DIR

Time and score: not measured. The paper prints 96.1, under its own protocol.
"""

from configs import resnet18


def get_config():
    """A lower rate, and twenty times as much for the new layer."""
    c = resnet18.get_config()
    c.model.name = "alexnet"
    c.classifier.learning_rate = 1e-4
    c.classifier.new_layer_rate = 20.0
    return c
