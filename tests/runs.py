"""Runs of the command in processes of their own: begun, waited for, compared."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMPARED = ("results.json", "splits.json", "predictions.csv", "metrics.jsonl", "config.json")


def load(workdir: Path) -> dict:
    return json.loads((workdir / "results.json").read_text())


def bits(workdir: Path) -> dict[str, str]:
    """Digests of all that must not differ between two runs."""
    results = load(workdir)
    del results["timings_s"], results["environment"]
    digests = {"results.json": json.dumps(results)}
    digests |= {name: (workdir / name).read_text() for name in COMPARED[1:]}
    digests |= {path.name: path.read_bytes() for path in (workdir / "samples").iterdir()}
    return {k: hashlib.sha256(v if isinstance(v, bytes) else v.encode()).hexdigest() for k, v in digests.items()}


def start(flags: list[str], workdir: Path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pneumojax.main", *flags, f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=200):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)
