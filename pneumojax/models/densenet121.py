"""DenseNet of 121 layers (Huang et al. 2017), layer for layer torchvision's `densenet121`; layers carry its names."""

from pneumojax.models import densenet


class Model(densenet.DenseNet):
    """Blocks of 6, 12, 24 and 16 layers."""

    BLOCKS = (6, 12, 24, 16)
