"""The study: trials x protocols x arms, in five calls: load, plan, generate, classify, write. What is whole stays."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from ml_collections import ConfigDict, FrozenConfigDict

from pneumojax import additions, checkpoint, data, environment, gan, hosts, offers, plan, report, results, sharding
from pneumojax import run as runs
from pneumojax import systems as modules
from pneumojax import workdir as workdirs
from pneumojax.additions import Additions
from pneumojax.arms import Arm
from pneumojax.config import frozen, validate
from pneumojax.data import Images, stream
from pneumojax.data import table as tables
from pneumojax.data.table import Table
from pneumojax.errors import BadInput
from pneumojax.evaluate import Prediction
from pneumojax.gan import watch
from pneumojax.gan.drawing import Recipe
from pneumojax.jobs import Diverged, Place
from pneumojax.metrics import writer
from pneumojax.plan import Plans, World
from pneumojax.progress import shown, task
from pneumojax.report import maps, worst
from pneumojax.stage import Stage, seed_of
from pneumojax.systems import Fit
from pneumojax.tidy import write_scores
from pneumojax.timings import Timings


class Loaded(NamedTuple):
    """What a study begins with."""

    config: FrozenConfigDict
    gan: ModuleType
    system: ModuleType
    prepared: Any  # of the system
    own: Images  # of the study itself, less their pixels
    images: Images  # these, and external ones behind them
    real: Any  # their pixels, uint8 [N, S, S] on the device, or `Streamed`
    external: dict[str, np.ndarray]  # part of the test → rows
    looks: watch.Looks  # at what GANs draw while they train


class Planned(NamedTuple):
    """What it will do."""

    plans: Plans
    overlapping: list[int]  # trials that share patients with earlier ones
    world: World  # columns of all rows
    gan_labels: dict[str, np.ndarray]  # kind of block → the labels that its GANs see
    fits: list[Fit]

    def arm(self, stage: Stage) -> Arm:
        """That of a classifier, whatever its seed."""
        return self.plans[stage.trial, stage.protocol].arms[stage._replace(classifier_seed=0)]


def run(config: ConfigDict, workdir: Path, profile: bool = False) -> None:
    """Runs the study of `config` in `workdir`, goes on with one that was begun there, or finds it whole.

    With `profile` traces of some steps of each kind are left in its folder `profile`.

    Errors: BadInput before anything is written; errors.Diverged after all else is whole; OSError where the workdir
    cannot be written.
    """
    validate(config)
    traces = workdir / "profile" if profile and hosts.first() else None
    with environment.pinned(), workdirs.claimed(workdir, resolved(config)), shown(traces):
        environment.check_alike(resolved(config))
        if is_whole(workdir):
            logging.info("%s is whole; nothing to do", workdir)
        else:
            timings = Timings(workdir / ".timings.json")
            loaded = load(frozen(config), timings)
            planned, place = begin(loaded, config, workdir, timings)
            added = generate(loaded, planned, place)
            diverged = classify(loaded, planned, added, place)
            if hosts.first():
                write(loaded, planned, added, diverged, place)
    hosts.agreed(lambda: runs.complain(runs.load(workdir)))


def resolved(config: ConfigDict) -> dict:
    """A config as config.json has it."""
    return json.loads(config.to_json())


def is_whole(workdir: Path) -> bool:
    """Whether a run has ended there."""
    return hosts.agreed((workdir / "results.json").exists)


def begin(loaded: Loaded, config: ConfigDict, workdir: Path, timings: Timings) -> tuple[Planned, Place]:
    """Draws what will be done and writes down what the workdir belongs to. Errors: BadInput before anything is."""
    planned = plan_of(loaded, workdir)
    record = plan.record(planned.plans, planned.world.names)
    seen = data.fingerprint(loaded.images)
    begun = workdirs.record_plan(workdir, resolved(config), record, seen, loaded.prepared.facts)
    hosts.agreed(lambda: environment.record(workdir / "environment.json", offers.own_modules(config), begun))
    workdirs.write_parameters(workdir, config.model.name, loaded.system, loaded.prepared)
    return planned, Place(workdir, writer(workdir, resolved(config)), timings)


def load(config: FrozenConfigDict, timings: Timings) -> Loaded:
    """Everything that is not drawn: modules, weights, images. Errors: BadInput."""
    gan_module, system = gan.load(config.gan.name), modules.load(config.system.name)
    gan.check(gan_module, config.gan)
    with timings.of("weights"):
        prepared = system.prepare(config)
        looks = watch.looks_of(config)
    with timings.of("data"):
        own = data.load(config.data, config.model.image_size)
        data.check_classes(own, config.data)
        images, external = data.with_external(own, config.data, config.model.image_size)
    row_of = {name: row for row, name in enumerate(images.names)}
    rows = {f"external/{name}": np.array([row_of[n] for n in names], int) for name, names in external.items()}
    real, (own, images) = stream.real_images(images, config), (one._replace(pixels=()) for one in (own, images))
    return Loaded(config, gan_module, system, prepared, own, images, real, rows, looks)


def plan_of(loaded: Loaded, workdir: Path) -> Planned:
    """Draws what will be done, and checks whether it can. Errors: BadInput."""
    config, images = loaded.config, loaded.images
    plans, overlapping = plan.draw(loaded.own, loaded.external, len(images.names), config)
    gan_labels = plan.labels_for_gans(loaded.own, config)
    plan.check_batches(plans, gan_labels, loaded.gan, config)
    plan.say_enlarged(plans, loaded.own, config)
    world = plan.world(images, plans, config.data.classes)
    check_memory(loaded, len(world.names))
    fits = [
        fit_of(stage._replace(classifier_seed=seed), arm, world.groups, config, workdir)
        for one in plans.values()
        for stage, arm in one.arms.items()
        for seed in range(config.classifier.seeds)
    ]
    if check := getattr(loaded.system, "check", None):
        check(loaded.prepared, fits, world.labels)
    return Planned(plans, overlapping, world, gan_labels, fits)


def fit_of(stage: Stage, arm: Arm, groups: np.ndarray, config, workdir: Path) -> Fit:
    """What a system is asked for: initial values and orders are the same for all arms of a trial and protocol."""
    replicate = (f"trial{stage.trial}", "init", *([stage.classifier_seed] if stage.classifier_seed else ()))
    return Fit(
        stage=stage,
        train=arm.train,
        extra=arm.extra,
        inner=arm.tests.get("inner", np.zeros(0, int)),
        steps=arm.steps,
        tested=np.unique(np.concatenate([np.zeros(0, int), *arm.tests.values()])),
        overrides=arm.overrides,
        init_seed=seed_of(config.seed, *replicate),
        seed=seed_of(config.seed, stage._replace(arm="fit", gan_seed=0).name),
        done=hosts.agreed(logits_path(workdir, stage).exists),
        groups=groups,
    )


def check_memory(loaded: Loaded, count: int) -> None:
    """Errors: BadInput where `count` images, the generated ones among them, take more memory than is allowed."""
    config, real = loaded.config, len(loaded.images.names)
    size, of_gan = config.model.image_size, config.gan.image_size
    counts = {of_gan: count - real}  # pixels of a side → images of that size
    if count > real and size != of_gan:
        counts[of_gan] += len(loaded.own.names)  # as the GANs see them
    if config.data.residence == "device":
        data.check_memory(counts | {size: counts.get(size, 0) + real}, config.data)


def seen_by_gans(loaded: Loaded) -> Table:
    """The study's own images at the GAN's size, decoded anew where the classifier's is another."""
    config, own, size = loaded.config, loaded.own, loaded.config.gan.image_size
    if size == config.model.image_size and config.data.residence == "device":
        return Table(loaded.real, loaded.images.labels)
    at_rest = data.load(ConfigDict({**config.data, "residence": "device"}), size)
    if (at_rest.names, at_rest.gray) != (own.names, own.gray):
        raise BadInput(f"config.data.dir={config.data.dir!r}: files came or went while they were read; start again")
    return Table(sharding.replicate(at_rest.pixels), own.labels)


