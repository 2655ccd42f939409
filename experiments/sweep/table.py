"""sweep.csv: a row a member, protocol, arm, part and score, beside what the member sets."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from experiments.sweep.ledger import Entry, State, Sweep
from pneumojax import checkpoint
from pneumojax import workdir as workdirs
from pneumojax.report import tables

FIRST = ("id", "workdir", "state")
LAST = ("protocol", "arm", "part", "score", "mean", "std", "low", "high", "n")

States = Sequence[tuple[Entry, State]]


class Scored(NamedTuple):
    """One score of one part of an arm of a member."""

    protocol: str
    arm: str
    part: str
    score: str
    mean: float | None  # None where a class is absent
    std: float | None  # over trials
    low: float | None  # 95% for these networks and new patients
    high: float | None
    n: int  # images, over all networks


def write(sweep: Sweep, states: States) -> None:
    """Writes sweep.csv; a member without scores has one row, which has its state."""
    rows = [
        [entry.id, str(sweep.out / entry.id), state.name, *map(plain, entry.fields.values()), *map(plain, scored)]
        for entry, state in states
        for scored in (list(scores_of(state.results or {})) or [("",) * len(LAST)])
    ]
    columns = {name: [row[place] for row in rows] for place, name in enumerate((*FIRST, *sweep.fields, *LAST))}
    checkpoint.write_bytes(sweep.out / "sweep.csv", workdirs.csv_of(columns))


def plain(value: Any):
    """A value as a cell: a list as JSON has it, nothing for None."""
    return "" if value is None else json.dumps(value) if isinstance(value, list | dict) else value


def scores_of(results: dict) -> Iterator[Scored]:
    """All scores of a run, from its results.json."""
    for protocol, arms in results.get("protocols", {}).items():
        for name, arm in arms.items():
            further = [part for part, own in arm.items() if isinstance(own, dict) and "mean" in own]
            for part in ("test", *further):
                summary = tables.summary_of(arm, part)
                if summary:
                    n = images_of(arm, part)
                    for score, mean in summary["mean"].items():
                        low, high = summary["interval"].get(score) or (None, None)
                        yield Scored(protocol, name, part, score, mean, summary["std"].get(score), low, high, n)


def images_of(arm: dict, part: str) -> int:
    """Images of a part, over all networks of an ARM that did not diverge."""
    whole = [trial for trial in arm["trials"] if "diverged" not in trial]
    counts = [trial["test"] if part == "test" else trial.get(part, {}).get("images", 0) for trial in whole]
    return sum(counts)
