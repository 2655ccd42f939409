"""sweep.csv: a row a member, protocol, arm, part and score, beside what the member sets."""

import json
from collections.abc import Sequence
from typing import Any

from experiments.sweep.ledger import Entry, State, Sweep
from pneumojax import checkpoint, tidy
from pneumojax import workdir as workdirs

FIRST = ("id", "workdir", "state")
LAST = tidy.Score._fields[:9]  # protocol to n

States = Sequence[tuple[Entry, State]]


def write(sweep: Sweep, states: States) -> None:
    """Writes sweep.csv; a member without scores has one row, which has its state."""
    rows = [
        [entry.id, str(sweep.out / entry.id), state.name, *map(plain, entry.fields.values()), *map(plain, scored)]
        for entry, state in states
        for scored in ([one[: len(LAST)] for one in tidy.scores(state.results or {})] or [("",) * len(LAST)])
    ]
    columns = {name: [row[place] for row in rows] for place, name in enumerate((*FIRST, *sweep.fields, *LAST))}
    checkpoint.write_bytes(sweep.out / "sweep.csv", workdirs.csv_of(columns))


def plain(value: Any):
    """A value as a cell: a list as JSON has it, nothing for None."""
    return "" if value is None else json.dumps(value) if isinstance(value, list | dict) else value
