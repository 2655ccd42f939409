"""Classifies images with a finished run: `python -m pneumojax.predict --workdir=DIR IMAGE…`."""

from pneumojax import runtime

if __name__ == "__main__":
    runtime.configure()  # before anything imports jax

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from pneumojax import checkpoint, classify, cli, finetune, models, plan, sharding
from pneumojax.classify import Recipe
from pneumojax.config import frozen
from pneumojax.data import CLASSES, decode, files, folder
from pneumojax.errors import BadInput


def load(workdir: Path, stage: str) -> tuple[Recipe, dict, int, str]:
    """One classifier of a finished run.

    Args:
      workdir: of the run.
      stage: e.g. `trial0/clean/with_gan`.

    Returns: (recipe, {"params", "batch_stats"}, image size in pixels, how images are fitted to it).

    Errors: BadInput where the run is not whole or has no such classifier.
    """
    try:
        config = frozen(json.loads((workdir / "config.json").read_text()))
        results = json.loads((workdir / "results.json").read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{workdir} is not the workdir of a finished run; give another --workdir") from error
    directory = workdir / "checkpoints" / stage
    if not directory.is_dir():
        found = sorted(p.relative_to(workdir / "checkpoints") for p in (workdir / "checkpoints").glob("trial*/*/*.npz"))
        stages = [str(path.with_suffix("")) for path in found if path.stem != "generated"]
        raise BadInput(f"{workdir} has no classifier {stage}; give one of {', '.join(stages)}")
    model = models.build(config.model, len(CLASSES))
    shapes = plan.shapes(config, model)
    new = frozenset(tuple(name.split(".")) for name in results["classifier"]["new_parameters"])
    tuning = finetune.choose(model, config.model.image_size, shapes, config.classifier, new)
    recipe = Recipe(model, config.classifier, tuning, config.model.dtype)
    trained, kept = finetune.split(jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes), tuning)
    state = restore(directory, classify.start(recipe, trained))
    if jax.tree.leaves(kept):
        kept = restore(workdir / "checkpoints" / "frozen", kept)
    return recipe, classify.variables_of(state, kept), config.model.image_size, config.data.fit


def restore(directory: Path, target):
    """The newest checkpoint of a directory, as a tree like `target`."""
    with checkpoint.open_manager(directory) as manager:
        return checkpoint.restore(manager, sharding.replicate(target))[1]


def find(given: Sequence[Path]) -> list[Path]:
    """The images among files and below folders. Errors: BadInput where one is missing or a folder has none."""
    paths = []
    for path in given:
        inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in decode.FORMATS) if path.is_dir() else [path]
        if not inside or not path.exists():
            raise BadInput(f"{path} is no image, nor a folder with {', '.join(decode.FORMATS)} in it")
        paths += inside
    return paths


def classify_files(workdir: Path, stage: str, paths: Sequence[Path]) -> tuple[list[dict], list[str]]:
    """Decodes images as training does and classifies them.

    Returns: ([{"file", "class", "probability", "logits"}], ["file: why it cannot be read"]).
    """
    recipe, variables, size, fit = load(workdir, stage)
    decoded = files.in_parallel(lambda path: files.read_and_decode(folder.read, path, size, fit), paths)
    answered = list(zip(paths, decoded, strict=True))
    bad = [f"{path}: {one.why}" for path, one in answered if one.why]
    readable = [(path, one.pixels) for path, one in answered if not one.why]
    if not readable:
        return [], bad
    table = sharding.replicate(np.stack([pixels for _, pixels in readable]))
    logits = classify.predict(variables, table, np.arange(len(readable), dtype=np.int32), recipe)
    answers = []
    for (path, _), row, shares in zip(readable, logits, np.asarray(jax.nn.softmax(logits)), strict=True):
        best = int(np.argmax(row))
        answers.append(
            {
                "file": str(path),
                "class": CLASSES[best],
                "probability": float(shares[best]),
                "logits": dict(zip(CLASSES, map(float, row), strict=True)),
            }
        )
    return answers, bad


def main(arguments: Sequence[str] | None = None) -> None:
    """Classifies chest X-rays with one classifier of a finished run. For research; not a diagnosis."""
    parser = cli.Parser(prog="python -m pneumojax.predict", description=main.__doc__)
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="files, or folders of them")
    parser.add_argument("--workdir", required=True, type=Path, help="of the finished run")
    parser.add_argument("--classifier", default="trial0/clean/with_gan", help="which: trialN/PROTOCOL/ARM")
    parser.add_argument("--json", action="store_true", help="one JSON list, with logits, in place of lines")
    with cli.exit_codes():
        options = parser.parse_args(arguments)
        answers, bad = classify_files(options.workdir, options.classifier, find(options.images))
        if options.json:
            print(json.dumps(answers, indent=1))
        else:
            for answer in answers:
                print(f"{answer['file']}\t{answer['class']}\t{answer['probability']:.4f}")
        if bad:
            raise BadInput(f"{len(bad)} of {len(answers) + len(bad)} images cannot be read; the others are above", bad)


if __name__ == "__main__":
    main()
