"""How much faster a second start of the demo is: `python -m experiments.bench.starts --rounds=2`.

In each round three starts, each in a process and a workdir of its own: nothing is kept; programs are, and no GANs; both
are, as by default. Of a loaded machine the CPU seconds tell more than the wall's. `-- --config.a.b=value` changes the
demo.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pneumojax import checkpoint

STARTS = ("nothing is kept", "programs are", "programs and GANs are")


def started(folder: Path, workdir: str, gans: str, others: list[str]) -> tuple[float, float, float]:
    """(seconds, CPU seconds, seconds of compiling) of one start that keeps what it can below a folder."""
    command = [sys.executable, "-m", "pneumojax.main", "--config=configs/demo.py", f"--workdir={folder / workdir}"]
    variables = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "programs")}
    begun, before = time.monotonic(), os.times()
    with (folder / f"{workdir}.log").open("w") as log:
        subprocess.run([*command, f"--config.gan.cache={gans}", *others], env=variables, stderr=log, check=True)
    wall, after = time.monotonic() - begun, os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    seconds = checkpoint.read_json(folder / workdir / "results.json")["timings_s"]
    return wall, cpu, sum(own for name, own in seconds.items() if name.endswith("_compile"))


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("others", nargs="*", help="flags of pneumojax.main, behind --")
    options = parser.parse_args()
    print("| round | start | seconds | CPU seconds | compiling, s |\n|---|---|---|---|---|")
    for number in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            for what, gans in zip(STARTS, (home / "gans", "", home / "gans"), strict=True):
                found = started(home, what.replace(" ", "_"), str(gans), options.others)
                print(f"| {number + 1} | {what} | {' | '.join(f'{own:.1f}' for own in found)} |", flush=True)


if __name__ == "__main__":
    main()
