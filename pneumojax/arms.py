"""What a classifier is trained on, for how long, and against which other arm it counts: a function each.

`config.arms` names them. A function takes what a protocol offers and gives an `Arm`, or None where it has no place:
with no generated images, or under a protocol that has it already.
"""

from typing import NamedTuple

import numpy as np


class Material(NamedTuple):
    """Images that an arm may use, as rows of the study's table."""

    real: np.ndarray  # int [n], to train on
    generated: np.ndarray  # int [m], to train on
    tests: dict[str, np.ndarray]  # part of the test → rows


class Offer(NamedTuple):
    """What a protocol offers its arms, in one trial."""

    plain: Material  # split without generated images
    pooled: Material  # split with them; the same but for these, except under `paper`
    equal_steps: bool  # whether arms take equally many steps; else equally many epochs. If so, all have the same tests
    seed: int  # of this trial and protocol, for what an arm draws
    config: object  # config.classifier, frozen

    def steps(self, images: int) -> int:
        """Optimiser steps for as many epochs over `images` as an arm on the plain images makes over its own."""
        if self.config.steps:
            return round(self.config.steps * images / len(self.plain.real))
        return self.config.epochs * (images // self.config.batch_size)


class Arm(NamedTuple):
    """One classifier of one trial."""

    title: str  # on the page
    against: str | None  # the arm that it is compared with
    train: np.ndarray  # int [n], rows
    steps: int  # of the optimiser
    tests: dict[str, np.ndarray]
    overrides: dict = {}  # fields of config.classifier that differ


def without_gan(offer: Offer) -> Arm:
    """Real images alone."""
    real = offer.plain.real
    return Arm("without GAN", None, real, offer.steps(len(real)), offer.plain.tests)


def with_gan(offer: Offer) -> Arm | None:
    """Real images and generated ones; equally many steps, or epochs under `paper`, which compares no arms."""
    if not len(offer.pooled.generated):
        return None
    train = np.concatenate([offer.pooled.real, offer.pooled.generated])
    if offer.equal_steps:
        return Arm("with GAN", "without_gan", train, offer.steps(len(offer.plain.real)), offer.pooled.tests)
    return Arm("with GAN", None, train, offer.steps(len(train)), offer.pooled.tests)


def with_gan_epochs(offer: Offer) -> Arm | None:
    """As `with_gan`, matched by epochs, which is the paper's way."""
    arm = with_gan(offer)
    if arm is None or not offer.equal_steps:
        return None
    title = "with GAN, as many epochs instead of as many steps"
    return arm._replace(title=title, steps=offer.steps(len(arm.train)))
