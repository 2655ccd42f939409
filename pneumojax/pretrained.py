"""torchvision's weights as variables of the modules here, and back.

Layers carry torchvision's names, so the table between the two is short: a dot before a number is an underscore here
(`layer1.0.conv1` is `layer1_0/conv1`), `weight` is `kernel` or, in batch norm, `scale`, and the running statistics are
the collection `batch_stats`. `table` writes it out for a network. Kernels are OIHW there and HWIO here; linear layers
are transposed.
"""

import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from pneumojax import models
from pneumojax.errors import BadInput

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
PASSED_OVER = re.compile(r"(.*\.)?num_batches_tracked|aux\d\..*")


def table(name: str, num_classes: int = 1000) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """torchvision's name of each tensor → (collection and path here, shape here), for the network `name`."""
    model = models.load(name)(num_classes=num_classes)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3))))
    entries = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        keys = tuple(entry.key for entry in path)
        layers = [re.sub(r"_(\d+)$", r".\1", key) for key in keys[1:-1]]
        entries[".".join((*layers, LEAVES[keys[-1]]))] = (keys, leaf.shape)
    return entries


def head_bias(name: str) -> str:
    """torchvision's name of the bias that has one number a class."""
    few, many = table(name, 2), table(name, 3)
    return next(key for key in few if key.endswith("bias") and few[key] != many[key])


def convert(state_dict: Mapping[str, np.ndarray], name: str, allow_missing: tuple[str, ...] = ()) -> dict:
    """Turns tensors under torchvision's names into variables.

    Args:
      state_dict: numpy arrays under torchvision's names; the number of classes is that of its head.
      name: a network of `pneumojax.models`.
      allow_missing: names of tensors that may be missing; they are missing in the result as well.

    Returns: {"params": …, "batch_stats": …}, numpy arrays.

    Errors: BadInput with all unknown, missing and misshaped tensors. Auxiliary heads and `num_batches_tracked` are
    passed over.
    """
    given = {key: np.asarray(value) for key, value in state_dict.items() if not PASSED_OVER.fullmatch(key)}
    head = given.get(head_bias(name))
    entries = table(name, 1000 if head is None else len(head))
    problems = [f"unknown: {key}" for key in given if key not in entries]
    variables: dict = {"params": {}, "batch_stats": {}}
    for key, (path, shape) in entries.items():
        if key not in given:
            if key not in allow_missing:
                problems.append(f"missing: {key}")
            continue
        array = to_here(given[key])
        if array.shape != shape:
            problems.append(f"misshaped: {key} is {given[key].shape}, which gives {array.shape} where {shape} belongs")
            continue
        node = variables
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = array
    if problems:
        raise BadInput(f"these are not the weights of torchvision's {name}: {len(problems)} tensors differ", problems)
    return variables


def to_torch(variables: Mapping, name: str) -> dict[str, np.ndarray]:
    """The inverse of `convert`: contiguous numpy arrays under torchvision's names."""
    leaves = {
        tuple(entry.key for entry in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(dict(variables))
    }
    return {key: to_there(leaves[path]) for key, (path, _) in table(name).items()}


def to_here(array: np.ndarray) -> np.ndarray:
    """OIHW → HWIO, [outputs, inputs] → [inputs, outputs]."""
    return np.ascontiguousarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T)


def to_there(array: np.ndarray) -> np.ndarray:
    """HWIO → OIHW, [inputs, outputs] → [outputs, inputs]."""
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)
