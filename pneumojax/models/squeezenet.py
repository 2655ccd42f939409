"""SqueezeNet (Iandola et al. 2016) 1.1, layer for layer torchvision's `squeezenet1_1`; layers carry its names."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from pneumojax.models.layers import Dropout, convolution, max_pool

LAYERS = {  # torchvision's name → whether a pool comes before it; squeeze, expand
    "features_3": (True, 16, 64),
    "features_4": (False, 16, 64),
    "features_6": (True, 32, 128),
    "features_7": (False, 32, 128),
    "features_9": (True, 48, 192),
    "features_10": (False, 48, 192),
    "features_11": (False, 64, 256),
    "features_12": (False, 64, 256),
}


class Fire(nn.Module):
    """A 1x1 convolution that squeezes, then 1x1 and 3x3 convolutions side by side."""

    squeeze: int
    expand: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(convolution(self.squeeze, (1, 1), name="squeeze")(x))
        narrow = nn.relu(convolution(self.expand, (1, 1), name="expand1x1")(x))
        wide = nn.relu(convolution(self.expand, (3, 3), padding=1, name="expand3x3")(x))
        return jnp.concatenate((narrow, wide), -1)


class Model(nn.Module):
    """Images [N, H, W, 3] → logits [N, num_classes]. `width` 64 is the published network. The head is a convolution."""

    num_classes: int = 1000
    width: int = 64

    LAYERS = LAYERS
    STEM = (64, 3)  # features and window of the first convolution
    STAGES = ("features_0", *LAYERS, "classifier_1")

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        def scaled(channels):
            return channels * self.width // 64

        def stem(x):
            features, window = self.STEM
            return nn.relu(convolution(scaled(features), (window, window), (2, 2), name="features_0")(x))

        def fire(x, name):
            pooled, squeeze, expand = self.LAYERS[name]
            if pooled:
                x = max_pool(x, 3, 2, ceil=True)
            return Fire(scaled(squeeze), scaled(expand), name=name)(x)

        def head(x):
            x = Dropout(0.5)(x, train)
            classes = convolution(
                self.num_classes, (1, 1), kernel_init=nn.initializers.normal(0.01), name="classifier_1"
            )
            return jnp.mean(nn.relu(classes(x)), (1, 2))

        for stage in (stem, *(partial(fire, name=name) for name in self.LAYERS), head)[begin:end]:
            x = stage(x)
        return x
