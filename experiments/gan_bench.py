"""GANs side by side on real images: what each makes of the same images seen, or of the same time.

    python -m experiments.gan_bench --data=DIR --weights=squeezenet1_1.safetensors --out=runs/gans
    python -m experiments.gan_bench --data=DIR --weights=squeezenet1_1.safetensors --out=runs/gans --minutes=4

Each variant is trained as its config has it, on the training part of trial 0 under `clean`, a state a class, less a
fifth of the patients, kept to choose its best state by. Then `pneumojax.gan.evaluate` measures it. Both are commands of
their own, started one after another; what is whole already is not done again. Prints Markdown, after each variant what
there is so far.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from pneumojax import runtime

if __name__ == "__main__":
    runtime.configure()  # before anything imports jax

from pneumojax import cli
from pneumojax import config as configs
from pneumojax import run as runs
from pneumojax.errors import BadInput
from pneumojax.names import printable
from pneumojax.report import quality as section
from pneumojax.run import Run

VARIANTS = ("dcgan", "dcgan_conditional", "lsgan", "hinge_sn", "wgan_gp", "dcgan_diffaug", "dcgan_ada")
VARIANTS += ("r3gan_small", "fastgan_small", "stylegan2_small", "edm_small")
# Beside what the variants' configs say. The classifier is there since a study has one; nothing here looks at it.
FIELDS = {
    "trials": (0,),
    "protocols": ("clean",),
    "arms": ("without_gan", "with_gan"),
    "enlarge": 4.0,
    "model.name": "resnet18",
    "model.weights": "none",
    "model.image_size": 96,
    "model.width": 4,
    "classifier.steps": 1,
    "quality.features": "squeezenet",
    "quality.images": 300,
    "quality.inner": 0.2,
}
HEADS = ("GAN", "class", "images seen", "steps", "chosen", "minutes", "KID", "KID, same size", "precision", "recall")
HEADS += ("coverage", "copies, % [95% CI]", "told (AUC)", "state")


def seconds_a_step(config) -> float:
    """Of training, with nothing else: the fastest of some steps on images of noise."""
    import jax
    import numpy as np
    from ml_collections import FrozenConfigDict

    from pneumojax import gan
    from pneumojax.gan import train
    from pneumojax.gan.drawing import Recipe
    from pneumojax.jobs import Batch

    recipe = Recipe(gan.load(config.gan.name), FrozenConfigDict(config.gan))
    count = config.gan.batch_size * config.gan.d_steps
    images = np.random.default_rng(0).integers(0, 256, (count, *[config.gan.image_size] * 2), np.uint8)
    batch = Batch(jax.numpy.asarray(images), np.arange(count, dtype=np.int32) % 2, {})
    step = jax.jit(train.step, static_argnames="recipe", donate_argnames="state")
    state, found = train.fresh(jax.random.key(0), recipe), []
    for number in range(8):
        begun = time.perf_counter()
        state, _ = jax.block_until_ready(step(state, batch, jax.random.key(number), {}, recipe=recipe))
        found.append(time.perf_counter() - begun)
    return min(found)


def flags_of(variant: str, options) -> list[str]:
    """The flags of the study of one variant."""
    given = FIELDS | {"data.dir": options.data, "quality.weights": options.weights, "gan.image_size": options.size}
    if variant == "edm_small":
        given["gan.latent_dim"] = options.size**2
    file = f"configs/{variant}.py"
    flags = [f"--config.{field}={value}" for field, value in given.items()]
    config = configs.load(file, [*flags, "--config.quality.every=1"])
    if options.minutes:
        classes = 1 if variant == "dcgan_conditional" else len(config.data.classes)
        steps = round(60 * options.minutes * 2 / classes / seconds_a_step(config))
    else:
        classes = len(config.data.classes) if variant == "dcgan_conditional" else 1
        steps = round(classes * options.images / config.gan.batch_size / config.gan.d_steps)
    every = max(1, steps // options.looks)
    rhythm = {"gan.steps": steps, "gan.log_every": every, "gan.sample_every": every, "gan.save_every": every}
    rhythm["quality.every"] = every
    return [f"--config={file}", *flags, *(f"--config.{field}={value}" for field, value in rhythm.items())]


def run(variant: str, workdir: Path, options) -> None:
    """Trains and measures one variant, unless that is done. Errors: BadInput where a command fails."""
    if (workdir / "gan_quality.json").exists():
        return
    if not (workdir / "config.json").exists():
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "flags.json").write_text(json.dumps(flags_of(variant, options)))
    flags = json.loads((workdir / "flags.json").read_text())
    for module, own in (("pneumojax.main", flags), ("pneumojax.gan.evaluate", [])):
        with (workdir / "log.txt").open("a") as log:
            command = [sys.executable, "-m", module, *own, f"--workdir={workdir}"]
            ended = subprocess.run(command, stderr=log, stdout=log, check=False).returncode
        if ended not in (0, 3):
            raise BadInput(f"{variant}: {module} ended with exit code {ended}; see {workdir / 'log.txt'}")


def rows_of(variant: str, run: Run) -> list[list[str]]:
    """Cells of the Markdown table: a row a class."""
    gan, found = run.config.gan, []
    minutes = run.results["timings_s"]["gan"] / 60
    for one in run.results["gan"]["quality"]["gans"]:
        name = "all" if variant == "dcgan_conditional" else one["class"].lower()
        chosen = run.results["gan"]["drawn_from"].get(f"trial0/clean/gan_{name}", gan.steps)
        shares = [section.shown(one[metric], "{:.2f}") for metric in ("precision", "recall", "coverage")]
        copies = section.shown(one["copy_rate"] and 100 * one["copy_rate"], "{:.1f}")
        if interval := one.get("copy_interval"):
            copies += f" [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"
        same = one.get("same_size", {"kid": {"value": None, "std": None}})
        found.append(
            [
                gan.name,
                one["class"],
                f"{gan.steps * gan.batch_size * gan.d_steps:,}",
                f"{gan.steps:,}",
                f"{chosen:,}",
                f"{minutes:.1f}",
                *(kid(distance) for distance in (one["kid"], same["kid"])),
                *shares,
                copies,
                section.shown(one["tell_auc"], "{:.3f}"),
                "collapsed"
                if one.get("collapsed")
                else next(iter(one["reasons"].values()), "")
                if not one["kid"]
                else "",
            ]
        )
    return found


def kid(found: dict) -> str:
    """A KID and its deviation."""
    return " ".join(section.distance(found))


def references_of(run: Run) -> list[list[str]]:
    """Rows of real images in a GAN's place, of each class."""
    found = []
    for kind, rows in run.results["gan"]["quality"]["references"].items():
        for one in rows["by_gan"]:
            shares = [section.shown(one[metric], "{:.2f}") for metric in ("precision", "recall", "coverage")]
            kids = [kid(one["kid"]), kid(one["same_size"]["kid"])]
            copies = section.shown(one["copy_rate"] and 100 * one["copy_rate"], "{:.1f}")
            found.append(
                [
                    f"*{kind}*",
                    one["class"],
                    *[""] * 4,
                    *kids,
                    *shares,
                    copies,
                    section.shown(one["tell_auc"], "{:.3f}"),
                    "",
                ]
            )
    return found


