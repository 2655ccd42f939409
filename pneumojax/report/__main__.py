"""Writes the page of a finished run anew: `python -m pneumojax.report --workdir=DIR [--merge DIR…]`."""

from collections.abc import Sequence
from pathlib import Path

from pneumojax import checkpoint, cli, report
from pneumojax import run as runs
from pneumojax import workdir as workdirs
from pneumojax.errors import BadInput


def main(arguments: Sequence[str] | None = None) -> None:
    """Writes the page of a finished run anew, or of trials that several runs made of one study."""
    parser = cli.Parser(prog="python -m pneumojax.report", description=main.__doc__)
    parser.add_argument("--workdir", required=True, type=Path, help="of a finished run, or a new folder for --merge")
    parser.add_argument(
        "--merge",
        nargs="+",
        type=Path,
        default=[],
        metavar="DIR",
        help="finished runs of the same config but for trials",
    )
    cli.show_log()
    with cli.exit_codes():
        options = parser.parse_args(arguments)
    workdir = options.workdir.expanduser()
    with cli.exit_codes(workdir, "--workdir"):
        if not options.merge:
            report.write(runs.load(workdir), workdir)
            print(workdir / "report.html")
            return
        own = [runs.load(workdir)] if (workdir / "results.json").exists() else []
        if not own and workdir.exists() and any(workdir.iterdir()):
            raise BadInput(f"{workdir} is neither a finished run nor empty; give one of these for the merged page")
        run = runs.merged([*own, *map(runs.load, options.merge)])
        folder = workdir / "merged" if own else workdir
        checkpoint.write_bytes(folder / "predictions.csv", workdirs.csv_of(run.predictions))
        report.write(run, folder)
        checkpoint.write_json(folder / "results.json", run.results)
        print(folder / "report.html")


if __name__ == "__main__":
    main()
