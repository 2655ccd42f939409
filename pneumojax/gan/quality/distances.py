"""How far generated images are from real ones as two sets: kernel and Fréchet distance of their features."""

from collections.abc import Iterator

import numpy as np

from pneumojax.gan.quality import inputs
from pneumojax.gan.quality.inputs import Undefined

ROWS = 1024  # of a kernel matrix at a time
FEWEST_PATIENTS = 10  # that a bootstrap is drawn from: of fewer, a draw may well be of one alone
SMALLEST = 1e-100  # mean squared norm: less is rounded away when it is squared again
WELL_CONDITIONED = 1e-10  # smallest to largest pivot of a covariance: below, roots of rounding errors count


def scale_of(real_training) -> float:
    """The constant that brings features of real training images to mean squared norm d, so that x·x/d is 1 on average.

    Multiply by it all features that are compared, real and generated, whatever the set: the cubic kernel's value grows
    as the sixth power of their scale (unscaled SqueezeNet features give distances of 1e4 to 1e6).

    Errors: BadInput as `kid`; Undefined where all features are 0, or nearly so.
    """
    (array,) = inputs.features(real_training=real_training)
    squares = np.square(array).sum(1).mean()
    if squares < SMALLEST:
        raise Undefined(f"all features of real_training are 0, or nearly so: their mean squared norm is {squares:.3g}")
    return float(np.sqrt(array.shape[1] / squares))


def kid(real, generated) -> float:
    """Kernel distance: the squared maximum mean discrepancy under the kernel (x·y/d + 1)³, unbiased.

    On all images and not on subsets; without the diagonals, so that its mean is 0 for two sets from one distribution
    and values below 0 occur. The features are taken as they are: see `scale_of`.

    Args:
      real: float [n, d], features of real images.
      generated: float [m, d], of generated ones by the same network.

    Errors: BadInput for other shapes and for numbers that are not finite; Undefined (which is one) for one image alone
    and for images that are all alike.

    Source: Binkowski et al. 2018, Demystifying MMD GANs, section 4.
    """
    real, generated = inputs.features(real=real, generated=generated)
    within = [sum(block.sum() for _, block in kernel(x, x)) - diagonal(x).sum() for x in (real, generated)]
    across = sum(block.sum() for _, block in kernel(real, generated))
    n, m = len(real), len(generated)
    return float(within[0] / (n * (n - 1)) + within[1] / (m * (m - 1)) - 2 * across / (n * m))


def kid_deviation(real, generated, patients, resamples: int, seed: int, generated_patients=None) -> float:
    """Standard deviation of `kid` under a bootstrap of patients for the real images and of images for generated ones.

    A patient drawn twice counts as two patients: pairs of its images with another patient's count twice, and so do
    pairs of two images of its own. Pairs across the two copies do not count: of one image with itself they are the
    diagonal, of two images they would make two strangers as alike as one patient's pictures, and the distance would be
    biased. They are left out of the sum and of the count of pairs. Kernels are summed by patient once, and a
    draw is then a product with its counts.

    Two sets from one distribution have no first-order term, and there a bootstrap's deviation is √3 times the true one
    (measured: 1.6 times; at 4 deviations from 0 right to 4%): that of the floor is a cautious one.

    Args:
      real, generated: as `kid`.
      patients: [n], whose each real image is: any labels.
      resamples: draws, above 1.
      seed: of the draws.
      generated_patients: [m] where `generated` are real images of other patients; else each is drawn by itself.

    Errors: as `kid`; Undefined for fewer than 10 patients or generated images.
    """
    real, generated = inputs.features(real=real, generated=generated)
    own = [inputs.column("patients", patients, len(real)), np.arange(len(generated))]
    if generated_patients is not None:
        own[1] = inputs.column("generated_patients", generated_patients, len(generated))
    inputs.check_count("resamples", resamples, 2, "a count of draws")
    rng = np.random.default_rng(seed)
    codes, draws, within = [], [], []
    for array, labels, name in zip((real, generated), own, ("real", "generated"), strict=True):
        names, code = np.unique(labels, return_inverse=True)
        if len(names) < FEWEST_PATIENTS:
            raise Undefined(f"{name} has {len(names)} patients; a bootstrap takes {FEWEST_PATIENTS} or more")
        counts = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), resamples).astype(float)
        within.append(mean_within(array, code, counts))
        codes.append(code)
        draws.append(counts)
    images = [counts @ np.bincount(code) for code, counts in zip(codes, draws, strict=True)]
    across = ((draws[0] @ summed(kernel(real, generated), *codes)) * draws[1]).sum(1) / (images[0] * images[1])
    return float(np.std(within[0] + within[1] - 2 * across, ddof=1))


