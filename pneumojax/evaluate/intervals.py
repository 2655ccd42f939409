"""95% intervals: of these networks and new patients, and of the procedure that made them."""

from typing import NamedTuple

import numpy as np
from scipy.special import expit, logit, stdtr, stdtrit

from pneumojax.evaluate.influence import Estimate

LEVEL = 0.95  # of all intervals
REPLICATES = 3  # trials, below which nothing is said of the procedure
FEW = 6  # trials, below which its intervals are wide
ROUNDING = 1e-12  # far below one image's share
LEAST = {"mcc": -1.0}  # what a score can be at the least, where that is not 0
ALIKE = "all patients and trials are alike: no variance can be told"
ONE_PATIENT = "there is but one patient, or one of a class: no variance can be told"


class Design(NamedTuple):
    """What the trials of a protocol tell of the procedure."""

    overlap: float = 0.0  # test over training images where the latter overlap (Nadeau & Bengio 2003); folds
    why: str = ""  # why they tell nothing; '' where they do


INDEPENDENT = Design()


def number(value) -> float | None:
    """A score as JSON has it: None where it is undefined."""
    return None if np.isnan(value) else float(value)


def bounded(value: float, error: float, freedom: float, patients: float, least: float = 0.0) -> list[float] | None:
    """The interval of a score in `least`…1, by Student's t on the logit scale.

    Of a score that is 1 (or `least`) no variance can be told: its interval is one-sided, 95%, from Clopper and
    Pearson's bound for that many patients without an error, 0.05^(1/patients), which is the rule of three.

    Returns: None where the score or its variance is undefined, of one patient, or of patients who are all alike.
    """
    share = (value - least) / (1 - least)
    if not (patients > 1 and freedom > 0 and np.isfinite(share)):
        return None
    if share < ROUNDING or share > 1 - ROUNDING:
        bound = (1 - LEVEL) ** (1 / patients)
        low, high = (0.0, 1 - bound) if share < ROUNDING else (bound, 1.0)
    elif not error > ROUNDING:  # NaN as well
        return None
    else:
        half = stdtrit(freedom, (1 + LEVEL) / 2) * error / (1 - least) / (share * (1 - share))
        low, high = expit(logit(share) - half), expit(logit(share) + half)
    return [float(least + (1 - least) * bound) for bound in (low, high)]


def straight(value: float, error: float, freedom: float, level: float = LEVEL) -> list[float] | None:
    """The interval of a difference by Student's t; None where its variance is undefined or 0."""
    if not (error > ROUNDING and freedom > 0 and np.isfinite(value)):
        return None
    half = stdtrit(freedom, (1 + level) / 2) * error
    return [float(value - half), float(value + half)]


def of_patients(estimate: Estimate) -> dict[str, list[float] | None]:
    """Of each score: these networks, new patients. As many degrees of freedom as effective patients, less one."""
    columns = zip(estimate.names, estimate.value, np.sqrt(estimate.variance), estimate.patients, strict=True)
    return {name: bounded(value, error, n - 1, n, LEAST.get(name, 0.0)) for name, value, error, n in columns}


def why_no_procedure(trials: int, design: Design) -> str:
    """Why so many trials tell nothing of the procedure; '' where they do."""
    return design.why or ("" if trials >= REPLICATES else f"fewer than {REPLICATES} trials")


def procedure_errors(estimate: Estimate, design: Design) -> np.ndarray:
    """Standard errors [S] over new training sets, GANs, seeds and patients (PAPER.md, section 12).

    The squared one is the variance of trials over their number, no less than the variance by patients: trials that
    agree on the same patients say nothing of others.
    """
    count = len(estimate.by_trial)
    of_trials = estimate.by_trial.var(0, ddof=1) * (1 / count + design.overlap)
    return np.sqrt(np.maximum(of_trials, estimate.variance))


def of_procedure(estimate: Estimate, design: Design) -> dict:
    """{"procedure": {score: {"interval", "replicates", "few"}} or None, "procedure_why"}: of means, T - 1 degrees of
    freedom. `few` says that there are fewer than six trials.
    """
    count = len(estimate.by_trial)
    if why := why_no_procedure(count, design):
        return {"procedure": None, "procedure_why": why}
    columns = zip(estimate.names, estimate.value, procedure_errors(estimate, design), estimate.patients, strict=True)
    intervals = {name: bounded(value, error, count - 1, n, LEAST.get(name, 0.0)) for name, value, error, n in columns}
    found = {name: {"interval": own, "replicates": count, "few": count < FEW} for name, own in intervals.items()}
    return {"procedure": found, "procedure_why": None}


def t_test(value: float, error: float, freedom: float) -> float | None:
    """Two-sided p of a value against 0; None where its error is undefined or 0."""
    if not (error > ROUNDING and freedom > 0 and np.isfinite(value)):
        return None
    return float(2 * stdtr(freedom, -abs(value) / error))


def differing(estimate: Estimate, design: Design) -> list[dict]:
    """[{"score", "difference", "interval", "procedure", "procedure_why"}…] of differences, without a test."""
    errors = np.sqrt(estimate.variance)
    rows = []
    for i, (name, value) in enumerate(zip(estimate.names, estimate.value, strict=True)):
        row = {"score": name, "difference": number(value)}
        row["interval"] = straight(value, errors[i], estimate.patients[i] - 1)
        rows.append(row | procedure_of_difference(estimate, i, design))
        if rows[-1]["procedure"]:
            del rows[-1]["procedure"]["p_value"]
    return rows


def procedure_of_difference(estimate: Estimate, index: int, design: Design, level: float = LEVEL) -> dict:
    """{"procedure": {"interval", "p_value", "replicates", "few"} or None, "procedure_why"} of one difference.

    The reason is of there being none, or no interval in it.
    """
    count, value = len(estimate.by_trial), estimate.value[index]
    if why := why_no_procedure(count, design) or ("" if np.isfinite(value) else "a class has no image there"):
        return {"procedure": None, "procedure_why": why}
    error = procedure_errors(estimate, design)[index]
    found = {
        "interval": straight(value, error, count - 1, level),
        "p_value": t_test(value, error, count - 1),
        "replicates": count,
        "few": count < FEW,
    }
    why = ONE_PATIENT if np.isnan(error) else ALIKE
    return {"procedure": found, "procedure_why": None if found["interval"] else why}
