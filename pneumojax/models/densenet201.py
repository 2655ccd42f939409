"""DenseNet of 201 layers (Huang et al. 2017), layer for layer torchvision's `densenet201`; layers carry its names."""

from pneumojax.models import densenet121


class Model(densenet121.Model):
    """As that of 121 with longer blocks at the end."""

    BLOCKS = (6, 12, 48, 32)
