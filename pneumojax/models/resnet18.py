"""ResNet-18 (He et al. 2016), layer for layer torchvision's `resnet18`; layers carry its names."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from pneumojax.models.batch_norm import BatchNorm

# torchvision initialises by the fan-out, for ReLU
convolution = partial(nn.Conv, use_bias=False, kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"))


def pad(x, amount: int, value: float = 0.0):
    """Pads height and width. Apart from the layer that needs it: a convolution that pads itself is slow on CPU."""
    return jax.lax.optimization_barrier(
        jnp.pad(x, ((0, 0), (amount, amount), (amount, amount), (0, 0)), constant_values=value)
    )


def linear_init(key, shape, dtype=jnp.float32):
    """PyTorch's default for a linear layer's weights and bias: uniform within 1 / sqrt(inputs)."""
    bound = shape[0] ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""

    features: int
    stride: int

    @nn.compact
    def __call__(self, x, train: bool):
        f, stride = self.features, (self.stride, self.stride)
        y = convolution(f, (3, 3), stride, "VALID", name="conv1")(pad(x, 1))
        y = nn.relu(BatchNorm(name="bn1")(y, train))
        y = convolution(f, (3, 3), (1, 1), "VALID", name="conv2")(pad(y, 1))
        y = BatchNorm(name="bn2")(y, train)
        if x.shape != y.shape:
            x = convolution(f, (1, 1), stride, "VALID", name="downsample_0")(x)
            x = BatchNorm(name="downsample_1")(x, train)
        return nn.relu(x + y)


class Model(nn.Module):
    """Images [N, H, W, 3] → logits [N, num_classes]. `width` is the first stage's, 64 in the original."""

    num_classes: int = 1000
    width: int = 64

    @nn.compact
    def __call__(self, x, train: bool = False):
        x = convolution(self.width, (7, 7), (2, 2), "VALID", name="conv1")(pad(x, 3))
        x = nn.relu(BatchNorm(name="bn1")(x, train))
        x = nn.max_pool(pad(x, 1, -jnp.inf), (3, 3), (2, 2), "VALID")
        for stage in range(4):
            for block in range(2):
                stride = 2 if stage > 0 and block == 0 else 1
                x = BasicBlock(self.width * 2**stage, stride, name=f"layer{stage + 1}_{block}")(x, train)
        x = jnp.mean(x, (1, 2))
        return nn.Dense(self.num_classes, kernel_init=linear_init, name="fc")(x)
