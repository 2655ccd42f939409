"""Draws images from the GANs of a finished run: `python -m pneumojax.sample --workdir=DIR --out=FOLDER`."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from pneumojax import __version__, checkpoint, cli, environment, gan, loop, paths
from pneumojax import run as runs
from pneumojax.errors import BadInput
from pneumojax.gan import drawing, pictures, watch
from pneumojax.gan import train as gan_train
from pneumojax.gan.drawing import Order, Recipe
from pneumojax.jobs import place_of
from pneumojax.names import printable
from pneumojax.run import Run
from pneumojax.stage import Stage, seed_of

MOST = 50_000  # images of a class
PATHS = pictures.ROWS  # rows of an interpolation, of each class
LONGEST = 200  # bytes of a class's name in that of a file
SYNTHETIC = "synthetic: made by a GAN, which can copy what it was trained on; not an X-ray of a patient"


class Source(NamedTuple):
    """What the images of one class are drawn from."""

    order: Order
    label: int
    state: Any  # of the GAN
    digest: str  # of the state

    @property
    def name(self) -> str:
        """The class."""
        return self.order.classes[self.label]


def gans(run: Run) -> dict[str, dict[Stage, tuple[int, ...]]]:
    """The GANs of a run, diverged or not, by trial and protocol, `trial0/clean`: stage → labels that it makes.

    Those of further seeds are `trial0/clean-gan1` and so on. GANs that saw permuted labels are not among them.

    One whose images are there was trained: where its checkpoint is not, that is for `load` to say.
    """
    module, place, found = gan.load(run.config.gan.name), place_of(run.workdir), {}
    for trial in run.config.trials:
        for protocol in run.config.protocols:
            states = gan.states(module, run.config.data.classes).items()
            for seed in range(run.config.gan.seeds):
                stages = {Stage(trial, protocol, gan=name, gan_seed=seed): labels for name, labels in states}
                kept = {
                    stage: labels
                    for stage, labels in stages.items()
                    if place.checkpoints(stage).exists()
                    or gan_train.images_path(run.workdir, stage).exists()
                    or loop.record_of_divergence(place, stage).exists()
                }
                if kept:
                    found[f"trial{trial}/{protocol}" + (f"-gan{seed}" if seed else "")] = kept
    return found


def load(run: Run, name: str, seed: int, class_name: str = "") -> list[Source]:
    """The GANs `trial0/clean` of a finished run, or that of one class, in the order of classes.

    Errors: BadInput where the run has no such GAN, or it has diverged, or its checkpoint is missing or damaged.
    """
    found, classes = gans(run), run.config.data.classes
    if not found:
        raise BadInput(f"{run.workdir} has no GAN: none was trained, or its checkpoints are elsewhere")
    if name not in found:
        raise BadInput(f"{run.workdir} has no GAN {name!r}; give --gan={' or '.join(found)}")
    of_class = {classes[label]: (stage, label) for stage, labels in found[name].items() for label in labels}
    if class_name and class_name not in of_class:
        raise BadInput(f"{run.workdir}: {name} makes no class {class_name!r}; give --class={' or '.join(of_class)}")
    recipe, place, sources = recipe_of(run), place_of(run.workdir), []
    for stage, label in sorted([of_class[class_name]] if class_name else of_class.values(), key=lambda one: one[1]):
        if how := loop.diverged_before(place, stage):
            what = f"{stage.name} diverged ({how.metric} after step {how.step})"
            raise BadInput(f"{run.workdir}: {what}; give another --gan or, where that is left, --class")
        folder = watch.drawn_from(place, stage, run.config.quality.inner > 0)
        state = loop.newest(folder, gan_train.fresh(jax.random.key(0), recipe))
        order = Order(stage, np.zeros(0, int), {}, seed_of(seed, stage.name, "sample"), classes)
        sources.append(Source(order, label, state, checkpoint.digest(state)))
    return sources


def recipe_of(run: Run) -> Recipe:
    """What the programs of a run's GANs depend on."""
    return Recipe(gan.load(run.config.gan.name), run.config.gan)


def draw(source: Source, recipe: Recipe, count: int) -> np.ndarray:
    """Images of one class, uint8 [count, S, S]. Fewer images are the first ones of more."""
    return drawing.generate(recipe, source.order._replace(wanted={source.label: count}), source.state)[source.label]


