"""Classifies images with a finished run: `python -m pneumojax.predict --workdir=DIR IMAGE…`."""

import json
import os
import stat
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import logging

from pneumojax import cli, environment, systems
from pneumojax import run as runs
from pneumojax.data import decode, files, folder, layout, levels
from pneumojax.errors import BadInput
from pneumojax.names import escaped
from pneumojax.run import Run


def load(run: Run, name: str):
    """One classifier of a finished run, `trial0/clean/with_gan`: a function uint8 [N, S, S] → logits float32 [N, K].

    Errors: BadInput where the run has no such classifier, or its system keeps none.
    """
    stages = {stage.name: stage for stage in run.stages()}
    if not stages:
        raise BadInput(f"{run.workdir} has no classifier: all of them diverged")
    if name not in stages:
        raise BadInput(f"{run.workdir} has no classifier {name!r}; give one of {', '.join(stages)}")
    system = systems.load(run.config.system.name)
    if not hasattr(system, "classifier"):
        raise BadInput(f"{run.workdir}: the system {run.config.system.name} keeps no classifier to predict with")
    return system.classifier(run, stages[name])


def find(given: Sequence[Path]) -> list[Path]:
    """The images that are meant, each once, in the order given; what is left out is said.

    A file is one whatever its name; of a folder those are that training would take of it.

    Errors: BadInput where a file is missing, or a folder has none or cannot be looked into.
    """
    found: dict[str, Path] = {}
    count = 0
    for path in given:
        try:
            is_folder = stat.S_ISDIR(os.stat(path).st_mode)
        except OSError as error:
            raise BadInput(f"{path} is no image, nor a folder of images: {error.strerror}") from error
        inside = below(path) if is_folder else [path]
        if not inside:
            raise BadInput(f"{path} is no image, nor a folder with {', '.join(decode.FORMATS)} in it")
        count += len(inside)
        for one in inside:
            found.setdefault(os.path.abspath(one), one)
    if count > len(found):
        logging.warning("%d images were given more than once: they are answered once", count - len(found))
    return list(found.values())


def below(directory: Path) -> list[Path]:
    """The images below a folder, sorted. Errors: BadInput where it cannot be looked into."""
    names = sorted(folder.walk(directory))
    seen = [name for name in names if not layout.is_passed_over(name)]
    images = [name for name in seen if layout.is_image(name)]
    hidden = sum(map(layout.is_image, names)) - len(images)
    counts = {"no image by its name": len(seen) - len(images), layout.HIDDEN: hidden}
    if left_out := {why: count for why, count in counts.items() if count}:
        logging.warning("%s: %d images; left out: %s", directory, len(images), layout.listed(left_out))
    return [directory / name for name in images]


def classify_files(workdir: Path, name: str, paths: Sequence[Path]) -> tuple[list[dict], list[str]]:
    """Decodes images as training does and classifies them.

    Returns: ([{"file", "class", "probability", "logits"}], ["file: why it cannot be read"]).
    """
    run = runs.load(workdir)
    classifier, config = load(run, name), run.config
    size, fit, classes = config.model.image_size, config.data.fit, config.data.classes
    shown = levels.of_facts(run.results["data"].get("gray", {}))
    decoded = files.in_parallel(lambda path: files.read_and_decode(folder.read, path, size, fit, shown), paths)
    answered = list(zip(paths, decoded, strict=True))
    odd = [levels.beyond(one.own, shown) for _, one in answered]
    for why in sorted({*odd} - {""}):
        first = answered[odd.index(why)][0]
        logging.warning("%d of %d images (the first is %r): %s", odd.count(why), len(odd), str(first), why)
    bad = [f"{path}: {one.why}" for path, one in answered if one.why]
    readable = [(path, one.pixels) for path, one in answered if not one.why]
    if not readable:
        return [], bad
    logits = classifier(np.stack([pixels for _, pixels in readable]))
    answers = []
    for (path, _), row, shares in zip(readable, logits, np.asarray(jax.nn.softmax(logits)), strict=True):
        best = int(np.argmax(row))
        answers.append(
            {
                "file": str(path),
                "class": classes[best],
                "probability": float(shares[best]),
                "logits": dict(zip(classes, map(float, row), strict=True)),
            }
        )
    return answers, bad


def main(arguments: Sequence[str] | None = None) -> None:
    r"""Classifies chest X-rays with one classifier of a finished run. For research; not a diagnosis.

    Prints a line an image: its name, its class and the probability, with tabs between; in names a tab is \t, a line end
    \n, a backslash \\ and so on, as in a Python string.
    """
    parser = cli.Parser(prog="python -m pneumojax.predict", description=main.__doc__)
    parser.add_argument("images", nargs="+", type=cli.path, metavar="IMAGE", help="files, or folders of them")
    parser.add_argument("--workdir", required=True, type=cli.path, help="of the finished run")
    parser.add_argument("--classifier", default="trial0/clean/with_gan", help="which: trialN/PROTOCOL/ARM")
    parser.add_argument("--json", action="store_true", help="one JSON list, with logits, in place of lines")
    cli.show_log()
    with cli.exit_codes(), environment.pinned():
        options = parser.parse_args(arguments)
        answers, bad = classify_files(options.workdir, options.classifier, find(options.images))
        if options.json:
            cli.show(json.dumps(answers, indent=1))
        else:
            rows = ((escaped(one["file"]), escaped(one["class"]), f"{one['probability']:.4f}") for one in answers)
            cli.show(*map("\t".join, rows))
        if bad:
            raise BadInput(f"{len(bad)} of {len(answers) + len(bad)} images cannot be read; the others are above", bad)


if __name__ == "__main__":
    main()
