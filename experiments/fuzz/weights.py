"""Odd files of weights, one a call, read by `pneumojax.pretrained.load` and by PyTorch or numpy alone."""

import re
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
from flax.traverse_util import flatten_dict

from experiments.fuzz import Outcome, weights_damage, weights_files
from experiments.fuzz.weights_files import NETWORK, absent, any_of
from pneumojax import pretrained
from pneumojax.errors import BadInput

KINDS = {
    "prefix": weights_files.prefix,
    "place": weights_files.place,
    "dtype": weights_files.dtype,
    "layout": weights_files.layout,
    "head": weights_files.head,
    "not finite": weights_files.value,
    "no floats": weights_files.no_floats,
    "names": weights_files.names,
    "damaged": weights_damage.damaged,
    "no weights": weights_damage.foreign,
    "header of safetensors": weights_damage.header,
    "converted folder": weights_damage.converted_folder,
}


def here(name: str, array: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Path and axes in the variables, written down a second time: HWIO, [inputs, outputs]."""
    *layers, leaf = re.sub(r"\.(\d+)", r"_\1", name).split(".")
    if leaf.startswith("running_"):
        return ("batch_stats", *layers, leaf.removeprefix("running_")), array
    leaf = "bias" if leaf == "bias" else "scale" if array.ndim == 1 else "kernel"
    turned = np.einsum("oihw->hwio" if array.ndim == 4 else "oi->io", array) if array.ndim > 1 else array
    return ("params", *layers, leaf), turned


def differences(variables: dict, expected: dict[str, np.ndarray]) -> list[str]:
    """Paths whose arrays are missing, too many, of another dtype or not the same to the bit."""
    got, wanted = flatten_dict(variables), dict(here(name, array) for name, array in expected.items())
    return [
        "/".join(path)
        for path in got.keys() | wanted.keys()
        if path not in got
        or path not in wanted
        or got[path].dtype != np.float32
        or not np.array_equal(got[path], wanted[path])
    ]


def case(rng: np.random.Generator, folder: Path) -> Outcome:
    """Makes one file of weights in an empty folder and reads it."""
    kind = any_of(rng, KINDS)
    name = f"weights: {kind}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = KINDS[kind](rng, folder)
        try:
            with mock.patch("pneumojax.pretrained.logging") as log:
                variables = pretrained.load(str(made.path), NETWORK, absent()).variables
        except BadInput as error:
            text = "\n".join((str(error), *error.details))
            lacking = [word for word in made.words if word not in text]
            if made.expected is not None and not made.either:
                return Outcome(name, "wrong", f"refused: {text[:300]}")
            if lacking or any(line.startswith("error:") for line in text.splitlines()):
                return Outcome(name, "wrong", f"the error lacks {lacking}: {text[:300]}")
            return Outcome(name, "refused")
    if made.expected is None:
        return Outcome(name, "silent", f"taken, though it lacks what {made.words} tell of")
    if wrong := differences(variables, made.expected):
        return Outcome(name, "wrong", f"{len(wrong)} tensors differ: {', '.join(wrong[:5])}")
    lines = "\n".join(text % tuple(rest) for text, *rest in (call.args for call in log.info.call_args_list))
    if not made.either and (lacking := [word for word in made.words if word not in lines]):
        return Outcome(name, "silent", f"not said: {lacking} in {lines}")
    return Outcome(name, "right")
