"""One rule for every path that a user gives, of flags, arguments and fields of a config alike; new folders."""

import errno
import functools
import glob
import os
import platform
import shutil
import stat
from contextlib import contextmanager
from pathlib import Path

from absl import logging

from pneumojax.errors import BadInput


def expanded(text: str) -> Path:
    """A path as it was given, with `~` and `~user` expanded.

    Errors: BadInput for what can be no path, whatever the disk holds: an empty one, one with a NUL or a name that is
    too long, one below a home that is not known.
    """
    path = os.path.expanduser(text)
    if not text:
        raise BadInput("'' is an empty path; give '.' for this folder")
    if path.startswith("~"):
        raise BadInput(f"{text!r}: no home folder of that user is known here; give a path without ~ (or ./~…)")
    try:
        os.stat(path)
    except ValueError as error:
        raise BadInput(f"{text!r} can be no path: {error}") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise BadInput(f"{text!r}: {error.strerror}; give a shorter path") from error
    return Path(path)


def of(text: str, field: str) -> Path:
    """The same of what a field or flag holds. Errors: BadInput, which names the `field`."""
    try:
        return expanded(text)
    except BadInput as error:
        raise BadInput(f"{field}={error}") from error


def cache(text: str, field: str) -> Path | None:
    """A folder for what can be made anew; None where there is none, as '' says, or as no home of this user is known."""
    if is_below_home(text) and os.path.expanduser(text) == text:
        say_once(f"{field}={text!r}: this user has no home folder (HOME is not set): nothing is kept; give a folder")
        return None
    return of(text, field) if text else None


def is_below_home(text: str) -> bool:
    """Whether a path lies below the home of the user, whoever that is."""
    return text == "~" or text.startswith("~/")


@functools.cache
def say_once(message: str) -> None:
    """Warns, once a process."""
    logging.warning("%s", message)


def why_no_directory(path: Path) -> str:
    """Why a folder cannot be read, as the end of a sentence on it; '' where it is one."""
    try:
        return "" if stat.S_ISDIR(os.stat(path).st_mode) else "is not a directory"
    except FileNotFoundError:
        return "is not a directory"
    except OSError as error:
        return f"is not a directory that can be read ({error.strerror})"


@contextmanager
def named(path: Path):
    """Gives its path to an OSError that has none, as those of reading and writing have not."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            error.filename = os.fspath(path)
        raise


def check_new(folder: Path, flag: str = "--out") -> None:
    """Errors: BadInput, which names the `flag`, where a folder that is to be made is there and holds something."""
    if folder.exists() and os.listdir(folder):
        raise BadInput(f"{folder} holds files already; choose another {flag} or empty it")


def is_running(process: int) -> bool:
    """Whether there is a process of that number on this machine, whoever's it is."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def new_folder(folder: Path, flag: str = "--out"):
    """A folder to fill under a temporary name beside it, which is then renamed: it appears whole or not at all.

    What a killed command left there under such a name is removed, where no process of that number is on this machine.

    Errors: BadInput as `check_new` has it; OSError where it cannot be written.
    """
    check_new(folder, flag)
    name = f".{folder.name}.{platform.node()[:12]}"
    for left in folder.parent.glob(f"{glob.escape(name)}-*.partial"):
        number = left.name.removeprefix(f"{name}-").removesuffix(".partial")
        if number.isdecimal() and not is_running(int(number)):
            shutil.rmtree(left, ignore_errors=True)
    partial = folder.with_name(f"{name}-{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
