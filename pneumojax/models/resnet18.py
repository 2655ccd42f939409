"""ResNet-18 (He et al. 2016), layer for layer torchvision's `resnet18`; layers carry its names."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from pneumojax.models.layers import BatchNorm, convolution, linear_init, max_pool


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x, train: bool):
        f, stride = self.features, (self.stride, self.stride)
        y = convolution(f, (3, 3), stride, use_bias=False, padding=1, name="conv1")(x)
        y = nn.relu(BatchNorm(name="bn1")(y, train))
        y = convolution(f, (3, 3), use_bias=False, padding=1, name="conv2")(y)
        y = BatchNorm(name="bn2")(y, train)
        if x.shape != y.shape:
            x = convolution(f, (1, 1), stride, use_bias=False, name="downsample_0")(x)
            x = BatchNorm(name="downsample_1")(x, train)
        return nn.relu(x + y)


class Model(nn.Module):
    """Images [N, H, W, 3] → logits [N, num_classes]. `width` is the first stage's, 64 in the original."""

    num_classes: int = 1000
    width: int = 64

    STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "fc")

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        def stem(x):
            x = convolution(self.width, (7, 7), (2, 2), use_bias=False, padding=3, name="conv1")(x)
            return max_pool(nn.relu(BatchNorm(name="bn1")(x, train)), 3, 2, padding=1)

        def layer(x, number):
            for block in range(2):
                stride = 2 if number > 1 and block == 0 else 1
                x = BasicBlock(self.width * 2 ** (number - 1), stride, name=f"layer{number}_{block}")(x, train)
            return x

        def head(x):
            return nn.Dense(self.num_classes, kernel_init=linear_init, name="fc")(jnp.mean(x, (1, 2)))

        layers = (partial(layer, number=number) for number in range(1, 5))
        for stage in (stem, *layers, head)[begin:end]:
            x = stage(x)
        return x
