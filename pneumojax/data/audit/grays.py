"""Gray levels of a set: histograms by class and source, and groups of images whose histograms lie apart."""

from collections.abc import Sequence

import numpy as np
from scipy import special

from pneumojax.data import CLASSES, trivial
from pneumojax.data.audit import questions
from pneumojax.data.audit.seen import Seen, by, class_of, sources

SHARES = (0.005, 0.05, 0.25, 0.5, 0.75, 0.95, 0.995)  # of an image's pixels that are darker
WORDS = trivial.Words(
    ("black point (0.5%)", "5% level", "25% level", "median level", "75% level", "95% level", "white point (99.5%)"),
    "Gray levels, wherever they lie in a picture,",
    "Opacities whiten lungs, but exposure, windows and scanners do as much: compare the histograms.",
    "The parts were not exposed or windowed alike; a score on one says little of the other.",
)
POINTS = {"black point": 0.005, "median": 0.5, "white point": 0.995}  # of one image
BIN = 4  # gray levels, to count images by their points
QUANTILES = (np.arange(32) + 0.5) / 32  # compared between images
COMPONENTS = 4  # axes along which images vary most

# Two heaps, along an axis: in the middle third between their means lie at most APART as many images as in the smaller.
# A normal distribution cut in two has 0.42, a uniform one 0.33; the published set 0.28 at least.
APART = 0.2
ONE_HEAP = 0.4
BY_LUCK = 0.001  # that one heap has so few in the middle
DISTANCE = 15  # gray levels between the means, at least
SMALLEST = 0.02  # of the images, in the smaller
GROUPS = 6  # at most


