"""Takes a network or a generator out of a finished run: `python -m pneumojax.export --workdir=DIR --out=FOLDER …`.

The folder is shaped as Hugging Face has it: `model.safetensors`, `config.json`, `README.md`.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from absl import logging
from jax.interpreters import partial_eval

from pneumojax import (
    __version__,
    checkpoint,
    cli,
    conversion,
    environment,
    gan,
    interchange,
    models,
    paths,
    sample,
    systems,
)
from pneumojax import run as runs
from pneumojax.cards import deck
from pneumojax.data import pixels
from pneumojax.errors import BadInput
from pneumojax.names import printable
from pneumojax.pretrained import EXPORT_SCHEMA, EXPORTED
from pneumojax.run import Run
from pneumojax.stage import Stage
from pneumojax.weights import ENUMS

TRIED = 4  # random inputs that programs and the run itself have to answer alike
ARGUMENTS = {  # of torchvision's networks that can be built in more than one way, for what is exported
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}


class Subject(NamedTuple):
    """What is exported."""

    stage: Stage
    function: Callable  # traced by jax
    inputs: dict[str, jax.ShapeDtypeStruct]  # of it, of one example
    output: str
    tensors: dict[str, dict[str, np.ndarray]]  # by file
    facts: dict  # for config.json
    loading: tuple[str, ...] = ()  # lines of Python that load it in torchvision, for its file; () where none do
    said: tuple[str, ...] = ()  # sentences for its card


def of_classifier(run: Run, name: str) -> Subject:
    """A classifier of a finished run, `trial0/clean/with_gan`.

    Errors: BadInput where the run has no such classifier, or its system has no network that gives its logits.
    """
    stages = {stage.name: stage for stage in run.stages()}
    if name not in stages:
        raise BadInput(f"{run.workdir}{run.lacks(name)}")
    system = systems.load(run.config.system.name)
    if not hasattr(system, "exported"):
        what = f"the system {run.config.system.name} keeps no network whose logits are its answers"
        raise BadInput(f"{run.workdir}: {what}; it cannot be exported, python -m pneumojax.predict uses it")
    stage, config = stages[name], run.config
    exported = system.exported(run, stage)
    size, classes = config.model.image_size, list(config.data.classes)
    inputs = {"images": jax.ShapeDtypeStruct((size, size), np.uint8)}
    tried = interchange.examples(inputs, TRIED, len(classes))
    own = system.classifier(run, stage).logits(*tried)
    tensors = {EXPORTED: conversion.all_to_torch(exported.variables, type(exported.model))}
    if exported.probe:
        tensors["probe.safetensors"] = {key: np.float32(value) for key, value in exported.probe.items()}
    fields = unusual(exported.model, config.model.name)
    function, arguments = torchvisions(exported, config.model.name, fields)
    facts = {
        "kind": "classifier",
        "model": config.model.name,
        "fields": fields,
        "architecture": function,
        "num_labels": len(classes),
        "id2label": {str(label): one for label, one in enumerate(classes)},
        "label2id": {one: label for label, one in enumerate(classes)},
        "classifier": name,
        "lacks": conversion.lacking(tensors[EXPORTED], config.model.name) if exported.probe else [],
        "data": config.data.name,
        "fingerprint": run.results["data"]["fingerprint"],
        "preprocessing": preprocessing(config),
        "run_differs_by": interchange.difference(np.asarray(jax.jit(exported.logits)(*tried)), own),
    }
    loading = ()
    if function:
        given = ", ".join(f"{key}={value}" for key, value in arguments.items())
        loading = (
            "import safetensors.torch, torchvision",
            f"model = torchvision.models.{function}({given}).eval()",
            "model.load_state_dict(safetensors.torch.load_file({file}))",
        )
    said = exported.said
    if config.model.dtype != "float32":
        said += (f"The run computed in {config.model.dtype}; what is exported computes in float32.",)
    return Subject(stage, exported.logits, inputs, "logits", tensors, facts, loading, said)


def unusual(model, name: str) -> dict:
    """The fields of a network that the one of `config.model.weights` would have otherwise."""
    usual = models.fields(name) | getattr(model, "WITH_WEIGHTS", {})
    return {field: getattr(model, field) for field, value in usual.items() if getattr(model, field) != value}


def torchvisions(exported: systems.Exported, name: str, fields: dict) -> tuple[str | None, dict]:
    """The function of torchvision.models that builds a network, None where none does, and its arguments."""
    if name not in ENUMS or exported.probe or fields.keys() - {"transform_input"}:
        return None, {}
    arguments = {"num_classes": exported.model.num_classes, **ARGUMENTS.get(name, {})}
    if hasattr(exported.model, "transform_input"):
        arguments["transform_input"] = exported.model.transform_input
    return ENUMS[name].partition("_Weights")[0].lower(), arguments


def why_not(facts: dict, tensors: dict) -> str:
    """Why a network does not load in torchvision."""
    if len(tensors) > 1:
        return "its logits are those of the probe beside it"
    if facts["model"] not in ENUMS:
        return f"it has no {facts['model']}"
    return f"its own has not {', '.join(f'{key} {value}' for key, value in facts['fields'].items())}"


def preprocessing(config) -> dict:
    """What an image went through before the network saw it."""
    black, white = (np.asarray(pixels.normalise(np.full((1, 1, 1), value, np.uint8)))[0, 0, 0] for value in (0, 255))
    deviation = 1 / (white - black)
    return {
        "image_size": config.model.image_size,
        "fit": config.data.fit,
        "resample": "bilinear, antialiased, as Pillow does it",
        "window": config.data.window,
        "channels": "gray, the same in all three",
        "scale": 255,
        "mean": [round(float(value), 6) for value in -black * deviation],
        "std": [round(float(value), 6) for value in deviation],
    }


def of_gan(run: Run, name: str) -> Subject:
    """A generator of a finished run: `trial0/clean/gan_normal`, or `trial0/clean` where that is one state.

    Errors: BadInput where the run has no such GAN, or several, or as `sample.load` has them.
    """
    found = {
        stage.name: (group, stage, labels) for group, own in sample.gans(run).items() for stage, labels in own.items()
    }
    several = [one for one, (group, _, _) in found.items() if name in (one, group)]
    if len(several) != 1:
        there = f"give --gan={' or '.join(several or found)}" if found else "none was trained"
        raise BadInput(f"{run.workdir}: {name!r} {'is several GANs' if several else 'is no GAN of it'}; {there}")
    group, stage, labels = found[several[0]]
    config, module, classes = run.config.gan, gan.load(run.config.gan.name), run.config.data.classes
    source = next(one for one in sample.load(run, group, 0, classes[labels[0]]))
    drawn, tensors = drawing(module, source, config)
    facts = {
        "kind": "generator",
        "gan": config.name,
        "state": source.digest[:16],
        "synthetic": sample.SYNTHETIC,
        "classes": [classes[label] for label in labels],
        "id2label": {str(label): classes[label] for label in labels},
        "generator": stage.name,
        "data": run.config.data.name,
        "image_size": config.image_size,
    }
    inputs = {"latents": jax.ShapeDtypeStruct((config.latent_dim,), np.float32)}
    if module.CONDITIONAL:
        inputs["labels"] = jax.ShapeDtypeStruct((), np.int32)
    return Subject(stage, drawn, inputs, "images", {EXPORTED: tensors}, facts)


def drawing(module, source: sample.Source, config) -> tuple[Callable, dict[str, np.ndarray]]:
    """`sample` of a GAN's state as a function of latents (and labels), and the arrays of it that it depends on."""
    paths, tree = jax.tree_util.tree_flatten_with_path(source.state)
    leaves = [leaf for _, leaf in paths]

    def images(leaves, latents, labels):
        return module.sample(jax.tree.unflatten(tree, leaves), latents, labels, config)

    shapes = jax.ShapeDtypeStruct((2, config.latent_dim), np.float32), jax.ShapeDtypeStruct((2,), np.int32)
    traced = jax.make_jaxpr(images)(leaves, *shapes).jaxpr
    used = partial_eval.dce_jaxpr(traced, [True] * len(traced.outvars))[1]
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    tensors = {
        name: np.ascontiguousarray(jax.device_get(leaf))
        for name, leaf, one in zip(names, leaves, used, strict=False)
        if one
    }
    if module.CONDITIONAL:
        return functools.partial(images, leaves), tensors
    return lambda latents: images(
        leaves, latents, jnp.broadcast_to(jnp.int32(source.label), latents.shape[:1])
    ), tensors


