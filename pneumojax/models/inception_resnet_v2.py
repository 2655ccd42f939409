"""Inception-ResNet V2 (Szegedy et al. 2016), as its authors released it and Keras has it.

The released network has a shorter stem than the paper's figure 3 and scales residuals by 0.1 to 0.2 (section 3.3).
torchvision has none; layers carry the names of timm's `inception_resnet_v2`, whose batch norms have a scale each, which
these have not.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from pneumojax.models import layers
from pneumojax.models.layers import Dropout, average_pool, convolution, inputs_of_tensorflow, linear_init, max_pool

STEM = {  # features, window, stride, padding
    "conv2d_1a": (32, (3, 3), 2, 0),
    "conv2d_2a": (32, (3, 3), 1, 0),
    "conv2d_2b": (64, (3, 3), 1, 1),
    "conv2d_3b": (80, (1, 1), 1, 0),
    "conv2d_4a": (192, (3, 3), 1, 0),
}
POOLS_AFTER = ("conv2d_2b", "conv2d_4a")

# A branch is a chain of convolutions, each (features, window) or, where it halves the picture, (features, window, 2).
# The last branch of these is a pool.
MIXED = {
    "mixed_5b": (
        ((96, (1, 1)),),
        ((48, (1, 1)), (64, (5, 5))),
        ((64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
        ((64, (1, 1)),),
    ),
    "mixed_6a": (((384, (3, 3), 2),), ((256, (1, 1)), (256, (3, 3)), (384, (3, 3), 2)), ()),
    "mixed_7a": (
        ((256, (1, 1)), (384, (3, 3), 2)),
        ((256, (1, 1)), (288, (3, 3), 2)),
        ((256, (1, 1)), (288, (3, 3)), (320, (3, 3), 2)),
        (),
    ),
}
BLOCK_17 = (((192, (1, 1)),), ((128, (1, 1)), (160, (1, 7)), (192, (7, 1))))
BLOCK_8 = (((192, (1, 1)),), ((192, (1, 1)), (224, (1, 3)), (256, (3, 1))))
BLOCK_35 = (((32, (1, 1)),), ((32, (1, 1)), (32, (3, 3))), ((32, (1, 1)), (48, (3, 3)), (64, (3, 3))))
REPEATED = {  # branches, scale of what they add, how many blocks
    "repeat": (BLOCK_35, 0.17, 10),  # at 35x35 pixels
    "repeat_1": (BLOCK_17, 0.1, 20),
    "repeat_2": (BLOCK_8, 0.2, 9),
}
BLOCKS = ("mixed_5b", "repeat", "mixed_6a", "repeat_1", "mixed_7a", "repeat_2")


# Keras's momentum, the authors' 0.9997 being for millions of steps; the epsilon of both
ConvBlock = partial(layers.ConvBlock, norm=partial(layers.BatchNorm, epsilon=1e-3, momentum=0.99, use_scale=False))


def branch(x, name: str, chain: tuple, width: int, train: bool):
    """A chain of convolutions within a block, which is to be compact."""
    for index, (features, window, *stride) in enumerate(chain):
        padding = 0 if stride else tuple((side // 2, side // 2) for side in window)
        link = name if len(chain) == 1 else f"{name}_{index}"
        x = ConvBlock(features * width // 64, window, *(stride or (1,)), padding, name=link)(x, train)
    return x


class Mixed(nn.Module):
    """Branches side by side, the last of them a pool; one that no convolution follows halves the picture."""

    chains: tuple
    width: int

    @nn.compact
    def __call__(self, x, train: bool):
        *others, last = self.chains
        outputs = [branch(x, f"branch{i}", chain, self.width, train) for i, chain in enumerate(others)]
        x = average_pool(x, 3, padding=1, count_padding=False) if last else max_pool(x, 3, 2)
        # in timm's row of this branch the pool is layer 0
        outputs.append(branch(x, f"branch{len(others)}_1", last, self.width, train))
        return jnp.concatenate(outputs, -1)


class Residual(nn.Module):
    """Branches side by side, a 1x1 convolution over them that is added to the input, and a ReLU but for the last."""

    chains: tuple
    scale: float
    width: int
    relu: bool = True

    @nn.compact
    def __call__(self, x, train: bool):
        branches = [branch(x, f"branch{i}", own, self.width, train) for i, own in enumerate(self.chains)]
        added = convolution(x.shape[-1], (1, 1), name="conv2d")(jnp.concatenate(branches, -1))
        x = x + self.scale * added
        return nn.relu(x) if self.relu else x


class Model(nn.Module):
    """Images [N, H, W, 3], 75 pixels a side or more → logits [N, num_classes]. `width` 64 is the published network.

    `transform_input` turns inputs that are normalised by ImageNet's mean and deviation into [-1, 1], which published
    weights were trained on.
    """

    num_classes: int = 1000
    width: int = 64
    transform_input: bool = False

    SIZE = 299  # pixels a side of the published network
    STAGES = ("stem", *BLOCKS, "conv2d_7b", "classif")
    WITH_WEIGHTS = {"transform_input": True}

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        def stem(x):
            x = inputs_of_tensorflow(x) if self.transform_input else x
            for name, (features, *others) in STEM.items():
                x = ConvBlock(features * self.width // 64, *others, name=name)(x, train)
                if name in POOLS_AFTER:
                    x = max_pool(x, 3, 2)
            return x

        def block(x, name):
            if name in MIXED:
                return Mixed(MIXED[name], self.width, name=name)(x, train)
            chains, scale, count = REPEATED[name]
            for number in range(count):
                x = Residual(chains, scale, self.width, name=f"{name}_{number}")(x, train)
            return x

        def last(x):
            x = Residual(BLOCK_8, 1.0, self.width, relu=False, name="block8")(x, train)
            return ConvBlock(1536 * self.width // 64, (1, 1), name="conv2d_7b")(x, train)

        def head(x):
            x = Dropout(0.2)(jnp.mean(x, (1, 2)), train)  # the paper's rate; Keras's network has none
            return nn.Dense(self.num_classes, kernel_init=linear_init, name="classif")(x)

        for stage in (stem, *(partial(block, name=name) for name in BLOCKS), last, head)[begin:end]:
            x = stage(x)
        return x
