"""VGG of 19 layers (Simonyan, Zisserman 2015), layer for layer torchvision's `vgg19`; layers carry its names."""

from pneumojax.models import vgg

LAYERS = vgg.convolutions(2, 2, 4, 4, 4)


class Model(vgg.VGG):
    """16 convolutions, whence 3 linear layers; without batch norm."""

    LAYERS = LAYERS
    STAGES = vgg.stages(LAYERS)
