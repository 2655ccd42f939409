"""Nearest neighbours in feature space, and precision, recall, density and coverage, which are counts of them."""

from typing import NamedTuple

import numpy as np

from pneumojax.gan.quality import inputs
from pneumojax.gan.quality.inputs import Undefined

MEGABYTES = 64  # of distances at a time
ROUNDING = 1e-12  # of squared distances, relative to the largest squared norm: what is nearer than that is a tie


class Nearest(NamedTuple):
    """The nearest image of a set to each of n others."""

    distance: np.ndarray  # float64 [n], Euclidean
    index: np.ndarray  # int [n], its row in the set
    mirrored: np.ndarray  # bool [n], whether it was the mirrored image that is so near


def nearest(queries, references, mirrored=None) -> Nearest:
    """The nearest of `references` to each of `queries`; exact copies are at distance 0.

    Args:
      queries: float [n, d].
      references: float [m, d].
      mirrored: float [n, d], features of the queries' mirror images; the nearer of the two counts.

    Errors: BadInput for other shapes and for numbers that are not finite; Undefined for one image alone and for images
    that are all alike.
    """
    from sklearn.metrics import pairwise_distances_argmin  # a second to import

    queries, references = inputs.features(queries=queries, references=references)
    ways = [queries]
    if mirrored is not None:
        ways += inputs.features(mirrored=mirrored, references=references)[:1]
        inputs.column("mirrored", np.zeros(len(ways[1])), len(queries))
    searched, *centred_ways = centred(references, *ways)
    indices = [pairwise_distances_argmin(way, searched) for way in centred_ways]
    # again by differences: those of the search are squares by products, where an exact copy may be 1e-7 away
    distances = [np.linalg.norm(way - references[i], axis=1) for way, i in zip(ways, indices, strict=True)]
    best = np.argmin(distances, axis=0)  # the first, which is not mirrored, of two alike
    return Nearest(np.min(distances, axis=0), np.choose(best, indices), best == 1)


def closest(found: Nearest, count: int) -> list[dict]:
    """The `count` nearest pairs, nearest first: [{"query": row, "reference": row, "distance", "mirrored"}]."""
    order = np.argsort(found.distance, kind="stable")[:count]
    rows = zip(order, *(column[order] for column in (found.index, found.distance, found.mirrored)), strict=True)
    return [{"query": int(q), "reference": int(i), "distance": float(d), "mirrored": bool(m)} for q, i, d, m in rows]


def centred(first: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """All less the mean of the first [n, d]: distances are the same, and their squares by products lose no digits."""
    centre = first.mean(0)
    return [array - centre for array in (first, *others)]


def radii(array: np.ndarray, k: int) -> np.ndarray:
    """Distance of each row [n, d] to its k-th nearest, itself not counted, float [n]."""
    from sklearn.neighbors import NearestNeighbors  # a second to import

    (array,) = centred(array)
    return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(array).kneighbors()[0][:, -1]


def prdc(real, generated, k: int = 5) -> dict[str, float]:
    """Precision, recall, density and coverage by balls around each image that reach to its k-th nearest of its own set.

    An image itself is not among its k nearest, and a ball's edge is outside it (strict <), as in the authors' package
    `prdc`; other packages take k = 3 and <=. Distances that differ by rounding alone are equal: where the
    generated images are copies of the real ones, many lie on an edge.

    precision: share of generated images in some real image's ball.
    recall: share of real images in some generated image's ball.
    density: real balls that a generated image lies in, of k: 1 is what real images have, more is possible.
    coverage: share of real balls that hold a generated image; 1 - 2^-k (0.969) for two sets of one distribution.

    Sets of unequal size are taken as they are, by `prdc` too: the more images a set has, the smaller are its balls, and
    coverage rises with m (1 - (n / (n + m))^k for one distribution). Compare at n = m.

    Args:
      real: float [n, d].
      generated: float [m, d].
      k: neighbours, below n and m.

    Errors: as `kid`; BadInput for a k that is no count; Undefined where k is not below n and m.

    Source: Kynkäänniemi et al. 2019 (precision, recall) and Naeem et al. 2020 (density, coverage; section 3).
    """
    from sklearn.metrics import pairwise_distances_chunked  # a second to import

    real, generated = inputs.features(real=real, generated=generated)
    inputs.check_count("k", k, 1, "a count of neighbours")
    for name, array in (("real", real), ("generated", generated)):
        if len(array) <= k:
            raise Undefined(f"{name} has {len(array)} images; k={k} neighbours beside each take {k + 1} or more")
    real, generated = centred(real, generated)
    tie = ROUNDING * max(np.square(array).sum(1).max() for array in (real, generated))
    reach_real, reach_generated = (np.square(radii(array, k)) - tie for array in (real, generated))
    held, recalled, covered, first = np.zeros(len(generated), int), 0, 0, 0  # real balls that hold each generated image
    for block in pairwise_distances_chunked(real, generated, metric="sqeuclidean", working_memory=MEGABYTES):
        own = reach_real[first : first + len(block)]
        inside = block < own[:, None]
        held += inside.sum(0)
        covered += inside.any(1).sum()
        recalled += (block < reach_generated).any(1).sum()
        first += len(block)
    return {
        "precision": float((held > 0).mean()),
        "recall": float(recalled / len(real)),
        "density": float(held.mean() / k),
        "coverage": float(covered / len(real)),
    }
