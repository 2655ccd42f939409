"""The paper's SqueezeNet (1.1): as `configs/resnet18.py`.

    python -m pneumojax.main --config=configs/squeezenet.py --config.data.dir=DIR

Time and score: not measured. The paper prints 94.7 in its matrix, under its own protocol.
"""

from configs import resnet18


def get_config():
    """Its head is a convolution, so what is cached are pictures of 13 x 13 pixels and 512 channels: in bfloat16."""
    c = resnet18.get_config()
    c.model.name = "squeezenet"
    c.classifier.feature_dtype = "bfloat16"
    return c
