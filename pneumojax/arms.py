"""What a classifier is trained on, for how long, and against which other arm it counts: a function each.

`config.arms` names them. A function takes what a protocol offers and gives an `Arm`, or None where it has no place:
with no generated images, or under a protocol that has it already.

The paper's way is to pool: `with_gan` trains on real and generated images alike, and looks at a real image the less
often. The controls add: each step takes a batch of real images, the same in all of these arms, and as many of the extra
ones, so that steps and looks at real images are equal. A system without steps lets the extra images weigh as much as
the real ones.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pneumojax.data import splits


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
    labels: np.ndarray = np.zeros(0, np.int32)  # of all rows
    # more to train on: `permuted`: made by GANs that saw permuted labels, labelled by generator; `shuffled`: the
    # generated ones under shuffled labels; `low_resolution` and `copies`: each real image through the GAN's size, or
    # moved a little
    controls: Mapping[str, np.ndarray] = {}

    def control(self, kind: str) -> np.ndarray:
        """The rows of one of `controls`; none where it is not offered."""
        return self.controls.get(kind, np.zeros(0, int))

    def steps(self, images: int) -> int:
        """Optimiser steps for as many epochs over `images` as an arm on the plain images makes over its own."""
        if self.config.steps:
            return round(self.config.steps * images / len(self.plain.real))
        return self.config.epochs * (images // self.config.batch_size)

    def at_ratio(self, rows: np.ndarray, ratio: float) -> np.ndarray | None:
        """Of each class the first ones of `rows`, `ratio` times as many as there are real ones; None if they lack."""
        return splits.first_ones(rows, self.plain.real, self.labels, ratio)


class Arm(NamedTuple):
    """One classifier of one trial."""

    title: str  # on the page
    against: str | None  # the arm that it is compared with
    train: np.ndarray  # int [n], rows
    steps: int  # of the optimiser
    tests: dict[str, np.ndarray]
    overrides: dict = {}  # fields of config.classifier that differ
    extra: np.ndarray = np.zeros(0, int)  # int [m], rows of which a step takes a batch as well
    also: tuple[str, ...] = ()  # arms that it is compared with where they are there


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


def duplicated(offer: Offer) -> Arm | None:
    """The control of all: the extra images are the real ones again."""
    return _added(offer, offer.plain.real, "real images again", against="without_gan")


def low_resolution(offer: Offer) -> Arm | None:
    """The real images through the GAN's size: resolution without new content."""
    return _added(offer, offer.control("low_resolution"), "real images through the GAN's size")


def classical(offer: Offer) -> Arm | None:
    """The real images moved a little: what is free."""
    return _added(offer, offer.control("copies"), "real images shifted, turned and zoomed a little")


def generated(offer: Offer) -> Arm | None:
    """As many generated images as real ones: the question."""
    arm = _at_ratio(offer, 1.0)
    return arm and arm._replace(also=("low_resolution", "classical", "permuted", "shuffled"))


def generated_quarter(offer: Offer) -> Arm | None:
    """A generated image for every four real ones."""
    return _at_ratio(offer, 0.25)


def generated_4(offer: Offer) -> Arm | None:
    """Four generated images a real one."""
    return _at_ratio(offer, 4.0)


def generated_9(offer: Offer) -> Arm | None:
    """Nine generated images a real one, the paper's ratio."""
    return _at_ratio(offer, 9.0)


def permuted(offer: Offer) -> Arm | None:
    """Images of GANs that saw permuted labels, labelled by generator: what its fingerprint alone does."""
    return _added(offer, offer.control("permuted"), "images of GANs that saw permuted labels")


def shuffled(offer: Offer) -> Arm | None:
    """Generated images under shuffled labels: what images without any information on the label do."""
    return _added(offer, offer.control("shuffled"), "generated images under shuffled labels")


def generated_only(offer: Offer) -> Arm | None:
    """Trained on as many generated images as there are real ones, tested on real ones (TSTR): their content."""
    rows = offer.at_ratio(offer.pooled.generated, 1.0) if offer.equal_steps else None
    if rows is None:
        return None
    real, tests = offer.plain.real, offer.plain.tests
    return Arm("generated images alone", "without_gan", rows, offer.steps(len(real)), tests)


def tested_on_generated(offer: Offer) -> Arm | None:
    """The reverse (TRTS): trained on real images, tested on generated ones as well, in the part `generated`."""
    rows = offer.at_ratio(offer.pooled.generated, 1.0) if offer.equal_steps else None
    if rows is None:
        return None
    tests = offer.plain.tests | {"generated": rows}
    return without_gan(offer)._replace(title="real images, tested on generated ones as well", tests=tests)


def _at_ratio(offer: Offer, ratio: float) -> Arm | None:
    """The first generated images of each class, `ratio` times as many as there are real ones, as extra images."""
    rows = offer.at_ratio(offer.pooled.generated, ratio)
    return None if rows is None else _added(offer, rows, f"{ratio:g} generated images a real one")


def _added(offer: Offer, extra: np.ndarray, title: str, against: str = "duplicated") -> Arm | None:
    """Real images, and in each step as many extra ones; no place under `paper`, whose arms are not compared."""
    if not offer.equal_steps or not len(extra):
        return None
    real = offer.plain.real
    return Arm(f"with {title}", against, real, offer.steps(len(real)), offer.plain.tests, extra=extra)
