"""What is being done, while it is done: one live line on a terminal, else plain lines in the log now and then.

Whatever takes time is a task, within another one or not; nobody need know whether it is shown. Within `shown` it is: a
thread looks at the innermost task twice a second. On a terminal it draws the line anew, which goes before anything else
is written; elsewhere it says what is being done where the log has been silent for a while. So nothing is silent for a
minute, whatever it is that takes one.
"""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from absl import logging
from tqdm import tqdm

from pneumojax import hosts
from pneumojax.names import printable
from pneumojax.programs import making
from pneumojax.traces import Traces

EVERY = 5.0  # seconds between two lines of the log on steps, at least
SILENT = 20.0  # seconds without a line of the log, after which one says what is being done
LONG = 2.0  # seconds of making a program, after which one says so
AT_ONCE = ("advance",)  # programs of which that is said before: a step of training
TICK = 0.5  # seconds


class Task:
    """Something that takes time."""

    def __init__(self, what: str, total: int = 0, unit: str = "images"):
        self.what, self.total, self.unit = what, total, unit
        self.note = ""  # which part of it is being done: a job, a file
        self.tail = ""  # how it goes
        self.done = 0
        self._skipped = 0  # of those that are done, those that took no time
        self._since, self._made = time.monotonic(), making.seconds

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        if _line:
            _line.traces.step(self.what)

    def each(self, parts: Iterable[tuple[Any, str, int]]) -> Iterator:
        """The parts of it, given as (part, its name, how many it has), in turn, however many of them are done."""
        for part, self.note, count in parts:
            end = self.done + count
            yield part
            self.skip(end)

    def skip(self, end: int) -> None:
        """So many are done in all, those that were not counted for nothing."""
        self._skipped += end - self.done
        self.done = end

    def tell(self, text: str) -> None:
        """How it goes: a line of the log, unless there was one just now, or the end of the live line."""
        self.tail = text
        if not _line or _line.due():
            logging.info("%s, %s (%s)", self.title(), text, self.pace(time.monotonic()))

    def title(self) -> str:
        """'GANs, job 3 of 12, trial0/clean/gan_normal'."""
        return printable(", ".join(filter(None, (self.what, self.note))))

    def pace(self, now: float) -> str:
        """'212 images/s, 3 min left', compilation left out; how long it has taken where that is not known."""
        made = making.seconds - self._made + (now - making.since if making.name else 0.0)
        seconds, own = now - self._since - made, self.done - self._skipped
        if not (self.total and own > 0 and seconds > 0):
            return spelled(now - self._since)
        rate = own / seconds
        left = spelled(max(0, self.total - self.done) / rate)
        return f"{rate:{',.0f' if rate >= 100 else '.3g'}} {self.unit}/s, {left} left"

    def words(self, now: float) -> str:
        """All of it, as a line of the log has it."""
        if making.name:
            return f"{self.title()}: compiling {printable(making.name)}, {spelled(now - making.since)}"
        count = f"{self.done:,} of {self.total:,} {self.unit}" if self.total else ""
        return f"{self.title()}: {', '.join(filter(None, (count, self.pace(now), printable(self.tail))))}"

    def beside_bar(self, now: float) -> str:
        """The same beside a bar, which tells the count: what matters first, or a narrow terminal would cut it off."""
        if making.name:
            return self.words(now)
        return printable(", ".join(filter(None, (f"{self.what}: {self.pace(now)}", self.note, self.tail))))


def spelled(seconds: float) -> str:
    """'45 s', '12 min', '3.4 h'."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 99.5 * 60 else f"{seconds / 3600:.1f} h"


class Line:
    """The tasks that are under way, and where they are shown."""

    def __init__(self, bar: tqdm | None, traces: Traces):
        self.tasks, self.bar, self.traces = [Task("study")], bar, traces
        self._heard = time.monotonic()  # when the log had its last line
        self._said = self._heard - EVERY  # and that on steps
        self._told = ""  # the program of whose making the log has said

    def due(self) -> bool:
        """Whether the log should have a line on steps; it counts as written."""
        if self.bar is not None or time.monotonic() - self._said < EVERY:
            return False
        self._said = time.monotonic()
        return True

    def making_room(self, emit: Callable) -> Callable:
        """What stands in for a log handler's `emit`: the live line is taken away first, and not drawn meanwhile."""

        def emit_alone(record) -> None:
            with tqdm.get_lock():
                self._heard = time.monotonic()
                with contextlib.suppress(OSError, ValueError, AttributeError):  # of no terminal, or one that has gone
                    self.bar.clear()
                emit(record)

        return emit_alone

    def compiling(self, name: str) -> None:
        """Called when a program is begun to be made."""
        if name != self._told:
            self._told = ""
        if name in AT_ONCE:
            self.tick(0.0)

    def tick(self, long: float = LONG) -> None:
        """Shows the innermost task where that is due."""
        task, now = self.tasks[-1], time.monotonic()
        if self.bar is not None:
            self.bar.total, self.bar.n = task.total or 1, min(task.done, task.total)
            with contextlib.suppress(OSError, ValueError):  # of a terminal that has gone
                self.bar.set_description_str(task.beside_bar(now))  # draws it
        elif making.name and self._told != making.name and now - making.since >= long:
            self._told = making.name
            logging.info("%s: compiling %s", task.title(), printable(making.name))
        elif now - self._heard >= SILENT:
            self._heard = now
            logging.info("%s", task.words(now))


_line: Line | None = None  # as the log, there is one a process


@contextlib.contextmanager
def shown(profile: Path | None = None) -> Iterator[None]:
    """Shows tasks while it is open; `profile`: a folder for traces of some steps of each kind of them."""
    global _line
    on_terminal = hosts.first() and sys.stderr is not None and sys.stderr.isatty()
    looks = {"leave": False, "dynamic_ncols": True, "bar_format": "{percentage:3.0f}%|{bar:12}| {desc}"}
    bar = tqdm(total=1, **looks) if on_terminal else None
    handler, ended = logging.get_absl_handler().python_handler, threading.Event()
    outer, told, emit = _line, making.told, handler.emit
    _line = line = Line(None if bar is None or bar.disable else bar, Traces(profile))

    def look() -> None:
        while not ended.wait(TICK):
            line.tick()

    thread = threading.Thread(target=look, name="progress", daemon=True)
    handler.emit = line.making_room(emit)
    making.told = line.compiling
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _line, making.told, handler.emit = outer, told, emit
        if bar is not None:
            bar.close()
        line.traces.end()


@contextlib.contextmanager
def task(what: str, total: int = 0, unit: str = "images") -> Iterator[Task]:
    """Within it `what` is being done, of which there are `total` to count, or 0."""
    own = Task(what, total, unit)
    line = _line
    if line:
        line.tasks.append(own)
    try:
        yield own
    finally:
        if line:
            line.tasks.remove(own)
            line.traces.pause(what)


def over(items: Iterable, what: str, total: int, count: int = 1, unit: str = "images") -> Iterator:
    """The items, `count` of `total` at each; on a terminal without a line, as other commands have it, under a bar."""
    if _line is None:
        units = {"total": -(-total // count), "unit": f" {unit}", "unit_scale": count}
        yield from tqdm(items, what, **units, mininterval=0.5, leave=False, disable=None if total else True)
        return
    with task(what, total, unit) as own:
        for item in items:
            yield item
            own.advance(count)
