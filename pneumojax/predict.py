"""Classifies images with a finished run: `python -m pneumojax.predict --workdir=DIR IMAGE…`."""

import fnmatch
import itertools
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
from absl import logging

from pneumojax import (
    answering,
    checkpoint,
    cli,
    environment,
    forms,
    novelty,
    overlays,
    paths,
    progress,
    saliency,
    systems,
)
from pneumojax import run as runs
from pneumojax.answering import Member
from pneumojax.data import files, given, levels
from pneumojax.data.given import Given
from pneumojax.errors import BadInput
from pneumojax.evaluate import operating
from pneumojax.forms import Answers
from pneumojax.gan import pictures
from pneumojax.names import escaped, printable
from pneumojax.run import Run
from pneumojax.stage import Stage
from pneumojax.systems import Classifier, Opened

DEFAULT = "trial0/clean/with_gan"
UNSAFE = re.compile(r"[^A-Za-z0-9_.-]")  # in the name of a picture
KEYWORD = "Sanity check"  # of a picture's text that has it as JSON
LONGEST = 60  # letters that such a name has of the image's
ABOUT = "For research, never for a diagnosis; a map says where a network looks, and not why."


def load(run: Run, name: str):
    """One classifier of a finished run, `trial0/clean/with_gan`: a function uint8 [N, S, S] → logits float32 [N, K].

    Errors: BadInput where the run has no such classifier, or its system keeps none.
    """
    [stage] = chosen(run, [name])
    return restored(run, stage).logits


def restored(run: Run, stage: Stage) -> Classifier:
    """One classifier of a finished run, read from its workdir. Errors: BadInput as `load` has them."""
    system = systems.load(run.config.system.name)
    if not hasattr(system, "classifier"):
        raise BadInput(f"{run.workdir}: the system {run.config.system.name} keeps no classifier to predict with")
    return system.classifier(run, stage)


def chosen(run: Run, wanted: Sequence[str]) -> list[Stage]:
    """The classifiers that names or patterns as `trial*/clean/with_gan` mean, each once, in the order of the run.

    Errors: BadInput where one means none.
    """
    stages = {stage.name: stage for stage in run.stages()}
    if not stages:
        raise BadInput(f"{run.workdir} has no classifier: all of them diverged")
    found = {one: [name for name in stages if name == one or fnmatch.fnmatchcase(name, one)] for one in wanted}
    for one, names in found.items():
        if not names:
            raise BadInput(f"{run.workdir}{run.lacks(one)}")
    return [stage for name, stage in stages.items() if any(name in names for names in found.values())]


def decoded(run: Run, images: Sequence[Given]) -> tuple[list[Given], np.ndarray, list[str]]:
    """Decodes images as training does, and says which are not shown as those of the run were.

    Returns: (those that can be read; uint8 [n, S, S]; ["file: why it cannot be read"]).
    """
    config, shown = run.config, levels.of_facts(run.results["data"].get("gray", {}))
    size, fit = config.model.image_size, config.data.fit
    found = list(files.in_parallel(lambda one: files.read_and_decode(one.read, one.name, size, fit, shown), images))
    odd = [levels.beyond(one.own, shown) for one in found]
    for why in sorted({*odd} - {""}):
        first = images[odd.index(why)].file
        logging.warning("%d of %d images (the first is %r): %s", odd.count(why), len(odd), first, why)
    bad = [f"{one.file}: {got.why}" for one, got in zip(images, found, strict=True) if got.why]
    readable = [(one, got.pixels) for one, got in zip(images, found, strict=True) if not got.why]
    pixels = np.stack([own for _, own in readable]) if readable else np.zeros((0, size, size), np.uint8)
    return [one for one, _ in readable], pixels, bad


def members(run: Run, wanted: Sequence[str], point: str | float | None = None) -> list[Member]:
    """The classifiers that names or patterns mean, at an operating point as `answering.point_of` gives it.

    Errors: BadInput where one means none, or has no such point.
    """
    return [answering.member(run, stage, point) for stage in chosen(run, wanted)]


def answers(
    run: Run,
    asked: Sequence[Member],
    first: Classifier,
    images: Sequence[Given],
    pixels: np.ndarray,
    point: str | float | None = None,
) -> Answers:
    """Classifies images by one or several classifiers of a run.

    Args:
      run: a finished one.
      asked: as `members` gives them, for the same point.
      first: the first of these; of the others one at a time is read.
      images: that can be read.
      pixels: theirs, uint8 [n, S, S].
      point: an operating point.

    Errors: BadInput where a classifier cannot be had.
    """
    classes = run.config.data.classes
    about = {
        "trained_on": answering.trained_on(run),
        "classifiers": [one.stage.name for one in asked],
        "calibrated": not any(one.why for one in asked),
        "operating_point": point,
        "threshold": answering.probability(asked) if isinstance(point, str) else point,
    }
    if not images:
        return Answers(about, [])
    others = (restored(run, one.stage) for one in asked[1:])
    logits = np.stack([one.logits(pixels) for one in itertools.chain([first], others)])
    said = answering.said(asked, logits, point)
    reference, why = novelty.of_run(run, asked[0].stage, first.opened)
    if reference:
        far = novelty.distances(novelty.features_of(first.opened, pixels), reference.features)
        told = reference._asdict()
        about["novelty"] = {name: told[name] for name in ("threshold", "false_alarms", "images", "patients")}
    else:
        far, about["novelty"] = [None] * len(images), {"why": why}
    rows = [
        {
            "file": one.file,
            "class": classes[said.labels[row]],
            "probability": float(said.chances[row, said.labels[row]]),
            "probabilities": dict(zip(classes, said.chances[row].tolist(), strict=True)),
            "spread": answering.spread(said.each[:, row]),
            "distance": None if reference is None else float(far[row]),
            "unlike": None if reference is None else bool(far[row] > reference.threshold),
            "logits": dict(zip(classes, map(float, logits.mean(0)[row]), strict=True)),
        }
        for row, one in enumerate(images)
    ]
    return Answers(about, rows)


