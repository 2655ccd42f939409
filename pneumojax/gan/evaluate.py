"""How near generated images come to real ones, whether they are copies, and whether they can be told.

`python -m pneumojax.gan.evaluate --workdir=DIR` measures all GANs of a finished run, writes gan_quality.json, puts it
into results.json and writes the page anew.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import logging

from pneumojax import checkpoint, cli, embedding, environment, report
from pneumojax import run as runs
from pneumojax.board import Board
from pneumojax.embedding import Embedding
from pneumojax.errors import BadInput
from pneumojax.gan import comparison, material, pictures
from pneumojax.names import printable
from pneumojax.run import Run


def evaluate(run: Run, embed: Embedding, count: int) -> tuple[dict, dict[str, np.ndarray]]:
    """Measures the GANs of a finished run.

    Args:
      run: of which the real images are at hand.
      embed: the network that looks.
      count: images of each kind and GAN, at most.

    Returns: (what gan_quality.json holds; the nearest pairs of each GAN and class, path below the workdir → picture).

    Errors: BadInput where the run made no images, or its real images are not at hand.
    """
    pool = material.pool(run, embed.size)
    cases = material.cases(run, pool, count)
    rows = np.unique(np.concatenate([rows for case in cases for rows in case.rows]))
    real, classes = comparison.look_at_real(pool, rows, embed), run.config.data.classes
    gans, references, shown = [], {name: [] for name in comparison.REFERENCES}, {}
    for case in cases:
        logging.info("%s, %s: %d images", case.stage.name, classes[case.label], len(case.generated))
        own, beside = comparison.rows_of(case, pool, real, rows, embed)
        stage = case.stage
        name = {"trial": stage.trial, "protocol": stage.protocol, "class": classes[case.label], "seed": stage.gan_seed}
        if own.get("nearest"):
            own["picture"] = f"samples/nearest-{case.stage.name.replace('/', '-')}-class{case.label}.png"
            shown[own["picture"]] = comparison.picture_of(case, pool, own["nearest"])
        gans.append({**name, **own})
        for kind, row in beside.items():
            references[kind].append({**name, **row})
    summed = {kind: {**means(of_kind), "by_gan": of_kind} for kind, of_kind in references.items()}
    return {"features": embed.name, "size": embed.size, "gans": gans, "references": summed}, shown


def show(workdir: Path, found: dict, shown: dict[str, np.ndarray]) -> None:
    """Writes the pictures, and a TensorBoard event file of its own with them and the numbers."""
    board = Board(workdir)
    for row in found["gans"]:
        tag = f"trial{row['trial']}/{row['protocol']}/quality{row['seed'] or ''}_{row['class'].lower()}"
        numbers = {name: row[name] for name in comparison.METRICS} | {"kid": row["kid"]["value"]}
        for name, value in numbers.items():
            if value is not None:
                board.scalar(f"{tag}/{name}", value, 0)
        if picture := row.get("picture"):
            checkpoint.write_bytes(workdir / picture, pictures.png(shown[picture]))
            board.image(f"{tag}/nearest", shown[picture], 0)
    board.close()


def means(rows: list[dict]) -> dict:
    """The mean of each metric over GANs, of those where it is defined; None where it is nowhere."""

    def mean(values):
        there = [value for value in values if value is not None]
        return float(np.mean(there)) if there else None

    kids = {key: mean([row["kid"][key] for row in rows]) for key in ("value", "std")}
    return {"kid": kids} | {name: mean([row[name] for row in rows]) for name in comparison.METRICS}


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
        asked = {name: getattr(options, name) or settings[name] for name in ("features", "weights")}
        fields = tuple(f"--{name}" if getattr(options, name) else f"config.quality.{name}" for name in asked)
        embed = embedding.load(*asked.values(), run.config.model.cache, fields=fields)
        with checkpoint.held(workdir, "--workdir"):
            found, shown = evaluate(run, embed, count)
            show(workdir, found, shown)
            checkpoint.write_json(workdir / "gan_quality.json", found)
            results = run.results | {"gan": run.results["gan"] | {"quality": found}}
            checkpoint.write_json(workdir / "results.json", results)
            report.write(run._replace(results=results), workdir)
        cli.show(printable(workdir / "gan_quality.json"))


if __name__ == "__main__":
    main()
