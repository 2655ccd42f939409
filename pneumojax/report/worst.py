"""The worst errors: images that an arm's networks are surest of and wrong about, as pictures where these were kept."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pneumojax import checkpoint
from pneumojax.evaluate import Prediction
from pneumojax.evaluate.mistakes import Mistake, mistakes
from pneumojax.gan import pictures
from pneumojax.report import answers, samples
from pneumojax.run import Run

PLACE = 26
COUNT = 12  # images of a sheet
KEYWORD = "Images"  # of the PNG's text that tells which images it shows
NOTE = (
    "Real images whose class is missed with the highest probability, the mean over the networks of an arm that were "
    "tested on them. Look at them before believing a score: mislabelled, turned or empty images show here first."
)
LICENCE = "This page holds images of the data set: mind its licence before sharing."
PHANTOM = "They were drawn by a program."


class Worst(NamedTuple):
    """What one sheet shows."""

    protocol: str
    arm: str
    part: str
    found: list[Mistake]

    @property
    def path(self) -> str:
        """Where its sheet lies in a workdir."""
        return f"samples/worst-{self.protocol}-{self.arm}.png"

    @property
    def digest(self) -> str:
        """Of the images that it shows, in their order, and what is said of them."""
        told = json.dumps([[one.name, one.label, one.said] for one in self.found])
        return hashlib.sha256(told.encode()).hexdigest()


def where(parts: Mapping[str, set[str]]) -> tuple[str, str] | None:
    """Protocol and part of real images alone, by the parts that each protocol has: first those whose test is real."""
    for protocol, own in parts.items():
        if "test_generated" not in own and own & {"unseen", "test"}:
            return protocol, "unseen" if "unseen" in own else "test"
    return next(((protocol, "unseen") for protocol, own in parts.items() if "unseen" in own), None)


def worst_of(config, protocols: Mapping[str, dict], parts, told: Callable) -> list[Worst]:
    """What there is to show.

    Args:
      config: of the run.
      protocols: of results.json.
      parts: protocol → the parts that it has predictions of.
      told: (protocol, part) → {arm: its predictions}.
    """
    place = where(parts)
    if not place:
        return []
    found = told(*place)
    arms = [name for name in answers.chosen(protocols[place[0]], config.evaluate.declared) if name in found]
    return [Worst(place[0], name, place[1], mistakes(found[name], COUNT)) for name in arms]


def write(workdir: Path, config, protocols, predictions: Sequence[Prediction], pixels: Callable) -> None:
    """Writes a sheet for each arm that is shown and has a mistake.

    Args:
      workdir: of the run.
      config: of the run.
      protocols: of results.json.
      predictions: all of them.
      pixels: names of real images → uint8 [n, S, S].
    """

    def told(protocol: str, part: str) -> dict[str, list[Prediction]]:
        found: dict[str, list[Prediction]] = {}
        for p in predictions:
            if (p.protocol, p.part) == (protocol, part):
                found.setdefault(p.arm, []).append(p)
        return found

    parts: dict[str, set[str]] = {}
    for p in predictions:
        parts.setdefault(p.protocol, set()).add(p.part)
    about = PHANTOM if config.data.name == "phantom" else "Images of the data set: mind its licence before sharing."
    for one in worst_of(config, protocols, parts, told):
        if one.found:
            images = pixels([mistake.name for mistake in one.found])
            content = pictures.png(sheet(one, images), {KEYWORD: one.digest, "Description": about})
            checkpoint.write_bytes(workdir / one.path, content)


def sheet(one: Worst, images: np.ndarray) -> np.ndarray:
    """Its images, uint8 [n, S, S], each with its number and probability above: uint8 [H, W]."""
    tiles = [
        pictures.captioned(pictures.tiled(image[None], 1), f"{number}: {mistake.chance:.3f}", str(number))
        for number, (image, mistake) in enumerate(zip(images, one.found, strict=True), 1)
    ]
    columns = min(6, max(1, (pictures.WIDTH + pictures.GUTTER) // (tiles[0].shape[1] + pictures.GUTTER)))
    return pictures.below([pictures.beside(tiles[first : first + columns]) for first in range(0, len(tiles), columns)])


def section(run: Run) -> dict | None:
    """A table an arm, and its sheet if that is there and of these images."""
    columns = run.predictions
    parts: dict[str, set[str]] = {}
    for protocol, part in dict.fromkeys(zip(columns["protocol"], columns["part"], strict=True)):
        parts.setdefault(protocol, set()).add(part)
    shown = worst_of(run.config, run.results["protocols"], parts, lambda *place: answers.of(run, *place))
    if not shown:
        return None
    blocks: list[dict] = []
    for one in shown:
        title = run.results["protocols"][one.protocol][one.arm]["title"]
        caption = f"{one.protocol}, {title}, {one.part}"
        if not one.found:
            blocks.append({"note": f"{caption}: no image is said wrongly in the mean."})
            continue
        if picture := kept(run.workdir / one.path, one):
            blocks.append({"pictures": [(f"{caption}: number in the table below, probability", picture)]})
        else:
            blocks.append({"note": f"{caption}:"})
        blocks.append({"table": table(one, run.config.data.classes)})
    last = PHANTOM if run.config.data.name == "phantom" else LICENCE
    pictured = any("pictures" in block for block in blocks)
    return {"title": "Worst errors", "blocks": [{"note": f"{NOTE} {last}" if pictured else NOTE}, *blocks]}


def kept(path: Path, one: Worst) -> str | None:
    """The sheet of these very images as it stands in the page; None where it is not there, or shows others."""
    if not path.exists() or pictures.texts_of(path).get(KEYWORD) != one.digest:  # that is of a trial that was merged
        return None
    return samples.shown(path)


def table(one: Worst, classes: Sequence[str]) -> dict:
    """Names, truth and what is said instead."""
    rows = [
        {
            "lead": [number, mistake.name, classes[mistake.label], classes[mistake.said]],
            "cells": [(f"{mistake.chance:.3f}",), (mistake.networks,)],
        }
        for number, mistake in enumerate(one.found, 1)
    ]
    return {"heads": ["", "image", "is", "is said to be", "probability", "networks"], "rows": rows}
