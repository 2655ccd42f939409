"""Arms against each other on the same images: of these networks, and of the procedure that made them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.special import stdtr, stdtrit

from pneumojax.evaluate.intervals import LEVEL, blocks, interval, patient_codes, resample_patients
from pneumojax.evaluate.scores import Prediction

FLIPS = 9999  # of signs in a test, at least
REPLICATES = 3  # trials, below which nothing is said of the procedure
ROUNDING = 1e-12  # far below one image's share


def contrasts(predictions, against: dict[tuple[str, str], str | None], declared, resamples: int, seed) -> list[dict]:
    """Each arm and the one that it counts against, (protocol, arm) → arm, on unseen and test images.

    Only trials that both have count, and only where both are of the same images in each. `declared` is the contrast
    that was chosen before any result: protocol, part, arm. `p_holm` corrects the others by Holm's method: their p of
    the procedure, or where there is none, of the patients.
    """
    result = []
    for protocol in dict.fromkeys(p.protocol for p in predictions):
        for part in ("unseen", "test"):
            for arm in (arm for where, arm in against if where == protocol and against[where, arm]):
                arms = [arm, against[protocol, arm]]
                own = [p for p in predictions if (p.protocol, p.part) == (protocol, part) and len(p.names)]
                sides = in_common(*([p for p in own if p.arm == name] for name in arms))
                if all(sides):
                    names = {"protocol": protocol, "part": part, "score": "accuracy", "arms": arms}
                    chosen = {"declared": (protocol, part, arm) == declared, "p_holm": None}
                    result.append(names | contrast(*sides, resamples, seed) | chosen)
    values = [(row["procedure"] or row["patients"])["p_value"] for row in result]
    others = sorted((p, index) for index, p in enumerate(values) if not result[index]["declared"])
    running = 0.0
    for rank, (p, index) in enumerate(others):
        running = max(running, min(1.0, p * (len(others) - rank)))
        result[index]["p_holm"] = running
    return result


def in_common(treated: list[Prediction], control: list[Prediction]) -> list[list[Prediction]]:
    """The predictions of the trials that both arms have; none at all if these are not of the same images."""
    both = {p.trial for p in treated} & {p.trial for p in control}
    sides = [[p for p in side if p.trial in both] for side in (treated, control)]
    names = {p.trial: sorted(p.names) for p in sides[1]}
    return sides if all(sorted(p.names) == names[p.trial] for side in sides for p in side) else [[], []]


def contrast(treated: Sequence[Prediction], control: Sequence[Prediction], resamples: int, seed) -> dict:
    """Difference of mean accuracy over the trials of two arms, each of the same images, seeds averaged in a trial.

    `patients` is of these networks and new patients: signs are flipped and patients drawn by a patient's difference
    over all trials, since the unseen images of trials overlap. `procedure` is of new training sets, GANs and seeds.
    """
    both = [*treated, *control]
    sides = [(1, p.trial) for p in treated] + [(-1, p.trial) for p in control]
    seeds, trials = Counter(sides), sorted({trial for _, trial in sides})
    share = np.array([[side / seeds[side, own] * (own == trial) for side, own in sides] for trial in trials])

    codes, right = patient_codes(both), [np.argmax(p.logits, 1) == p.labels for p in both]
    differences = []  # [T, r] each
    for _, counts in resample_patients(codes, right, 2, resamples, seed):
        images = counts.sum(1)
        differences.append(share @ (counts[:, 1] / np.where(images > 0, images, np.nan)))
    differences = np.concatenate(differences, 1)
    by_trial, drawn = differences[:, 0], differences[:, 1:].mean(0)
    gains = [own * s / len(own) / len(trials) for own, s in zip(right, share.sum(0), strict=True)]
    of_patients = np.bincount(np.concatenate(codes), np.concatenate(gains))
    return {
        "difference": float(by_trial.mean()),
        "patients": {"interval": interval(drawn), "p_value": sign_flip(of_patients, max(resamples, FLIPS), seed)},
        "procedure": of_procedure(by_trial, drawn[~np.isnan(drawn)]) if len(trials) >= REPLICATES else None,
    }


def sign_flip(differences: np.ndarray, flips: int, seed) -> float:
    """Two-sided p-value of a sum of per-patient differences [P] under random flips of their signs."""
    differences = differences[np.abs(differences) > ROUNDING]
    rng = np.random.default_rng(seed)
    extreme, least = 0, np.abs(differences.sum()) - ROUNDING
    for rows in blocks(flips, len(differences)):
        signs = rng.choice((-1.0, 1.0), (rows, len(differences)))
        extreme += np.count_nonzero(np.abs(signs @ differences) >= least)
    return float((1 + extreme) / (1 + flips))


def of_procedure(by_trial: np.ndarray, drawn: np.ndarray) -> dict:
    """Student's t, T - 1 degrees of freedom, of the differences of trials [T].

    The squared standard error is no less than the variance of their mean under draws of patients [R]: trials that
    agree on the same patients say nothing of others. Where it is 0, the interval is the difference itself and p 1.0
    for no difference, else 0.0, the limits of t.
    """
    count, mean = len(by_trial), by_trial.mean()
    error = np.sqrt(max(by_trial.var(ddof=1) / count, drawn.var() if len(drawn) else 0.0))
    half = stdtrit(count - 1, (1 + LEVEL) / 2) * error
    p = 2 * stdtr(count - 1, -abs(mean) / error) if error else float(mean == 0)
    return {"interval": [float(mean - half), float(mean + half)], "p_value": float(p), "replicates": count}
