"""GoogLeNet (Szegedy et al. 2015), layer for layer torchvision's `googlenet`; layers carry its names.

As there, the '5x5' branch of an inception block is 3x3, and batch norm follows every convolution with epsilon 1e-3.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from pneumojax.models.layers import (
    ConvBlock,
    Dropout,
    adaptive_average_pool,
    channels_first,
    inputs_of_tensorflow,
    linear_init,
    max_pool,
)

BLOCKS = {  # branch 1; reduction and width of branch 2 and of branch 3; branch 4
    "inception3a": (64, 96, 128, 16, 32, 32),
    "inception3b": (128, 128, 192, 32, 96, 64),
    "inception4a": (192, 96, 208, 16, 48, 64),
    "inception4b": (160, 112, 224, 24, 64, 64),
    "inception4c": (128, 128, 256, 24, 64, 64),
    "inception4d": (112, 144, 288, 32, 64, 64),
    "inception4e": (256, 160, 320, 32, 128, 128),
    "inception5a": (256, 160, 320, 32, 128, 128),
    "inception5b": (384, 192, 384, 48, 128, 128),
}
POOLS_BEFORE = {"inception4a": 3, "inception5a": 2}  # window of a pool of stride 2
HEADS_AFTER = {"inception4a": "aux1", "inception4d": "aux2"}


def conv_block(features: int, window: int, stride: int = 1, **named) -> ConvBlock:
    """A square window, padded so that without a stride the picture keeps its size."""
    return ConvBlock(features, (window, window), stride, window // 2, **named)


class Inception(nn.Module):
    """Four branches side by side."""

    features: tuple[int, ...]

    @nn.compact
    def __call__(self, x, train: bool):
        one, reduce_3, three, reduce_5, five, pooled = self.features
        branches = (
            conv_block(one, 1, name="branch1")(x, train),
            conv_block(three, 3, name="branch2_1")(conv_block(reduce_3, 1, name="branch2_0")(x, train), train),
            conv_block(five, 3, name="branch3_1")(conv_block(reduce_5, 1, name="branch3_0")(x, train), train),
            conv_block(pooled, 1, name="branch4_1")(max_pool(x, 3, 1, padding=1, ceil=True), train),
        )
        return jnp.concatenate(branches, -1)


class AuxiliaryHead(nn.Module):
    """A classifier on an inner block, of use in training only."""

    num_classes: int

    @nn.compact
    def __call__(self, x, train: bool):
        x = channels_first(conv_block(128, 1, name="conv")(adaptive_average_pool(x, 4), train))
        x = nn.relu(nn.Dense(1024, kernel_init=linear_init, name="fc1")(x))
        x = Dropout(0.7)(x, train)
        return nn.Dense(self.num_classes, kernel_init=linear_init, name="fc2")(x)


class Model(nn.Module):
    """Images [N, H, W, 3] → logits [N, num_classes]. `width` 64 is the published network.

    With `auxiliary_heads`, training gives (logits, logits of aux1, logits of aux2). `transform_input` turns inputs that
    are normalised by ImageNet's mean and deviation into those of the network that torchvision's file was taken from.
    """

    num_classes: int = 1000
    width: int = 64
    auxiliary_heads: bool = False
    transform_input: bool = False

    STAGES = ("stem", *BLOCKS, "fc")
    WITH_WEIGHTS = {"transform_input": True}  # torchvision's file was trained elsewhere, on inputs in another range

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        def scaled(channels):
            return channels * self.width // 64

        def stem(x):
            if self.transform_input:
                x = inputs_of_tensorflow(x)
            x = conv_block(scaled(64), 7, 2, name="conv1")(x, train)
            x = max_pool(x, 3, 2, ceil=True)
            x = conv_block(scaled(64), 1, name="conv2")(x, train)
            x = conv_block(scaled(192), 3, name="conv3")(x, train)
            return max_pool(x, 3, 2, ceil=True)

        auxiliary = []

        def block(x, name):
            if name in POOLS_BEFORE:
                x = max_pool(x, POOLS_BEFORE[name], 2, ceil=True)
            x = Inception(tuple(map(scaled, BLOCKS[name])), name=name)(x, train)
            if name in HEADS_AFTER and self.auxiliary_heads and (train or self.is_initializing()):
                auxiliary.append(AuxiliaryHead(self.num_classes, name=HEADS_AFTER[name])(x, train))
            return x

        def head(x):
            x = Dropout(0.2)(jnp.mean(x, (1, 2)), train)
            return nn.Dense(self.num_classes, kernel_init=linear_init, name="fc")(x)

        for stage in (stem, *(partial(block, name=name) for name in BLOCKS), head)[begin:end]:
            x = stage(x)
        return (x, *auxiliary) if auxiliary and train else x