def levels(histograms: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """The gray level at which so large a share of an image is darker: float [N, 256] → float [N, shares]."""
    below = np.cumsum(histograms, 1)
    return np.stack([(below < share - 1e-6).sum(1) for share in shares], 1).astype(float)


def describe(seen: Sequence[Seen], asked: dict[str, questions.Asked]) -> dict:
    """What `audit.json` holds of gray levels. Histograms are shares of pixels at 256 levels, means over images.

    Returns: {"by_class": {class: histogram}, "points": {one of POINTS: {class: images in each bin of BIN levels}},
    "tell": answers of `ask_features`, "sources": {kind: `describe_source`}}; "found groups" are a kind of source, where
    there are any.
    """
    histograms = np.array([one.look.histogram for one in seen], float)
    kinds = sources(seen)
    groups = find_groups(histograms)
    if groups.any():
        kinds["found groups"] = [chr(ord("A") + group) for group in groups.tolist()]
    classes = list(map(class_of, seen))
    return {
        "by_class": means(histograms, classes),
        "points": count_points(histograms, classes),
        "tell": questions.ask_features(asked, levels(histograms, SHARES), WORDS),
        "sources": {kind: describe_source(kind, seen, values, histograms, asked) for kind, values in kinds.items()},
    }


def describe_source(kind: str, seen: Sequence[Seen], values: list[str], histograms: np.ndarray, asked) -> dict:
    """One kind of source: who is of which, their histograms, and whether it tells class and part.

    Returns: {"values": {value: {"images", "by_class": {class: images}, "histograms": {class: histogram}, "points": {one
    of POINTS: mean level}}}, "tell": answers of `ask_values`, "statement"}.
    """
    classes = np.array([one.told.label for one in seen])
    described = {}
    for value, rows in sorted(by(lambda row: values[row], range(len(seen))).items()):
        points = levels(histograms[rows], tuple(POINTS.values())).mean(0)
        described[value] = {
            "images": len(rows),
            "by_class": {name: int((classes[rows] == label).sum()) for label, name in enumerate(CLASSES)},
            "histograms": means(histograms[rows], [CLASSES[label] for label in classes[rows]]),
            "points": dict(zip(POINTS, points.tolist(), strict=True)),
        }
    # a subtype is of one class, and a part tells itself
    told = {} if kind == "subtype" else questions.ask_values(asked, values)
    told = {question: found for question, found in told.items() if kind != "part" or "train" not in question}
    name = "The found group" if kind == "found groups" else f"The {kind}"
    return {"values": described, "tell": told, "statement": questions.statement(name, told)}


def means(histograms: np.ndarray, keys: Sequence[str]) -> dict[str, list[float]]:
    """Mean histogram of each key's images."""
    groups = by(lambda row: keys[row], range(len(keys)))
    return {key: np.round(histograms[rows].mean(0), 6).tolist() for key, rows in sorted(groups.items())}


def count_points(histograms: np.ndarray, keys: Sequence[str]) -> dict[str, dict[str, list[int]]]:
    """Images of each key by their POINTS, in bins of BIN levels."""
    points = levels(histograms, tuple(POINTS.values()))
    groups = sorted(by(lambda row: keys[row], range(len(keys))).items())
    return {
        name: {key: np.histogram(column[rows], 256 // BIN, (0, 256))[0].tolist() for key, rows in groups}
        for name, column in zip(POINTS, points.T, strict=True)
    }


def find_groups(histograms: np.ndarray) -> np.ndarray:
    """Groups of images whose gray levels lie apart, as of two scanners: int [N], from 0; all 0 where there are none.

    Images are compared by the levels below which shares of their pixels lie, the inverse of the cumulative histogram.
    Axes are their black point, white point and the distance of both, and the first principal components of 32 such
    levels. Along one of them there are two heaps (`APART`), or there are no groups; each group is looked at again.
    """
    points = levels(histograms, (POINTS["black point"], POINTS["white point"]))
    features = levels(histograms, QUANTILES)
    groups, waiting = np.zeros(len(histograms), int), [np.arange(len(histograms))]
    while waiting:
        rows = waiting.pop()
        cut = best_cut(points[rows], features[rows], max(1, SMALLEST * len(histograms)))
        if cut is not None and groups.max() + 1 < GROUPS:
            groups[rows[cut]] = groups.max() + 1
            waiting += [rows[~cut], rows[cut]]
    return groups


def best_cut(points: np.ndarray, features: np.ndarray, smallest: float) -> np.ndarray | None:
    """Of two heaps the lesser, bool [n], along the axis that parts them best; None where there is one heap."""
    centred = features - features.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    components = centred @ axes[:, -COMPONENTS:] / features.shape[1] ** 0.5  # in gray levels, root mean square
    columns = [points[:, 0], points[:, 1], points[:, 1] - points[:, 0], *components.T]
    explained, high = max(
        ((cut[0], column > cut[1]) for column in columns if (cut := cut_of(column, smallest))),
        key=lambda cut: cut[0],
        default=(0.0, None),
    )
    return high if high is None or high.mean() <= 0.5 else ~high


def cut_of(values: np.ndarray, smallest: float) -> tuple[float, float] | None:
    """The cut between two heaps of float [n], of several the one that explains most: (share explained, cut)."""
    ordered, n = np.sort(values), len(values)
    if n < 2 or ordered[0] == ordered[-1]:
        return None
    total, left = np.cumsum(ordered), np.arange(1, n)
    means = total[:-1] / left, (total[-1] - total[:-1]) / (n - left)
    third = (means[1] - means[0]) / 3
    between = np.searchsorted(ordered, means[1] - third) - np.searchsorted(ordered, means[0] + third)
    smaller = np.minimum(left, n - left)
    apart = (between <= APART * smaller) & (special.pdtr(between, ONE_HEAP * smaller) < BY_LUCK)
    apart &= (smaller >= smallest) & (3 * third >= DISTANCE) & (ordered[1:] > ordered[:-1])
    if not apart.any():
        return None
    explained = np.where(apart, left * (n - left) * (means[1] - means[0]) ** 2, -1.0)
    best = explained.argmax()
    return float(explained[best] / n / ((values - values.mean()) ** 2).sum()), float(ordered[best : best + 2].mean())
