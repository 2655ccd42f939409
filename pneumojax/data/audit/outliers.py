"""Images that are furthest from the rest of their set, and why."""

from collections.abc import Sequence

import numpy as np

from pneumojax.data.audit import grays, orientation
from pneumojax.data.audit.seen import Seen

SHOWN = 24
FAR = 3.5  # robust standard deviations: the usual bound of Iglewicz and Hoaglin, 1993


def find(seen: Sequence[Seen], lie: orientation.Lie) -> list[dict]:
    """The furthest SHOWN beyond FAR, by what is further: gray levels, or the picture.

    Gray levels: the mean distance of an image's levels from the set's median ones, that of cumulative histograms.
    Picture: one less the correlation of its thumbnail with the mean picture, where the set has a common layout.

    Returns: [{"file", "why", "deviations": robust standard deviations}], the furthest first.
    """
    own = grays.levels(np.array([one.look.histogram for one in seen], float), grays.QUANTILES)
    usual = np.median(own, 0)
    apart = np.abs(own - usual).mean(1)
    unlike = 1 - lie.correlations if lie.common is not None else np.zeros(len(seen))
    scores = np.stack([deviations(apart), deviations(unlike)], 1)
    furthest = np.argsort(-scores.max(1), kind="stable")[:SHOWN]
    found = []
    for row in furthest[scores[furthest].max(1) > FAR].tolist():
        by_levels = scores[row, 0] >= scores[row, 1]
        why = of_levels(own[row] - usual) if by_levels else of_picture(lie, row)
        found.append({"file": seen[row].name, "why": why, "deviations": round(float(scores[row].max()), 1)})
    return found


def deviations(distances: np.ndarray) -> np.ndarray:
    """How many robust standard deviations (1.4826 median absolute deviations) each is above the median."""
    above = distances - np.median(distances)
    return above / max(1.4826 * np.median(np.abs(above)), 1e-6)


def of_levels(difference: np.ndarray) -> str:
    """In words, how gray levels, from the darkest of an image to its brightest, differ from the usual ones."""
    mean, distance = difference.mean(), np.abs(difference).mean()
    if abs(mean) >= 0.7 * distance:
        return f"{'brighter' if mean > 0 else 'darker'} than most, by {abs(mean):.0f} gray levels in the mean"
    wider = difference[len(difference) // 2 :].mean() > difference[: len(difference) // 2].mean()
    return f"{'more' if wider else 'less'} contrast than most: levels lie {distance:.0f} off in the mean"


def of_picture(lie: orientation.Lie, row: int) -> str:
    """In words, how a picture differs from the mean one."""
    how = lie.how[row]
    words = [how] if how != orientation.UPRIGHT else []
    words += ["inverted"] if lie.inverted[row] else []
    words += [f"correlation with the mean picture {lie.correlations[row]:.2f}"]
    return ", ".join(words)
