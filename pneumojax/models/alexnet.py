"""AlexNet (Krizhevsky 2014), layer for layer torchvision's `alexnet`; layers carry its names."""

from functools import partial

import flax.linen as nn

from pneumojax.models.layers import Dropout, adaptive_average_pool, channels_first, convolution, linear_init, max_pool


class Model(nn.Module):
    """Images [N, H, W, 3], 63 pixels a side or more → logits [N, num_classes]. `width` 64 is the published network."""

    num_classes: int = 1000
    width: int = 64

    STAGES = (
        *("features_0", "features_3", "features_6", "features_8", "features_10"),
        *("classifier_1", "classifier_4", "classifier_6"),
    )

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        w = self.width

        def features_0(x):
            return max_pool(nn.relu(convolution(w, (11, 11), (4, 4), padding=2, name="features_0")(x)), 3, 2)

        def features_3(x):
            return max_pool(nn.relu(convolution(3 * w, (5, 5), padding=2, name="features_3")(x)), 3, 2)

        def features_6(x):
            return nn.relu(convolution(6 * w, (3, 3), padding=1, name="features_6")(x))

        def features_8(x):
            return nn.relu(convolution(4 * w, (3, 3), padding=1, name="features_8")(x))

        def features_10(x):
            x = max_pool(nn.relu(convolution(4 * w, (3, 3), padding=1, name="features_10")(x)), 3, 2)
            return channels_first(adaptive_average_pool(x, 6))

        def hidden(x, name):
            x = Dropout(0.5)(x, train)
            return nn.relu(nn.Dense(64 * w, kernel_init=linear_init, name=name)(x))

        def head(x):
            return nn.Dense(self.num_classes, kernel_init=linear_init, name="classifier_6")(x)

        convolutions = (features_0, features_3, features_6, features_8, features_10)
        for stage in (*convolutions, *(partial(hidden, name=f"classifier_{i}") for i in (1, 4)), head)[begin:end]:
            x = stage(x)
        return x
