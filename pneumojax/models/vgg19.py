"""VGG of 19 layers (Simonyan, Zisserman 2015), layer for layer torchvision's `vgg19`; layers carry its names."""

from pneumojax.models import vgg16

LAYERS = vgg16.convolutions(2, 2, 4, 4, 4)


class Model(vgg16.Model):
    """As that of 16 with a convolution more in each of the last three groups."""

    LAYERS = LAYERS
    STAGES = vgg16.stages(LAYERS)
