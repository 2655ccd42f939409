"""What stands before a layer of a network or in place of its head, folded into its numbers, where that is exact.

Whether it is exact is tried: on features far and wide the stage has to give what it gave before. So no network is known
by name here. A padded convolution cannot take a shift into its numbers, nor a block whose shortcut goes past them.
"""

from collections.abc import Callable, Iterator
from functools import partial

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from pneumojax import tuning
from pneumojax.systems.features import ENDLESS

TRIED = 32  # features
TOLERANCE = 1e-4  # of the largest number that the stage gives, or of 1


def standardised(model: nn.Module, variables: dict, size: int, number: int, scaling: dict) -> dict | None:
    """Variables under which a stage gives of plain features what it gave of standardised ones; None where none are.

    Args:
      model: a `Model` of `pneumojax.models`.
      variables: {"params", "batch_stats"}.
      size: pixels a side.
      number: of the stage.
      scaling: {"mean", "deviation"} of its features, float [C].
    """
    mean, deviation = (np.float64(scaling[name]) for name in ("mean", "deviation"))
    features = tried(tuning.stages(model, size)[number].inputs.shape[1:], mean, deviation)
    compute = computed(model, number)
    wanted = compute(variables, (features - mean) / deviation)
    for path, kernel, bias in layers(model, variables, size, number):
        if kernel.shape[-2] == len(mean):
            scaled = kernel / deviation[:, None]
            shift = (scaled * mean[:, None]).reshape(-1, scaled.shape[-1]).sum(0)
            found = replaced(variables, path, scaled, bias - shift)
            if near(compute(found, features), wanted):
                return found
    return None


def as_head(model: nn.Module, variables: dict, size: int, probe: dict, answer: Callable) -> dict | None:
    """Variables under which the network's own head is a linear layer on the means of features; None where none are.

    Args:
      model: a `Model` of `pneumojax.models`.
      variables: {"params", "batch_stats"}; what its head holds is not read.
      size: pixels a side.
      probe: {"weight" [K, d], "bias" [K], "mean" [d], "deviation" [d]}; the last two are of its features.
      answer: features float [n, …, d] → logits [n, K], what it has to give.
    """
    number = len(model.STAGES) - 1
    features = tried(tuning.stages(model, size)[number].inputs.shape[1:], probe["mean"], probe["deviation"])
    compute, weight = computed(model, number), probe["weight"].T
    for path, kernel, _ in layers(model, variables, size, number):
        if kernel.size == weight.size and kernel.shape[-2:] == weight.shape:
            found = replaced(variables, path, weight.reshape(kernel.shape), probe["bias"])
            if near(compute(found, features), answer(features)):
                return found
    return None


def layers(model: nn.Module, variables: dict, size: int, number: int) -> Iterator[tuple]:
    """The layers of a stage that have a kernel and a bias: (path, kernel, bias), float64."""
    of_stage, params = tuning.stages(model, size)[number].params, flatten_dict(variables["params"])
    for path in sorted(of_stage):
        bias = (*path[:-1], "bias")
        if path[-1] == "kernel" and bias in of_stage:
            yield path[:-1], np.float64(params[path]), np.float64(params[bias])


def replaced(variables: dict, layer: tuple[str, ...], kernel: np.ndarray, bias: np.ndarray) -> dict:
    """Variables with other numbers in one layer."""
    own = {(*layer, "kernel"): np.float32(kernel), (*layer, "bias"): np.float32(bias)}
    return {**variables, "params": unflatten_dict(flatten_dict(variables["params"]) | own)}


def tried(shape: tuple[int, ...], mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Features float64 [TRIED, …, C], some deviations around their mean; of a constant channel its mean."""
    noise = 3 * np.random.default_rng(0).normal(size=(TRIED, *shape))
    return mean + noise * np.where(deviation < ENDLESS, deviation, 0)


def computed(model: nn.Module, number: int) -> Callable:
    """(variables, features) → what a stage makes of them, in evaluation mode."""
    stage = jax.jit(partial(model.apply, train=False, begin=number, end=number + 1))

    def compute(variables: dict, features: np.ndarray) -> np.ndarray:
        with jax.default_matmul_precision("highest"):  # or a GPU's rounding would look like another function
            return jax.device_get(stage(variables, np.float32(features)))

    return compute


def near(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays are the same but for rounding."""
    return bool(np.abs(one - other).max() <= TOLERANCE * max(1.0, np.abs(other).max()))
