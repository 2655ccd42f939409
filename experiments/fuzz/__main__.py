"""Tries odd inputs of all kinds and prints a table: `python -m experiments.fuzz [--cases=2000] [--only=dicom:17]`.

Case n of a kind is drawn from (seed, kind, n) alone, so that each can be made again by itself.
"""

from pneumojax import runtime

if __name__ == "__main__":
    runtime.configure()  # before anything imports jax

import argparse
import json
import os
import pkgutil
import signal
import sys
import tempfile
import traceback
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import numpy as np

import experiments.fuzz
from experiments.fuzz import Outcome

RESULTS = ("right", "refused", "wrong", "silent", "crashed")
SHOWN = 3  # details of a row
SECONDS = 60  # that a case may take


def kinds() -> list[str]:
    """The modules of this package that make cases; one that cannot be imported is told when it is asked for."""
    names = [one.name for one in pkgutil.iter_modules(experiments.fuzz.__path__) if not one.name.startswith("_")]
    sources = {name: Path(experiments.fuzz.__path__[0], f"{name}.py").read_text() for name in names}
    return [name for name in names if "\ndef case(" in sources[name]]


def tried(kind: str, number: int, seed: int) -> Outcome:
    """Case `number` of a kind. An exception that is not told as a refusal is a crash."""
    rng = np.random.default_rng([seed, zlib.crc32(kind.encode()), number])
    with tempfile.TemporaryDirectory() as folder:
        try:
            return import_module(f"experiments.fuzz.{kind}").case(rng, Path(folder))
        except Exception:
            last = traceback.format_exc().splitlines()
            return Outcome(kind, "crashed", " / ".join(line.strip() for line in last[-6:]))


def tried_apart(kind: str, numbers: range, seed: int) -> Iterator[Outcome]:
    """Cases in a process of their own: a decoder that ends it, or never ends, is a crash of one case."""
    import_module(f"experiments.fuzz.{kind}")
    while numbers:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with open(writing, "w") as pipe:
                for number in numbers:
                    signal.alarm(SECONDS)
                    print(json.dumps(tried(kind, number, seed)), file=pipe, flush=True)
            os._exit(0)
        os.close(writing)
        with open(reading) as pipe:
            for line in pipe:
                yield Outcome(*json.loads(line))
                numbers = numbers[1:]
        _, status = os.waitpid(child, 0)
        if numbers:
            yield Outcome(kind, "crashed", f"its process ended with {os.waitstatus_to_exitcode(status)}")
            numbers = numbers[1:]


def main(arguments: list[str] | None = None) -> int:
    """Returns: 1 where any case is wrong, silent or crashed, else 0."""
    parser = argparse.ArgumentParser(description=main.__doc__, allow_abbrev=False)
    parser.add_argument("--cases", type=int, default=2000, help="of all kinds together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", type=lambda text: text.split(","), default=kinds(), help=", ".join(kinds()))
    parser.add_argument("--only", help="one case with all its detail, e.g. dicom:17")
    options = parser.parse_args(arguments)
    if options.only:
        kind, _, number = options.only.partition(":")
        outcome = tried(kind, int(number), options.seed)
        print(*outcome, sep="\n")
        return int(outcome.result not in ("right", "refused"))
    counts, details = defaultdict(Counter), defaultdict(list)
    for kind in options.kinds:
        numbers = range(-(-options.cases // len(options.kinds)))
        for number, outcome in zip(numbers, tried_apart(kind, numbers, options.seed), strict=True):
            counts[outcome.kind][outcome.result] += 1
            if outcome.detail and outcome.result not in ("right", "refused"):
                details[outcome.kind].append(f"{kind}:{number} {outcome.result}: {outcome.detail}")
    print(f"| kind | tried | {' | '.join(RESULTS)} |", "|---|" + "---|" * (1 + len(RESULTS)), sep="\n")
    for row, count in sorted(counts.items()):
        print(f"| {row} | {count.total()} | {' | '.join(str(count[result]) for result in RESULTS)} |")
    total = sum(counts.values(), Counter())
    print(f"| all | {total.total()} | {' | '.join(str(total[result]) for result in RESULTS)} |")
    for row, lines in sorted(details.items()):
        print(f"\n{row}", *(f"- {line}" for line in lines[:SHOWN]), sep="\n")
    return int(any(total[result] for result in RESULTS[2:]))


if __name__ == "__main__":
    sys.exit(main())
