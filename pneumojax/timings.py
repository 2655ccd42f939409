"""Seconds that parts of a run take, over all its starts."""

import contextlib
import time
from pathlib import Path

from absl import logging

from pneumojax import checkpoint
from pneumojax.errors import describe


class Timings:
    """Seconds by name, kept in a file; what a run that was killed had written is gone on with."""

    def __init__(self, path: Path):
        self._path = path
        self.seconds = recorded(path)
        self._name, self._since = "", 0.0

    @contextlib.contextmanager
    def of(self, name: str):
        """Adds the seconds that its block takes; a block within a block counts for itself."""
        outer = self._name
        self.flush()
        self._name, self._since = name, time.monotonic()
        try:
            yield
        finally:
            self.flush()
            self._name = outer

    def flush(self) -> None:
        """Adds the seconds until now, and writes them."""
        now = time.monotonic()
        if self._name:
            self.seconds[self._name] = round(self.seconds.get(self._name, 0.0) + now - self._since, 3)
            checkpoint.write_json(self._path, self.seconds)
        self._since = now


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
