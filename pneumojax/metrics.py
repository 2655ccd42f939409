"""Losses and pictures over steps: `metrics.jsonl`, sample grids, and TensorBoard events made from both.

clu's own writers import TensorFlow, so this is their small twin. A line that was already written is not written again,
and TensorBoard's events are made anew from the lines at each start: a run that was killed and went on leaves what one
that was not killed leaves.
"""

import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from pneumojax import checkpoint, hosts
from pneumojax.board import Board
from pneumojax.errors import BadInput
from pneumojax.stage import Stage


class Writer:
    """Appends to the metrics of a workdir: one line for each stage and step, `{"step", "trial", "protocol", …}`."""

    def __init__(self, workdir: Path, hparams: dict):
        self._workdir = workdir
        path = workdir / "metrics.jsonl"
        path.touch()
        with checkpoint.record_of_run(path):
            text = path.read_text()
        whole = text[: text.rfind("\n") + 1]  # a kill can leave half a line
        os.truncate(path, len(whole.encode()))
        for events in workdir.glob("events.out.tfevents.*"):
            events.unlink()
        self._board = Board(workdir)
        self._board.text("config", f"```\n{json.dumps(hparams, indent=2)}\n```")
        self._seen = set(whole.splitlines())
        for row in read(workdir):
            self._show(row)
        self._lines = path.open("a")

    def write_scalars(self, stage: Stage, step: int, scalars: dict[str, float]) -> None:
        """Writes the scalars of one stage and step. Errors: BadInput for one that is called as a key of its line."""
        if taken := {"step", "grid", *Stage._fields} & scalars.keys():
            raise BadInput(f"{stage.name}: a metric is called {min(taken)!r}, as a key of metrics.jsonl is; rename it")
        self._write({"step": step, **stage.fields(), **scalars})

    def write_grid(self, stage: Stage, step: int, content: bytes) -> None:
        """Writes a PNG of generated images into `samples`, whole or not at all."""
        name = f"samples/generated-{stage.name.replace('/', '-')}-{step:06d}.png"
        checkpoint.write_bytes(self._workdir / name, content)
        self._write({"step": step, **stage.fields(), "grid": name})

    def _write(self, row: dict) -> None:
        line = json.dumps(row)
        if line in self._seen:
            return
        self._seen.add(line)
        self._lines.write(line + "\n")
        self._lines.flush()
        self._show(row)
        self._board.flush()

    def _show(self, row: dict) -> None:
        step, stage, values = parted(row)
        for name, value in values.items():
            if name != "grid":
                self._board.scalar(f"{stage.name}/{name}", value, step)
            elif (self._workdir / value).exists():  # its user may have removed it
                picture = np.asarray(Image.open(self._workdir / value))
                self._board.image(f"{stage.name}/generated", picture, step)

    def flush(self) -> None:
        """Brings all that was written to the disk."""
        os.fsync(self._lines.fileno())
        self._board.flush()

    def close(self) -> None:
        """Puts the lines into the order of stages and steps, in whatever order they were written."""
        self.flush()
        self._lines.close()
        self._board.close()
        rows = sorted(read(self._workdir), key=lambda row: (parted(row)[1], row["step"], "grid" in row))
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        checkpoint.write_bytes(self._workdir / "metrics.jsonl", lines.encode())


class Silent(Writer):
    """What processes beside the first have: it checks the names of metrics, and writes nothing."""

    def __init__(self, workdir: Path):
        self._workdir = workdir

    def _write(self, row: dict) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def writer(workdir: Path, hparams: dict) -> Writer:
    """That of this process."""
    return Writer(workdir, hparams) if hosts.first() else Silent(workdir)


def parted(row: dict) -> tuple[int, Stage, dict]:
    """(step, stage, values) of a line of `metrics.jsonl`."""
    values = dict(row)
    step = values.pop("step")
    stage = Stage(**{field: values.pop(field) for field in Stage._fields if field in values})
    return step, stage, values


def read(workdir: Path) -> list[dict]:
    """The lines of `metrics.jsonl`. Errors: BadInput where one of them is damaged, with its number."""
    with checkpoint.record_of_run(workdir / "metrics.jsonl") as path:
        return [_row(number, line) for number, line in enumerate(path.read_text().splitlines(), 1)]


def _row(number: int, line: str) -> dict:
    try:
        row = json.loads(line)
        step, _, values = parted(row)
        if type(step) is int and all(
            isinstance(v, str if name == "grid" else float | int) for name, v in values.items()
        ):
            return row
    except checkpoint.DAMAGED:
        pass
    raise ValueError(f"line {number} is not one of metrics")
