"""AlexNet (Krizhevsky 2014), layer for layer torchvision's `alexnet`; layers carry its names."""

import flax.linen as nn

from pneumojax.models.layers import adaptive_average_pool, convolution, linear_init, max_pool, pad


class Model(nn.Module):
    """Images [N, H, W, 3], 63 pixels a side or more → logits [N, num_classes]. `width` 64 is the published network."""

    num_classes: int = 1000
    width: int = 64

    @nn.compact
    def __call__(self, x, train: bool = False):
        w = self.width
        x = nn.relu(convolution(w, (11, 11), (4, 4), name="features_0")(pad(x, 2)))
        x = max_pool(x, 3, 2)
        x = nn.relu(convolution(3 * w, (5, 5), name="features_3")(pad(x, 2)))
        x = max_pool(x, 3, 2)
        x = nn.relu(convolution(6 * w, (3, 3), name="features_6")(pad(x, 1)))
        x = nn.relu(convolution(4 * w, (3, 3), name="features_8")(pad(x, 1)))
        x = nn.relu(convolution(4 * w, (3, 3), name="features_10")(pad(x, 1)))
        x = adaptive_average_pool(max_pool(x, 3, 2), 6)
        x = x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)  # PyTorch flattens channels first
        for index in (1, 4):
            x = nn.Dropout(0.5, deterministic=not train)(x)
            x = nn.relu(nn.Dense(64 * w, kernel_init=linear_init, name=f"classifier_{index}")(x))
        return nn.Dense(self.num_classes, kernel_init=linear_init, name="classifier_6")(x)
