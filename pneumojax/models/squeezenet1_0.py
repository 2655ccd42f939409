"""SqueezeNet (Iandola et al. 2016) 1.0, layer for layer torchvision's `squeezenet1_0`; layers carry its names."""

from pneumojax.models import squeezenet
from pneumojax.models.squeezenet import POOL

LAYERS = (
    *(POOL, (3, 16, 64), (4, 16, 64), (5, 32, 128)),
    *(POOL, (7, 32, 128), (8, 48, 192), (9, 48, 192), (10, 64, 256)),
    *(POOL, (12, 64, 256)),
)


class Model(squeezenet.Model):
    """As 1.1 with a wider stem and later pools."""

    stem_features: int = 96
    stem_window: int = 7
    layers: tuple = LAYERS