def table(rows: list[list[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(HEADS), ["---"] * len(HEADS), *rows])


def main() -> None:
    """Trains and measures GANs one after another and prints a table."""
    parser = cli.Parser(prog="python -m experiments.gan_bench", description=main.__doc__)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), metavar="CONFIG", help="names in configs/")
    parser.add_argument("--data", required=True, help="folder of the real images")
    parser.add_argument("--weights", required=True, help="of SqueezeNet 1.1, ImageNet's")
    parser.add_argument("--out", required=True, type=cli.path, metavar="FOLDER", help="where the runs go")
    parser.add_argument("--images", type=int, default=16_000, help="that each state sees; %(default)s")
    parser.add_argument("--minutes", type=float, default=0, help="that each class trains for, in place of --images")
    parser.add_argument("--looks", type=int, default=8, help="at each GAN while it trains; %(default)s")
    parser.add_argument("--size", type=int, default=64, help="pixels; %(default)s")
    with cli.exit_codes():
        options = parser.parse_args()
    with cli.exit_codes(options.out, "--out"):
        for flag, value in (("--images", options.images), ("--looks", options.looks)):
            if value < 1:
                raise BadInput(f"{flag}={value}: give 1 or more")
        rows, last = [], None
        kind = f"{options.minutes:g}min" if options.minutes else f"{options.images}images"
        for variant in options.variants:
            workdir = options.out / f"{variant}-{options.size}px-{kind}"
            run(variant, workdir, options)
            last = runs.load(workdir)
            rows += rows_of(variant, last)
            cli.show(printable(f"{variant}: {workdir}"))
        cli.show(table(rows + (references_of(last) if last else [])))


if __name__ == "__main__":
    main()
