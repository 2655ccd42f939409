"""What the commands share: one `error:` line, exit codes, whose log lines are shown."""

import argparse
import errno
import logging as python_logging
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

from absl import logging

from pneumojax.errors import WRITE_ERRNOS, BadInput, NotWritable, StudyError, describe


class Parser(argparse.ArgumentParser):
    """Arguments of a command; a wrong one is a BadInput."""

    def error(self, message: str):
        raise BadInput(f"{message} (--help tells what there is)")


def fail(error: StudyError) -> None:
    """Prints the `error:` line, its details indented, and exits with the error's code."""
    logging.flush()
    print(f"error: {describe(error)}", *(f"  {line}" for line in error.details), sep="\n", file=sys.stderr, flush=True)
    sys.exit(error.exit_code)


@contextmanager
def exit_codes(place: Path | None = None, flag: str = ""):
    """Turns what ends a command early into exit codes. `place` is where it writes, as its `flag` says."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        yield
    except StudyError as error:
        fail(error)
    except OSError as error:
        if place and (error.errno in WRITE_ERRNOS or cannot_be_made(place, error)):
            fail(NotWritable(f"{place}: {describe(error)}; free space there or choose another {flag}"))
        raise


def cannot_be_made(place: Path, error: OSError) -> bool:
    """Whether it was `place`, or a folder above it, that could not be made, as below /proc."""
    above = (place.absolute(), *place.absolute().parents)
    return error.errno == errno.ENOENT and Path(str(error.filename)).absolute() in above


def show_log() -> None:
    """Shows our own lines and clu's, and warnings of others, less their tracebacks.

    Orbax writes forty lines a checkpoint, and a traceback for each error that it then raises as well.
    """

    def worth_reading(record: python_logging.LogRecord) -> bool:
        if any(f"/{package}/" in record.pathname for package in ("pneumojax", "clu")):
            return True
        record.exc_info = None
        return record.levelno >= python_logging.WARNING

    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(worth_reading)
