"""Seconds that parts of a run take, over all its starts, and the memory."""

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import logging

from pneumojax import checkpoint, progress
from pneumojax.errors import describe
from pneumojax.programs import making
from pneumojax.progress import Task

COMPILE = "_compile"  # behind the name of a part: how many of its seconds programs took to be made
SAID = {  # of parts while they are under way
    "weights": "reading weights",
    "data": "reading images",
    "gan": "GANs",
    "features": "features",
    "filter": "median filter",
    "forest": "forests",
    "classifier": "classifiers",
    "evaluate": "statistics",
}


class Timings:
    """Seconds by name, and peaks of memory, kept in files; what a run that was killed had written is gone on with."""

    def __init__(self, path: Path):
        self._path, self._peaks_path = path, path.with_suffix(".memory.json")
        self.seconds, self.peaks = recorded(path), recorded(self._peaks_path)
        self._name, self._since, self._made = "", 0.0, 0.0

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[Task]:
        """Adds the seconds that its block takes, which is shown; a block within a block counts for itself."""
        outer = self._name
        self.flush()
        self._name = name
        try:
            with progress.task(SAID.get(name, name)) as task:
                yield task
        finally:
            self.flush()
            self._name = outer

    def flush(self) -> None:
        """Adds the seconds until now, and writes them; those of compiling beside, which are among them."""
        now, made = time.monotonic(), making.seconds
        if self._name:
            for name, own in ((self._name, now - self._since), (self._name + COMPILE, made - self._made)):
                if own > 0 or name == self._name:
                    self.seconds[name] = round(self.seconds.get(name, 0.0) + own, 3)
            checkpoint.write_json(self._path, self.seconds)
            self.peaks = larger(self.peaks, peaks())
            checkpoint.write_json(self._peaks_path, self.peaks)
        self._since, self._made = now, made


def peaks() -> dict[str, float]:
    """The most memory that was held so far, in gigabytes: {"host"}, and {"device"} of the fullest that tells it."""
    try:
        [line] = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        host = int(line.split()[1]) * 1024
    except (OSError, ValueError):  # its own peak; this is of the program too that it was before exec
        host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    told = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in jax.local_devices()]
    found = {"host": host, "device": max(told)}
    return {name: round(count / 1e9, 3) for name, count in found.items() if count}


def larger(*of: dict[str, float]) -> dict[str, float]:
    """The largest number of each name."""
    return {name: max(one[name] for one in of if name in one) for name in dict.fromkeys(n for one in of for n in one)}


def recorded(path: Path) -> dict[str, float]:
    """The seconds of earlier starts; none, which is said, where the file is damaged: no result depends on them."""
    if not path.exists():
        return {}
    try:
        found = checkpoint.read_json(path)
        return {name: float(seconds) for name, seconds in found.items()}
    except (OSError, *checkpoint.DAMAGED) as error:
        logging.warning("%s is damaged (%s): the seconds are counted anew", path, describe(error))
        return {}
