"""Runs the three-trial study of one classifier: `python -m pneumojax.main --config=configs/resnet18.py`."""

from pneumojax import runtime

if __name__ == "__main__":
    runtime.configure()  # before anything imports jax

import logging as python_logging
import signal
import sys
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from pneumojax import study
from pneumojax.errors import WRITE_ERRNOS, BadInput, NotWritable, StudyError, describe

CONFIG = config_flags.DEFINE_config_file("config", help_string="The study, a file of configs/.")
WORKDIR = flags.DEFINE_string("workdir", None, "Where everything goes; runs/<config name> if not given.")


def parse(argv: list[str]) -> list[str]:
    """Parses the flags. Errors: SystemExit(2) with one line, also for a field that the config does not have."""
    try:
        rest = flags.FLAGS(argv)
        if CONFIG.value is None:
            raise BadInput("--config is missing; pass e.g. --config=configs/demo.py")
        CONFIG.value.lock()  # a file that could not be read is only an error when it is used
        if rest[1:]:
            raise BadInput(f"unknown argument {rest[1]!r}; fields are set by --config.a.b=value")
    except StudyError as error:
        fail(error)
    except Exception as error:  # a config file may raise anything
        fail(BadInput(f"{describe(error)} (see configs/default.py for the fields and their types)"))
    return rest


def fail(error: StudyError) -> None:
    """Prints the `error:` line, its details indented, and exits with the error's code."""
    logging.flush()
    print(f"error: {describe(error)}", *(f"  {line}" for line in error.details), sep="\n", file=sys.stderr, flush=True)
    sys.exit(error.exit_code)


def worth_reading(record: python_logging.LogRecord) -> bool:
    """Passes our own lines and clu's, and warnings of others, less their tracebacks.

    Orbax writes forty lines a checkpoint, and a traceback for each error that it then raises as well.
    """
    if any(f"/{package}/" in record.pathname for package in ("pneumojax", "clu")):
        return True
    record.exc_info = None
    return record.levelno >= python_logging.WARNING


def main(argv: list[str]) -> None:
    """Runs the study and turns what ends it early into exit codes."""
    del argv
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(worth_reading)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    name = Path(config_flags.get_config_filename(flags.FLAGS["config"]).partition(":")[0]).stem
    workdir = Path(WORKDIR.value or f"runs/{name}").expanduser()
    try:
        study.run(CONFIG.value, workdir)
    except StudyError as error:
        fail(error)
    except OSError as error:
        if error.errno in WRITE_ERRNOS:
            fail(NotWritable(f"{workdir}: {describe(error)}; free space there or choose another --workdir"))
        raise


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