def kernel(left: np.ndarray, right: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """(x·y/d + 1)³ of all pairs by blocks of rows: which rows, and the block."""
    for first in range(0, len(left), ROWS):
        rows = slice(first, first + ROWS)
        yield rows, cubed(left[rows] @ right.T / left.shape[1] + 1)


def diagonal(array: np.ndarray) -> np.ndarray:
    """The kernel of each row with itself."""
    return cubed(np.square(array).sum(1) / array.shape[1] + 1)


def cubed(base: np.ndarray) -> np.ndarray:
    return base * base * base  # base ** 3 calls pow for each number, ten times as slow


def summed(blocks, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Sums of a matrix, given by blocks of its rows, over groups of rows [n] and of columns [m] → [P, Q]."""
    order = np.argsort(columns, kind="stable")
    starts = np.searchsorted(columns[order], np.arange(columns.max() + 1))
    result = np.zeros((rows.max() + 1, columns.max() + 1))
    for own, block in blocks:
        np.add.at(result, rows[own], np.add.reduceat(block[:, order], starts, axis=1))
    return result


def mean_within(array: np.ndarray, codes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mean kernel of pairs of one set under counts of its patients [R, P] → [R]; which pairs, `kid_deviation` tells."""
    sums, images = summed(kernel(array, array), codes, codes), np.bincount(codes).astype(float)
    own, alone = np.diagonal(sums), np.bincount(codes, diagonal(array))
    between = ((counts @ sums) * counts).sum(1) - np.square(counts) @ own
    pairs = np.square(counts @ images) - np.square(counts) @ np.square(images)
    inside, inside_pairs = counts @ (own - alone), counts @ (images * (images - 1))
    return (between + inside) / (pairs + inside_pairs)


def frechet(real, generated) -> float:
    """Fréchet distance |μ - ν|² + tr(Σ + Τ - 2 (Σ Τ)^½) of the Gaussians that fit two sets of features best.

    Covariances have ddof 1. With Σ = A Aᵀ and Τ = B Bᵀ the last trace is the sum of the singular values of Aᵀ B, which
    is exact whatever the rank; where both covariances are well-conditioned, the roots of the eigenvalues of Aᵀ Τ A
    are the same and take 0.4 of the time (2048 features).

    It is biased: of two halves of one set it falls as 1/n. Compare it at equal n only, and see `frechet_caveat`.

    Args: as `kid`. Errors: as `kid`.

    Source: Heusel et al. 2017, GANs trained by a two time-scale update rule, 'Experiments' and appendix A1.
    """
    real, generated = inputs.features(real=real, generated=generated)
    (a, good), (b, fine) = factor(real), factor(generated)
    if good and fine:
        half = a.T @ b
        root = np.sqrt(np.clip(np.linalg.eigvalsh(half @ half.T), 0, None)).sum()
    else:
        root = np.linalg.svd(a.T @ b, compute_uv=False).sum()
    shift = np.square(real.mean(0) - generated.mean(0)).sum()
    value = shift + np.square(a).sum() + np.square(b).sum() - 2 * root
    return float(max(value, 0.0))  # two equal sets may come out at -1e-13


def frechet_caveat(n: int, d: int) -> str | None:
    """Why a Fréchet distance of n images (the smaller set's count) in d features means little, None from 2 d images."""
    if n >= 2 * d:
        return None
    rank = "its covariances have not full rank and " if n <= d else ""
    return f"{n} images for {d} features, fewer than twice as many: {rank}it is mostly bias; go by the kernel distance"


def factor(array: np.ndarray) -> tuple[np.ndarray, bool]:
    """A [d, r] with A Aᵀ the covariance (ddof 1) of features [n, d], and whether that is well-conditioned."""
    centred = (array - array.mean(0)) / np.sqrt(len(array) - 1)
    if len(array) <= array.shape[1]:
        return centred.T, False
    covariance = centred.T @ centred
    try:
        triangle = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:  # features that are constant or that follow from others
        values, vectors = np.linalg.eigh(covariance)
        kept = values > values[-1] * len(values) * np.finfo(float).eps
        return vectors[:, kept] * np.sqrt(values[kept]), False
    pivots = np.square(np.diagonal(triangle))
    return triangle, bool(pivots.min() > WELL_CONDITIONED * pivots.max())
