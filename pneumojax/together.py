"""Several studies as one program: those that differ in rates, momentum, weight decay and seeds alone.

Images are loaded once, features computed once an image, and all classifiers are jobs of one call of the loop: heads as
an axis of the arrays, others spread over the devices or in turn, compiled once. Each study leaves in its own workdir
what it leaves alone, to the rounding of sums that are parted otherwise; what is shared is in the timings of the first.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict

from pneumojax import environment, study, tuning
from pneumojax import run as runs
from pneumojax import workdir as workdirs
from pneumojax.additions import Additions
from pneumojax.config import frozen, validate
from pneumojax.data.table import Table
from pneumojax.errors import BadInput, Diverged
from pneumojax.jobs import Diverged as HowDiverged
from pneumojax.jobs import Place
from pneumojax.progress import shown
from pneumojax.stage import Stage
from pneumojax.study import Loaded, Planned
from pneumojax.systems import Fit
from pneumojax.timings import Timings


class Study(NamedTuple):
    """One that shares its program with others."""

    loaded: Loaded
    planned: Planned
    place: Place
    added: Additions


def free(config: dict) -> set[str]:
    """The fields, dotted, in which studies like this one, field → value, may differ and share a program."""
    if config["system.name"] != "finetune":
        return set()
    return {"seed", "classifier.seeds", *(f"classifier.{name}" for name in tuning.TRACED)}


def run(members: Sequence[tuple[ConfigDict, Path]]) -> None:
    """Runs studies that differ in `free` fields alone, goes on with those that were begun, or finds them whole.

    Args:
      members: the config and the workdir of each.

    Errors: BadInput before anything is written; BadInput for studies that cannot be, as a seed by which no split can
    be drawn, and errors.Diverged, both after all else is whole.
    """
    for config, _ in members:
        validate(config)
    with environment.pinned(), contextlib.ExitStack() as held, shown(None):
        for config, workdir in members:
            held.enter_context(workdirs.claimed(workdir, study.resolved(config)))
        missing = [one for one in members if not study.is_whole(one[1])]  # of one that is whole nothing is made anew
        refused = run_claimed(missing)
    complain(refused, [runs.load(workdir) for _, workdir in members if workdir not in refused])


def run_claimed(members: Sequence[tuple[ConfigDict, Path]]) -> dict[Path, BadInput]:
    """`run` in workdirs that are held. Returns: the studies that cannot be, by workdir, and why."""
    first, studies, refused = None, [], {}
    for config, workdir in members:
        timings = Timings(workdir / ".timings.json")
        first = first or study.load(frozen(config), timings)
        loaded = first._replace(config=frozen(config))
        try:
            planned, place = study.begin(loaded, config, workdir, timings)
        except BadInput as error:
            refused[workdir] = error
            logging.error("%s is left out: %s", workdir, error)
            continue
        studies.append(Study(loaded, planned, place, study.generate(loaded, planned, place)))
    for one, diverged in zip(studies, classify(studies) if studies else (), strict=True):
        study.write(one.loaded, one.planned, one.added, diverged, one.place)
    return refused


def classify(studies: Sequence[Study]) -> list[dict[Stage, HowDiverged]]:
    """`study.classify` of all of them. Returns: the classifiers that diverged, of each."""
    diverged = [study.without_images(one.planned, one.added) for one in studies]
    own = [
        (number, fit)
        for number, one in enumerate(studies)
        for fit in one.planned.fits
        if fit.stage not in diverged[number]
    ]
    if all(fit.done for _, fit in own):
        return diverged
    first, (table, offsets) = studies[0], shared_table(studies)
    study.check_memory(first.loaded, len(table.labels))
    asked = [(moved(fit, studies[number], offsets[number], table), studies[number].place) for number, fit in own]
    system, prepared = first.loaded.system, first.loaded.prepared
    system.check(prepared, [fit for fit, _ in asked], table.labels)
    with first.place.timings.of("classifier"):
        for index, logits in system.logits_of_runs(prepared, asked, table):
            number, fit = own[index]
            one = studies[number]
            if how := study.keep(one.planned, fit, logits, one.place):
                diverged[number][fit.stage] = how
    return diverged


def shared_table(studies: Sequence[Study]) -> tuple[Table, list[int]]:
    """Real images, and behind them what studies add, each content once.

    Returns: (table, for each study by how much its rows beyond the real images are moved).
    """
    first, found, offsets, end = studies[0].added.first, [], [], 0
    for one in studies:
        own = (one.added.images, one.added.copies, one.planned.world.labels[first:])
        for at, known in found:
            if all(map(np.array_equal, own, known)):
                offsets.append(at)
                break
        else:
            offsets.append(end)
            found.append((end, own))
            end += len(own[0])
    images, copies, labels = (np.concatenate(column) for column in zip(*(own for _, own in found), strict=True))
    all_labels = np.concatenate([studies[0].planned.world.labels[:first], labels])
    return Additions(first, images, copies, {}, {}).table(studies[0].loaded.real, all_labels), offsets


def moved(fit: Fit, one: Study, offset: int, table: Table) -> Fit:
    """A fit of a study in the table that is shared, with the rates of its own study."""
    first, config = one.added.first, one.loaded.config.classifier
    rows = {
        name: np.where(own < first, own, own + offset)
        for name, own in (("train", fit.train), ("extra", fit.extra), ("inner", fit.inner), ("tested", fit.tested))
    }
    groups = np.concatenate([fit.groups[:first], -1 - np.arange(len(table.labels) - first)])
    overrides = {name: config[name] for name in tuning.TRACED} | fit.overrides
    return fit._replace(**rows, groups=groups, overrides=overrides)


def complain(refused: dict[Path, BadInput], found: Sequence[runs.Run]) -> None:
    """Errors: BadInput where studies cannot be; else errors.Diverged where arms of them diverged."""
    if refused:
        [(first, error), *others] = refused.items()
        lines = [line for workdir, one in others for line in (f"{workdir}: {one}", *one.details)]
        raise BadInput(f"{first}: {error}", [*error.details, *lines])
    told = []
    for one in found:
        try:
            runs.complain(one)
        except Diverged as error:
            told.append(error)
    if told:
        raise Diverged.several(f"{len(told)} of {len(found)} studies diverged in part; all else is whole", told)
