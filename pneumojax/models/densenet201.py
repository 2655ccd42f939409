"""DenseNet of 201 layers (Huang et al. 2017), layer for layer torchvision's `densenet201`; layers carry its names."""

from pneumojax.models import densenet


class Model(densenet.DenseNet):
    """Blocks of 6, 12, 48 and 32 layers."""

    BLOCKS = (6, 12, 48, 32)
