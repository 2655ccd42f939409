"""torchvision's weights as variables of the modules here, and back.

Layers carry torchvision's names, so the table between the two is short: a dot before a number is an underscore here
(`layer1.0.conv1` is `layer1_0/conv1`), `weight` is `kernel` or, in batch norm, `scale`, and the running statistics are
the collection `batch_stats`. `table` writes it out for a network. Kernels are OIHW there and HWIO here; linear layers
are transposed.

    python -m pneumojax.pretrained --model=resnet18 [--from=FILE] --out=DIR

converts once into an Orbax checkpoint, which is read without torch. Without `--from` torchvision downloads the file.
"""

from pneumojax import runtime

if __name__ == "__main__":
    runtime.configure()  # before anything imports jax

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict

from pneumojax import checkpoint, cli, models, paths, weights
from pneumojax.errors import BadInput, describe

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
PASSED_OVER = re.compile(r"(.*\.)?num_batches_tracked|aux\d\..*")


def table(name: str, num_classes: int = 1000) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """torchvision's name of each tensor → (collection and path here, shape here), for the network `name`."""
    model = models.load(name)(num_classes=num_classes)
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 224, 224, 3))))
    entries = {}
    for keys, leaf in flatten_dict(variables).items():
        layers = [re.sub(r"_(\d+)$", r".\1", key) for key in keys[1:-1]]
        entries[".".join((*layers, LEAVES[keys[-1]]))] = (keys, leaf.shape)
    return entries


def head_bias(name: str) -> str:
    """torchvision's name of the bias that has one number a class."""
    few, many = table(name, 2), table(name, 3)
    return next(key for key in few if key.endswith("bias") and few[key] != many[key])


def convert(state_dict: Mapping[str, np.ndarray], name: str, allow_missing: Sequence[str] = ()) -> dict:
    """Turns tensors under torchvision's names into variables.

    Args:
      state_dict: numpy arrays under torchvision's names; the number of classes is that of its head.
      name: a network of `pneumojax.models`.
      allow_missing: names of tensors, or of whole layers, that may be missing; the result lacks them too.

    Returns: {"params": …, "batch_stats": …}, numpy arrays.

    Errors: BadInput with all unknown, missing and misshaped tensors. Auxiliary heads and `num_batches_tracked` are
    passed over.
    """
    given = {key: np.asarray(value) for key, value in state_dict.items() if not PASSED_OVER.fullmatch(key)}
    head = given.get(head_bias(name))
    entries = table(name, 1000 if head is None else len(head))
    problems = [f"unknown: {key}" for key in given if key not in entries]
    converted = {}
    for key, (path, shape) in entries.items():
        if key not in given:
            if key not in allow_missing and key.rpartition(".")[0] not in allow_missing:
                problems.append(f"missing: {key}")
            continue
        array = to_here(given[key])
        if array.shape != shape:
            problems.append(f"misshaped: {key} is {given[key].shape}, which gives {array.shape} where {shape} belongs")
            continue
        converted[path] = array
    if problems:
        raise BadInput(f"these are not the weights of torchvision's {name}: {len(problems)} tensors differ", problems)
    return {"params": {}, "batch_stats": {}} | unflatten_dict(converted)


def to_torch(variables: Mapping, name: str) -> dict[str, np.ndarray]:
    """The inverse of `convert`: contiguous numpy arrays under torchvision's names, for those tensors that are there."""
    leaves = flatten_dict(variables)
    return {key: to_there(np.asarray(leaves[path])) for key, (path, _) in table(name).items() if path in leaves}


def to_here(array: np.ndarray) -> np.ndarray:
    """OIHW → HWIO, [outputs, inputs] → [inputs, outputs]."""
    return np.ascontiguousarray(array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T)


def to_there(array: np.ndarray) -> np.ndarray:
    """HWIO → OIHW, [inputs, outputs] → [outputs, inputs]."""
    return np.ascontiguousarray(array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T)


class Weights(NamedTuple):
    """Converted weights and where they are from."""

    variables: dict  # {"params", "batch_stats"} of numpy arrays, less the tensors that were allowed to be missing
    digest: str  # SHA-256 over names and values, the same for every kind of file


def load(source: str, name: str, allow_missing: Sequence[str] = (), cache: str = "~/.cache/pneumojax") -> Weights:
    """The weights that `config.model.weights` names.

    Args:
      source: a .safetensors or .pth file, a folder that this module's command made, or 'torchvision'.
      name: a network of `pneumojax.models`.
      allow_missing: tensors or layers, by torchvision's names, that may be missing.
      cache: where downloads are kept.

    Errors: BadInput for whatever cannot be used.
    """
    path = paths.of(source, "config.model.weights")
    if source == "torchvision":
        state_dict = weights.download(name, paths.of(cache, "config.model.cache") / "weights")
    elif path.is_dir():
        state_dict = restore(path, name)
    else:
        state_dict = weights.read(path)
    try:
        variables = convert(state_dict, name, allow_missing)
    except BadInput as error:
        hint = "give another file or config.model.name, or list missing ones in config.model.allow_missing"
        raise BadInput(f"{source}: {error}; {hint}", error.details) from error
    return Weights(variables, digest(variables))


