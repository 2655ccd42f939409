"""What is trained of a network, and how fast: all of it, its head alone, or its last stages.

A network is a row of stages, the last one its head. Those before the first stage in which anything is trained only
compute features: their batch norm and dropout are in evaluation mode. From that stage on both act as in training.
"""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from pneumojax.errors import BadInput

MODES = ("full", "head", "last_k")
SCHEDULES = ("constant", "linear", "cosine")
TRACED = ("learning_rate", "schedule", "warmup", "momentum", "weight_decay")  # of config.classifier: `fields` of a job

Path = tuple[str, ...]


class Tuning(NamedTuple):
    """The part of a network that is trained. Hashable, for jit."""

    begin: int  # the first stage in which something is trained
    rates: tuple[tuple[Path, float], ...]  # trained parameter → multiple of the learning rate
    statistics: tuple[Path, ...]  # batch statistics that training changes


class Stage(NamedTuple):
    """One stage by its shapes."""

    inputs: jax.ShapeDtypeStruct  # [1, ...], what it is given for one image
    params: frozenset[Path]
    statistics: frozenset[Path]


@functools.cache
def stages(model: nn.Module, size: int) -> list[Stage]:
    """The stages of a `Model` for images of size x size pixels, found by tracing; nothing is computed."""
    found = []
    x = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    for index in range(len(model.STAGES)):

        def run(x, index=index):
            return model.init_with_output(jax.random.key(0), x, begin=index, end=index + 1)

        y, variables = jax.eval_shape(run, x)
        paths = (frozenset(flatten_dict(variables.get(name, {}))) for name in ("params", "batch_stats"))
        found.append(Stage(x, *paths))
        x = y
    return found


def choose(model: nn.Module, size: int, variables: dict, config, new: frozenset[Path]) -> Tuning:
    """What `config.mode` trains.

    Args:
      model: a `Model` of `pneumojax.models`.
      size: pixels a side.
      variables: {"params", "batch_stats"}, arrays or their shapes.
      config: `config.classifier`.
      new: parameters that no weights were given for. They are trained in every mode, `new_layer_rate` times faster.
        Empty for a network from scratch, where all are alike.

    Errors: BadInput where the network has no stages, or not so many.
    """
    params, statistics = flatten_dict(variables["params"]), flatten_dict(variables["batch_stats"])
    begin = 0
    if config.mode != "full":
        count = len(getattr(model, "STAGES", ()))
        last = 1 if config.mode == "head" else config.last_k
        if last > count:
            raise BadInput(
                f"config.classifier.mode={config.mode!r} trains the last {last} stages and this network has {count}; "
                "give a lower config.classifier.last_k or mode 'full'"
            )
        row = stages(model, size)
        trained = frozenset.union(new, *(stage.params for stage in row[-last:]))
        begin = next(index for index, stage in enumerate(row) if stage.params & trained)
        params = {path for path in params if path in trained}
        statistics = frozenset.union(*(stage.statistics for stage in row[begin:]))
    rates = tuple((path, config.new_layer_rate if path in new else 1.0) for path in sorted(params))
    return Tuning(begin, rates, tuple(sorted(statistics)))


def split(variables: dict, tuning: Tuning) -> tuple[dict, dict]:
    """Variables as (those that training changes, those that it does not), each {"params", "batch_stats"}."""
    changing = {"params": {path for path, _ in tuning.rates}, "batch_stats": set(tuning.statistics)}
    parts = ({}, {})
    for name, paths in changing.items():
        flat = flatten_dict(variables[name])
        for part, wanted in zip(parts, (True, False), strict=True):
            part[name] = unflatten_dict({path: leaf for path, leaf in flat.items() if (path in paths) == wanted})
    return parts


def merge(one: dict, other: dict) -> dict:
    """The inverse of `split`."""
    return {name: unflatten_dict(flatten_dict(one[name]) | flatten_dict(other[name])) for name in one}


def rates_of(params: dict, tuning: Tuning) -> dict:
    """The multiples of the learning rate as a tree like `params`."""
    rates = dict(tuning.rates)
    return unflatten_dict({path: rates[path] for path in flatten_dict(params)})


def rates(steps: int, config) -> np.ndarray:
    """The learning rate of each step, float32 [steps].

    `config.classifier.schedule` is constant, linear or cosine (both reach 0 at the end), after a linear rise over the
    fraction `warmup` of the steps.
    """
    step = np.arange(steps)
    done = step / steps
    fraction = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + np.cos(np.pi * done)) / 2}[config.schedule]
    rise = np.minimum(1.0, (step + 1) / max(config.warmup * steps, 1))
    return (config.learning_rate * fraction * rise).astype(np.float32)


def fields(steps: int, config) -> dict[str, np.ndarray]:
    """What a step is told of `config.classifier` as arrays, float32 [steps]: programs do not depend on their values."""
    constant = {name: np.full(steps, config[name], np.float32) for name in ("momentum", "weight_decay")}
    return {"rate": rates(steps, config), **constant}
