"""GoogLeNet of half the width from scratch: otherwise as `configs/resnet18_cpu.py`."""

from configs import resnet18_cpu


def get_config():
    """The rate suits it too."""
    c = resnet18_cpu.get_config()
    c.model.name = "googlenet"
    return c
