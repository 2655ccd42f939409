"""Published and own weights as variables of the modules here: what `config.model.weights` names, and converted folders.

    python -m pneumojax.pretrained --model=resnet18 [--from=FILE] --out=DIR

converts once into an Orbax checkpoint, which is read without torch. Without `--from` torchvision downloads the file.
"""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, logging
from flax.traverse_util import flatten_dict, unflatten_dict

from pneumojax import checkpoint, cli, paths, weights
from pneumojax.conversion import convert, head_of, num_classes_of, shape_there, table, to_torch
from pneumojax.errors import BadInput, describe
from pneumojax.state_dict import of_network
from pneumojax.weights import hash_of, shown

EXPORTED, EXPORT_SCHEMA = "model.safetensors", 1  # of `pneumojax.export`


class Weights(NamedTuple):
    """Converted weights and where they are from."""

    variables: dict  # {"params", "batch_stats"} of numpy arrays, less the tensors that were allowed to be missing
    digest: str  # SHA-256 over names and values, the same for every kind of file
    classes: tuple[str, ...] = ()  # that its head tells, where an exported folder says so
    trained_by: str = ""  # the classifier that an earlier run trained, where an exported folder says so


def load(
    source: str,
    name: str,
    allow_missing: Sequence[str] = (),
    cache: str = "~/.cache/pneumojax",
    instead: str = "give a file",
    field: str = "config.model.weights",
) -> Weights:
    """The weights that `config.model.weights` names; a line says what was read.

    Args:
      source: a .safetensors or .pth file, a folder that this module's command or `pneumojax.export` made, or
        'torchvision'.
      name: a network of `pneumojax.models`.
      allow_missing: tensors, layers or blocks, by torchvision's names, that may be missing.
      cache: where downloads are kept.
      instead: what to do where nothing can be downloaded, for its message.
      field: what named the weights, for messages.

    Errors: BadInput for whatever cannot be used; NotWritable where a download cannot be kept.
    """
    known, path, record = table(name), paths.of(source, field), {}
    try:
        folder = path.is_dir()
    except OSError as error:  # a folder above that may not be entered
        raise BadInput(f"{source} cannot be read: {describe(error)}; {weights.WANTED}") from error
    if source == "torchvision":
        held = weights.download(name, paths.of(cache, "config.model.cache") / "weights", instead, field)
    else:
        held, record = of_folder(path, name, allow_missing) if folder else (weights.read(path), {})
    try:
        tensors, said = of_network(held, known, name)
        variables = jax.tree.map(np.float32, convert(tensors, name, allow_missing))
    except BadInput as error:
        raise BadInput(f"{source}: {error}", error.details) from error
    leaves = flatten_dict(variables)
    kernels = {key: leaves[path] for key, (path, shape) in known.items() if path in leaves and len(shape) > 1}
    if alike := [key for key, kernel in kernels.items() if kernel.size > 1 and np.ptp(kernel) == 0]:
        what = f"{len(alike)} kernels, {', '.join(alike[:3])} and so on" if len(alike) > 3 else ", ".join(alike)
        logging.warning("weights: %s: all numbers are alike, as of no trained layer: %s", shown(source), what)
    over = len(tensors) - len(jax.tree.leaves(variables))
    passed = f"; {over} passed over, counters and auxiliary heads" if over else ""
    logging.info("weights: %s: %d tensors of %s%s%s", shown(source), len(tensors) - over, name, said, passed)
    return Weights(variables, digest(variables), **of_record(record, variables, name, source))


def of_record(record: dict, variables: dict, name: str, source: str) -> dict:
    """What the config.json of an exported folder tells beside tensors. Errors: BadInput where they disagree."""
    if not record:
        return {}
    classes, leaves = classes_of(record), flatten_dict(variables)
    outputs = {leaves[path].shape[-1] for path in head_of(name).values() if path in leaves}
    if outputs - {len(classes)}:
        what = f"config.json names {len(classes)} classes and its head has {outputs.pop()}"
        raise BadInput(f"{source} is damaged: {what}; export the run again")
    return {"classes": classes, "trained_by": "" if record.get("lacks") else shown(record["classifier"])}


def classes_of(record: dict) -> tuple[str, ...]:
    """Those of an exported classifier's config.json, in the order of its logits."""
    return tuple(str(record["id2label"][str(label)]) for label in range(len(record["id2label"])))


def of_config(config) -> Weights | None:
    """The weights of a study's config, None for a network from scratch."""
    model = config.model
    if model.weights == "none":
        return None
    instead = f"give a file as config.model.weights, or {weights.from_scratch(config.classifier.mode)}"
    given = load(model.weights, model.name, model.allow_missing, model.cache, instead)
    if given.trained_by:
        what = "patients whom it was trained on must not be tested here, or scores flatter"
        logging.warning("weights: %s: %s of an earlier run: %s", shown(model.weights), shown(given.trained_by), what)
    if not given.classes or given.classes == tuple(config.data.classes):
        return given
    logging.info("weights: their head tells %s, so that it starts anew", ", ".join(map(shown, given.classes)))
    head = head_of(model.name).values()
    kept = {path: leaf for path, leaf in flatten_dict(given.variables).items() if path not in head}
    return given._replace(variables={"params": {}, "batch_stats": {}} | unflatten_dict(kept))


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
        "files": {
            str(path.relative_to(partial)): hash_of(path) for path in sorted(partial.rglob("*")) if path.is_file()
        },
    }
    checkpoint.write_json(partial / "weights.json", record)
    partial.rename(folder)