def interpolate(source: Source, recipe: Recipe) -> np.ndarray:
    """Images between pairs of latents, row after row: uint8 [PATHS * columns, S, S]."""
    key, columns = (
        jax.random.fold_in(jax.random.key(source.order.seed), 4),
        pictures.columns_of(recipe.config.image_size),
    )
    latents = drawing.great_circles(key, PATHS, columns, recipe.config.latent_dim)
    labels = jnp.full(len(latents), source.label, jnp.int32)
    return np.asarray(drawing.draw(source.state, latents, labels, recipe))


def file_name(source: Source, number: int) -> str:
    """What an image is called: letters, digits and `_.-~` of its class as they are, other bytes of UTF-8 as %xx."""
    name = quote(source.name.encode(errors="surrogatepass"), safe="")
    return f"generated-{name if len(name) <= LONGEST else f'class{source.label}'}-{number:05d}.png"


def write(folder: Path, sources: Sequence[Source], recipe: Recipe, options: argparse.Namespace) -> None:
    """Draws images and writes them into a folder, which appears whole or not at all.

    Each is a PNG that says what it is of: not where the run lies, but the digest of the state that has made it.

    Errors: BadInput where the folder holds something; OSError where it cannot be written.
    """
    with paths.new_folder(folder) as partial:
        sheets, between = [], []
        for source in sources:
            images = draw(source, recipe, options.count)
            facts = {
                **about(recipe, options),
                "Class": source.name,
                "GAN": f"{recipe.config.name} {source.order.stage.name}, state {source.digest[:16]}",
            }
            for number, image in enumerate(images):
                put(partial / file_name(source, number), image, facts | {"Number": str(number)})
            sheets.append(pictures.samples(source.name, images))
            if options.interpolate:
                between.append(pictures.interpolation(source.name, interpolate(source, recipe)))
        put(partial / "sheet.png", pictures.below(sheets), about(recipe, options))
        if options.interpolate:
            put(partial / "interpolation.png", pictures.below(between), about(recipe, options))


def about(recipe: Recipe, options: argparse.Namespace) -> dict[str, str]:
    """What every picture says of itself."""
    made = {"Software": f"pneumojax {__version__}", "Description": SYNTHETIC}
    return made | {"GAN": f"{recipe.config.name} {options.gan}", "Seed": str(options.seed)}


def put(path: Path, picture: np.ndarray, facts: dict[str, str]) -> None:
    """Writes one PNG."""
    with paths.named(path):
        path.write_bytes(pictures.png(picture, facts))


def count_of(text: str) -> int:
    """The type of --count."""
    if not text.strip().isdecimal() or not 1 <= int(text[:20]) <= MOST:
        raise argparse.ArgumentTypeError(f"{text!r}: give a whole number from 1 to {MOST}")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draws images from the GANs of a finished run: PNGs and `sheet.png`. For research; none is of a patient."""
    parser = cli.Parser(prog="python -m pneumojax.sample", description=main.__doc__)
    parser.add_argument("--workdir", required=True, type=cli.path, help="of the finished run")
    parser.add_argument("--gan", default="trial0/clean", help="which: trialN/PROTOCOL; %(default)s")
    parser.add_argument("--count", default=16, type=count_of, metavar="N", help="images of each class; %(default)s")
    parser.add_argument("--out", required=True, type=cli.path, metavar="FOLDER", help="to make; or an empty one")
    parser.add_argument("--class", dest="class_name", default="", metavar="NAME", help="one class alone")
    parser.add_argument("--seed", default=0, type=int, help="of the latents, which are others than the study's; 0")
    parser.add_argument("--interpolate", action="store_true", help="interpolation.png as well: from latent to latent")
    cli.show_log()
    with cli.exit_codes(), environment.pinned():
        options = parser.parse_args(arguments)
        run = runs.load(options.workdir)
        sources = load(run, options.gan, options.seed, options.class_name)
        folder = Path(os.path.realpath(options.out))
        with cli.exit_codes(folder.parent, "--out"):  # the temporary one lies there
            write(folder, sources, recipe_of(run), options)
        logging.info("%d images of %s", len(sources) * options.count, options.gan)
        cli.show(printable(options.out / "sheet.png"))


if __name__ == "__main__":
    main()
