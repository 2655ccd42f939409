"""A workdir as it is read again: what report, predict, compare and sweeps need of a run."""

import csv
import itertools
import os
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import FrozenConfigDict

from pneumojax import checkpoint, environment, errors, metrics, paths
from pneumojax import config as configs
from pneumojax import results as resulting
from pneumojax.data import layout, levels
from pneumojax.errors import BadInput, describe
from pneumojax.evaluate import Prediction
from pneumojax.names import unescaped
from pneumojax.stage import Stage
from pneumojax.timings import larger

COLUMNS = ("protocol", "arm", "trial", "gan_seed", "classifier_seed", "part", "name", "patient", "label")
GANS = ("losses", "drawn_from", "collapsed")  # of results.json, by stage
WHOLE = ("trial", "gan_seed", "classifier_seed", "label")  # columns of predictions.csv that hold whole numbers


class Run(NamedTuple):
    """One run, finished unless it says otherwise."""

    workdir: Path
    config: FrozenConfigDict
    results: dict  # results.json
    splits: dict  # splits.json
    predictions: dict[str, list]  # predictions.csv by column; `pandas.DataFrame(run.predictions)`
    curves: dict[tuple[Stage, str], dict[int, float]]  # (stage, metric) → {step: value}
    grids: dict[Stage, Path]  # the newest sample grid of each GAN

    def arm(self, stage: Stage) -> dict:
        """The ARM of a classifier."""
        return self.results["protocols"][stage.protocol][stage.arm]

    def classifiers(self) -> list[tuple[Stage, dict]]:
        """All of them, each with its TRIAL."""
        return [
            (Stage(trial["trial"], protocol, arm=name, **{seed: trial.get(seed, 0) for seed in resulting.SEEDS}), trial)
            for protocol, arms in self.results["protocols"].items()
            for name, arm in arms.items()
            for trial in arm["trials"]
        ]

    def stages(self) -> list[Stage]:
        """The classifiers that can be used."""
        return [stage for stage, trial in self.classifiers() if "diverged" not in trial]

    def lacks(self, name: str) -> str:
        """Why a classifier of that name cannot be used, as the end of a sentence on the run, and which can be."""
        how = next((trial.get("diverged") for stage, trial in self.classifiers() if stage.name == name), None)
        why = f": {name} diverged ({how['metric']} after step {how['step']})" if how else f" has no classifier {name!r}"
        there = ", ".join(stage.name for stage in self.stages())
        return f"{why}; give one of {there}" if there else f"{why}; all of them diverged"


def load(workdir: Path | str, results: dict | None = None) -> Run:
    """Reads a finished run; `results` are those of one that is about to be written whole.

    Errors: BadInput where the folder holds none, or one of its files is damaged or of another version.
    """
    workdir = paths.of(os.fspath(workdir), "workdir")
    with whole(workdir / "config.json") as path:
        config = configs.frozen(configs.of_run(checkpoint.read_json(path)))
    with whole(workdir / "splits.json") as path:
        splits = checkpoint.read_json(path)
    with whole(workdir / "results.json") as path:
        results = results or checkpoint.read_json(path)
        if (schema := results.get("schema")) != 2:
            raise BadInput(f"{workdir} is of another version of pneumojax (schema {schema}); run it anew")
        levels.words(results["data"].get("gray", {}))
        levels.of_facts(results["data"].get("gray", {}))
        said = {field: given for field, (given, wanted) in said_twice(config, results).items() if given != wanted}
        Run(workdir, config, results, splits, {}, {}, {}).stages()
    if said:
        lines = [f"config.{field}: {given!r} there" for field, given in said.items()]
        raise BadInput(f"{workdir}/config.json is not that of its results.json; bring it back", lines)
    with whole(workdir / "predictions.csv") as path:
        predictions = read_predictions(path)
        check_answers(results, predictions)
    with whole(workdir / "metrics.jsonl"):
        curves, grids = read_metrics(workdir)
    return Run(workdir, config, results, splits, predictions, curves, grids)


def said_twice(config: FrozenConfigDict, results: dict) -> dict[str, tuple]:
    """Fields of a config that results.json tells as well: field → (of the config, of the results)."""
    known, gray, shape = results["data"], results["data"].get("gray", {}), results["data"].get("shape", {})
    return {
        "protocols": (sorted(config.protocols), sorted(results["protocols"])),
        "data.name": (config.data.name, known["name"]),
        "data.classes": (list(config.data.classes), known["classes"]),
        "data.fit": (config.data.fit, shape.get("fit", config.data.fit)),
        "model.image_size": (config.model.image_size, shape.get("image_size", config.model.image_size)),
        "data.window": (config.data.window, gray.get("window", config.data.window)),
        "gan.name": (config.gan.name, results["gan"]["name"]),
        "model.name": (config.model.name, results["model"]),
        "system.name": (config.system.name, results["classifier"]["system"]),
    }