def of_folder(folder: Path, name: str, allow_missing: Sequence[str] = ()) -> tuple[dict, dict]:
    """What a folder holds, converted here or shaped as Hugging Face has it, and what `check_export` says of it.

    Errors: BadInput as `restore` and `check_export` have them.
    """
    if (folder / "weights.json").exists() or not os.path.lexists(folder / EXPORTED):
        return restore(folder, name), {}
    record = check_export(folder, name)
    if lacks := [one for one in record.get("lacks", ()) if one not in allow_missing]:
        what = f"holds a {name} that ends before its probe, without {', '.join(map(shown, lacks))}"
        flag = f'--config.model.allow_missing="{tuple(record["lacks"])}"'
        raise BadInput(f"{folder} {what}; pass {flag}, and they start anew")
    return weights.read(folder / EXPORTED), record


def check_export(folder: Path, name: str) -> dict:
    """What the config.json of an exported classifier says; {} of one that another program made.

    Errors: BadInput where it is damaged or of another version, or the folder holds something else than the network.
    """
    try:
        record = checkpoint.read_json(folder / "config.json")
        ours = str(record.get("made_by", "")).startswith("pneumojax ")
        if ours and record["schema"] != EXPORT_SCHEMA:
            made = f"{shown(record['made_by'])} (schema {shown(record['schema'])})"
            raise BadInput(f"{folder} was made by another version, {made}; export the run again")
        digest, kind = (record["files"][EXPORTED], record["kind"]) if ours else (None, None)
        model, fields = (record["model"], dict(record["fields"])) if kind == "classifier" else (name, {})
        if kind == "classifier":
            lacks = all(isinstance(one, str) for one in list(record.get("lacks", ())))
            if not (lacks and classes_of(record) and record["classifier"]):
                raise ValueError("it says neither classes nor a classifier")
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadInput(f"{folder / 'config.json'} cannot be read: {error.strerror}; export the run again") from error
    except checkpoint.DAMAGED as error:
        raise BadInput(f"{folder / 'config.json'} is damaged: {describe(error)}; export the run again") from error
    if kind not in (None, "classifier"):
        raise BadInput(f"{folder} holds a {shown(kind)} and no classifier; give another folder")
    if model != name:
        raise BadInput(f"{folder} holds the weights of {shown(model)}; give another folder, or that network")
    if fields:
        said = ", ".join(f"{shown(field)}={shown(value)}" for field, value in fields.items())
        raise BadInput(f"{folder} holds a {name} with {said}; weights are taken for one as it was published")
    if digest and (folder / EXPORTED).exists() and hash_of(folder / EXPORTED) != digest:
        raise BadInput(f"{folder} is damaged: {EXPORTED} is not as it was written; export the run again")
    return record if kind else {}


def restore(folder: Path, name: str) -> dict[str, np.ndarray]:
    """The state dict of a folder that `save` wrote. Errors: BadInput where it is damaged or of another network."""
    try:
        record = json.loads((folder / "weights.json").read_text())
        model, wanted = record["model"], record["digest"]
        shapes = {key: shape_there(tuple(map(int, shape))) for key, shape in record["shapes"].items()}
        files = dict(record.get("files", {}))  # the first edition had none
    except OSError as error:
        made = "give a folder that `python -m pneumojax.pretrained` or `pneumojax.export` made, or a file"
        raise BadInput(f"{folder / 'weights.json'} cannot be read: {error.strerror}; {made}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BadInput(f"{folder} is not a folder of `python -m pneumojax.pretrained`: {describe(error)}") from error
    if model != name:
        raise BadInput(f"{folder} holds the weights of {shown(model)}; give another folder, or that network")
    for file, hash_then in files.items():  # before Orbax sees them, whose threads print tracebacks of their own
        try:
            whole = hash_of(folder / file) == hash_then
        except (OSError, ValueError) as error:
            raise BadInput(f"{folder} cannot be read: {describe(error)}; convert the weights again") from error
        if not whole:
            raise BadInput(f"{folder} is damaged: {shown(file)} is not as it was written; convert the weights again")
    entries = table(name, num_classes_of(shapes, name))
    if any(key not in entries or shape_there(entries[key][1]) != shapes[key] for key in shapes):
        raise BadInput(f"{folder} is damaged, it has other tensors than {name}; convert the weights again")
    fresh = unflatten_dict({path: jnp.zeros(shape) for key, (path, shape) in entries.items() if key in shapes})
    target = {"params": {}, "batch_stats": {}} | fresh
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
    parser.add_argument("--allow_missing", nargs="*", default=(), help="tensors, layers or blocks that FILE may lack")
    parser.add_argument("--cache", default="~/.cache/pneumojax", help="where downloads are kept")
    cli.show_log()
    with cli.exit_codes():
        options = parser.parse_args(arguments)
    with cli.exit_codes(options.out, "--out"):
        download = options.source == "torchvision"
        cache = str(paths.of(options.cache, "--cache")) if download else ""
        source = "torchvision" if download else str(paths.of(options.source, "--from"))
        converted = load(source, options.model, options.allow_missing, cache, instead="give the file as --from")
        save(converted, options.model, Path(options.source).name, options.out)
        count = sum(leaf.size for leaf in jax.tree.leaves(converted.variables["params"]))
        logging.info("%s: %d parameters of %s", options.out, count, options.model)


if __name__ == "__main__":
    app.run(lambda _: main(), argv=sys.argv[:1])  # for absl's log alone; the flags are ours
