"""Generated images, and real ones in their place, measured against patients whom the GAN never saw.

Beside each GAN stand, measured in the same way: images of yet other patients (`held_out`), the same through the GAN's
size, copies of the images that the GAN saw, images of another class, and noise: real images whose pixels change
places.
"""

from typing import NamedTuple

import numpy as np
from absl import logging

from pneumojax.embedding import Embedding
from pneumojax.gan import pictures, quality
from pneumojax.gan.material import Case, Pool

RESAMPLES = 200  # of patients, for the deviation of a KID
NOISE = 100  # images of it
PAIRS = 12  # nearest ones that are shown
REFERENCES = ("held_out", "through_gan_size", "training_copies", "other_class", "noise")
METRICS = ("fid", "precision", "recall", "density", "coverage", "copy_rate", "c_t", "authpct", "tell_auc")


class Looked(NamedTuple):
    """Images as a network sees them, rows alike; features float [n, d], scaled."""

    whole: np.ndarray  # at the network's size
    through: np.ndarray  # through the GAN's size
    mirrored: np.ndarray  # the same, mirrored
    pixels: np.ndarray  # uint8 [n, S, S], at the GAN's size
    patients: np.ndarray  # int [n]; each generated image is one of its own

    def part(self, rows) -> "Looked":
        """Some of them."""
        return Looked(*(column[rows] for column in self))


def look_at_real(pool: Pool, rows: np.ndarray, embed: Embedding) -> Looked:
    """Real images as the network sees them, not scaled yet."""
    logging.info("%s looks at %d real images", embed.name, len(rows))
    small = pool.small[rows]
    return Looked(
        embed.features(pool.large[rows]),
        embed.features(small),
        embed.features(small[:, :, ::-1]),
        small,
        pool.groups[rows],
    )


def look_at_made(images: np.ndarray, scale: float, embed: Embedding) -> Looked:
    """Images that were made at the GAN's size, uint8 [n, S, S], each a patient of its own."""
    through, mirrored = (scale * embed.features(one) for one in (images, images[:, :, ::-1]))
    return Looked(through, through, mirrored, images, np.arange(len(images)))


def rows_of(case: Case, pool: Pool, real: Looked, rows: np.ndarray, embed: Embedding) -> tuple[dict, dict[str, dict]]:
    """What is measured of one GAN and class, and of each kind of real images in its place."""
    if why := unfit(case, pool):
        row = nothing(case, why)
        return row, dict.fromkeys(REFERENCES, row)
    training, held_out, floor, other = (real.part(np.searchsorted(rows, own)) for own in case.rows)
    scale = quality.scale_of(training.whole)
    training, held_out, floor, other = (scaled(one, scale) for one in (training, held_out, floor, other))
    copies = training.part(np.resize(np.arange(len(training.whole)), len(held_out.whole)))
    beside = {
        "held_out": floor,
        "through_gan_size": floor._replace(whole=floor.through),
        "training_copies": copies._replace(whole=copies.through),
        "other_class": other,
    }
    beside = {kind: row_of(one, held_out, training) for kind, one in beside.items()}
    pixels = held_out.pixels[:NOISE]
    noise = np.random.default_rng(0).permuted(pixels.reshape(len(pixels), -1), axis=1).reshape(pixels.shape)
    beside["noise"] = row_of(look_at_made(noise, scale, embed), held_out, training)
    if not len(case.generated):
        return nothing(case, case.absent), beside
    made = look_at_made(case.generated, scale, embed)
    near, why = quality.measured(quality.nearest, made.through, training.through, mirrored=made.mirrored)
    pairs = [] if why else quality.closest(near, PAIRS)
    return row_of(made, held_out, training) | {"nearest": [pair_of(case, pool, **pair) for pair in pairs]}, beside


def pair_of(case: Case, pool: Pool, query: int, reference: int, distance: float, mirrored: bool) -> dict:
    """A generated image and the training image nearest to it."""
    name = pool.images.names[case.training[reference]]
    return {"generated": query, "training": name, "distance": distance, "mirrored": mirrored}


