"""SqueezeNet (Iandola et al. 2016) 1.1, layer for layer torchvision's `squeezenet1_1`; layers carry its names."""

import flax.linen as nn
import jax.numpy as jnp

from pneumojax.models.layers import convolution, max_pool, pad

POOL = "pool"
LAYERS = (  # torchvision's index in `features` → squeeze, expand; pools between them
    *(POOL, (3, 16, 64), (4, 16, 64)),
    *(POOL, (6, 32, 128), (7, 32, 128)),
    *(POOL, (9, 48, 192), (10, 48, 192), (11, 64, 256), (12, 64, 256)),
)


class Fire(nn.Module):
    """A 1x1 convolution that squeezes, then 1x1 and 3x3 convolutions side by side."""

    squeeze: int
    expand: int

    @nn.compact
    def __call__(self, x):
        x = nn.relu(convolution(self.squeeze, (1, 1), name="squeeze")(x))
        narrow = nn.relu(convolution(self.expand, (1, 1), name="expand1x1")(x))
        wide = nn.relu(convolution(self.expand, (3, 3), name="expand3x3")(pad(x, 1)))
        return jnp.concatenate((narrow, wide), -1)


class Model(nn.Module):
    """Images [N, H, W, 3] → logits [N, num_classes]. `width` 64 is the published network. The head is a convolution."""

    num_classes: int = 1000
    width: int = 64
    stem_features: int = 64
    stem_window: int = 3
    layers: tuple = LAYERS

    @nn.compact
    def __call__(self, x, train: bool = False):
        def scaled(channels):
            return channels * self.width // 64

        window = (self.stem_window, self.stem_window)
        x = nn.relu(convolution(scaled(self.stem_features), window, (2, 2), name="features_0")(x))
        for layer in self.layers:
            if layer == POOL:
                x = max_pool(x, 3, 2, ceil=True)
            else:
                index, squeeze, expand = layer
                x = Fire(scaled(squeeze), scaled(expand), name=f"features_{index}")(x)
        x = nn.Dropout(0.5, deterministic=not train)(x)
        head = nn.Conv(self.num_classes, (1, 1), kernel_init=nn.initializers.normal(0.01), name="classifier_1")
        return jnp.mean(nn.relu(head(x)), (1, 2))
