"""Runs the three-trial study of one classifier: `python -m pneumojax.main --config=configs/resnet18.py`."""

import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app

from pneumojax import cli, config, hosts, study
from pneumojax.errors import BadInput


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the study of a config. Any field of it is set by --config.a.b=value; configs/default.py has them all."""
    parser = cli.Parser(prog="python -m pneumojax.main", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--config", help="the study, a file of configs/")
    parser.add_argument("--workdir", type=cli.path, help="where everything goes; runs/<config name> if not given")
    parser.add_argument(
        "--profile", action="store_true", help="also trace some steps of each kind, into WORKDIR/profile"
    )
    parser.add_argument(
        hosts.FLAG,
        nargs="?",
        const="",
        metavar="HOST:PORT,PROCESSES,NUMBER",
        help="one of several processes, of which number 0 is at HOST:PORT; without a value as jax finds them",
    )
    cli.show_log()
    with cli.exit_codes():
        options, overrides = parser.parse_known_args(arguments)
        if not options.config:
            raise BadInput("--config is missing; pass e.g. --config=configs/demo.py")
        loaded = config.load(options.config, overrides)
        workdir = options.workdir or Path("runs", Path(options.config.partition(":")[0]).stem)
    with hosts.lockstep(), cli.exit_codes(workdir, "--workdir"), hosts.joined(options.distributed):
        study.run(loaded, workdir, options.profile)


if __name__ == "__main__":
    app.run(lambda _: main(), argv=sys.argv[:1])  # for absl's log alone; the flags are ours
