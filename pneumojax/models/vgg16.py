"""VGG of 16 layers (Simonyan, Zisserman 2015), layer for layer torchvision's `vgg16`; layers carry its names."""

from pneumojax.models import vgg

LAYERS = vgg.convolutions(2, 2, 3, 3, 3)


class Model(vgg.VGG):
    """13 convolutions, whence 3 linear layers; without batch norm."""

    LAYERS = LAYERS
    STAGES = vgg.stages(LAYERS)
