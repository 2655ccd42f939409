"""Xception (Chollet 2017), as Keras has it: convolutions of each channel alone, then 1x1 ones across channels.

torchvision has none; layers carry the names of timm's `legacy_xception`. It stands by its author's own pools,
padded as TensorFlow's SAME, which lie elsewhere than timm's where a side is even.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from pneumojax.models import layers
from pneumojax.models.layers import Dropout, convolution, inputs_of_tensorflow, linear_init, max_pool

BLOCKS = {  # features of the separable convolutions, and whether the block halves the picture
    "block1": ((128, 128), True),
    "block2": ((256, 256), True),
    "block3": ((728, 728), True),
    **{f"block{number}": ((728, 728, 728), False) for number in range(4, 12)},
    "block12": ((728, 1024), True),
}

conv = partial(convolution, use_bias=False)
# Keras's, where PyTorch's would be 1e-5 and 0.9; the paper states neither. Running variances are unbiased here.
BatchNorm = partial(layers.BatchNorm, epsilon=1e-3, momentum=0.99)


class Separable(nn.Module):
    """A 3x3 convolution of each channel alone, then a 1x1 one; nothing between them."""

    features: int

    @nn.compact
    def __call__(self, x):
        count = x.shape[-1]
        alone = {"feature_group_count": count, "kernel_init": nn.initializers.lecun_normal()}  # no ReLU follows
        x = conv(count, (3, 3), padding=1, name="conv1", **alone)(x)
        return conv(self.features, (1, 1), name="pointwise")(x)


class Block(nn.Module):
    """ReLU, separable convolution, batch norm in turn, and a shortcut; the first ReLU only where `relu_first`."""

    features: tuple[int, ...]
    halving: bool
    relu_first: bool

    @nn.compact
    def __call__(self, x, train: bool):
        y, number = x, 0  # numbers count the layers that timm's row has, ReLUs too
        for index, features in enumerate(self.features):
            if index > 0 or self.relu_first:
                y, number = nn.relu(y), number + 1
            y = BatchNorm(name=f"rep_{number + 1}")(Separable(features, name=f"rep_{number}")(y), train)
            number += 2
        if self.halving:
            y = halved(y)
            x = conv(self.features[-1], (1, 1), (2, 2), name="skip")(x)
            x = BatchNorm(name="skipbn")(x, train)
        return x + y


def halved(x):
    """Max pool of 3 pixels and stride 2, padded as TensorFlow's SAME: an even side has no padding before it."""
    pads = ((size % 2, 1) for size in x.shape[1:3])
    return max_pool(jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf), 3, 2)


class Model(nn.Module):
    """Images [N, H, W, 3], 32 pixels a side or more → logits [N, num_classes]. `width` 64 is the published network.

    `transform_input` turns inputs that are normalised by ImageNet's mean and deviation into [-1, 1], which published
    weights were trained on.
    """

    num_classes: int = 1000
    width: int = 64
    transform_input: bool = False

    SIZE = 299  # pixels a side of the published network
    STAGES = ("stem", *BLOCKS, "exit", "fc")
    WITH_WEIGHTS = {"transform_input": True}

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        def scaled(channels):
            return channels * self.width // 64

        def stem(x):
            x = inputs_of_tensorflow(x) if self.transform_input else x
            x = nn.relu(BatchNorm(name="bn1")(conv(scaled(32), (3, 3), (2, 2), name="conv1")(x), train))
            return nn.relu(BatchNorm(name="bn2")(conv(scaled(64), (3, 3), name="conv2")(x), train))

        def block(x, name):
            features, halving = BLOCKS[name]
            return Block(tuple(map(scaled, features)), halving, name != "block1", name=name)(x, train)

        def last(x):
            x = nn.relu(BatchNorm(name="bn3")(Separable(scaled(1536), name="conv3")(x), train))
            return nn.relu(BatchNorm(name="bn4")(Separable(scaled(2048), name="conv4")(x), train))

        def head(x):
            x = Dropout(0.5)(jnp.mean(x, (1, 2)), train)  # the paper's rate; Keras's network has none
            return nn.Dense(self.num_classes, kernel_init=linear_init, name="fc")(x)

        for stage in (stem, *(partial(block, name=name) for name in BLOCKS), last, head)[begin:end]:
            x = stage(x)
        return x
