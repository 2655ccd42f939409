"""Members that differ in rates, momentum, weight decay and seeds alone, as jobs of one program (`--together`).

`python -m experiments.sweep.one_program OUT ID ID…` is what the sweep starts for them: images, GANs and features are
made once, the program is compiled once, and each member's folder holds what it would hold alone.
"""

from pneumojax import runtime

if __name__ == "__main__":
    runtime.configure()  # before anything imports jax

import resource
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app

from experiments.sweep import ledger
from experiments.sweep.ledger import Entry, Sweep
from pneumojax import cli, config, together
from pneumojax.errors import BadInput


def groups(sweep: Sweep) -> list[list[Entry]]:
    """All members, those that can share a program side by side.

    Errors: BadInput where no two can.
    """
    found: dict[str, list[Entry]] = {}
    for entry in sweep.entries:
        whole = sweep.base | entry.fields
        free = together.free(whole)
        key = repr([(field, value) for field, value in whole.items() if field not in free])
        found.setdefault(key, []).append(entry)
    if len(found) == len(sweep.entries) > 1:
        first = sweep.base | sweep.entries[0].fields
        shared = ", ".join(sorted(together.free(first))) or "nothing, with this config.system.name"
        raise BadInput(
            f"--together: no two members can share a program: they differ in {', '.join(sweep.fields)}, and may in "
            f"{shared}; leave --together out"
        )
    return list(found.values())


def main(arguments: Sequence[str]) -> None:
    """Runs members of a sweep in this process."""
    cli.show_log()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each member holds three files, and 1,024 are often few
    out, *ids = arguments
    with cli.exit_codes(Path(out), "--out"):
        sweep = ledger.read(Path(out))
        by_id = {entry.id: entry for entry in sweep.entries}
        members = []
        for entry in (by_id[one] for one in ids):
            base, *overrides = entry.command
            members.append((config.load(base.removeprefix("--config="), overrides), sweep.out / entry.id))
        together.run(members)


if __name__ == "__main__":
    app.run(lambda _: main(sys.argv[1:]), argv=sys.argv[:1])  # for absl's log alone