def picture_of(case: Case, pool: Pool, pairs: list[dict]) -> np.ndarray:
    """These pairs, side by side; a training image is mirrored where that is how it is near."""
    row_of = {name: row for row, name in enumerate(pool.images.names)}
    real = [pool.small[row_of[one["training"]]][:, :: -1 if one["mirrored"] else 1] for one in pairs]
    made = case.generated[[one["generated"] for one in pairs]]
    return pictures.nearest_pairs(made, np.stack(real), np.array([one["distance"] for one in pairs]))


def unfit(case: Case, pool: Pool) -> str | None:
    """Why a GAN cannot be held against the real images that there are; None where it can."""
    for name, rows in zip(("held_out", "floor", "other_class"), case.rows[1:], strict=True):
        if len(rows) < 2:
            return f"{name}: the GAN saw images of all patients but {len(rows)}, those of the folder test left out"
    if len(case.training) < 2:
        return "training: the GAN saw one image alone"
    for name, rows in zip(("training", "held_out", "floor", "other_class"), case.rows, strict=True):
        if (pool.small[rows] == pool.small[rows[0]]).all():
            return f"{name}: the {len(rows)} images are all alike"
    sides, size = pool.images.sides, pool.small.shape[1]
    if sides and (small := sum(sides[row] < size for row in case.held_out)) > len(case.held_out) / 2:
        return f"{small} of {len(case.held_out)} real images have fewer than the GAN's {size} pixels"
    return None


def scaled(looked: Looked, scale: float) -> Looked:
    """With features multiplied by a constant."""
    return looked._replace(whole=scale * looked.whole, through=scale * looked.through, mirrored=scale * looked.mirrored)


def nothing(case: Case, why: str) -> dict:
    """A row of a GAN of which nothing can be measured."""
    counts = {"n_real": len(case.held_out), "n_generated": len(case.generated)}
    return counts | {"kid": {"value": None, "std": None}} | dict.fromkeys(METRICS) | {"reasons": {"all": why}}


def row_of(found: Looked, held_out: Looked, training: Looked) -> dict:
    """What is measured of images against held-out and training ones; None, with its reason, where there is nothing.

    KID and FID are distances to real images as they are, so that they hold what the GAN's size costs; all else, and
    `same_size`, compares with real images through the GAN's size. All but KID and copies are of equally many images.
    """
    equal = slice(min(len(found.whole), len(held_out.whole)))
    own, real = found.part(equal), held_out.part(equal)
    reasons = {}

    def of(name: str, function, *inputs, **options):
        value, why = quality.measured(function, *inputs, **options)
        if why:
            reasons[name] = why
        return value

    def distances(name: str, column: str) -> dict:
        pair = getattr(held_out, column), getattr(found, column)
        drawn = held_out.patients, RESAMPLES, 0, found.patients
        kid = {
            "value": of(f"{name}kid", quality.kid, *pair),
            "std": of(f"{name}kid_std", quality.kid_deviation, *pair, *drawn),
        }
        return {"kid": kid, "fid": of(f"{name}fid", quality.frechet, getattr(real, column), getattr(own, column))}

    def nearest(looked: Looked):
        return quality.nearest(looked.through, training.through, mirrored=looked.mirrored)

    near, honest = of("nearest", nearest, found), nearest(held_out)
    copies = near and of("copy_rate", quality.copy_rate, near.distance, honest.distance, held_out.patients)
    neighbours = of("prdc", quality.prdc, real.through, own.through) or {}
    if caveat := quality.frechet_caveat(len(real.whole), real.whole.shape[1]):
        reasons["fid"] = caveat
    return {
        "n_real": len(held_out.whole),
        "n_generated": len(found.whole),
        **distances("", "whole"),
        "same_size": distances("same_size_", "through"),
        **{name: neighbours.get(name) for name in ("precision", "recall", "density", "coverage")},
        "copy_rate": copies and copies.value,
        "copy_interval": copies and list(copies.interval),
        "copy_honest": copies and list(copies.honest),
        "c_t": near and of("c_t", quality.c_t, near.distance, honest.distance),
        "authpct": near and of("authpct", quality.authpct, near, training.through),
        "tell_auc": of(
            "tell_auc", quality.tell_auc, held_out.through, found.through, held_out.patients, 0, found.patients
        ),
        "ssim": of("ssim", quality.ssim_diversity, held_out.pixels, found.pixels),
        "collapsed": quality.collapsed(held_out.pixels, found.pixels),
        "reasons": reasons,
    }
