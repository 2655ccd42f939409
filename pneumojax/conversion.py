"""torchvision's names and axes, and ours.

Layers carry torchvision's names, so the table between the two is short: a dot before a number is an underscore here
(`layer1.0.conv1` is `layer1_0/conv1`), `weight` is `kernel` or, in batch norm, `scale`, and the running statistics are
the collection `batch_stats`. A Model whose layers are called otherwise has a dict `TORCH_NAMES`, name of a layer here →
name there. `table` writes it out for a network. Kernels are OIHW there and HWIO here; linear layers are transposed.
"""

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from pneumojax import models
from pneumojax.errors import BadInput
from pneumojax.state_dict import passed_over
from pneumojax.weights import floats, shape_of, shown

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
MOST_CLASSES = 100_000  # of a head; what has more is damaged
Table = Mapping[str, tuple[tuple[str, ...], tuple[int, ...]]]


def table(name: str, num_classes: int = 1000) -> Table:
    """torchvision's name of each tensor → (collection and path here, shape here), for the network `name`.

    Errors: BadInput where two tensors of it would have one name.
    """
    return table_of(models.load(name), num_classes)


@functools.lru_cache(maxsize=32)
def table_of(model: type, num_classes: int) -> Table:
    """`table` of a Model."""
    built = model(num_classes=num_classes)
    variables = jax.eval_shape(lambda: built.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3))))
    entries = {}
    for keys, leaf in flatten_dict(variables).items():
        name = name_there(keys, model)
        if name in entries:
            both = " and ".join("/".join(path[1:]) for path in (entries[name][0], keys))
            raise BadInput(f"{both} are both called {name} in weights; tell them apart in TORCH_NAMES of {model}")
        entries[name] = (keys, leaf.shape)
    return MappingProxyType(entries)


def name_there(keys: Sequence[str], model: type) -> str:
    """torchvision's name of a tensor of a Model, by its collection and path here."""
    own = getattr(model, "TORCH_NAMES", {})
    layers = [own.get(key, re.sub(r"_(\d+)$", r".\1", key)) for key in keys[1:-1]]
    return ".".join((*layers, LEAVES.get(keys[-1], keys[-1])))


def num_classes_of(shapes: Mapping[str, tuple[int, ...]], name: str) -> int:
    """The number of classes of a state dict's head, by the shapes of its tensors; 1000 where none has a head's."""
    head = [shapes[key] for key in head_of(name) if key in shapes]
    return next((shape[0] for shape in head if shape and 1 <= shape[0] <= MOST_CLASSES), 1000)


def head_of(name: str) -> dict[str, tuple[str, ...]]:
    """The tensors of the network `name` whose shape follows from the number of classes: torchvision's name → path."""
    few, many = table(name, 2), table(name, 3)
    return {key: path for key, (path, _) in few.items() if few[key] != many[key]}


def lacking(tensors: Collection[str], name: str) -> list[str]:
    """The layers or blocks of the network `name` of which there is no tensor, by torchvision's names, largest first."""
    found: dict[str, None] = {}
    for key in table(name):
        words = key.split(".")
        blocks = (".".join(words[:count]) for count in range(1, len(words) + 1))
        alone = (one for one in blocks if not any(f"{other}.".startswith(f"{one}.") for other in tensors))
        found |= dict.fromkeys(list(alone)[:1])
    return list(found)


def convert(state_dict: Mapping, name: str, allow_missing: Sequence[str] = ()) -> dict:
    """Turns tensors under torchvision's names into variables.

    Args:
      state_dict: arrays, or tensors of PyTorch, under torchvision's names, of any layout and dtype of real numbers;
        the number of classes is that of its head.
      name: a network of `pneumojax.models`.
      allow_missing: names of tensors, layers or blocks of layers that may be missing; the result lacks them too.

    Returns: {"params": …, "batch_stats": …}, numpy arrays, float32.

    Errors: BadInput with all unknown, missing and misshaped tensors, else with the first whose values cannot be used.
    Auxiliary heads and counters are passed over.
    """
    shapes = {key: shape_of(key, value) for key, value in state_dict.items()}
    entries = table(name, num_classes_of(shapes, name))
    unknown = [key for key in shapes if key not in entries and not passed_over(key)]
    allowed = {key for key in entries if f"{key}.".startswith(tuple(f"{name}." for name in allow_missing))}
    problems = [f"unknown: {shown(key)}" for key in unknown]
    problems += [f"missing: {key}" for key in entries if key not in shapes and key not in allowed]
    given = {key: entry for key, entry in entries.items() if key in shapes}
    for key, (_, shape) in given.items():
        if shapes[key] != shape_there(shape):
            problems.append(f"misshaped: {key} is {shapes[key]}, where {shape_there(shape)} belongs")
    if problems:
        raise BadInput(
            f"these are not the weights of torchvision's {name}: {len(problems)} tensors differ; give another file or "
            "config.model.name, or list missing ones in config.model.allow_missing",
            problems,
        )
    converted = {}
    for key, (path, _) in given.items():
        converted[path] = to_here(floats(key, state_dict[key]))
        if path[-1] == "var" and (below := int((converted[path] < 0).sum())):
            raise BadInput(f"{key} is a variance and holds {below} numbers below 0; fetch or save the file again")
    return {"params": {}, "batch_stats": {}} | unflatten_dict(converted)


def to_torch(variables: Mapping, name: str) -> dict[str, np.ndarray]:
    """The inverse of `convert`: contiguous numpy arrays under torchvision's names, for those tensors that are there."""
    leaves = flatten_dict(variables)
    return {key: to_there(np.asarray(leaves[path])) for key, (path, _) in table(name).items() if path in leaves}


def all_to_torch(variables: Mapping, model: type) -> dict[str, np.ndarray]:
    """`to_torch` of a Model whatever its fields: all variables, less those of auxiliary heads."""
    named = {name_there(keys, model): leaf for keys, leaf in flatten_dict(variables).items()}
    return {name: to_there(np.asarray(leaf)) for name, leaf in named.items() if not passed_over(name)}


def to_here(array: np.ndarray) -> np.ndarray:
    """OIHW → HWIO, [outputs, inputs] → [inputs, outputs]."""
    return np.ascontiguousarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T)


def to_there(array: np.ndarray) -> np.ndarray:
    """HWIO → OIHW, [inputs, outputs] → [outputs, inputs]."""
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)


def shape_there(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of a tensor there, by its shape here."""
    return (shape[3], shape[2], shape[0], shape[1]) if len(shape) == 4 else shape[::-1]
