"""TensorBoard events, written by whoever has something to say.

tensorboardX's `SummaryWriter` has a thread that ends at the first error of the disk: who says something more then waits
for it, for ever. Its parts write at once, and raise.
"""

import sys
import time
from pathlib import Path

import numpy as np

# tensorboardX imports torch where it is installed: three seconds for nothing that is used here.
_torch = sys.modules.get("torch")
sys.modules["torch"] = None
from tensorboardX import summary  # noqa: E402
from tensorboardX.event_file_writer import EventsWriter  # noqa: E402
from tensorboardX.proto.event_pb2 import Event  # noqa: E402

if _torch is None:
    del sys.modules["torch"]
else:
    sys.modules["torch"] = _torch


class Board:
    """An event file of its own in a folder. Errors of all that it does: OSError where the disk does not take it."""

    def __init__(self, folder: Path):
        self._events = EventsWriter(str(folder / "events"))

    def text(self, tag: str, text: str) -> None:
        """Writes a text, which is Markdown."""
        self._write(summary.text(tag, text), 0)

    def scalar(self, tag: str, value: float, step: int) -> None:
        """Writes a number."""
        self._write(summary.scalar(tag, value), step)

    def image(self, tag: str, picture: np.ndarray, step: int) -> None:
        """Writes a picture, uint8 [H, W] or [H, W, C]."""
        self._write(summary.image(tag, picture, dataformats="HWC"[: picture.ndim]), step)

    def _write(self, what, step: int) -> None:
        self._events.write_event(Event(summary=what, step=step, wall_time=time.time()))

    def flush(self) -> None:
        """Brings all that was written to the disk."""
        self._events.flush()

    def close(self) -> None:
        """Ends the file."""
        self._events.close()
