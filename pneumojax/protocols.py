"""The two protocols: what each arm is trained on and for how long, and the parts that it is tested on.

`paper` does what the paper did: the GAN sees the whole subset, and the pool of real and generated images is split
80/20, so the test set holds generated images. `clean` splits by patient before anything is trained, shows the GAN the
training part only and tests on real images only. Both use the same subset of a trial.
"""

from typing import NamedTuple

from pneumojax.data import splits


class Arm(NamedTuple):
    """One classifier of one trial."""

    train: list[str]  # names
    steps: int  # of the optimiser
    parts: dict[str, list[str]]  # part of the test → names


class Plan(NamedTuple):
    """One protocol of one trial."""

    seen_by_gan: list[str]  # names of the real images that the GAN is trained on
    generated: list[str]  # names of the images that it is to make, class after class
    arms: dict[str, Arm]
    record: dict  # this protocol's entry in splits.json


def optimiser_steps(config, images: int, images_without_gan: int) -> int:
    """Steps for as many epochs over `images` as the arm without GAN makes over its own."""
    if config.steps:
        return round(config.steps * images / images_without_gan)
    return config.epochs * (images // config.batch_size)


def clean(subset: splits.Subset, labels, groups, config, trial: int) -> Plan:
    """Split by patient, real images to test on, equal numbers of optimiser steps.

    `with_gan_epochs` is the arm that is matched by epochs instead, which is the paper's way.
    """
    seed = (config.seed, trial, 1)
    train, test = splits.hold_out_groups(subset.chosen, labels, groups, config.data.test_fraction, seed)
    unseen = sorted(set(labels) - set(subset.chosen) - set(subset.excluded))
    generated = splits.generated_names(splits.count(train, labels), config.enlarge)
    parts = {"test": test, "unseen": unseen}
    steps = optimiser_steps(config.classifier, len(train), len(train))
    enlarged = train + generated
    enlarged_steps = optimiser_steps(config.classifier, len(enlarged), len(train))
    return Plan(
        seen_by_gan=train,
        generated=generated,
        arms={
            "without_gan": Arm(train, steps, parts),
            "with_gan": Arm(enlarged, steps, parts),
            "with_gan_epochs": Arm(enlarged, enlarged_steps, parts),
        },
        record={
            "subset": subset.chosen,
            "train": train,
            "test": test,
            "unseen": unseen,
            "excluded": subset.excluded,
            "disjoint_from_earlier_trials": subset.disjoint,
        },
    )


def paper(subset: splits.Subset, labels, groups, config, trial: int) -> Plan:
    """Split by image, generated images in training and test, equal numbers of epochs (paper, sections 5 and 6)."""
    del groups  # the paper knows no patients
    fraction = config.data.test_fraction
    generated = splits.generated_names(splits.count(subset.chosen, labels), config.enlarge)
    pool_labels = labels | splits.labels_of_generated(generated)
    without = splits.hold_out_images(subset.chosen, labels, fraction, (config.seed, trial, 2))
    pooled = splits.hold_out_images(subset.chosen + generated, pool_labels, fraction, (config.seed, trial, 3))
    unseen = sorted(set(labels) - set(subset.chosen) - set(subset.excluded))
    steps = optimiser_steps(config.classifier, len(without.train), len(without.train))
    pooled_steps = optimiser_steps(config.classifier, len(pooled.train), len(without.train))
    return Plan(
        seen_by_gan=subset.chosen,
        generated=generated,
        arms={
            "without_gan": Arm(without.train, steps, {"test": without.test, "unseen": unseen}),
            "with_gan": Arm(
                pooled.train,
                pooled_steps,
                {
                    "test": pooled.test,
                    "test_real": [name for name in pooled.test if name in labels],
                    "test_generated": [name for name in pooled.test if name not in labels],
                    "unseen": unseen,
                },
            ),
        },
        record={
            "subset": subset.chosen,
            "without_gan": without._asdict(),
            "with_gan": pooled._asdict(),
        },
    )


PROTOCOLS = {"clean": clean, "paper": paper}
