"""How different the images of one set are: by structural similarity, and cheaply enough to watch it in training."""

import numpy as np
from scipy.ndimage import uniform_filter

from pneumojax.errors import BadInput
from pneumojax.gan.quality import inputs
from pneumojax.gan.quality.inputs import Undefined

WINDOW = 7  # pixels a side
PAIRS_AT_A_TIME = 256
COLLAPSED = 0.1  # of the real images' spread
UNIFORM = 1.0  # gray levels: an image that deviates less over its own pixels shows nothing


def ssim(one, other) -> np.ndarray:
    """Structural similarity of images with images, uint8 [n, S, S] twice → float64 [n]: 1 for equal ones, else less.

    7x7 windows of equal weights, sample covariances, range 255: scikit-image's default.

    Errors: BadInput for other shapes or types, and below 7 pixels a side.

    Source: Wang et al. 2004, Image quality assessment: from error visibility to structural similarity.
    """
    one, other = inputs.images(one=one, other=other)
    if len(one) != len(other) or one.shape[1] < WINDOW:
        raise BadInput(
            f"one is {list(one.shape)} and other {list(other.shape)}; give as many of each, from {WINDOW} pixels a side"
        )
    blocks = [slice(first, first + PAIRS_AT_A_TIME) for first in range(0, len(one), PAIRS_AT_A_TIME)]
    return np.concatenate([ssim_of_block(one[rows].astype(float), other[rows].astype(float)) for rows in blocks])


def ssim_of_block(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    def windows(values):
        return uniform_filter(values, (0, WINDOW, WINDOW))

    sample = WINDOW**2 / (WINDOW**2 - 1)
    mean_x, mean_y = windows(x), windows(y)
    variances = sample * (windows(x * x) + windows(y * y) - mean_x**2 - mean_y**2)
    covariance = sample * (windows(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similar = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similar /= (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    edge = WINDOW // 2  # windows that reach over the border do not count
    return similar[:, edge:-edge, edge:-edge].mean((1, 2))


def ssim_diversity(real, generated, pairs: int = 1000, seed: int = 0) -> dict[str, float]:
    """Mean structural similarity of random pairs within each set: generated above real means too little diversity.

    Args:
      real: uint8 [n, S, S].
      generated: uint8 [m, S, S].
      pairs: drawn of each set, of two different images each; a pair may come twice.
      seed: of the draws, the same for both sets.

    Returns: {"real", "generated"}.

    Errors: BadInput for other shapes or types; Undefined for one image alone, for images that are all alike, and below
    7 pixels a side.
    """
    real, generated = inputs.images(real=real, generated=generated)
    inputs.check_count("pairs", pairs, 1, "a count of pairs")
    if real.shape[1] < WINDOW:
        raise Undefined(f"images of {real.shape[1]} pixels a side are smaller than the window of {WINDOW}")
    result = {}
    for name, images in (("real", real), ("generated", generated)):
        inputs.check_varied(name, images)
        rng = np.random.default_rng(seed)
        first = rng.integers(0, len(images), pairs)
        second = (first + rng.integers(1, len(images), pairs)) % len(images)
        result[name] = float(ssim(images[first], images[second]).mean())
    return result


def thumbnails(images, side: int = 8) -> np.ndarray:
    """Images uint8 [n, S, S] as features float64 [n, side²]: means over side x side equal areas, in gray levels.

    Errors: BadInput for other shapes or types.
    """
    (images,) = inputs.images(images=images)
    inputs.check_count("side", side, 1, "a count of areas")
    size = images.shape[1]
    bounds, pixels = np.linspace(0, size, side + 1), np.arange(size)
    share = np.minimum(bounds[1:, None], pixels + 1) - np.maximum(bounds[:-1, None], pixels)
    share = np.clip(share, 0, None) * side / size  # [side, S]: what of each pixel is in each area
    return (share @ images.astype(float) @ share.T).reshape(len(images), -1)


def spread(images) -> float:
    """How much images, uint8 [n, S, S], differ: their deviation in an area of an 8x8 thumbnail, in gray levels.

    0.0 for one image alone and for images that are all alike; noise in single pixels hardly counts. Some milliseconds.

    Errors: BadInput for other shapes or types.
    """
    return float(thumbnails(images).std(0).mean())


def collapsed(real, generated) -> str | None:
    """Why a GAN counts as collapsed, or None: too small a spread, or images of nothing.

    A spread below a tenth of the real images', or an image whose own pixels deviate by less than a gray level. One
    image alone has no spread, and is looked at for the latter only.

    X-rays of one class at 64 pixels, in units of their spread (25 gray levels): one picture with noise of 20 gray
    levels in each pixel 0.09, two pictures 0.4 or more, one patient's two to four pictures 0.3 or more, any 8 0.7 or
    more. The pixels of each deviate by 28 gray levels or more. Few pictures in place of many are for recall and
    coverage.

    A DCGAN that has not learned yet is collapsed in this sense, since all its latents give the same noise: 0.004 before
    the first step, 0.06 after 200, then 0.23 after 400 (at 32 pixels 0.42, and 0.86 after 1500). Ask after that.

    Args:
      real: uint8 [n, S, S], of the classes that were asked of the GAN.
      generated: uint8 [m, S, S].

    Errors: BadInput for other shapes or types.
    """
    real, generated = inputs.images(real=real, generated=generated)
    uniform = int((generated.std((1, 2)) < UNIFORM).sum())
    if uniform:
        return f"all pixels are alike in {uniform} of {len(generated)} generated images"
    own, wanted = spread(generated), spread(real)
    if len(generated) > 1 and own < COLLAPSED * wanted:
        return (
            f"generated images differ by {own:.2f} gray levels where real ones differ by {wanted:.2f}, "
            f"less than {COLLAPSED:.0%} of it"
        )
    return None