def programs(subject: Subject, onnx: bool, jax_export: bool, classes: Sequence[str]) -> dict[str, tuple[bytes, dict]]:
    """The programs that are asked for, by file: content, and facts for config.json. Errors: BadInput as theirs."""
    tried = interchange.examples(subject.inputs, TRIED, len(classes))
    made: dict[str, tuple[bytes, Any]] = {}
    if onnx:
        said = {"made by": f"pneumojax {__version__}", "of": subject.stage.name, "licence": "not known"}
        said["use"] = subject.facts.get("synthetic", "for research; not a diagnosis")
        said["classes"] = ", ".join(subject.facts["id2label"].values())
        made["model.onnx"] = interchange.to_onnx(subject.function, subject.inputs, subject.output, tried, said)
    if jax_export:
        made["model.jax_export"] = interchange.to_jax(subject.function, subject.inputs, tried)
    return made


def write(run: Run, subject: Subject, made: dict[str, tuple[bytes, dict]], folder: Path) -> None:
    """Writes the folder, which appears whole or not at all.

    Errors: BadInput where it holds something; OSError where it cannot be written.
    """
    contents = {
        name: safetensors.numpy.save({key: np.ascontiguousarray(one) for key, one in tensors.items()}, {"format": "pt"})
        for name, tensors in subject.tensors.items()
    }
    contents |= {name: content for name, (content, _) in made.items()}
    config = {"schema": EXPORT_SCHEMA, "made_by": f"pneumojax {__version__}", **subject.facts}
    config["programs"] = {name: facts for name, (_, facts) in made.items()}
    config["files"] = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    lines = tuple(line.format(file=f'"{EXPORTED}"') for line in subject.loading)
    why = "" if lines or "gan" in subject.facts else why_not(subject.facts, subject.tensors)
    cards = deck.of(run, subject, config, lines, why)
    contents |= {name: text.encode(errors="backslashreplace") for name, text in cards.items()}
    with paths.new_folder(folder) as partial:
        for name, content in contents.items():
            checkpoint.write_bytes(partial / name, content)
        checkpoint.write_json(partial / "config.json", config)


