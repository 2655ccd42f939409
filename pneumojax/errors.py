"""What can end a study early, and the exit code that tells it apart."""

import errno
from collections.abc import Sequence

WRITE_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM}  # of a disk


class StudyError(Exception):
    """One `error:` line: what is wrong, where, and the remedy; `details` are listed below it, indented."""

    exit_code: int

    def __init__(self, message: str, details: Sequence[str] = ()):
        super().__init__(message)
        self.details = tuple(details)


class BadInput(StudyError):
    """A flag, config field, file or folder that cannot be used as it is."""

    exit_code = 2


class Diverged(StudyError):
    """Classifiers or GANs that are no longer finite."""

    exit_code = 3

    @classmethod
    def several(cls, what: str, found: Sequence["Diverged"]) -> "Diverged":
        """Those of several studies as one."""
        return cls(what, [line for one in found for line in (str(one), *one.details)])


class NotWritable(StudyError):
    """A disk that is full, or a place where this user may not write."""

    exit_code = 4


class Stopped(SystemExit):
    """A signal has told this process to end, by the code 128 + signal; in a user's file too, whose `exit()` is none."""


def describe(error: BaseException) -> str:
    """The message of any exception on one line."""
    return " ".join(str(error).split()) or type(error).__name__
