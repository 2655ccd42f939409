"""SqueezeNet 1.1 from its ImageNet weights on the real images, at the size of `configs/resnet18_cpu.py`."""

from configs import resnet18_cpu


def get_config():
    """Trains the head (`head`); all layers: --config.classifier.mode=full."""
    c = resnet18_cpu.get_config()
    c.model.name = "squeezenet"
    c.model.width = 64
    c.model.weights = "torchvision"
    c.model.allow_missing = ("features.12.expand1x1", "classifier.1")  # a trunk without its last layers will do
    c.classifier.mode = "head"
    c.classifier.learning_rate = 1e-6  # the trunk's features reach 330: ten times the rate ends them all below 0
    c.classifier.feature_dtype = "bfloat16"
    return c
