"""The network of Stephen et al. (2019), a row of the paper's table 3, for images of 200 pixels.

Stated: four convolutions of 3x3 pixels without padding, 32, 64, 128 and 128 features, a 2x2 max pool behind each,
dropout 0.5, a dense layer of 512 and one of the classes. Ours: the ReLUs, and the initial values.
"""

from pneumojax.models.plain import Plain


class Model(Plain):
    """6.8 million parameters at 200 pixels and two classes, all but 0.24 of them in the dense layer."""

    width: int = 32  # stated
    features: tuple = (1, 2, 4, 4)  # stated: 32, 64, 128, 128
    pooled: tuple = (1, 2, 3, 4)  # stated
    padding: int = 0  # stated
    dropout: float = 0.5  # stated
    hidden: tuple = (16,)  # stated: 512
