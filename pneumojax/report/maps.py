"""Where a network looks: saliency maps of its worst errors and of some right answers, with their sanity check."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pneumojax import checkpoint, overlays, saliency, systems
from pneumojax.evaluate import Prediction
from pneumojax.evaluate.mistakes import mistakes
from pneumojax.gan import pictures
from pneumojax.report import answers, samples, worst
from pneumojax.run import Run
from pneumojax.stage import Stage

PLACE = 27
ERRORS = 4  # the worst ones
RIGHT = 4  # right answers, at most; one a class
KEYWORD = "Maps"  # of the PNG's text that tells what it shows, as JSON
NOTE = (
    "Of one network: the image, Grad-CAM over it, integrated gradients from black (red speaks for the class that is "
    "said, blue against it; an empty map: nothing speaks for it). Right answers are those of middling probability. The "
    "table has the rank correlation of each map with that of the same network after its head, then all of it, was "
    "drawn anew: where it is near 1 the map tells of the image and nothing of what was learnt; a dash: one of the two "
    "is the same everywhere. A map is no reason: it says where, not why."
)
PHANTOM = "The images were drawn by a program."
NONE = "The system {} has no gradient: there are no maps of what it looks at."


class Shown(NamedTuple):
    """One image of the sheet."""

    name: str
    label: int  # what it is
    said: int
    chance: float  # of what is said


def chosen(run: Run) -> tuple[Stage, str, list[Shown]] | None:
    """A network, the first of the arm whose errors the page shows last, a part, and images of it; None without one."""
    columns = run.predictions
    parts: dict[str, set[str]] = {}
    for protocol, part in zip(columns["protocol"], columns["part"], strict=True):
        parts.setdefault(protocol, set()).add(part)
    if not (place := worst.where(parts)):
        return None
    found = answers.of(run, *place)
    names = answers.chosen(run.results["protocols"][place[0]], run.config.evaluate.declared)
    arm = next((name for name in reversed(names) if name in found), None)
    if arm is None:
        return None
    first = found[arm][0]
    stage = Stage(first.trial, place[0], arm=arm, gan_seed=first.gan_seed, classifier_seed=first.classifier_seed)
    return stage, place[1], [*errors(first), *right(first)]


def errors(prediction: Prediction) -> list[Shown]:
    """The worst ones of a network."""
    return [Shown(one.name, one.label, one.said, one.chance) for one in mistakes([prediction], ERRORS)]


def right(prediction: Prediction) -> list[Shown]:
    """Of each class the right answer whose probability is the median, alike ones by name."""
    chances, found = prediction.chances, []
    said = chances.argmax(1)
    for label in range(min(chances.shape[1], RIGHT)):
        rows = np.flatnonzero((said == label) & (prediction.labels == label)).tolist()
        ordered = sorted(rows, key=lambda row: (chances[row, label], prediction.names[row]))
        if ordered:
            row = ordered[len(ordered) // 2]
            found.append(Shown(prediction.names[row], label, label, float(chances[row, label])))
    return found


def sheet_path(workdir: Path, stage: Stage) -> Path:
    """Where the sheet of a network lies."""
    return workdir / "samples" / f"maps-{stage.name.replace('/', '-')}.png"


def write(run: Run, pixels: Callable) -> None:
    """Writes the sheet, where the run's system opens a network that has a gradient.

    Args:
      run: whole but for its page.
      pixels: names of real images → uint8 [n, S, S].
    """
    found, system = chosen(run), systems.load(run.config.system.name)
    if not found or not found[2] or not hasattr(system, "classifier") or not has_gradient(run):
        return
    stage, part, shown = found
    opened = system.classifier(run, stage).opened
    if not opened:
        return
    images = pixels([one.name for one in shown])
    explained = saliency.explain(opened, images, np.array([one.said for one in shown], np.int32))
    tiles, told = [], []
    for row, (one, made) in enumerate(zip(shown, explained, strict=True)):
        what = "error" if one.said != one.label else "right"
        tiles.append(overlays.triple(images[row], made, f"{row + 1}: {what}, {one.chance:.3f}"))
        told.append({**one._asdict(), **saliency.checked(made)})
    text = json.dumps({"stage": stage.name, "part": part, "images": told}, allow_nan=False)
    about = worst.PHANTOM if run.config.data.name == "phantom" else worst.LICENCE
    picture = overlays.sheet(tiles)
    checkpoint.write_bytes(sheet_path(run.workdir, stage), pictures.png(picture, {KEYWORD: text, "Description": about}))


def has_gradient(run: Run) -> bool:
    """Whether the logits of its system have one."""
    return getattr(systems.load(run.config.system.name), "GRADIENT", True)


def section(run: Run) -> dict | None:
    """The sheet and its table, where it is there; of a system without a gradient that it has none."""
    found = chosen(run)
    if not found:
        return None
    title = "Where a network looks"
    if not has_gradient(run):
        return {"title": title, "blocks": [{"note": NONE.format(run.config.system.name)}]}
    path = sheet_path(run.workdir, found[0])
    if not path.exists():
        return None
    told = json.loads(pictures.texts_of(path).get(KEYWORD, "{}"))
    if told.get("stage") != found[0].name:
        return None
    with pictures.opened(path) as picture:
        shown = samples.encoded(samples.smaller(np.asarray(picture.convert("RGB"))))
    last = PHANTOM if run.config.data.name == "phantom" else worst.LICENCE
    caption = f"{told['stage']}, {told['part']}: number in the table below, probability"
    blocks = [{"note": f"{NOTE} {last}"}, {"pictures": [(caption, shown)]}]
    return {"title": title, "blocks": [*blocks, {"table": table(told["images"], run.config.data.classes)}]}


def table(images: Sequence[dict], classes: Sequence[str]) -> dict:
    """A row an image: what it is, what is said, and the rank correlations."""
    rows = []
    for place, one in enumerate(images, 1):
        lead = [place, one["name"], classes[one["label"]], classes[one["said"]]]
        told = [one[method].get(which) for method in saliency.METHODS for which in saliency.DRAWN]
        kept = [("–" if value is None else overlays.plain(value),) for value in told]
        rows.append({"lead": lead, "cells": [(f"{one['chance']:.3f}",), *kept]})
    heads = [f"{title}, {which} anew" for title in saliency.METHODS.values() for which in saliency.DRAWN]
    return {"heads": ["", "image", "is", "is said to be", "probability", *heads], "rows": rows}