def generate(loaded: Loaded, planned: Planned, place: Place) -> Additions:
    """All that a study adds to its images, by GANs above all."""
    config, plans, first = loaded.config, planned.plans, len(loaded.images.names)
    added, table = additions.nothing(first, len(planned.world.names), config.gan.image_size), None
    asked = additions.orders(plans, planned.gan_labels, loaded.gan, config)
    if any(asked.values()) or any(block.kind == "low_resolution" for block in additions.blocks(plans)):
        with place.timings.of("gan"):
            recipe, table = Recipe(loaded.gan, config.gan), seen_by_gans(loaded)
            for kind, own in asked.items():
                if own:
                    seen = table._replace(labels=planned.gan_labels[kind])
                    additions.by_gans(added, own, recipe, seen, place, loaded.looks)
    additions.of_others(added, plans, table, loaded.config.seed)
    return added


def classify(loaded: Loaded, planned: Planned, added: Additions, place: Place) -> dict[Stage, Diverged]:
    """The logits of all classifiers, each kept in a file of its own. Returns: those that diverged."""
    diverged = without_images(planned, added)
    fits = [fit for fit in planned.fits if fit.stage not in diverged]
    if all(fit.done for fit in fits):
        return diverged
    table = added.table(loaded.real, planned.world.labels)
    with place.timings.of("classifier"):
        for fit, logits in loaded.system.logits(loaded.prepared, fits, table, place):
            if how := keep(planned, fit, logits, place):
                diverged[fit.stage] = how
    return diverged