@contextmanager
def whole(path: Path):
    """Gives a file of a finished run to be read. Errors: BadInput where it is missing, or is not what it should be."""
    try:
        yield path
    except OSError as error:
        what = f"{path.name}: {error.strerror}"
    except checkpoint.DAMAGED as error:
        what = f"{path.name} is damaged: {describe(error)}"
    else:
        return
    raise BadInput(f"{path.parent} is not the workdir of a finished run ({what}); give another --workdir")


def read_metrics(workdir: Path) -> tuple[dict[tuple[Stage, str], dict[int, float]], dict[Stage, Path]]:
    """The curves and grids of a `Run`."""
    curves: dict[tuple[Stage, str], dict[int, float]] = {}
    grids = {}
    for step, stage, values in map(metrics.parted, metrics.read(workdir)):
        for name, value in values.items():
            if name != "grid":
                curves.setdefault((stage, name), {})[step] = value
            elif (workdir / value).exists():  # its user may have removed it
                grids[stage] = workdir / value
    return curves, grids


def read_predictions(path: Path) -> dict[str, list]:
    """predictions.csv, a list a column."""
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        rows = ([unescaped(cell) for cell in row] for row in csv.reader(file))
        columns: dict[str, list] = {name: values for name, *values in zip(*rows, strict=True)}
    if lacking := {*COLUMNS} - columns.keys():
        raise ValueError(f"it lacks the columns {', '.join(sorted(lacking))}")
    for name, values in columns.items():
        if name in WHOLE:
            columns[name] = list(map(int, values))
        elif name.startswith("logit_"):
            columns[name] = list(map(float, values))
    return columns


def check_answers(results: dict, columns: dict[str, list]) -> None:
    """Errors: ValueError where the columns of predictions.csv are not what results.json counts.

    Parts by folder and subtype, `unseen/virus`, are images of others, and not in the file.
    """
    classes = results["data"]["classes"]
    logits = np.column_stack([np.array(columns[f"logit_{name.lower()}"], float) for name in classes])
    labels = np.array(columns["label"], int)
    if not (np.isfinite(logits).all() and np.isin(labels, np.arange(len(classes))).all()):
        raise ValueError("it has a logit that is not finite, or a label of no class")
    key = ("protocol", "arm", "trial", *resulting.SEEDS, "part")
    keys = zip(*(columns[name] for name in key), strict=True)
    index: dict[tuple, int] = {}
    codes = np.array([index.setdefault(key, len(index)) for key in keys], int)
    matrices = np.zeros((len(index), len(classes), len(classes)), int)
    np.add.at(matrices, (codes, labels, logits.argmax(1)), 1)
    counted = {
        (protocol, name, *resulting.replicate(trial), part): own["confusion_matrix"]
        for protocol, arms in results["protocols"].items()
        for name, arm in arms.items()
        for trial in arm["trials"]
        if "diverged" not in trial
        for part, own in {**trial, "test": trial}.items()
        if isinstance(own, dict) and "confusion_matrix" in own and not part.startswith(("test/", "unseen/"))
    }
    if {key: matrices[code].tolist() for key, code in index.items()} != counted:
        raise ValueError("its answers are not those that results.json counts")


def rows_of(run: Run, stage: Stage) -> list[int]:
    """The rows of predictions.csv that are answers of one classifier."""
    names = ("protocol", "arm", "trial", *resulting.SEEDS)
    wanted = tuple(getattr(stage, name) for name in names)
    keys = zip(*(run.predictions[name] for name in names), strict=True)
    return [row for row, key in enumerate(keys) if key == wanted]


def predictions_of(run: Run) -> list[Prediction]:
    """The predictions of a run as they were made."""
    columns = run.predictions
    logits = np.array([columns[name] for name in columns if name.startswith("logit_")], np.float32).T
    labels = np.array(columns["label"], np.int32)
    keys = ("protocol", "arm", "trial", "gan_seed", "classifier_seed", "part")
    known, found = {name: layout.tell(name, run.config.data.classes) for name in set(columns["name"])}, []
    for key, group in itertools.groupby(range(len(labels)), lambda row: tuple(columns[name][row] for name in keys)):
        rows = list(group)
        names = [columns["name"][row] for row in rows]
        told = [known[name] for name in names]
        found.append(
            Prediction(
                **dict(zip(keys, key, strict=True)),
                names=names,
                patients=[columns["patient"][row] for row in rows],
                labels=labels[rows],
                logits=logits[rows],
                parts=[one.part for one in told],
                subtypes=[one.subtype for one in told],
            )
        )
    return found


