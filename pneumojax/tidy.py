"""The scores of a finished run as rows, one a score: for CSV files, sweeps and pandas."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from pneumojax import checkpoint
from pneumojax.report import tables
from pneumojax.workdir import csv_of


class Score(NamedTuple):
    """One score of one part of an arm: fractions, None for what is not defined."""

    protocol: str
    arm: str
    part: str
    score: str
    mean: float | None  # over trials
    std: float | None
    low: float | None  # 95% of (a) these networks and new patients
    high: float | None
    n: int  # images, of all networks together
    networks: int
    procedure_low: float | None  # 95% of (b) this procedure
    procedure_high: float | None


def scores(results: dict) -> Iterator[Score]:
    """Every score of every protocol, arm and part of a results.json."""
    for protocol, arms in results.get("protocols", {}).items():
        for name, arm in arms.items():
            for part in ("test", *(key for key, value in arm.items() if isinstance(value, dict))):
                if summary := tables.summary_of(arm, part):
                    for row in rows_of(summary, arm["trials"], part):
                        yield Score(protocol, name, part, *row)


def write_scores(results: dict, workdir: Path) -> None:
    """Writes results.csv, a line a score; an empty cell is not defined."""
    rows = list(map(cells, scores(results)))
    columns = {name: [row[place] for row in rows] for place, name in enumerate(Score._fields)}
    checkpoint.write_bytes(workdir / "results.csv", csv_of(columns))


def cells(score: Score) -> list[str | float | int]:
    """A Score as a line of a CSV file has it."""
    return ["" if value is None else value for value in score]


def rows_of(summary: dict, trials: list[dict], part: str) -> Iterator[tuple]:
    """The rest of a Score, for each of one part."""
    images = tables.counted(trials, part)
    for score, mean in summary["mean"].items():
        interval = summary["interval"].get(score) or (None, None)
        procedure = tables.of_procedure(summary, score) or (None, None)
        yield score, mean, summary["std"].get(score), *interval, sum(images), len(images), *procedure