def without_images(planned: Planned, added: Additions) -> dict[Stage, Diverged]:
    """The classifiers that cannot be, since a GAN whose images they want diverged, and how that did."""
    lost, found = added.lost, {}
    for fit in planned.fits if lost else ():
        missing = [row for row in np.concatenate([fit.train, fit.extra, fit.tested]).tolist() if row in lost]
        if missing:
            found[fit.stage] = lost[missing[0]]
    return found


def keep(planned: Planned, fit: Fit, logits: np.ndarray | Diverged, place: Place) -> Diverged | None:
    """Writes the logits of a classifier, a part of its tests an array. Returns: how it diverged, if it did."""
    if not isinstance(logits, Diverged) and not np.isfinite(logits).all():
        last = place.checkpoints(fit.stage) / str(fit.steps)
        kept = str(last.relative_to(place.workdir)) if last.exists() else None
        logits = Diverged(fit.steps, "logits", kept)
    if isinstance(logits, Diverged):
        return logits
    tests = planned.arm(fit.stage).tests.items()
    by_part = {part: logits[np.searchsorted(fit.tested, rows)] for part, rows in tests}
    checkpoint.write_arrays(logits_path(place.workdir, fit.stage), **by_part)
    return None


def logits_path(workdir: Path, stage: Stage) -> Path:
    """Where the logits of one classifier are kept: {part: float32 [n, K]}, in the order of its arm's tests."""
    return workdir / "checkpoints" / f"{stage.name}.npz"


def predictions_of(planned: Planned, diverged, workdir: Path) -> list[Prediction]:
    """What every classifier says of every part, from the logits at rest."""
    world, found = planned.world, []
    for stage in (fit.stage for fit in planned.fits if fit.stage not in diverged):
        with checkpoint.record_of_run(logits_path(workdir, stage)) as path:
            logits = checkpoint.read_arrays(path)
        for part, rows in planned.arm(stage).tests.items():
            if len(rows):
                columns = (world.names, world.patients, world.parts, world.subtypes)
                names, patients, parts, subtypes = ([column[row] for row in rows] for column in columns)
                known = names, patients, world.labels[rows], logits[part], parts, subtypes
                seeds = stage.gan_seed, stage.classifier_seed
                found.append(Prediction(stage.protocol, stage.arm, stage.trial, part, *known, *seeds))
    return found


def real_pixels(loaded: Loaded, world: World, names: Sequence[str]) -> np.ndarray:
    """Real images by their names, for pictures: uint8 [n, S, S]."""
    row_of = {name: row for row, name in enumerate(world.names[: len(loaded.images.names)])}
    return tables.images(Table(loaded.real, world.labels), np.array([row_of[name] for name in names]))


def write(loaded: Loaded, planned: Planned, added: Additions, diverged: dict[Stage, Diverged], place: Place) -> None:
    """Scores, predictions, worst errors, the page, and results.json last: its being there says that all is whole."""
    config, workdir = loaded.config, place.workdir
    place.writer.close()
    with place.timings.of("evaluate"):
        predictions = predictions_of(planned, diverged, workdir)
        arms = results.arms_of(planned.plans, diverged, config)
        scored = results.scored(arms, predictions, config, len(loaded.own.names), planned.overlapping)
    facts = {
        "schema": 2,
        "model": config.model.name,
        "data": results.data_of(loaded, planned),
        "classifier": {"system": config.system.name, **loaded.prepared.facts},
        **scored,
        "gan": results.gan_of(config, workdir) | {"collapsed": added.collapsed},
        "timings_s": place.timings.seconds,
        "environment": environment.joined(environment.recorded(workdir / "environment.json"))
        | {environment.PEAKS: place.timings.peaks},
    }
    with task("writing the page"):
        workdirs.write_predictions(workdir, predictions, config.data.classes)
        write_scores(facts, workdir)
        pixels = functools.partial(real_pixels, loaded, planned.world)
        worst.write(workdir, config, scored["protocols"], predictions, pixels)
        done = runs.load(workdir, facts)
        if not hosts.several():  # they are computed on all devices, and the other processes take no part here
            maps.write(done, pixels)
        report.write(done, workdir)
        checkpoint.write_json(workdir / "results.json", facts)
    logging.info("whole: %s and %s", workdir / "results.json", workdir / "report.html")