def of_config(config) -> Weights | None:
    """The weights of `config.model`, None for a network from scratch."""
    if config.weights == "none":
        return None
    return load(config.weights, config.name, config.allow_missing, config.cache)


def digest(variables: dict) -> str:
    """SHA-256 over the names, shapes and values of all tensors."""
    sha = hashlib.sha256()
    for path, leaf in sorted(flatten_dict(variables).items()):
        sha.update(f"{'/'.join(path)} {leaf.shape}".encode())
        sha.update(np.ascontiguousarray(leaf, "<f4").tobytes())
    return sha.hexdigest()


def save(converted: Weights, name: str, source: str, folder: Path) -> None:
    """Writes a folder that `load` reads: an Orbax checkpoint, and `weights.json`, which says of what.

    Errors: BadInput where the folder is already there; OSError where it cannot be written.
    """
    if folder.exists():
        raise BadInput(f"{folder} is there already; choose another --out or remove it")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with checkpoint.open_manager(partial) as manager:
        checkpoint.save(manager, 0, jax.tree.map(jnp.asarray, converted.variables))
    entries = table(name)
    given = flatten_dict(converted.variables)
    record = {
        "schema": 1,
        "model": name,
        "source": source,
        "digest": converted.digest,
        "shapes": {key: list(given[path].shape) for key, (path, _) in entries.items() if path in given},
    }
    checkpoint.write_json(partial / "weights.json", record)
    partial.rename(folder)


def restore(folder: Path, name: str) -> dict[str, np.ndarray]:
    """The state dict of a folder that `save` wrote. Errors: BadInput where it is damaged or of another network."""
    try:
        record = json.loads((folder / "weights.json").read_text())
        model, shapes, wanted = record["model"], record["shapes"], record["digest"]
    except (OSError, ValueError, KeyError) as error:
        raise BadInput(f"{folder} is not a folder of `python -m pneumojax.pretrained`: {describe(error)}") from error
    if model != name:
        raise BadInput(f"{folder} holds the weights of {model}; give config.model.name={model!r} or another folder")
    target = {"params": {}, "batch_stats": {}} | unflatten_dict(
        {path: jnp.zeros(shapes[key]) for key, (path, _) in table(name).items() if key in shapes}
    )
    try:
        with checkpoint.open_manager(folder) as manager:
            variables = jax.device_get(checkpoint.restore(manager, target)[1])
    except Exception as error:  # Orbax and tensorstore raise whatever they like of a damaged folder
        raise BadInput(f"{folder} is damaged, convert the weights again: {describe(error)[:200]}") from error
    if digest(variables) != wanted:
        raise BadInput(f"{folder} is damaged, its weights are not those that were written; convert them again")
    return to_torch(variables, name)


def start_from(variables: dict, given: dict) -> tuple[dict, frozenset[tuple[str, ...]]]:
    """Puts given weights into fresh variables.

    A head for another number of classes and what was allowed to be missing stay as they are.

    Args:
      variables: {"params", "batch_stats"}, fresh.
      given: the same, of `load`.

    Returns: (variables, paths of the parameters that are still fresh).
    """
    fresh, loaded = flatten_dict(variables), flatten_dict(given)
    fitting = {path: leaf for path, leaf in loaded.items() if path in fresh and fresh[path].shape == leaf.shape}
    merged = unflatten_dict(fresh | {path: jnp.asarray(leaf) for path, leaf in fitting.items()})
    new = frozenset(path[1:] for path in fresh if path not in fitting and path[0] == "params")
    return variables | merged, new


def main(arguments: Sequence[str] | None = None) -> None:
    """Converts weights once into a folder."""
    parser = cli.Parser(prog="python -m pneumojax.pretrained", description=main.__doc__)
    parser.add_argument("--model", required=True, help="a network: " + ", ".join(weights.ENUMS))
    parser.add_argument("--from", dest="source", default="torchvision", help=".safetensors or .pth; else torchvision's")
    parser.add_argument("--out", required=True, type=cli.path, help="the folder to make, for config.model.weights")
    parser.add_argument("--allow_missing", nargs="*", default=(), help="tensors or layers that FILE may lack")
    parser.add_argument("--cache", default="~/.cache/pneumojax", help="where downloads are kept")
    cli.show_log()
    with cli.exit_codes():
        options = parser.parse_args(arguments)
    with cli.exit_codes(options.out, "--out"):
        download = options.source == "torchvision"
        cache = str(paths.of(options.cache, "--cache")) if download else ""
        source = "torchvision" if download else str(paths.of(options.source, "--from"))
        converted = load(source, options.model, options.allow_missing, cache)
        save(converted, options.model, Path(options.source).name, options.out)
        count = sum(leaf.size for leaf in jax.tree.leaves(converted.variables["params"]))
        logging.info("%s: %d parameters of %s", options.out, count, options.model)


if __name__ == "__main__":
    main()
