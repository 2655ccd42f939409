"""SqueezeNet (Iandola et al. 2016) 1.0, layer for layer torchvision's `squeezenet1_0`; layers carry its names."""

from pneumojax.models import squeezenet

LAYERS = {
    "features_3": (True, 16, 64),
    "features_4": (False, 16, 64),
    "features_5": (False, 32, 128),
    "features_7": (True, 32, 128),
    "features_8": (False, 48, 192),
    "features_9": (False, 48, 192),
    "features_10": (False, 64, 256),
    "features_12": (True, 64, 256),
}


class Model(squeezenet.Model):
    """As 1.1 with a wider stem and later pools."""

    LAYERS = LAYERS
    STEM = (96, 7)
    STAGES = ("features_0", *LAYERS, "classifier_1")
