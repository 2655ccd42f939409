"""From logits of one or several classifiers to what is said of an image: probability, class, spread.

What is to be chosen, a temperature and a threshold, is chosen by the run's own part `inner`: of patients whom neither
the classifier nor its GAN has seen (`config.evaluate.inner`).
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import expit, softmax

from pneumojax import run as runs
from pneumojax.data import PATIENT_PATTERN
from pneumojax.errors import BadInput
from pneumojax.evaluate import Prediction, operating
from pneumojax.evaluate.calibration import NO_INNER, temperature
from pneumojax.run import Run
from pneumojax.stage import Stage

TWO = "of more than two classes none is fitted"


class Member(NamedTuple):
    """A classifier, and what its inner part chose."""

    stage: Stage
    temperature: float  # that its logits are divided by; 1 where none was fitted
    why: str  # there is none; '' where there is one
    threshold: float = np.nan  # of its margin, above which class 1 is said; NaN where none is asked for


class Said(NamedTuple):
    """What is said of N images."""

    labels: np.ndarray  # int [N], the class that is said
    chances: np.ndarray  # float64 [N, K], the mean over the members after their temperatures
    each: np.ndarray  # float64 [M, N], what each member gives the class that is said


def point_of(text: str) -> str | float:
    """An operating point, by its name or as a probability of class 1. Errors: BadInput for what is neither."""
    if text in operating.POINTS:
        return text
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 < value < 1:
        names = ", ".join(operating.POINTS)
        raise BadInput(f"--threshold={text!r}: give one of {names}, or a number between 0 and 1")
    return value


def member(run: Run, stage: Stage, point: str | float | None = None) -> Member:
    """A classifier of a run, at an operating point or at none.

    Errors: BadInput where the run has no inner part to choose the point by, or more than two classes.
    """
    classes = run.config.data.classes
    if len(classes) != 2:
        if point is not None:
            raise BadInput(f"--threshold={point}: {run.workdir} has {len(classes)} classes, a threshold takes two")
        return Member(stage, 1.0, TWO)
    inner = inner_of(run, stage)
    heat, why = temperature(inner.margins[1].astype(float), inner.labels) if inner else (1.0, NO_INNER)
    least = np.nan
    if isinstance(point, str):
        least, lacking = operating.threshold(inner, *operating.POINTS[point], classes) if inner else (np.nan, NO_INNER)
        if lacking:
            raise BadInput(
                f"--threshold={point}: {run.workdir}, {stage.name}: {lacking}; give a number between 0 and 1, or a run "
                "with config.evaluate.inner above 0 under a protocol other than paper"
            )
    return Member(stage, 1.0 if why else heat, why, least)


def inner_of(run: Run, stage: Stage) -> Prediction | None:
    """What a classifier said of its inner part; None where it has none."""
    rows = [row for row in runs.rows_of(run, stage) if run.predictions["part"][row] == "inner"]
    own = {name: [values[row] for row in rows] for name, values in run.predictions.items()}
    return runs.predictions_of(run._replace(predictions=own))[0] if rows else None


def said(members: Sequence[Member], logits: np.ndarray, point: str | float | None = None) -> Said:
    """What is said of images.

    Without a point that is the class with the highest probability; with one class 1 where its probability is above it.
    Of several members with a named point the threshold is the mean of their own, as probabilities; of one alone the
    margin decides, which no rounding near 0 or 1 can turn.

    Args:
      members: M classifiers.
      logits: float [M, N, K].
      point: as `point_of` gives it.
    """
    heats = np.array([one.temperature for one in members])
    cooled = logits.astype(float) / heats[:, None, None]
    chances = softmax(cooled, axis=-1)
    mean = chances.mean(0)
    if point is None:
        labels = mean.argmax(1)
    elif isinstance(point, float):
        labels = (mean[:, 1] > point).astype(int)
    elif len(members) == 1:
        labels = (logits[0, :, 1].astype(np.float32) - logits[0, :, 0] > members[0].threshold).astype(int)
    else:
        labels = (mean[:, 1] > probability(members)).astype(int)
    return Said(labels, mean, chances[:, np.arange(len(labels)), labels])


def probability(members: Sequence[Member]) -> float:
    """The threshold of members as a probability of class 1: the mean of their own."""
    return float(np.mean([expit(one.threshold / one.temperature) for one in members]))


def trained_on(run: Run) -> str:
    """What the networks of a run know of, in words that go with every answer and card."""
    if run.config.data.name == "phantom":
        return "phantoms, pictures that a program drew: their answers say nothing of X-rays"
    if is_published(run):
        return "children of one hospital (Kermany et al. 2018): what is said of others is not known"
    return "images whose origin is not known: what is said of others is not known either"


def is_published(run: Run) -> bool:
    """Whether its images are those of the published set: prepared from it, or by the names of all files.

    `kermany` alone says nothing: given a `data.dir` it reads whatever folder that is.
    """
    names = [name.rpartition("/")[2] for trial in run.splits["trials"] for name in names_in(trial)]
    return is_prepared(run) or bool(names) and all(re.match(PATIENT_PATTERN, name) for name in names)


def is_prepared(run: Run) -> bool:
    """Whether its images are those that `pneumojax.data.prepare` made of the published files."""
    return run.config.data.name == "kermany" and not run.config.data.dir


def names_in(trial: dict) -> list[str]:
    """The real images of a trial of splits.json, some more than once."""
    return [name for protocol in trial.values() if isinstance(protocol, dict) for name in protocol["subset"]]


def spread(each: np.ndarray) -> dict | None:
    """{"std", "min", "max"} of what the members give one image, float [M]; None of one member alone."""
    if len(each) < 2:
        return None
    return {"std": float(each.std(ddof=1)), "min": float(each.min()), "max": float(each.max())}
