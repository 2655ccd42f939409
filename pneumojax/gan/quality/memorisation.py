"""Whether a GAN copies its training images: distances to the nearest one against those of patients it never saw.

Take `neighbours.nearest` of the generated and of the held-out patients' images to the training images, both through
the GAN's size and both with their mirror images; what is here is functions of these distances. All suppose that images
which are no copies lie as far from the training images as those of other patients do: poor pictures lie further and
hide copies, and blurred ones lie nearer in pixels. Read them beside `kid`.
"""

from typing import NamedTuple

import numpy as np

from pneumojax.errors import BadInput
from pneumojax.gan.quality import inputs
from pneumojax.gan.quality.inputs import Undefined
from pneumojax.gan.quality.neighbours import Nearest, radii

QUANTILE = 0.05  # of held-out distances, below which a generated image counts as a copy
LEVEL = 0.95  # of intervals


class CopyRate(NamedTuple):
    """Share of generated images that are nearer to a training image than nearly all held-out ones."""

    value: float  # 0…1; 0.05 is what images have that copy nothing
    interval: tuple[float, float]  # 95%, exact (Clopper-Pearson), for this threshold
    honest: tuple[float, float]  # where 95% of shares lie if nothing is copied, the threshold's own chance included
    threshold: float  # a distance


def copy_rate(generated, held_out, patients=None) -> CopyRate:
    """The share of generated images below the held-out images' 5% quantile of distances to the nearest training image.

    The quantile is the one at 0.05 (m + 1) of the ordered distances (Weibull's), with which the expected share of
    images that copy nothing is 5% for every m; numpy's default would give 6.5% for 60.

    An interval above 0.05 says that more images than 5% lie below this threshold; but the threshold is drawn as well.
    With 187 held-out images 6% of GANs that copy nothing have such an interval on 200 generated images, and 20% on
    1000. A value above `honest` is the surer sign: 2.5% or fewer have it. With `patients` each counts as one image.

    Args:
      generated: float [n], distances.
      held_out: float [m].
      patients: [m], whose each held-out image is: any labels.

    Errors: BadInput for other shapes and for numbers that are not finite; Undefined for fewer than 19 held-out images
    or patients, and where 5% of the images are themselves among the training images, since nothing is below 0.
    """
    from scipy import stats  # half a second to import

    generated, held_out = distances(generated=generated, held_out=held_out)
    n, m, what = len(generated), len(held_out), "images"
    if patients is not None:
        m, what = len(np.unique(inputs.column("patients", patients, m))), "patients"
    place = QUANTILE * (m + 1)
    if place < 1:
        raise Undefined(f"{m} held-out {what} have no {QUANTILE:.0%} quantile; hold out 19 or more")
    threshold = np.quantile(held_out, QUANTILE, method="weibull")
    if threshold == 0:
        raise Undefined(
            f"{(held_out == 0).sum()} of {len(held_out)} held-out images are the same as a training image; "
            "part the set by patients and by duplicates"
        )
    copies = int((generated < threshold).sum())
    interval = stats.binomtest(copies, n).proportion_ci(LEVEL, method="exact")
    tails = (1 - LEVEL) / 2, (1 + LEVEL) / 2
    honest = stats.betabinom(n, place, m + 1 - place).ppf(tails) / n
    return CopyRate(copies / n, (float(interval.low), float(interval.high)), tuple(honest.tolist()), float(threshold))


def c_t(generated, held_out) -> float:
    """The data-copying test C_T: a z-score, far below 0 where generated images lie nearer than held-out ones.

    The Mann-Whitney statistic of generated against held-out distances (ties count half), less its mean mn/2, in units
    of √(mn (m + n + 1)/12); the authors' code adds ½ to it for continuity. Over all of feature space as one cell: the
    paper's cells need many held-out images each, and a study has some hundred in all. So copies in one region alone are
    seen by `copy_rate` and not here; and above 0, where a poor GAN is, does not mean that nothing was copied.

    Args: as `copy_rate`. Errors: BadInput, as there.

    Source: Meehan, Chaudhuri and Dasgupta 2020, A non-parametric test to detect data-copying, section 4.
    """
    from scipy import stats  # half a second to import

    generated, held_out = distances(generated=generated, held_out=held_out)
    n, m = len(generated), len(held_out)
    wins = stats.mannwhitneyu(generated, held_out, method="asymptotic").statistic
    return float((wins - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))


def authpct(found: Nearest, training) -> float:
    """Percent of images that are further from their nearest training image than that one is from the next of its own.

    Percent, 0…100, and no score by itself: held-out patients' images, though authentic, do not reach 100. Print
    theirs beside.

    Args:
      found: the nearest training images of generated (or held-out) ones.
      training: float [n, d], the features that they were found in.

    Errors: BadInput for other shapes and for numbers that are not finite; Undefined for one image alone and for images
    that are all alike.

    Source: Alaa et al. 2022, How faithful is your synthetic data?, section 4.3 (authenticity).
    """
    (training,) = inputs.features(training=training)
    if found.index.max() >= len(training):
        raise BadInput(
            f"training has {len(training)} images, not {found.index.max() + 1}; give those they were found in"
        )
    return float(100 * (radii(training, 1)[found.index] < found.distance).mean())


def distances(**sets) -> list[np.ndarray]:
    return [inputs.numbers(name, values, 1, "[images]") for name, values in sets.items()]
