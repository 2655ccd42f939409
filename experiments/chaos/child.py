"""A study or a sweep in this process, disturbed: `python -m experiments.chaos.child MODULE DISTURBANCE FLAG…`.

MODULE is the command's, DISTURBANCE is JSON, [name, arguments…], or empty.
"""

import errno
import importlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from pneumojax import runtime

PLACES = {  # what is called → where, and how many seconds after the call it may be killed at most
    "a step of a GAN or classifier": ("pneumojax.loop", "advance", 0.02),
    "a checkpoint's write": ("pneumojax.checkpoint", "save", 0.1),
    "a file's write": ("pneumojax.checkpoint", "written", 0.01),
    "the cache, in": ("pneumojax.gan.cache", "deliver", 0.05),
    "the cache, out": ("pneumojax.gan.cache", "fetch", 0.05),
    "losses and sheets": ("pneumojax.metrics", "Writer.flush", 0.01),
    "between stages": ("pneumojax.study", "classify", 0.01),
    "scores": ("pneumojax.results", "scored", 0.5),
    "the page": ("pneumojax.report", "write", 0.5),
    "a sweep's manifest": ("experiments.sweep.ledger", "claim", 0.05),
}


def wrapped(place: str, before) -> None:
    """Lets `before()` be called whenever a place is come to."""
    module, name, _ = PLACES[place]
    *classes, name = name.split(".")
    owner = importlib.import_module(module)
    for one in classes:
        owner = getattr(owner, one)
    original = getattr(owner, name)

    def called(*args, **kwargs):
        before()
        return original(*args, **kwargs)

    setattr(owner, name, called)


def die(place: str, number: int, after: float) -> None:
    """Kills this process so many seconds after that call of a place."""
    calls = 0

    def before():
        nonlocal calls
        calls += 1
        if calls == number:
            threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()

    wrapped(place, before)


def count(path: str) -> None:
    """Leaves in a file, at the end, how often each place was come to."""
    calls = dict.fromkeys(PLACES, 0)

    def counting(place):
        def before():
            calls[place] += 1
            Path(path).write_text(json.dumps(calls))

        return before

    for place in PLACES:
        wrapped(place, counting(place))


def without_locks() -> None:
    """A file system that has none."""
    import fcntl

    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = flock


def clock_jumps(number: int) -> None:
    """The clock goes back by an hour at that look at it."""
    looks, now = 0, time.time

    def then():
        nonlocal looks
        looks += 1
        return now() - (3600 if looks > number else 0)

    time.time = then


DISTURBED = {"die": die, "count": count, "without_locks": without_locks, "clock_jumps": clock_jumps}


if __name__ == "__main__":
    runtime.configure()
    command, disturbance, *flags = sys.argv[1:]
    main = importlib.import_module(command).main
    if disturbance:
        name, *arguments = json.loads(disturbance)
        DISTURBED[name](*arguments)
    main(flags)
