"""A generator's fingerprint: two GANs trained on labels that were drawn at random, told apart by what they make.

    python -m experiments.fingerprint --config=configs/dcgan.py --data=DIR --out=runs/fingerprint --steps=400

The labels of the patients of the training part of trial 0 under `clean` are permuted and two GANs trained, one on what
is then called the first class, one on the second. What they make differs in nothing that either class has. How well a
classifier tells them, on features and on 8x8 thumbnails, is what a with-GAN test set would have scored with random
labels; beside it the same for the real images under these labels, where there is nothing to tell. Prints Markdown.
"""

import json
from pathlib import Path

from pneumojax import runtime

if __name__ == "__main__":
    runtime.configure()  # before anything imports jax

import numpy as np

from pneumojax import cli, embedding, environment, gan
from pneumojax import config as configs
from pneumojax.data.table import Table
from pneumojax.gan import quality
from pneumojax.gan import train as gan_train
from pneumojax.gan.drawing import Order, Recipe
from pneumojax.jobs import Diverged, Place
from pneumojax.metrics import Writer
from pneumojax.stage import Stage, seed_of
from pneumojax.study import load, plan_of, seen_by_gans
from pneumojax.timings import Timings

NAMES = ("first", "second")


def made(config, workdir: Path, count: int) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Trains both GANs, or goes on with them.

    Returns: of each, what it makes, uint8 [count, S, S]; what it saw, uint8 [n, S, S]; and whose each of these is, [n].
    """
    loaded = load(configs.frozen(config), Timings(workdir / ".timings.json"))
    seen = plan_of(loaded, workdir).plans[0, "clean"].seen_by_gan
    _, first, whose = np.unique(np.asarray(loaded.own.patients)[seen], return_index=True, return_inverse=True)
    permuted = np.random.default_rng([config.seed, 7]).permutation(loaded.own.labels[seen][first])[whose]
    parts = [seen[permuted == label] for label in (0, 1)]
    stages = [Stage(0, "clean", gan=name) for name in NAMES]
    table = seen_by_gans(loaded)
    table = Table(table.examples, np.zeros_like(table.labels))  # each GAN sees one label, whichever was drawn
    orders = [
        Order(stage, rows, {0: count}, seed_of(config.seed, stage.name), NAMES)
        for stage, rows in zip(stages, parts, strict=True)
    ]
    place = Place(workdir, Writer(workdir, {}), Timings(workdir / ".timings.json"))
    found = gan_train.make(Recipe(gan.load(config.gan.name), loaded.config.gan), orders, table, place)
    place.writer.close()
    images = [found[stage] for stage in stages]
    if any(isinstance(one, Diverged) for one in images):
        raise SystemExit("a GAN diverged; lower its learning rate")
    seen_images = [np.asarray(table.examples[rows]) for rows in parts]
    return images, seen_images, [whose[permuted == label] for label in (0, 1)]


def main() -> None:
    """Trains two GANs on permuted labels and tells them apart."""
    parser = cli.Parser(prog="python -m experiments.fingerprint", description=main.__doc__)
    parser.add_argument("--config", default="configs/dcgan.py", help="whose GAN; %(default)s")
    parser.add_argument("--data", required=True, help="folder of the real images")
    parser.add_argument("--weights", default="none", help="of SqueezeNet 1.1, ImageNet's; none: random ones")
    parser.add_argument("--out", required=True, type=cli.path, metavar="FOLDER", help="where it goes, and goes on")
    parser.add_argument("--steps", type=int, default=400, help="of each GAN; %(default)s")
    parser.add_argument("--count", type=int, default=500, help="images of each; %(default)s")
    cli.show_log()
    with cli.exit_codes(), environment.pinned():
        options = parser.parse_args()
        fields = {"data.dir": options.data, "gan.steps": options.steps, "trials": (0,), "protocols": ("clean",)}
        config = configs.load(options.config, [f"--config.{name}={value}" for name, value in fields.items()])
        options.out.mkdir(parents=True, exist_ok=True)
        images, real, patients = made(config, options.out, options.count)
        embed = embedding.load("squeezenet", options.weights, config.model.cache)
        rows = []
        for what, features in ((embed.name, embed.features), ("8x8 thumbnails", quality.thumbnails)):
            fingerprint = quality.tell_accuracy(*map(features, images), 0)
            shares = [features(one) for one in real]
            chance = quality.tell_accuracy(*shares, 0, patients)
            rows.append((what, fingerprint, chance))
        cli.show("| by | generated, which of the two GANs | real, under the same labels |", "| --- | --- | --- |")
        cli.show(*(f"| {what} | {100 * generated:.1f}% | {100 * real:.1f}% |" for what, generated, real in rows))
        (options.out / "fingerprint.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
