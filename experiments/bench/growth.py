"""How a study's time and memory grow with images, trials, classifiers at the same time, and devices.

    python -m experiments.bench.growth [--axes images trials seeds devices] [--toy]

Prints Markdown: seconds of each stage (`timings_s`), of the whole process, and its peak of resident memory; below each
axis the exponent of growth between its last two values: 1 is linear, 0 is constant. Phantoms of 48 pixels, networks of
4 channels and few steps, so that what is counted is the engine. Devices are virtual ones of one CPU: what grows with
them is what the engine does for each, since they share the cores.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

STAGES = ("data", "gan", "classifier", "evaluate")
BASE = {
    "protocols": "('clean',)",
    "arms": "('without_gan', 'with_gan')",
    "data.phantom_images": "(240, 384)",
    "data.subset": "(12, 20)",
    "enlarge": 2.0,
    "gan.cache": "",
    "gan.filters": 4,
    "gan.batch_size": 6,
    "gan.steps": 10,
    "gan.log_every": 5,
    "gan.sample_every": 10,
    "gan.save_every": 10,
    "model.image_size": 48,
    "model.width": 4,
    "classifier.batch_size": 6,
    "classifier.steps": 10,
    "classifier.log_every": 5,
    "classifier.save_every": 10,
    "classifier.predict_batch_size": 64,
}


class Axis(NamedTuple):
    """What grows: its values, those of a toy, and what a value means for a study."""

    values: tuple[int, ...]
    toy: tuple[int, ...]
    fields: object  # value → fields of the config
    environment: object = lambda value: {}  # value → variables


def shares(count: int) -> str:
    """So many phantoms, NORMAL and PNEUMONIA as in the published set's test folder."""
    normal = round(0.375 * count)
    return f"({normal}, {count - normal})"


AXES = {
    "images": Axis((624, 5_856, 50_000), (104, 156), lambda n: {"data.phantom_images": shares(n)}),
    "trials": Axis(
        (3, 30), (1, 2), lambda n: {"trials": str(tuple(range(n))), "data.phantom_images": shares(50 * max(n, 3))}
    ),
    "seeds": Axis((1, 4, 16), (1, 2), lambda n: {"classifier.seeds": n, "trials": "(0,)"}),
    "devices": Axis(
        (1, 2, 4, 8),
        (1, 2),
        lambda n: {"classifier.seeds": 4},
        lambda n: {"XLA_FLAGS": f"--xla_force_host_platform_device_count={n}"},
    ),
}


def measured(axis: Axis, value: int) -> dict[str, float]:
    """Seconds by stage, of the whole process, and its peak of memory in gigabytes."""
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"--config.{field}={given}" for field, given in (BASE | axis.fields(value)).items()]
        command = [sys.executable, "-m", "pneumojax.main", "--config=configs/demo.py", f"--workdir={folder}/run"]
        started = time.perf_counter()
        process = subprocess.Popen(
            [*command, *flags], env=os.environ | axis.environment(value), stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        whole = time.perf_counter() - started
        if status:
            sys.exit(f"error: {' '.join([*command, *flags])} ended with {os.waitstatus_to_exitcode(status)}")
        spent = json.loads(Path(folder, "run", "results.json").read_text())["timings_s"]
    known = {stage: spent.get(stage, 0.0) for stage in STAGES}
    return known | {"whole": whole, "memory": usage.ru_maxrss / 1e6}  # kilobytes, on Linux


def exponent(before: float, after: float, ratio: float) -> str:
    """By which power of `ratio` something grew."""
    return f"{math.log(after / before) / math.log(ratio):.2f}" if before > 0 and after > 0 else "–"


def table(name: str, axis: Axis, values: tuple[int, ...]) -> str:
    """One axis: a row a value, and the exponents between the last two."""
    columns = (*STAGES, "whole", "memory")
    heads = [name, *(f"{stage}, s" for stage in (*STAGES, "whole")), "memory, GB"]
    rows = {value: measured(axis, value) for value in values}
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {value:,} | {' | '.join(f'{row[c]:.2f}' for c in columns)} |" for value, row in rows.items()]
    (small, before), (large, after) = list(rows.items())[-2:]
    cells = [exponent(before[column], after[column], large / small) for column in columns]
    return "\n".join([*lines, f"| *exponent* | {' | '.join(cells)} |"])


def main() -> None:
    """Prints a table an axis."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--axes", nargs="+", default=list(AXES), choices=AXES)
    parser.add_argument("--toy", action="store_true", help="two small values an axis, to see that it runs")
    options = parser.parse_args()
    for name in options.axes:
        axis = AXES[name]
        print(f"\n{table(name, axis, axis.toy if options.toy else axis.values)}", flush=True)


if __name__ == "__main__":
    main()
