"""Inception V3 (Szegedy et al. 2016), layer for layer torchvision's `inception_v3`; layers carry its names.

Its auxiliary head is left out. With `fid` it is the network that Fréchet distances are commonly computed with (Heusel
et al. 2017), TensorFlow's of 2015, whose weights lie in `pt_inception-2015-12-05-6726825d.pth` under the same names.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from pneumojax.models.layers import (
    ConvBlock,
    Dropout,
    average_pool,
    inputs_of_tensorflow,
    linear_init,
    max_pool,
)

SIZE = 299  # pixels a side that the published weights are for
FID_CLASSES = 1008  # of the head in FID's file

STEM = {  # features, window, stride, padding
    "Conv2d_1a_3x3": (32, (3, 3), 2, 0),
    "Conv2d_2a_3x3": (32, (3, 3), 1, 0),
    "Conv2d_2b_3x3": (64, (3, 3), 1, 1),
    "Conv2d_3b_1x1": (80, (1, 1), 1, 0),
    "Conv2d_4a_3x3": (192, (3, 3), 1, 0),
}
POOLS_AFTER = ("Conv2d_2b_3x3", "Conv2d_4a_3x3")

# A branch is a chain of convolutions, each (features, window) or, where it halves the picture, (features, window, 2);
# BOTH are two side by side. A pool that no convolution follows halves as well.
BOTH = ((384, (1, 3)), (384, (3, 1)))


def mixed_5(pooled: int) -> dict:
    """Branches at 35x35 pixels."""
    return {
        "branch1x1": ((64, (1, 1)),),
        "branch5x5": ((48, (1, 1)), (64, (5, 5))),
        "branch3x3dbl": ((64, (1, 1)), (96, (3, 3)), (96, (3, 3))),
        "branch_pool": ((pooled, (1, 1)),),
    }


def mixed_6(f: int) -> dict:
    """Branches at 17x17 pixels."""
    return {
        "branch1x1": ((192, (1, 1)),),
        "branch7x7": ((f, (1, 1)), (f, (1, 7)), (192, (7, 1))),
        "branch7x7dbl": ((f, (1, 1)), (f, (7, 1)), (f, (1, 7)), (f, (7, 1)), (192, (1, 7))),
        "branch_pool": ((192, (1, 1)),),
    }


MIXED_7 = {  # at 8x8 pixels
    "branch1x1": ((320, (1, 1)),),
    "branch3x3": ((384, (1, 1)), BOTH),
    "branch3x3dbl": ((448, (1, 1)), (384, (3, 3)), BOTH),
    "branch_pool": ((192, (1, 1)),),
}
BLOCKS = {
    "Mixed_5b": mixed_5(32),
    "Mixed_5c": mixed_5(64),
    "Mixed_5d": mixed_5(64),
    "Mixed_6a": {
        "branch3x3": ((384, (3, 3), 2),),
        "branch3x3dbl": ((64, (1, 1)), (96, (3, 3)), (96, (3, 3), 2)),
        "branch_pool": (),
    },
    "Mixed_6b": mixed_6(128),
    "Mixed_6c": mixed_6(160),
    "Mixed_6d": mixed_6(160),
    "Mixed_6e": mixed_6(192),
    "Mixed_7a": {
        "branch3x3": ((192, (1, 1)), (320, (3, 3), 2)),
        "branch7x7x3": ((192, (1, 1)), (192, (1, 7)), (192, (7, 1)), (192, (3, 3), 2)),
        "branch_pool": (),
    },
    "Mixed_7b": MIXED_7,
    "Mixed_7c": MIXED_7,
}


def layers_of(branch: str, chain: tuple) -> dict:
    """torchvision's name of each link of a branch → what it is."""
    return {branch if len(chain) == 1 else f"{branch}_{i}": link for i, link in enumerate(chain, 1)}


class Model(nn.Module):
    """Images [N, H, W, 3], 75 pixels a side or more → logits [N, num_classes]. `width` 64 is the published network.

    `transform_input` turns inputs that are normalised by ImageNet's mean and deviation into those that the weights were
    trained on, in [-1, 1]. With `fid` average pools do not count the padding, and the last block has a max pool; it
    takes what `fid_input` makes.
    """

    num_classes: int = 1000
    width: int = 64
    transform_input: bool = False
    fid: bool = False

    SIZE = SIZE
    STAGES = ("stem", *BLOCKS, "fc")
    WITH_WEIGHTS = {"transform_input": True}  # both files were trained elsewhere, on inputs in another range
    # no dot before the number at the end
    TORCH_NAMES = {name: name for block in BLOCKS.values() for item in block.items() for name in layers_of(*item)}

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        def stem(x):
            if self.transform_input:
                x = inputs_of_tensorflow(x)
            for name, (features, *others) in STEM.items():
                x = ConvBlock(features * self.width // 64, *others, name=name)(x, train)
                if name in POOLS_AFTER:
                    x = max_pool(x, 3, 2)
            return x

        def block(x, name):
            return Mixed(name, self.width, self.fid, name=name)(x, train)

        def head(x):
            x = Dropout(0.5)(jnp.mean(x, (1, 2)), train)
            return nn.Dense(self.num_classes, kernel_init=linear_init, name="fc")(x)

        for stage in (stem, *(partial(block, name=name) for name in BLOCKS), head)[begin:end]:
            x = stage(x)
        return x


class Mixed(nn.Module):
    """The branches of a block side by side."""

    block: str
    width: int
    fid: bool

    @nn.compact
    def __call__(self, x, train: bool):
        def pool(x, halving):
            if halving:
                return max_pool(x, 3, 2)
            if self.fid and self.block == "Mixed_7c":
                return max_pool(x, 3, 1, padding=1)
            return average_pool(x, 3, padding=1, count_padding=not self.fid)

        def conv(x, name, features, window, stride=1):
            padding = tuple((side // 2, side // 2) for side in window) if stride == 1 else 0
            return ConvBlock(features * self.width // 64, window, stride, padding, name=name)(x, train)

        outputs = []
        for branch, chain in BLOCKS[self.block].items():
            y = pool(x, halving=not chain) if branch == "branch_pool" else x
            for name, link in layers_of(branch, chain).items():
                if link is BOTH:
                    y = jnp.concatenate([conv(y, name + side, *one) for side, one in zip("ab", BOTH, strict=True)], -1)
                else:
                    y = conv(y, name, *link)
            outputs.append(y)
        return jnp.concatenate(outputs, -1)


def fid_input(images, size: int = SIZE):
    """What FID's network sees of images, uint8 [N, S, S] → float32 [N, size, size, 3], about [-1, 1].

    Bilinear as TensorFlow 1 resized: pixel i of the result is at i * S / size, between two pixels of the image, however
    many it has; nothing is smoothed. `pytorch-fid` resizes otherwise, `torch-fidelity` so.
    """
    length = images.shape[1]
    places = np.arange(size, dtype=np.float32) * np.float32(length / size)
    below = places.astype(int)
    share = places - below
    weights = np.zeros((size, length), np.float32)
    np.add.at(weights, (np.arange(size), below), 1 - share)
    np.add.at(weights, (np.arange(size), np.minimum(below + 1, length - 1)), share)
    # in full precision, where a GPU's own has 11 bits
    resized = jnp.einsum("yr,nrc,xc->nyx", weights, images.astype(jnp.float32), weights, precision="highest")
    return jnp.broadcast_to(((resized - 128) / 128)[..., None], (*resized.shape, 3))
