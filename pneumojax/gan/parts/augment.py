"""What a discriminator sees of images, so that it does not learn a few hundred by heart: DiffAugment and ADA.

Fit for X-rays: what moves in and what is cut out is black, -1 (the originals' 0 is mid-gray), and nothing is flipped or
turned, which would move the heart. Images are [N, S, S, C] in [-1, 1]; as in the originals, brightness, contrast and
noise may bring them out of it, real ones as generated ones. Gradients go through all of it. Images are moved by matrix
products: the gradient of a gather is a scatter-add, slow and without an order on GPUs.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from pneumojax.errors import BadInput

BLACK = -1.0


def each(values):
    """[N] → [N, 1, 1, 1]: a number for each image."""
    return values[:, None, None, None]


def resampled(images, rows, columns):
    """Images [N, S, S, C] whose pixel (i, j) comes from (rows[n, i], columns[n, j]), interpolated, black outside.

    Whole numbers give the pixels as they are, to the bit: one product is by 1, and the others by 0.
    """
    size = images.shape[1]
    by_row, by_column = (
        jnp.maximum(0.0, 1 - jnp.abs(source[:, :, None] - jnp.arange(size))) for source in (rows, columns)
    )
    exact = jax.lax.Precision.HIGHEST  # bfloat16 or TF32, as TPUs and GPUs take otherwise, would change gray levels
    found = jnp.einsum("nir,nrsc,njs->nijc", by_row, images, by_column, precision=exact, optimize="optimal")
    inside = by_row.sum(2)[:, :, None, None] * by_column.sum(2)[:, None, :, None]
    return found + BLACK * (1 - inside)


def brightness(key, images):
    """Half a range up or down: x + U(-0.5, 0.5)."""
    return images + each(jax.random.uniform(key, (len(images),), minval=-0.5, maxval=0.5))


def contrast(key, images):
    """About the image's own mean: (x - mean) · U(0.5, 1.5) + mean."""
    mean = images.mean((1, 2, 3), keepdims=True)
    return (images - mean) * each(jax.random.uniform(key, (len(images),), minval=0.5, maxval=1.5)) + mean


def translation(key, images):
    """By whole pixels, up to an eighth of the size each way."""
    count, size = images.shape[:2]
    most = round(size / 8)
    shifts = jax.random.randint(key, (2, count, 1), -most, most + 1)
    return resampled(images, *(jnp.arange(size) - shifts))


def cutout(key, images):
    """A square of half the size, its centre anywhere in the image, becomes black."""
    count, size = images.shape[:2]
    begins = jax.random.randint(key, (2, count, 1), 0, size + 1) - size // 4
    rows, columns = (begins <= jnp.arange(size)) & (jnp.arange(size) < begins + size // 2)
    return jnp.where(rows[:, :, None, None] & columns[:, None, :, None], BLACK, images)


POLICIES = {one.__name__: one for one in (brightness, contrast, translation, cutout)}


def diffaugment(policies: Sequence[str] = tuple(POLICIES)) -> Callable:
    """An `augmentation` of `adversarial.Parts`: all of `policies` on every image (Zhao et al. 2020, section 3.2).

    Errors: BadInput for one that is not known.
    """
    if not set(policies) <= set(POLICIES):
        raise BadInput(f"config.gan.policies={tuple(policies)}: give some of {', '.join(POLICIES)}")

    def augmentation(images, key, extra):
        for number, name in enumerate(policies):
            images = POLICIES[name](jax.random.fold_in(key, number), images)
        return images

    return augmentation


def chosen(key, p, changed, images):
    """Each image changed with probability p, or as it is, to the bit."""
    return jnp.where(each(jax.random.bernoulli(key, p, (len(images),))), changed, images)


def geometry(key, images, p):
    """Moved by N(0, 1/8) of the size, scaled by 2^N(0, 0.2), and once more by it and its inverse along the two axes.

    Each of the three with probability p, and all in one interpolation. The middle of the image stays in place.
    """
    count, size = images.shape[:2]
    keys = jax.random.split(key, 4)
    shift, scale, stretch = jax.random.bernoulli(keys[0], p, (3, count, 1))
    shifts = jnp.where(shift, size / 8 * jax.random.normal(keys[1], (2, count, 1)), 0)
    scales = jnp.where(scale, 0.2 * jax.random.normal(keys[2], (count, 1)), 0)
    stretches = jnp.where(stretch, 0.2 * jax.random.normal(keys[3], (count, 1)), 0)
    middle = (size - 1) / 2
    sources = (
        (jnp.arange(size) - middle - by) / 2 ** (scales + along) + middle
        for by, along in zip(shifts, (stretches, -stretches), strict=True)
    )
    return jnp.where((shift | scale | stretch)[:, :, None, None], resampled(images, *sources), images)


def gray_levels(key, images, p):
    """x + N(0, 0.2), then x · 2^N(0, 0.5), each of the two with probability p."""
    keys, count = jax.random.split(key, 4), (len(images),)
    images = chosen(keys[0], p, images + each(0.2 * jax.random.normal(keys[1], count)), images)
    return chosen(keys[2], p, images * each(2 ** (0.5 * jax.random.normal(keys[3], count))), images)


def noise(key, images, p):
    """Of N(0, deviation²) at each pixel, the deviation |N(0, 0.1)|."""
    keys = jax.random.split(key, 3)
    deviations = each(0.1 * jnp.abs(jax.random.normal(keys[0], (len(images),))))
    return chosen(keys[1], p, images + deviations * jax.random.normal(keys[2], images.shape), images)


def hole(key, images, p):
    """`cutout`, with probability p."""
    keys = jax.random.split(key)
    return chosen(keys[0], p, cutout(keys[1], images), images)


def adaptive(target: float = 0.6, images: float = 100_000, interval: int = 4) -> dict:
    """Fields for `adversarial.with_memory`: augmentations with a probability p that follows D's certainty.

    ADA (Karras et al. 2020, section 3 and appendix B), with its strengths: translation, scales, brightness, contrast,
    noise and cutout, each with p. At each `interval`-th update of D, p goes up if the mean sign of its logits of real
    images since the last one is above `target`, and down if it is below, within 0…1, at a speed that takes it from 0
    to 1 in `images` images (500,000 there, fewer for small sets). It starts at 0 and is the metric `ada_p`. Not for
    relativistic losses, whose logits have no sign of their own.
    """

    def augmentation(images, key, extra):
        for number, one in enumerate((geometry, gray_levels, noise, hole)):
            images = one(jax.random.fold_in(key, number), images, extra["ada_p"])
        return images

    def remember(extra, real, fake):
        updates, signs = extra["ada_updates"] + 1, extra["ada_signs"] + jnp.sign(real).mean()
        due = updates % interval == 0
        change = jnp.sign(signs / interval - target) * (len(real) * interval / images)
        p = jnp.clip(extra["ada_p"] + jnp.where(due, change, 0), 0, 1)
        return {**extra, "ada_p": p, "ada_signs": jnp.where(due, 0, signs), "ada_updates": updates}

    fresh = {"ada_p": jnp.float32(0), "ada_signs": jnp.float32(0), "ada_updates": jnp.int32(0)}
    return {"augmentation": augmentation, "extra": fresh, "remember": remember, "watched": ("ada_p",)}