def main(arguments: Sequence[str] | None = None) -> None:
    """Exports a classifier or a generator of a finished run into a folder. For research; not a diagnosis."""
    parser = cli.Parser(prog="python -m pneumojax.export", description=main.__doc__)
    parser.add_argument("--workdir", required=True, type=cli.path, help="of the finished run")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--classifier", metavar="NAME", help="trialN/PROTOCOL/ARM")
    which.add_argument("--gan", metavar="NAME", help="trialN/PROTOCOL/gan_CLASS")
    parser.add_argument("--out", required=True, type=cli.path, metavar="FOLDER", help="to make; or an empty one")
    parser.add_argument("--onnx", action="store_true", help="model.onnx as well (pip install 'pneumojax[onnx]')")
    parser.add_argument("--jax_export", action="store_true", help="model.jax_export as well, which expires")
    cli.show_log()
    with cli.exit_codes(), environment.pinned():
        options = parser.parse_args(arguments)
        folder = Path(os.path.realpath(options.out))
        with cli.exit_codes(folder.parent, "--out"):
            paths.check_new(folder)
        run = runs.load(options.workdir)
        subject = of_gan(run, options.gan) if options.gan is not None else of_classifier(run, options.classifier)
        made = programs(subject, options.onnx, options.jax_export, run.config.data.classes)
        with cli.exit_codes(folder.parent, "--out"):  # the temporary one lies there
            write(run, subject, made, folder)
        logging.info("%s: %s", subject.stage.name, ", ".join(sorted(os.listdir(folder))))
        file = repr(str(options.out / EXPORTED))
        cli.show(printable(options.out), *(printable(line.format(file=file)) for line in subject.loading))


if __name__ == "__main__":
    main()
