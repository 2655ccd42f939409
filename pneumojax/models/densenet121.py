"""DenseNet of 121 layers (Huang et al. 2017), layer for layer torchvision's `densenet121`; layers carry its names.

In a block each layer sees what all layers before it have made.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp

from pneumojax.models.layers import BatchNorm, average_pool, convolution, linear_init, max_pool

LAYERS = ("conv0", *(f"{kind}{group}" for group in range(1, 5) for kind in ("denseblock", "transition")))[:-1]

# unlike its other networks torchvision's draw convolutions by the fan-in
conv = partial(convolution, use_bias=False, kernel_init=nn.initializers.variance_scaling(2.0, "fan_in", "normal"))


class DenseLayer(nn.Module):
    """A 1x1 convolution to four times the `growth`, then a 3x3 one to the growth; norm and ReLU come before each."""

    growth: int

    @nn.compact
    def __call__(self, x, train: bool):
        x = conv(4 * self.growth, (1, 1), name="conv1")(nn.relu(BatchNorm(name="norm1")(x, train)))
        return conv(self.growth, (3, 3), padding=1, name="conv2")(nn.relu(BatchNorm(name="norm2")(x, train)))


class DenseBlock(nn.Module):
    """Layers of which each adds `growth` channels to those it has seen."""

    layers: int
    growth: int

    @nn.compact
    def __call__(self, x, train: bool):
        for number in range(1, self.layers + 1):
            x = jnp.concatenate([x, DenseLayer(self.growth, name=f"denselayer{number}")(x, train)], -1)
        return x


class Transition(nn.Module):
    """Half of the channels at half of the size."""

    @nn.compact
    def __call__(self, x, train: bool):
        x = conv(x.shape[-1] // 2, (1, 1), name="conv")(nn.relu(BatchNorm(name="norm")(x, train)))
        return average_pool(x, 2, padding=0, count_padding=True, stride=2)


class Model(nn.Module):
    """Images [N, H, W, 3], 29 pixels a side or more → logits [N, num_classes]. `width` 64 is the published network."""

    num_classes: int = 1000
    width: int = 64  # of the first convolution, twice the growth

    BLOCKS = (6, 12, 24, 16)  # layers of each
    STAGES = (*LAYERS, "classifier")
    TORCH_NAMES = {name: f"features.{name}" for name in (*LAYERS, "norm0", "norm5")}

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        def stem(x):
            x = conv(self.width, (7, 7), (2, 2), padding=3, name="conv0")(x)
            return max_pool(nn.relu(BatchNorm(name="norm0")(x, train)), 3, 2, padding=1)

        def block(x, name):
            if name.startswith("transition"):
                return Transition(name=name)(x, train)
            x = DenseBlock(self.BLOCKS[int(name[-1]) - 1], self.width // 2, name=name)(x, train)
            return nn.relu(BatchNorm(name="norm5")(x, train)) if name == LAYERS[-1] else x

        def head(x):
            return nn.Dense(self.num_classes, kernel_init=linear_init, name="classifier")(jnp.mean(x, (1, 2)))

        for stage in (stem, *(partial(block, name=name) for name in LAYERS[1:]), head)[begin:end]:
            x = stage(x)
        return x
