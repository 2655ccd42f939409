"""Traces of what devices and jax do in some steps of each kind of task, by jax's profiler."""

import contextlib
import re
from collections import Counter
from pathlib import Path

import jax
from absl import logging

from pneumojax.errors import describe

HOW = "`tensorboard --logdir` shows them (pip install tensorboard xprof), ui.perfetto.dev each perfetto_trace.json.gz"
SKIPPED, STEPS = 1, 4  # steps that go before a trace, as those that compile, and steps in it


class Traces:
    """A folder of traces, one a kind of task; None for no folder and no trace."""

    def __init__(self, folder: Path | None):
        self._folder, self._running, self._left = folder, "", 0
        self._steps: Counter[str] = Counter()
        self._tried, self.made = set(), []

    def step(self, what: str) -> None:
        """A step of a kind of task is done."""
        if not self._folder:
            return
        self._steps[what] += 1
        if self._running == what:
            self._left -= 1
            if not self._left:
                self.pause(what)
        elif not self._running and what not in self._tried and self._steps[what] > SKIPPED:
            self._begin(what)

    def _begin(self, what: str) -> None:
        self._tried.add(what)
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # or a program that is compiled meanwhile makes millions of events
        with self._told(what):
            folder = self._folder / re.sub(r"\W+", "-", what)
            jax.profiler.start_trace(folder, create_perfetto_trace=True, profiler_options=options)
            self._running, self._left = what, STEPS

    def pause(self, what: str) -> None:
        """Ends the trace of a kind of task, if there is one."""
        if self._folder and self._running == what:
            self._running = ""
            with self._told(what):
                jax.profiler.stop_trace()
                self.made.append(what)

    @contextlib.contextmanager
    def _told(self, what: str):
        try:
            yield
        except Exception as error:  # of a disk, or of whatever the profiler cannot do here: no study ends for it
            logging.warning("%s: no trace of %s: %s", self._folder, what, describe(error)[:200])

    def end(self) -> None:
        """Ends what runs, and says how to look at what there is."""
        if self._folder:
            if self._running:
                self.pause(self._running)
            made = ", ".join(self.made) or "nothing, for all was done before"
            logging.info("%s: traces of %s; %s", self._folder, made, HOW)
