"""What the commands share: paths among their arguments, what they print, one `error:` line, exit codes."""

import argparse
import errno
import logging as python_logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from absl import logging

from pneumojax import paths
from pneumojax.errors import WRITE_ERRNOS, BadInput, NotWritable, Stopped, StudyError
from pneumojax.names import printable

WRITTEN = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}  # errors that no reading gives
# What an error that names no path can be: of writing, since whatever is read is named (`paths.named`).
UNNAMED = {*WRITE_ERRNOS, errno.EIO, errno.ESTALE}

# Of a folder that cannot be made, since a file is there or nothing can be: freeing space is no remedy.
NO_FOLDER = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOENT}

OURS = f"{Path(__file__).parent}/"

_words, _said = threading.Lock(), threading.Event()  # who says why this process ends, and whether it did so itself

python_logging.getLogger("matplotlib").setLevel(python_logging.ERROR)  # or its import warns where there is no home


class Parser(argparse.ArgumentParser):
    """Arguments of a command; a wrong one is a BadInput."""

    def error(self, message: str):
        raise BadInput(f"{message} (--help tells what there is)")

    def print_help(self, file=None):
        show(self.format_help().rstrip())


def path(text: str) -> Path:
    """The type of every argument that is a path, by the rule of `paths`."""
    try:
        return paths.expanded(text)
    except BadInput as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def show(*lines: str) -> None:
    """Prints lines to standard output; what its encoding lacks is escaped.

    Errors: NotWritable where they cannot be written; SystemExit, without a word, where nobody reads them any more.
    """
    if sys.stdout is None:
        raise NotWritable("standard output is closed; give it a file")
    encoding = sys.stdout.encoding or "utf-8"
    text = "".join(f"{line}\n" for line in lines)
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        end_quietly()
    except OSError as error:
        drop_output()
        raise NotWritable(f"standard output: {error.strerror}; free space there") from error


def show_table(heads: Sequence[str], rows: Sequence[str]) -> None:
    """Prints a Markdown table of rows that are cells with ' | ' between them. Errors: as `show`."""
    show(f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}", *(f"| {printable(row)} |" for row in rows))


def end_quietly() -> None:
    """Ends as a program does whose reader has gone, `… | head`: by SIGPIPE, as a shell sees it."""
    drop_output()
    sys.exit(128 + signal.SIGPIPE)


def drop_output() -> None:
    """What could not be written is not tried again when the interpreter ends, which would complain."""
    with suppress(OSError, ValueError, AttributeError):  # of a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(error: StudyError) -> None:
    """Prints the `error:` line, its details indented, and exits with the error's code."""
    with _words:
        _said.set()
        say(error)
    raise SystemExit(error.exit_code) from error


def say_for_another(error: StudyError) -> None:
    """Prints the error of another process that this one ends with, unless it has an own; nothing is said after it."""
    _words.acquire()
    if not _said.is_set():
        say(error)


def say(error: StudyError) -> None:
    """Prints the `error:` line, its details indented. Names can forge neither."""
    with suppress(OSError):
        logging.flush()
        if sys.stderr:  # None where it is closed
            lines = (f"error: {printable(error)}", *(f"  {printable(line)}" for line in error.details))
            print(*lines, sep="\n", file=sys.stderr, flush=True)


@contextmanager
def exit_codes(place: Path | None = None, flag: str = ""):
    """Turns what ends a command early into exit codes. `place` is where it writes, as its `flag` says."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        yield
    except StudyError as error:
        fail(error)
    except OSError as error:
        if error.errno == errno.EPIPE and error.filename is None:
            end_quietly()
        if blamed := blame(error, place, flag):
            fail(blamed)
        raise


def stop(number: int, _) -> None:
    """What a signal does to a command."""
    raise Stopped(128 + number)


def blame(error: OSError, place: Path | None, flag: str) -> StudyError | None:
    """Whose fault it is, by the path that an error of the system names: that of `place`, or of something that was read.

    None where it names nothing and cannot be of writing.
    """
    path = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
    if error.errno == errno.ENAMETOOLONG:
        return BadInput(f"{path or place}: {error.strerror}; give a shorter path")
    if place and path and error.errno in NO_FOLDER and is_of(place, path):
        return NotWritable(f"{path}: {error.strerror}; choose another {flag}")
    if place and (is_of(place, path) if path else error.errno in UNNAMED):
        return NotWritable(f"{path or place}: {error.strerror}; free space there or choose another {flag}")
    if error.errno in WRITTEN:
        return NotWritable(f"{path or 'a file'}: {error.strerror}; free space there")
    if path and error.errno:
        return BadInput(f"{path}: {error.strerror}; give this user the right to read it, or mend it")
    return None


def is_of(place: Path, path: str) -> bool:
    """Whether a path is `place`, in it, or a folder that it lies in."""
    place, path = Path(os.path.abspath(place)), Path(os.path.abspath(path))
    return path.is_relative_to(place) or place.is_relative_to(path)


def show_log() -> None:
    """Shows our own lines, and warnings of others, less their tracebacks; a line of ours is one line.

    Orbax writes forty lines a checkpoint, and a traceback for each error that it then raises as well; jax one for each
    kind of device that is not there.
    """
    logging.set_verbosity(logging.INFO)
    logging.get_absl_logger().addFilter(worth_reading)
    python_logging.getLogger("jax").setLevel(python_logging.WARNING)


def worth_reading(record: python_logging.LogRecord) -> bool:
    """Whether a log record is shown; escapes what is in it. Lines that others wrote on purpose are indented."""
    own = record.pathname.startswith(OURS)
    lines = [record.getMessage()] if own else record.getMessage().split("\n")
    record.msg, record.args = "\n  ".join(map(printable, lines)), None
    if not own:
        record.exc_info = None
    return own or record.levelno >= python_logging.WARNING
