"""Systems: what is fitted to images and gives logits; one module each, looked up by name.

    prepare(config) -> system
        From the study's config, frozen, before any image is read. `system.facts`, a dict, goes into results.json as
        "classifier"; its "weights_digest", if any, must be the same whenever a run goes on.
    logits(system, fits, table, place) -> iterator of (Fit, logits)
        Fits what is asked for, in any order, and gives for each the logits of the rows `fit.tested`, float32 [n, K], or
        a `loop.Diverged`. A fit that is `done` may be left out. The same bits for the same arguments. The images of
        rows are `data.table.images(table, rows)`, uint8 [n, S, S], their labels `table.labels[rows]`;
        `place.checkpoints(fit.stage)` is the folder for whatever is to be kept.

A module may also have

    DEFAULTS: dict
        Fields of its own in `config.system`, with their values.
    check(system, fits, labels) -> None
        Raises BadInput where the fits cannot be, or so many images are too many, before anything is written; `labels`
        are those of all rows.
    parameters(system) -> str
        A table of what is learnt, for `parameters.txt`.
    classifier(run, stage) -> Classifier
        Of a finished run (`pneumojax.run.Run`), for `pneumojax.predict`.
    exported(run, stage) -> Exported
        The same as a network's numbers, for `pneumojax.export`.
    GRADIENT: bool
        False where logits have no gradient in the pixels: `onward` is None, there are no saliency maps.
"""

from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import flax.linen as nn
import numpy as np

from pneumojax import lookup
from pneumojax.classify import Recipe
from pneumojax.stage import Stage


class Fit(NamedTuple):
    """One classifier that is to be fitted."""

    stage: Stage
    train: np.ndarray  # int [m], rows of the table
    extra: np.ndarray  # int [k], rows that weigh as much as these: a step takes a batch of either; none if k is 0
    inner: np.ndarray  # int [j], rows of patients who are neither trained on nor tested, to choose settings by
    steps: int  # of an optimiser
    tested: np.ndarray  # int [n], rows that logits are wanted of, each once
    overrides: dict  # fields of config.classifier that this one has otherwise
    init_seed: int  # of random parameters, the same for all arms of a trial
    seed: int  # of all else: order, dropout; the same for all arms of a trial and protocol
    done: bool  # whether its logits are at rest already
    groups: np.ndarray  # int [rows of the table], equal for images of one patient; each generated one's own, below 0


class Exported(NamedTuple):
    """A classifier of a finished run as numbers that other programs can compute with, in float32."""

    model: nn.Module
    variables: dict  # {"params", "batch_stats"} of the network, of all that is computed
    logits: Callable  # uint8 [N, S, S] → logits float32 [N, K], traced by jax
    said: tuple[str, ...] = ()  # sentences for its card
    # {"weight" [K, d], "bias" [K]} of a linear layer on the means over the pixels of what the last of its stages makes;
    # {} where the network's own head gives the logits
    probe: dict = {}


class Opened(NamedTuple):
    """The network of a classifier of a finished run, as functions of its arrays."""

    recipe: Recipe
    variables: dict
    end: int  # its features are what the stage of this number sees
    # (recipe, variables, what the stage of a number sees, that number) → logits float32 [N, K]; None: no gradient
    onward: Callable | None


class Classifier(NamedTuple):
    """A classifier of a finished run."""

    logits: Callable  # uint8 [N, S, S] → logits float32 [N, K]
    # its network, to be looked into by `pneumojax.novelty` and `pneumojax.saliency`; None where it has no `STAGES`
    opened: Opened | None = None


def load(name: str) -> ModuleType:
    """The module of a system. Errors: BadInput for an unknown name, or a module that lacks a function."""
    return lookup.load("pneumojax.systems", name, "prepare logits", "config.system.name")
