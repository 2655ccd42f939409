"""Seconds that parts of a run take, over all its starts."""

import contextlib
import json
import time
from pathlib import Path

from pneumojax import checkpoint


class Timings:
    """Seconds by name, kept in a file; what a run that was killed had written is gone on with."""

    def __init__(self, path: Path):
        self._path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
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
