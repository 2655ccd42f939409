"""AlexNet of half the width from scratch: otherwise as `configs/resnet18_cpu.py`."""

from configs import resnet18_cpu


def get_config():
    """Has no batch norm, so that it takes a larger rate."""
    c = resnet18_cpu.get_config()
    c.model.name = "alexnet"
    c.classifier.learning_rate = 0.03
    return c
