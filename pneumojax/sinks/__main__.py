"""Sends a finished run to a tracker: `python -m pneumojax.sinks wandb --workdir=DIR [--project=NAME] [--page]`."""

from collections.abc import Sequence

from pneumojax import cli, lookup, sinks
from pneumojax import run as runs
from pneumojax.errors import BadInput
from pneumojax.names import printable


def main(arguments: Sequence[str] | None = None) -> None:
    """Sends the config, curves and scores of a finished run to a tracker, and prints where they are. Each time anew."""
    known = lookup.names("pneumojax.sinks", "send")
    parser = cli.Parser(prog="python -m pneumojax.sinks", description=main.__doc__)
    parser.add_argument("sink", choices=known, help="which tracker")
    parser.add_argument("--workdir", required=True, type=cli.path, help="of a finished run")
    parser.add_argument("--project", default="pneumojax", help="there; %(default)s if not given")
    parser.add_argument("--page", action="store_true", help="also report.html, which shows X-rays of the test")
    cli.show_log()
    with cli.exit_codes():
        options = parser.parse_args(arguments)
        record = sinks.record_of(runs.load(options.workdir), options.page)
        sink = lookup.load("pneumojax.sinks", options.sink, "send", "sink")
        try:
            where = sink.send(record, options.project)
        except ModuleNotFoundError as error:
            raise BadInput(f"{error.name} is not installed here; pip install 'pneumojax[sinks]'") from error
        cli.show(printable(where))


if __name__ == "__main__":
    main()
