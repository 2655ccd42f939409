"""A network with what is known of that of Saraiva et al. (2019), a row of the paper's table 3.

Stated: seven convolutions and three dense layers, the last of the classes. Ours: all else.
"""

from pneumojax.models.plain import Plain


class Model(Plain):
    """As `Plain`; the pools leave 1/16 of the pixels a side."""

    width: int = 32  # ours
    features: tuple = (1, 1, 2, 2, 4, 4, 4)  # seven: stated; their sizes: ours, doubled behind a pool
    pooled: tuple = (2, 4, 6, 7)  # ours
    padding: int = 1  # ours: pictures of any size can be pooled four times
    dropout: float = 0.5  # ours
    hidden: tuple = (16, 4)  # two, and the head: stated; their sizes, 512 and 128: ours