def merged(runs: list[Run]) -> Run:
    """Trials of several runs as one run, in the workdir of the first; GANs and times of all.

    Errors: BadInput where two have the same trial, or their configs differ in more than their trials.
    """
    first = runs[0]
    for other in runs[1:]:
        lines = configs.differences(*(comparable(one) for one in (first, other)))
        if lines or first.results["data"]["fingerprint"] != other.results["data"]["fingerprint"]:
            what = "configs" if lines else "images"
            raise BadInput(
                f"{first.workdir} and {other.workdir} are of other {what}: only their trials may differ", lines
            )
    runs = sorted(runs, key=lambda run: run.config.trials)  # in the order that one run has them in
    trials = sorted(trial for run in runs for trial in run.config.trials)
    if len(set(trials)) < len(trials):
        raise BadInput(f"the runs to merge have trials {trials}: each may come once; leave a run out")
    arms: resulting.Arms = {}
    for run in runs:
        for protocol, of_protocol in run.results["protocols"].items():
            for name, arm in of_protocol.items():
                known = {key: arm[key] for key in ("title", "against", "also", "overrides") if key in arm}
                rows = arms.setdefault(protocol, {}).setdefault(name, {**known, "trials": {}})["trials"]
                of_trial = ("trial", *resulting.SEEDS, "train", "diverged")
                rows |= {resulting.replicate(t): {k: t[k] for k in of_trial if k in t} for t in arm["trials"]}
    predictions = sorted((p for run in runs for p in predictions_of(run)), key=lambda p: (p.trial,))
    timings: dict[str, float] = {}
    for run in runs:
        for name, seconds in run.results["timings_s"].items():
            timings[name] = round(timings.get(name, 0.0) + seconds, 3)
    columns = {name: [v for run in runs for v in run.predictions[name]] for name in first.predictions}
    order = sorted(range(len(columns["trial"])), key=columns["trial"].__getitem__)
    overlapping = sorted({trial for run in runs for trial in run.results["data"]["overlapping_trials"]})
    results = first.results | {
        **resulting.scored(arms, predictions, first.config, first.results["data"]["images"], overlapping),
        "data": first.results["data"] | {"overlapping_trials": overlapping},
        "gan": {"name": first.config.gan.name} | {name: of_gans(runs, name) for name in GANS},
        "timings_s": timings,
        "environment": environment.joined([e for r in runs for e in environment.parted(r.results["environment"])])
        | {environment.PEAKS: larger(*(r.results["environment"].get(environment.PEAKS, {}) for r in runs))},
    }
    return first._replace(
        config=configs.frozen({**written(first), "trials": tuple(trials)}),
        results=results,
        splits=first.splits
        | {"trials": sorted((t for r in runs for t in r.splits["trials"]), key=lambda t: t["trial"])},
        predictions={name: [values[row] for row in order] for name, values in columns.items()},
        curves={key: curve for run in runs for key, curve in run.curves.items()},
        grids={stage: path for run in runs for stage, path in run.grids.items()},
    )


def of_gans(runs: list[Run], name: str) -> dict:
    """What several runs say of their GANs, by stage; their quality is measured anew, by `pneumojax.gan.evaluate`."""
    return {stage: what for run in runs for stage, what in run.results["gan"].get(name, {}).items()}


def written(run: Run) -> dict[str, Any]:
    """A run's config as its file has it, with the defaults of fields that came later."""
    return configs.of_run(checkpoint.read_json(run.workdir / "config.json"))


def comparable(run: Run) -> dict[str, Any]:
    """It by field, less its trials and places of files."""
    return configs.flat(written(run)) | dict.fromkeys(("trials", *configs.PLACES))


def complain(run: Run) -> None:
    """Errors: errors.Diverged where an arm of a whole run diverged."""
    lines = [
        f"trial {stage.trial}, {stage.protocol}, {stage.arm}: {how['metric']} after step {how['step']} "
        f"(last good checkpoint: {how['checkpoint'] or 'none'})"
        for stage, trial in run.classifiers()
        if (how := trial.get("diverged"))
    ]
    if lines:
        raise errors.Diverged(
            f"{run.workdir}: diverged, {len(lines)} of the study's classifiers or their GANs; lower that learning rate "
            "and use a new --workdir; all else is whole",
            lines,
        )
