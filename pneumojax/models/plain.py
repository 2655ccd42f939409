"""Convolutions in a row, then dense layers: the shape of several systems that the paper's table 3 cites."""

import flax.linen as nn

from pneumojax.models.layers import Dropout, channels_first, convolution, linear_init, max_pool


class Plain(nn.Module):
    """Images [N, H, W, 3] → logits [N, num_classes]. A ReLU follows each layer but the head.

    The cited networks end in one sigmoid for two classes; two logits under a softmax are the same family of functions.
    A module that is one of them is a subclass with values of its own and calls itself `Model`.
    """

    num_classes: int = 1000
    width: int = 32  # of the first convolution; the other counts are multiples of it
    features: tuple = (1, 2, 4, 4)  # of each convolution of 3x3 pixels, times the width
    pooled: tuple = (1, 2, 3, 4)  # convolutions, counted from 1, that a max pool of 2x2 pixels follows
    padding: int = 0  # pixels of 0 around what a convolution sees; 0: 'valid', 1: as large as before
    dropout: float = 0.5  # before each hidden layer
    hidden: tuple = (16,)  # units of each dense layer before the head, times the width

    STAGES = ("convolutions", "dense", "head")

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        def convolutions(x):
            for number, multiple in enumerate(self.features, 1):
                name = f"convolution_{number}"
                x = nn.relu(convolution(multiple * self.width, (3, 3), padding=self.padding, name=name)(x))
                x = max_pool(x, 2, 2) if number in self.pooled else x
            return channels_first(x)

        def dense(x):
            for number, multiple in enumerate(self.hidden, 1):
                x = Dropout(self.dropout)(x, train)
                x = nn.relu(nn.Dense(multiple * self.width, kernel_init=linear_init, name=f"dense_{number}")(x))
            return x

        def head(x):
            return nn.Dense(self.num_classes, kernel_init=linear_init, name="head")(x)

        for stage in (convolutions, dense, head)[begin:end]:
            x = stage(x)
        return x
