"""Losses and pictures over steps: TensorBoard events and `metrics.jsonl`, with clu's method names.

clu's own writers import TensorFlow, so this is their small twin. A step that was already written is not written to
`metrics.jsonl` again, so that a run that was killed and went on leaves the same file as one that was not.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

# tensorboardX imports torch where it is installed: three seconds for nothing that is used here.
_torch = sys.modules.get("torch")
sys.modules["torch"] = None
import tensorboardX  # noqa: E402

if _torch is None:
    del sys.modules["torch"]
else:
    sys.modules["torch"] = _torch


class Writer:
    """Appends to the metrics of a workdir. Tags are `<stage>/<metric>`, e.g. `trial0/clean/gan_normal/d_loss`."""

    def __init__(self, workdir: Path):
        self._path = workdir / "metrics.jsonl"
        self._path.touch()
        text = self._path.read_text()
        whole = text[: text.rfind("\n") + 1]  # a kill can leave half a line
        os.truncate(self._path, len(whole))
        self._seen = set(whole.splitlines())
        self._lines = self._path.open("a")
        self._board = tensorboardX.SummaryWriter(str(workdir), flush_secs=30)

    def write_scalars(self, step: int, scalars: dict[str, float]) -> None:
        """Writes the scalars of one step."""
        line = json.dumps({"step": step, **scalars})
        if line in self._seen:
            return
        self._seen.add(line)
        self._lines.write(line + "\n")
        self._lines.flush()
        for tag, value in scalars.items():
            self._board.add_scalar(tag, value, step)

    def write_images(self, step: int, images: dict[str, np.ndarray]) -> None:
        """Writes uint8 pictures [H, W] to TensorBoard."""
        for tag, image in images.items():
            self._board.add_image(tag, image, step, dataformats="HW")

    def write_hparams(self, hparams: dict) -> None:
        """Writes the config to TensorBoard as text."""
        self._board.add_text("config", f"```\n{json.dumps(hparams, indent=2)}\n```")

    def flush(self) -> None:
        """Brings all that was written to the disk."""
        os.fsync(self._lines.fileno())
        self._board.flush()

    def close(self) -> None:
        self.flush()
        self._lines.close()
        self._board.close()


def read(workdir: Path) -> dict[str, dict[int, float]]:
    """The scalars of `metrics.jsonl`: {tag: {step: value}}."""
    curves: dict[str, dict[int, float]] = {}
    for line in (workdir / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        step = row.pop("step")
        for tag, value in row.items():
            curves.setdefault(tag, {})[step] = value
    return curves
