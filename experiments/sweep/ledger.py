"""sweep.json, which says what the members of a sweep are, and how far each is, read from its files alone."""

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.sweep.members import Member
from pneumojax import checkpoint
from pneumojax.errors import BadInput

SCHEMA = 1
TAIL = 2**16  # bytes of a log that are searched for why a member ended
MILDER = (4, 2, 3)  # exit codes that are named errors, the worst first; any other is a crash or a kill, and worse
STOPPED = (130, 143)  # exit codes of a member that was told to end and has saved its state
DONE = ("whole", "diverged")  # states of members that need not be run


class Entry(NamedTuple):
    """A member as sweep.json has it."""

    id: str
    command: tuple[str, ...]  # of pneumojax.main, less --workdir
    fields: dict[str, Any]  # swept field → its value in this member's config; None where it has no such field


class Sweep(NamedTuple):
    """A sweep as it is read again."""

    out: Path
    base: dict[str, Any]  # fields in which all members are alike
    fields: tuple[str, ...]  # that some member sets
    entries: tuple[Entry, ...]


class State(NamedTuple):
    """How far a member is."""

    name: str  # whole, diverged (whole but for that), failed, stopped (its state is saved), begun, waiting
    code: int | None = None  # exit code of the last attempt, where it has ended
    error: str = ""  # its last `error:` line, or whatever it said last
    results: dict | None = None  # results.json of one that is whole


def sweep_of(out: Path, config: str, overrides: Sequence[str], members: Sequence[Member]) -> Sweep:
    """The sweep of these members in a folder, of which nothing is written."""
    first, *others = (member.config for member in members)
    base = {
        field: value
        for field, value in first.items()
        if all(field in other and other[field] == value for other in others)
    }
    fields = tuple(dict.fromkeys(field for member in members for field in member.fields))
    entries = tuple(
        Entry(
            one.id,
            (f"--config={config}", *overrides, *one.flags),
            {field: one.config.get(field) for field in fields},
        )
        for one in members
    )
    return Sweep(out, base, fields, entries)


def claim(sweep: Sweep) -> None:
    """Writes sweep.json, unless it is there and says the same. Members may be added to a sweep, and none leave it.

    Errors: BadInput where the folder holds something else, or a sweep with other members.
    """
    path, known = sweep.out / "sweep.json", {own.id for own in sweep.entries}
    if not path.exists():
        if others := sorted(name for name in os.listdir(sweep.out) if not name.startswith(".")):
            raise BadInput(f"{sweep.out} holds {others[0]} but no sweep.json; choose another --out")
    elif gone := [one for one in read(sweep.out).entries if one.id not in known]:
        raise BadInput(
            f"{path} is of another sweep: {len(gone)} of its members are not in this one; choose another --out or "
            "give its --config and --sweep, to which members may be added",
            [f"{one.id}: {' '.join(one.command)}" for one in gone[:10]],
        )
    checkpoint.write_json(
        path,
        {
            "schema": SCHEMA,
            "base": sweep.base,
            "fields": sweep.fields,
            "members": [{"id": one.id, "command": one.command, "fields": one.fields} for one in sweep.entries],
        },
    )


def read(out: Path) -> Sweep:
    """The sweep in a folder. Errors: BadInput where there is none, or sweep.json is damaged or of another version."""
    path = out / "sweep.json"
    if not path.exists():
        raise BadInput(f"{out} is not the folder of a sweep (sweep.json is not there); give another --out")
    with checkpoint.record_of_run(path, "--out"):
        written = checkpoint.read_json(path)
        if (schema := written.get("schema")) != SCHEMA:
            raise ValueError(f"it is of another version of pneumojax, schema {schema}")
        entries = tuple(Entry(one["id"], tuple(one["command"]), dict(one["fields"])) for one in written["members"])
        return Sweep(out, dict(written["base"]), tuple(written["fields"]), entries)


def command_of(sweep: Sweep, *entries: Entry) -> list[str]:
    """The command line that runs a member, from wherever it is called; of several, that runs them as one program."""
    if len(entries) > 1:
        out = os.path.abspath(sweep.out)
        return [sys.executable, "-m", "experiments.sweep.one_program", out, *(one.id for one in entries)]
    [entry] = entries
    workdir = os.path.abspath(sweep.out / entry.id)
    return [sys.executable, "-m", "pneumojax.main", *entry.command, f"--workdir={workdir}"]


def log_of(sweep: Sweep, entry: Entry) -> Path:
    """Where a member's output goes, that of all attempts."""
    return sweep.out / entry.id / "log.txt"


def exit_of(sweep: Sweep, entry: Entry) -> Path:
    """Where the exit code of its last attempt is kept; absent while it runs."""
    return sweep.out / entry.id / "exit.txt"


def begin(sweep: Sweep, entry: Entry) -> None:
    """Before an attempt: its folder is there, and no exit code."""
    log_of(sweep, entry).parent.mkdir(exist_ok=True)
    exit_of(sweep, entry).unlink(missing_ok=True)


def end(sweep: Sweep, entry: Entry, code: int) -> None:
    """After an attempt."""
    checkpoint.write_bytes(exit_of(sweep, entry), f"{code}\n".encode())


def state_of(sweep: Sweep, entry: Entry) -> State:
    """How far a member is. What cannot be read of its results counts as not there: the next attempt says why."""
    workdir = sweep.out / entry.id
    try:
        results = checkpoint.read_json(workdir / "results.json")
        arms = [arm for of_protocol in results["protocols"].values() for arm in of_protocol.values()]
        return State("diverged" if any("diverged" in arm for arm in arms) else "whole", results=results)
    except (OSError, *checkpoint.DAMAGED):
        pass
    try:
        code = int(exit_of(sweep, entry).read_text())
    except (OSError, ValueError):
        return State("begun" if log_of(sweep, entry).exists() else "waiting")
    words = last_words(log_of(sweep, entry), named=code in MILDER)
    if code > 128 and code not in STOPPED:
        words = f"ended by {signal_of(code)}, its last line: {words}"
    return State("stopped" if code in STOPPED else "failed", code, words)


def signal_of(code: int) -> str:
    """The signal that an exit code above 128 tells of."""
    try:
        return signal.Signals(code - 128).name
    except ValueError:
        return f"signal {code - 128}"


def last_words(log: Path, named: bool) -> str:
    """The last line of a log, or its last `error:` line where the attempt has ended with one; '' where there is none.

    A log has earlier attempts as well, whose errors are none of one that was killed.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL))
            lines = [line for line in file.read().decode(errors="backslashreplace").splitlines() if line.strip()]
    except OSError:
        return ""
    errors = [line for line in lines if named and line.startswith("error:")]
    return (errors or lines or [""])[-1].strip()


def label(entry: Entry) -> str:
    """A member in words: its id and what it sets."""
    return " ".join([entry.id, *(f"{field}={value}" for field, value in entry.fields.items())])
