"""How near generated images come to real ones, whether they are copies, and whether they can be told.

`python -m pneumojax.gan.evaluate --workdir=DIR` measures all GANs of a finished run, writes gan_quality.json, puts it
into results.json and writes the page anew. Beside each stand, measured in the same way: images of yet other patients
(`held_out`), the same through the GAN's size, copies of the images that the GAN saw, images of another class, and noise
(real images whose pixels change places).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from absl import logging

from pneumojax import checkpoint, cli, embedding, environment, report
from pneumojax import run as runs
from pneumojax.embedding import Embedding
from pneumojax.errors import BadInput
from pneumojax.gan import material, quality
from pneumojax.gan.material import Case, Pool
from pneumojax.names import printable
from pneumojax.run import Run

RESAMPLES = 200  # of patients, for the deviation of a KID
NOISE = 100  # images of it
REFERENCES = ("held_out", "through_gan_size", "training_copies", "other_class", "noise")


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


def evaluate(run: Run, embed: Embedding, count: int) -> dict:
    """What gan_quality.json holds of a finished run.

    Args:
      run: of which the real images are at hand.
      embed: the network that looks.
      count: images of each kind and GAN, at most.

    Errors: BadInput where the run made no images, or its real images are not at hand.
    """
    pool = material.pool(run, embed.size)
    cases = material.cases(run, pool, count)
    rows = np.unique(np.concatenate([rows for case in cases for rows in case[3:]]))
    real = look_at_real(pool, rows, embed)
    gans, references = [], {name: [] for name in REFERENCES}
    for case in cases:
        logging.info("%s, %s: %d images", case.stage.name, run.config.data.classes[case.label], len(case.generated))
        own, beside = rows_of(case, pool, real, rows, embed)
        name = {
            "trial": case.stage.trial,
            "protocol": case.stage.protocol,
            "class": run.config.data.classes[case.label],
        }
        gans.append({**name, "seed": 0, **own})
        for kind, row in beside.items():
            references[kind].append({**name, **row})
    summed = {kind: {**means(of_kind), "by_gan": of_kind} for kind, of_kind in references.items()}
    return {"features": embed.name, "size": embed.size, "gans": gans, "references": summed}


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
    training, held_out, floor, other = (real.part(np.searchsorted(rows, own)) for own in case[3:])
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
        return nothing(case, "the GAN diverged"), beside
    own = row_of(look_at_made(case.generated, scale, embed), held_out, training)
    return own, beside


def unfit(case: Case, pool: Pool) -> str | None:
    """Why a GAN cannot be held against the real images that there are; None where it can."""
    for name, rows in zip(("held_out", "floor", "other_class"), case[4:], strict=True):
        if len(rows) < 2:
            return f"{name}: the GAN saw images of all patients but {len(rows)}, those of the folder test left out"
    sides, size = pool.images.sides, pool.small.shape[1]
    if sides is not None and (small := int((sides[case.held_out] < size).sum())) > len(case.held_out) / 2:
        return f"{small} of {len(case.held_out)} real images have fewer than the GAN's {size} pixels"
    return None


def scaled(looked: Looked, scale: float) -> Looked:
    """With features multiplied by a constant."""
    return looked._replace(whole=scale * looked.whole, through=scale * looked.through, mirrored=scale * looked.mirrored)


METRICS = ("fid", "precision", "recall", "density", "coverage", "copy_rate", "c_t", "authpct", "tell_auc")


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
    copies = near and of("copy_rate", quality.copy_rate, near.distance, honest.distance)
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
        "tell_auc": of("tell_auc", quality.tell_auc, held_out.through, found.through, held_out.patients, 0),
        "ssim": of("ssim", quality.ssim_diversity, held_out.pixels, found.pixels),
        "collapsed": quality.collapsed(held_out.pixels, found.pixels),
        "reasons": reasons,
    }


def means(rows: list[dict]) -> dict:
    """The mean of each metric over GANs, of those where it is defined; None where it is nowhere."""

    def mean(values):
        there = [value for value in values if value is not None]
        return float(np.mean(there)) if there else None

    kids = {key: mean([row["kid"][key] for row in rows]) for key in ("value", "std")}
    return {"kid": kids} | {name: mean([row[name] for row in rows]) for name in METRICS}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the GANs of a finished run: KID, FID, precision, recall, density, coverage, copies, what tells them."""
    parser = cli.Parser(prog="python -m pneumojax.gan.evaluate", description=main.__doc__)
    parser.add_argument("--workdir", required=True, type=cli.path, help="of the finished run")
    parser.add_argument(
        "--features", help="the network that looks: module of pneumojax/models; config.quality.features"
    )
    parser.add_argument("--weights", help="of it, as config.model.weights; config.quality.weights")
    parser.add_argument("--images", type=int, help="of each kind and GAN, at most; config.quality.images")
    cli.show_log()
    with cli.exit_codes(), environment.pinned():
        options = parser.parse_args(arguments)
    workdir = options.workdir
    with cli.exit_codes(workdir, "--workdir"), environment.pinned():
        run = runs.load(workdir)
        settings = run.config.quality
        count = settings.images if options.images is None else options.images
        if count < 2:
            raise BadInput(f"--images={count}: give 2 or more")
        embed = embedding.load(
            options.features or settings.features, options.weights or settings.weights, run.config.model.cache
        )
        with checkpoint.held(workdir, "--workdir"):
            found = evaluate(run, embed, count)
            checkpoint.write_json(workdir / "gan_quality.json", found)
            results = run.results | {"gan": run.results["gan"] | {"quality": found}}
            checkpoint.write_json(workdir / "results.json", results)
            report.write(run._replace(results=results), workdir)
        cli.show(printable(workdir / "gan_quality.json"))


if __name__ == "__main__":
    main()
