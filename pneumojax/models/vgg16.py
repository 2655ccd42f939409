"""VGG of 16 layers (Simonyan, Zisserman 2015), layer for layer torchvision's `vgg16`; layers carry its names.

3x3 convolutions in five groups and three linear layers, without batch norm.
"""

from functools import partial

import flax.linen as nn

from pneumojax.models.layers import Dropout, adaptive_average_pool, channels_first, convolution, max_pool

HIDDEN = ("classifier_0", "classifier_3")


def convolutions(*depths: int) -> dict[str, tuple[int, bool]]:
    """torchvision's name of each convolution → its features, and whether a pool comes after it, by groups' lengths."""
    layers, number = {}, 0
    for group, depth in enumerate(depths):
        for left in range(depth, 0, -1):
            layers[f"features_{number}"] = (min(64 * 2**group, 512), left == 1)
            number += 2 if left > 1 else 3  # a ReLU follows each of them, and a pool the last
    return layers


def stages(layers: dict) -> tuple[str, ...]:
    """The stages of a network with these convolutions."""
    return (*layers, *HIDDEN, "classifier_6")


LAYERS = convolutions(2, 2, 3, 3, 3)


class Model(nn.Module):
    """Images [N, H, W, 3], 32 pixels a side or more → logits [N, num_classes]. `width` 64 is the published network."""

    num_classes: int = 1000
    width: int = 64

    LAYERS = LAYERS
    STAGES = stages(LAYERS)

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        def layer(x, name):
            features, pooled = self.LAYERS[name]
            x = nn.relu(convolution(features * self.width // 64, (3, 3), padding=1, name=name)(x))
            if pooled:
                x = max_pool(x, 2, 2)
            return channels_first(adaptive_average_pool(x, 7)) if name == list(self.LAYERS)[-1] else x

        def linear(x, features, name):
            # the published networks draw these by a fixed deviation
            return nn.Dense(features, kernel_init=nn.initializers.normal(0.01), name=name)(x)

        def hidden(x, name):
            return Dropout(0.5)(nn.relu(linear(x, 64 * self.width, name)), train)

        def head(x):
            return linear(x, self.num_classes, "classifier_6")

        layers = (partial(layer, name=name) for name in self.LAYERS)
        for stage in (*layers, *(partial(hidden, name=name) for name in HIDDEN), head)[begin:end]:
            x = stage(x)
        return x
