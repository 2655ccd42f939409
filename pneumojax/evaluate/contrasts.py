"""Arms against each other on the same images: of these networks, and of the procedure that made them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pneumojax.evaluate.influence import Part, difference_of, part_of, selected
from pneumojax.evaluate.intervals import INDEPENDENT, Design, number, procedure_of_difference, straight
from pneumojax.evaluate.scores import Prediction

SCORES = ("accuracy", "auc")  # that arms are compared by
PARTS = ("unseen", "test")  # that they are compared on
FLIPS = 9999  # of signs in a test
BLOCK = 2**22  # numbers held at a time: 32 MB
ROUNDING = 1e-12  # far below one image's share
TWO_ONE_SIDED = 0.90  # level of the interval that has to lie within the margin: two tests at 5% (TOST)
SIGNS = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)  # of a byte: [256, 8]

Sides = list[list[Prediction]]  # treated, control


class Terms(NamedTuple):
    """What was settled before any result."""

    declared: tuple[str, str, str] | None  # the primary contrast: protocol, part, arm
    score: str  # by which it is judged: accuracy, auc
    margin: float  # within ± it arms are equivalent
    tested: bool  # whether any p is given: of phantoms none is
    seed: int  # of the flips
    designs: Mapping[str, Design] = {}  # of protocols whose trials are not independent


def contrasts(predictions, against: Mapping[tuple[str, str], Sequence[str]], classes, terms: Terms) -> list[dict]:
    """Each arm and those that it counts against, (protocol, arm) → arms, on unseen and test images, by each score.

    Only trials that both have count, and only where both are of the same images in each. The declared contrast is with
    the first of these arms; `equivalent` tells of it, where p are given, whether the procedure's 90% interval lies
    within the margin. `same_procedure` is the A/A contrast: what another seed does to the control. `p_holm` corrects
    all but the declared by Holm's method: their p of the procedure, or where there is none, of the patients. A p that
    cannot be had is None, and not counted.
    """
    result = []
    for protocol in dict.fromkeys(p.protocol for p in predictions):
        design = terms.designs.get(protocol, INDEPENDENT)
        for part in PARTS:
            own = [p for p in predictions if (p.protocol, p.part) == (protocol, part) and len(p.names)]
            parts = {id(p): selected(part_of(p, classes), SCORES) for p in own}
            same: dict[str, list] = {}  # of each control
            pairs = [(arm, other) for (where, arm), others in against.items() if where == protocol for other in others]
            for arm, other in pairs:
                arms = [arm, other]
                sides = in_common(*([p for p in own if p.arm == name] for name in arms))
                if all(sides):
                    declared = (protocol, part, arm) == terms.declared and other == against[protocol, arm][0]
                    rows = contrast(sides, parts, classes, design, terms)
                    control = [p for p in own if p.arm == arms[1]]
                    if arms[1] not in same:
                        same[arms[1]] = same_procedure(control, parts, classes, design, terms)
                    for row, seeds in zip(rows, same[arms[1]], strict=True):
                        chosen = declared and row["score"] == terms.score
                        row = {"protocol": protocol, "part": part, "score": row.pop("score"), "arms": arms} | row
                        row["equivalent"] = row["equivalent"] if chosen else None
                        result.append(row | {"same_procedure": seeds, "declared": chosen, "p_holm": None})
    correct(result)
    return result


def correct(rows: list[dict]) -> None:
    """Sets `p_holm` of all but the declared."""
    values = [(row["procedure"] or row["patients"])["p_value"] for row in rows]
    others = sorted((p, i) for i, p in enumerate(values) if p is not None and not rows[i]["declared"])
    running = 0.0
    for rank, (p, index) in enumerate(others):
        running = max(running, min(1.0, p * (len(others) - rank)))
        rows[index]["p_holm"] = running


def in_common(treated: list[Prediction], control: list[Prediction]) -> Sides:
    """The predictions of the trials that both arms have; none at all if these are not of the same images."""
    both = {p.trial for p in treated} & {p.trial for p in control}
    sides = [[p for p in side if p.trial in both] for side in (treated, control)]
    names = {p.trial: sorted(p.names) for p in sides[1]}
    return sides if all(sorted(p.names) == names[p.trial] for side in sides for p in side) else [[], []]


def same_procedure(control: list[Prediction], parts, classes, design: Design, terms: Terms) -> list[dict | None]:
    """Seed 1 of an arm less its seed 0, all else alike, a row a score: of classifiers, else of GANs; None without."""
    for field, other in (("classifier_seed", "gan_seed"), ("gan_seed", "classifier_seed")):
        sides = [{(p.trial, getattr(p, other)): p for p in control if getattr(p, field) == seed} for seed in (1, 0)]
        if both := sides[0].keys() & sides[1].keys():
            pairs = [[p for key, p in side.items() if key in both] for side in sides]
            rows = contrast(pairs, parts, classes, design, terms)
            return [{"seeds": field} | {k: row[k] for k in row if k not in ("score", "equivalent")} for row in rows]
    return [None] * len(SCORES)


def contrast(sides: Sides, parts: Mapping[int, Part], classes, design: Design, terms: Terms) -> list[dict]:
    """Differences of two arms on the same images, a row a score; `parts` by `id` of their predictions.

    `patients` is of these networks and new patients: t of patients' influences over all trials, since the unseen images
    of trials overlap (for `auc` DeLong's covariance of paired curves, by patient), and a test by flips of their signs.
    `procedure` is of new training sets, GANs and seeds as well.
    """
    own = [[parts[id(p)] for p in side] for side in sides]
    trials = tuple([p.trial for p in side] for side in sides)
    whole = difference_of(*own, trials, classes)
    flipped = difference_of(
        *([uncentred(part, len(classes)) for part in side] for side in own), trials, classes
    ).influence
    rows = []
    for i, name in enumerate(whole.names):
        value = whole.value[i]
        error = np.sqrt(whole.variance[i])
        told = np.isfinite(value) and np.isfinite(error)  # one patient's sign says nothing
        p = sign_flip(flipped[:, i], FLIPS, terms.seed) if terms.tested and told else None
        row = {"score": name, "difference": number(value)}
        row["patients"] = {"interval": straight(value, error, whole.patients[i] - 1), "p_value": p}
        row |= procedure_of_difference(whole, i, design)
        row["equivalent"] = equivalent(whole, i, design, terms.margin) if terms.tested else None
        if row["procedure"] and not terms.tested:
            row["procedure"]["p_value"] = None
        rows.append(row)
    return rows


def equivalent(estimate, index: int, design: Design, margin: float) -> bool | None:
    """Whether two one-sided tests find a difference within ± margin; None where nothing is known of the procedure."""
    found = procedure_of_difference(estimate, index, design, TWO_ONE_SIDED)["procedure"]
    if not found or not found["interval"]:
        return None
    low, high = found["interval"]
    return -margin < low and high < margin


def uncentred(part: Part, size: int) -> Part:
    """Each patient's share of a score beside its influence, so that they sum to the score: of accuracy by images, of
    AUC by images of each class. A difference's signs can then be flipped patient by patient.
    """
    of_class = part.images[:, 1 : 1 + size]
    by_class = (of_class / np.maximum(of_class.sum(0), 1)).mean(1)
    shares = np.column_stack([part.images[:, 0] / max(part.images[:, 0].sum(), 1), by_class])
    return part._replace(influence=part.influence + shares * part.values)


def sign_flip(differences: np.ndarray, flips: int, seed) -> float:
    """Two-sided p-value of a sum of per-patient differences [P] under random flips of their signs."""
    differences = differences[np.abs(differences) > ROUNDING]
    least = np.abs(differences.sum()) - ROUNDING
    eights = np.pad(differences, (0, -len(differences) % 8)).reshape(-1, 8)
    sums = eights @ SIGNS.T  # [P / 8, 256]: of eight patients at once, whatever their signs
    rng, extreme = np.random.default_rng(seed), 0
    most = max(1, BLOCK // max(1, len(eights)))
    for first in range(0, flips, most):
        drawn = rng.integers(0, 256, (min(most, flips - first), len(eights)), dtype=np.uint8)
        extreme += np.count_nonzero(np.abs(sums[np.arange(len(eights)), drawn].sum(1)) >= least)
    return float((1 + extreme) / (1 + flips))
