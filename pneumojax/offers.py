"""The arms that `config.arms` names: their functions are found, called and checked."""

import inspect
from collections.abc import Mapping

import numpy as np
from absl import logging

from pneumojax import arms, lookup
from pneumojax.arms import Arm
from pneumojax.config import with_overrides
from pneumojax.errors import BadInput, describe
from pneumojax.protocols import REAL_TEST


def arms_of(offer: arms.Offer, protocol: str, config, external) -> dict[str, Arm]:
    """The arms of `config.arms` that have a place under a protocol, by the last part of their words."""
    given = {word.rpartition(".")[2]: arm_of(word, offer) for word in config.arms}
    found = {name: arm._replace(tests=arm.tests | external) for name, arm in given.items() if arm}
    if not found:
        raise BadInput(f"config.arms={config.arms}: none has a place under the protocol {protocol}; add 'without_gan'")
    for name, arm in found.items():
        if arm.against not in (None, *found):
            why = "is not among them; add it"
            if arm.against in given:
                why = f"has no place under {protocol} with config.enlarge={config.enlarge}; give None there as well"
            raise BadInput(f"config.arms={config.arms}: {name} counts against {arm.against}, which {why}")
        if arm.against and config.gan.flip and not config.classifier.flip and is_of_gans(arm, offer):
            raise BadInput(
                f"config.gan.flip=True, config.classifier.flip=False: of {name} and {arm.against} one alone would see "
                "mirrored images; give both or neither"
            )
    return found


def is_of_gans(arm: Arm, offer: arms.Offer) -> bool:
    """Whether what GANs made, whatever labels they saw or are given, is added or is all: pooling is the paper's way."""
    made = np.concatenate([offer.pooled.generated, offer.control("permuted"), offer.control("shuffled")])
    return bool(np.isin(arm.extra, made).any() or np.isin(arm.train, made).all())


def arm_of(word: str, offer: arms.Offer) -> Arm | None:
    """What the function that `config.arms` names makes of an offer. Errors: BadInput, which names the word."""
    function = lookup.function("pneumojax.arms", word, "config.arms")
    try:
        arm = function(offer)
        if not isinstance(arm, Arm | None):
            raise BadInput(f"it gives {type(arm).__name__}; let it give pneumojax.arms.Arm, or None for no place")
        if arm is not None:
            check_arm(arm, offer)
    except Exception as error:  # a function may raise anything
        kind = "" if isinstance(error, BadInput) else f"{type(error).__name__}: "
        raise BadInput(f"config.arms: {word}: {kind}{describe(error)}") from error
    return arm


def without_place(config, offered: Mapping[str, Mapping]) -> dict[str, list[str]]:
    """Protocol → arms of `config.arms` that are not among those `offered` there, protocol → arm → anything.

    Under `paper`, whose arms are not compared, it is their nature, and not told.
    """
    names = [word.rpartition(".")[2] for word in config.arms]
    lacking = {protocol: [name for name in names if name not in offered[protocol]] for protocol in offered}
    return {protocol: own for protocol, own in lacking.items() if own and protocol in REAL_TEST}


def say_what_lacks(config, offered: Mapping[str, Mapping[str, Arm]]) -> None:
    """Says which arms have no place, and that the declared contrast is none of this study's."""
    for protocol, names in without_place(config, offered).items():
        what = f"no place under {protocol}, and are left out: {', '.join(names)}"
        logging.warning("config.enlarge=%g: of config.arms these have %s", config.enlarge, what)
    protocol, part, name = config.evaluate.declared
    arm = offered.get(protocol, {}).get(name)
    if not (arm and arm.against and len(arm.tests.get(part, ()))):
        why = "this study has no such contrast and comes to no verdict; change it, or config.arms and config.protocols"
        logging.warning("config.evaluate.declared=%s: %s", config.evaluate.declared, why)


def own_modules(config) -> tuple[str, ...]:
    """Files of the modules from elsewhere that `config.arms` names."""
    functions = [lookup.function("pneumojax.arms", word, "config.arms") for word in config.arms if "." in word]
    return tuple(sorted({inspect.getfile(function) for function in functions}))


def check_arm(arm: Arm, offer: arms.Offer) -> None:
    """Errors: BadInput for an arm that cannot be trained, or not be tested honestly."""
    if not isinstance(arm.train, np.ndarray) or arm.train.dtype.kind != "i":
        raise BadInput("its `train` is no int array; give rows, as offer.plain.real has them")
    if not isinstance(arm.extra, np.ndarray) or arm.extra.dtype.kind != "i":
        raise BadInput("its `extra` is no int array; give rows, as offer.pooled.generated has them")
    offered = [rows for material in (offer.plain, offer.pooled) for rows in (material.real, material.generated)]
    trained = np.concatenate([arm.train, arm.extra])
    if not np.isin(trained, np.concatenate([*offered, *offer.controls.values()])).all():
        raise BadInput("it trains on rows that it was not offered; take them from offer.plain, .pooled and .controls")
    if np.isin(trained, np.concatenate([np.zeros(0, int), *arm.tests.values()])).any():
        raise BadInput("it trains on images that it is tested on; leave them out of either")
    if not len(arm.tests.get("test", ())):
        raise BadInput("it has no image in its part 'test'; raise config.data.test_fraction or config.data.subset")
    if not isinstance(arm.steps, int | np.integer) or arm.steps < 1:
        raise BadInput(f"its `steps` are {arm.steps!r}; give a whole number above 0")
    if own := {"steps", "epochs"} & set(arm.overrides):
        raise BadInput(f"its `overrides` hold {min(own)}, which nothing reads; give the arm's `steps`")
    with_overrides(offer.config, arm.overrides)
