"""A network with what is known of that of Wu et al. (2020), a row of the paper's table 3, whose forest is a system.

Stated: convolutions and dropout, and that a random forest classifies what the network makes of an image. Ours: all
else. The forest, `pneumojax/systems/forest.py`, sees the units of the last dense layer before the head.
"""

from pneumojax.models.plain import Plain


class Model(Plain):
    """As `Plain`: 256 units before the head."""

    width: int = 32  # ours
    features: tuple = (1, 2, 4, 4)  # ours
    pooled: tuple = (1, 2, 3, 4)  # ours
    padding: int = 1  # ours
    dropout: float = 0.5  # dropout: stated; its rate: ours
    hidden: tuple = (8,)  # ours: 256
