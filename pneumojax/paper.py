"""What the paper prints (Khalifa et al. 2020), as printed and as its own figures prove it.

Its pictures have the predicted class in rows; `MATRICES` are transposed into `[true][predicted]`, NORMAL first. All
of these are under its own protocol: the test sets with GAN hold generated images, and patients are on both sides.
"""

from typing import NamedTuple

CLASSES = ("NORMAL", "PNEUMONIA")

# Figure 7a; those of the other three models are only in pictures and are not known.
MATRICES_WITHOUT_GAN = {"alexnet": ((42, 5), (9, 69))}

# AlexNet's is figure 7b. The others are the only ones with 468 and 780 images that give table 1's class figures.
MATRICES_WITH_GAN = {
    "alexnet": ((460, 8), (41, 739)),
    "squeezenet": ((405, 63), (3, 777)),
    "googlenet": ((463, 5), (13, 767)),
    "resnet18": ((462, 6), (6, 774)),
}

# Table 1, percent: 'accuracy' of NORMAL and PNEUMONIA, which is each class's precision, and in total.
TABLE_1_COLUMNS = ("precision_normal", "precision_pneumonia", "accuracy")
TABLE_1 = {
    "alexnet": ("91.8", "98.9", "96.1"),
    "squeezenet": ("99.3", "92.5", "97.8"),
    "googlenet": ("97.3", "99.4", "96.8"),
    "resnet18": ("98.7", "99.2", "99.0"),
}

# Table 2, percent: its 'Precision' is macro recall, its 'Recall' macro precision, its F1 their harmonic mean.
TABLE_2_COLUMNS = ("recall_macro", "precision_macro", "f1_paper")
TABLE_2 = {
    "alexnet": ("96.52", "95.37", "95.94"),
    "squeezenet": ("93.60", "95.88", "94.46"),
    "googlenet": ("98.63", "98.31", "98.47"),
    "resnet18": ("98.97", "98.97", "98.97"),
}

# Printed figures that contradict the matrices, and what the matrices give: (model, score) → percent.
MISPRINTS = {
    ("squeezenet", "accuracy"): "94.7",
    ("googlenet", "accuracy"): "98.6",
    ("squeezenet", "recall_macro"): "93.08",
}


class Cited(NamedTuple):
    """A row of table 3."""

    system: str
    figure: str  # percent, as printed
    of: str  # what it is a figure of, which the table does not tell


# Table 3, which calls all of these accuracy; by the config that runs the system here, the paper's own by its network.
TABLE_3 = {
    "kermany2018": Cited("Kermany 2018", "92.80", "accuracy on the published test folder"),
    "stephen2019": Cited("Stephen 2019", "93.73", "accuracy on the 2,134 images it validated on, a split of its own"),
    "saraiva2019": Cited("Saraiva 2019", "95.30", "mean of a k-fold over all images"),
    "liang2019": Cited("Liang and Zheng 2019", "96.70", "recall; its accuracy is about 90.5"),
    "wu2020": Cited("Wu 2020", "97.00", "average over a split of its own"),
    "resnet18": Cited("the paper", "99.00", "accuracy on 1,248 images, nine in ten of them generated, patients shared"),
}