def prepare(run: Run, first: Classifier, folder: Path) -> None:
    """Makes the folder of explanations, before any answer could be lost for it.

    Errors: BadInput where the classifier has no gradient, or the network no stages, or the folder holds something;
    OSError where it cannot be made.
    """
    if not first.opened or not first.opened.onward:
        raise BadInput(f"--explain: {run.workdir}: {saliency.NO_GRADIENT}; leave it out")
    folder.mkdir(parents=True, exist_ok=True)
    paths.check_new(folder, "--explain")
    with tempfile.TemporaryFile(dir=folder):
        pass


def explained(run: Run, found: Answers, opened: Opened, pixels: np.ndarray, folder: Path) -> Answers:
    """Writes a picture an image of what the first classifier looks at, and adds to each answer where it is.

    Errors: OSError where they cannot be written.
    """
    labels = np.array([run.config.data.classes.index(one["class"]) for one in found.images], np.int32)
    names = found.about["classifiers"]
    by = f"the mean of {', '.join(names)}, maps of {names[0]}" if names[1:] else names[0]
    images = []
    made = progress.over(saliency.explain(opened, pixels, labels), "maps", len(labels))
    for row, (one, own) in enumerate(zip(found.images, made, strict=True)):
        path = folder / f"{row + 1:04d}-{UNSAFE.sub('_', PurePath(one['file']).stem)[:LONGEST]}.png"
        checks = saliency.checked(own)
        said = f"{printable(one['class'])} {one['probability']:.3f}"
        about = f"{said} by {by}, trained on {found.about['trained_on']}. {ABOUT}"
        texts = {"Description": about, KEYWORD: json.dumps(checks)}
        checkpoint.write_bytes(path, pictures.png(overlays.triple(pixels[row], own, said), texts))
        images.append(one | {"explanation": {"picture": str(path), **checks}})
    return found._replace(images=images)


def main(arguments: Sequence[str] | None = None) -> None:
    r"""Classifies chest X-rays with classifiers of a finished run. For research; not a diagnosis.

    Prints a line an image: its name, its class and the probability, with tabs between; in names a tab is \t, a line end
    \n, a backslash \\ and so on, as in a Python string. The log says what the classifiers were trained on.
    """
    parser = cli.Parser(prog="python -m pneumojax.predict", description=main.__doc__)
    parser.add_argument("images", nargs="+", type=cli.path, metavar="IMAGE", help="files, folders or zips of them")
    parser.add_argument("--workdir", required=True, type=cli.path, help="of the finished run")
    parser.add_argument(
        "--classifier",
        action="append",
        help=f"which: trialN/PROTOCOL/ARM, or a pattern as 'trial*/clean/with_gan'; may be given several times, the "
        f"answer is the mean of all; {DEFAULT}",
    )
    parser.add_argument(
        "--threshold",
        metavar="POINT",
        help=f"say the second class above it: {', '.join(operating.POINTS)}, as the run's inner part tells, or a "
        "probability; without it the likelier class is said",
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--json", action="store_true", help="one JSON list of all that is known, in place of lines")
    instead.add_argument("--csv", action="store_true", help="the same as CSV, a line an image")
    parser.add_argument(
        "--explain",
        type=cli.path,
        metavar="FOLDER",
        help="write a picture an image there: Grad-CAM and integrated gradients of the first classifier; the other "
        "forms of output say how far these depend on what it learnt",
    )
    cli.show_log()
    with cli.exit_codes():
        options = parser.parse_args(arguments)
    with cli.exit_codes(options.explain, "--explain"), environment.pinned():
        point = None if options.threshold is None else answering.point_of(options.threshold)
        images, run = given.find(options.images), runs.load(options.workdir)
        asked = members(run, options.classifier or [DEFAULT], point)
        first = restored(run, asked[0].stage)
        if options.explain:
            prepare(run, first, options.explain)
        readable, pixels, bad = decoded(run, images)
        found = answers(run, asked, first, readable, pixels, point)
        forms.say(found)
        if not (options.json or options.csv):  # before the maps: a kill while they are drawn loses no answer
            rows = ((escaped(one["file"]), escaped(one["class"]), f"{one['probability']:.4f}") for one in found.images)
            cli.show(*map("\t".join, rows))
        if options.explain and readable:
            found = explained(run, found, first.opened, pixels, options.explain)
        if options.json:
            cli.show(forms.as_json(found))
        elif options.csv:
            cli.show(*forms.as_csv(found).splitlines())
        if bad:
            rest = "the others are above" if readable else "nothing is said"
            raise BadInput(f"{len(bad)} of {len(images)} images cannot be read; {rest}", bad)


if __name__ == "__main__":
    main()
