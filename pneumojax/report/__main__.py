"""Writes the page and results.csv of a finished run anew: `python -m pneumojax.report --workdir=DIR [--merge DIR…]`."""

import json
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

import jinja2

from pneumojax import checkpoint, cli, metrics, report, tidy
from pneumojax import run as runs
from pneumojax import workdir as workdirs
from pneumojax.errors import BadInput, describe
from pneumojax.names import printable
from pneumojax.run import Run


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the page and results.csv of a finished run anew, or of trials that several runs made of one study."""
    parser = cli.Parser(prog="python -m pneumojax.report", description=main.__doc__)
    parser.add_argument("--workdir", required=True, type=cli.path, help="of a finished run; or, to --merge, a new one")
    parser.add_argument(
        "--merge",
        nargs="+",
        type=cli.path,
        default=[],
        metavar="DIR",
        help="finished runs of the same config but for trials",
    )
    cli.show_log()
    with cli.exit_codes():
        options = parser.parse_args(arguments)
    workdir = options.workdir
    with cli.exit_codes(workdir, "--workdir"):
        if not options.merge:
            with drawable(workdir):
                write(runs.load(workdir), workdir)
            cli.show(printable(workdir / "report.html"))
            return
        own = [runs.load(workdir)] if (workdir / "results.json").exists() else []
        if not own and workdir.exists() and any(workdir.iterdir()):
            raise BadInput(f"{workdir} is neither a finished run nor empty; give one of these for the merged page")
        several = [*own, *map(runs.load, options.merge)]
        with drawable(*(one.workdir for one in several)):
            run = runs.merged(several)
        folder = workdir / "merged" if own else workdir
        lines = "".join(
            f"{json.dumps(row)}\n" for one in several for row in metrics.read(one.workdir) if "grid" not in row
        )
        config = json.loads((several[0].workdir / "config.json").read_text())
        checkpoint.write_json(folder / "config.json", config | {"trials": list(run.config.trials)})
        checkpoint.write_json(folder / "splits.json", run.splits)
        checkpoint.write_bytes(folder / "metrics.jsonl", lines.encode())
        checkpoint.write_bytes(folder / "predictions.csv", workdirs.csv_of(run.predictions))
        with drawable(*(one.workdir for one in several)):
            write(run, folder)
        checkpoint.write_json(folder / "results.json", run.results)
        cli.show(printable(folder / "report.html"))


def write(run: Run, folder: Path) -> None:
    """Writes all that follows from results.json, predictions and curves."""
    report.write(run, folder)
    tidy.write_scores(run.results, folder)


@contextmanager
def drawable(*workdirs: Path):
    """Errors: BadInput where what results.json of finished runs holds is not what a page is made of."""
    try:
        yield
    except (*checkpoint.DAMAGED, ArithmeticError, jinja2.TemplateError) as error:
        where = " or ".join(f"{workdir}/results.json" for workdir in workdirs)
        what = f"{type(error).__name__}: {describe(error)}"
        raise BadInput(f"{where} is damaged or was edited ({what}); bring it back or run anew") from error


if __name__ == "__main__":
    main()
