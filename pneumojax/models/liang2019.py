"""A network with what is known of that of Liang and Zheng (2019), a row of the paper's table 3.

Stated: residual, 49 convolutions, some of them dilated, a mean over the picture and two dense layers. Ours: how they
are put together. 49 are a stem and 24 blocks of two, so shortcuts have no convolution: where the shape changes they
take every other pixel and fill new channels with zeros (He et al. 2016, option A). Theirs started from a training on
ChestX-ray14, whose weights are not at hand.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from pneumojax.models.layers import BatchNorm, Dropout, convolution, linear_init, max_pool


class Block(nn.Module):
    """Two 3x3 convolutions, both dilated, and a shortcut without parameters."""

    features: int
    stride: int
    dilation: int

    @nn.compact
    def __call__(self, x, train: bool):
        def layer(x, number, stride):
            strides, dilation = (stride, stride), (self.dilation, self.dilation)
            spread = {"padding": self.dilation, "kernel_dilation": dilation}
            x = convolution(self.features, (3, 3), strides, **spread, use_bias=False, name=f"convolution_{number}")(x)
            return BatchNorm(name=f"norm_{number}")(x, train)

        y = layer(nn.relu(layer(x, 1, self.stride)), 2, 1)
        x = x[:, :: self.stride, :: self.stride]
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, y.shape[-1] - x.shape[-1])))
        return nn.relu(x + y)


class Model(nn.Module):
    """Images [N, H, W, 3] → logits [N, num_classes]; 9.1 million parameters with two classes."""

    num_classes: int = 1000
    width: int = 32  # ours: of the stem and the first layer of blocks, doubled in each further one
    blocks: tuple = (6, 6, 6, 6)  # ours but for their sum, 24, of which 49 convolutions follow: stated
    strides: tuple = (1, 2, 2, 2)  # ours: of the first block of each layer
    dilations: tuple = (1, 1, 2, 2)  # dilated: stated; where, and by how much: ours
    hidden: int = 256  # ours: units of the first dense layer, of two: stated
    dropout: float = 0.5  # ours: before the head

    STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "dense", "head")

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        def stem(x):
            x = convolution(self.width, (7, 7), (2, 2), use_bias=False, padding=3, name="stem")(x)
            return max_pool(nn.relu(BatchNorm(name="stem_norm")(x, train)), 3, 2, padding=1)

        def layer(x, number):
            for block in range(self.blocks[number]):
                stride = self.strides[number] if block == 0 else 1
                name = f"layer{number + 1}_{block}"
                x = Block(self.width * 2**number, stride, self.dilations[number], name=name)(x, train)
            return x

        def dense(x):
            x = nn.Dense(self.hidden, kernel_init=linear_init, name="dense")(jnp.mean(x, (1, 2)))
            return nn.relu(x)

        def head(x):
            return nn.Dense(self.num_classes, kernel_init=linear_init, name="head")(Dropout(self.dropout)(x, train))

        layers = (partial(layer, number=number) for number in range(4))
        for stage in (stem, *layers, dense, head)[begin:end]:
            x = stage(x)
        return x
