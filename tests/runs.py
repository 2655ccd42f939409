"""Runs of the command, in this process or in one of their own: begun, waited for, compared."""

import contextlib
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax.numpy as jnp
from absl import logging

from pneumojax import tuning

ROOT = Path(__file__).parents[1]
COMPARED = ("results.json", "results.csv", "splits.json", "predictions.csv", "metrics.jsonl", "config.json")

PROBE = {  # what a study by a probe has otherwise than the demo: one trial, an inner part to choose by
    "system.name": "frozen_probe",
    "trials": "(0,)",
    "protocols": "('disjoint',)",
    "arms": "('without_gan','duplicated','classical')",
    "evaluate.inner": "0.25",
    "data.subset": "(20,30)",
    "enlarge": "1.0",
}


def printed(title: str) -> list[str]:
    """The blocks of Python in a section of the README or of a page of docs/, as they are printed there."""
    pages = [path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))]
    [section] = (page.split(f"\n## {title}\n")[1].split("\n## ")[0] for page in pages if f"\n## {title}\n" in page)
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


def load(workdir: Path) -> dict:
    return json.loads((workdir / "results.json").read_text())


def bits(workdir: Path) -> dict[str, str]:
    """Digests of all that must not differ between two runs."""
    results, config = load(workdir), json.loads((workdir / "config.json").read_text())
    del results["timings_s"], results["environment"]
    for section in ("gan", "data", "model"):
        del config[section]["cache"]  # no result depends on it
    digests = {"results.json": json.dumps(results), "config.json": json.dumps(config)}
    digests |= {name: (workdir / name).read_text() for name in COMPARED if name not in digests}
    digests |= {path.name: path.read_bytes() for path in (workdir / "samples").iterdir()}
    return {k: hashlib.sha256(v if isinstance(v, bytes) else v.encode()).hexdigest() for k, v in digests.items()}


def flags_of(fields: dict) -> list[str]:
    """Fields of the config as flags of the command."""
    return [f"--config.{name}={value}" for name, value in fields.items()]


def finish(flags: list[str], workdir: Path) -> Path:
    """Runs a study to its end in this process, which shares what it compiles with others; its workdir."""
    from pneumojax import config, study

    file = next(flag for flag in flags if flag.startswith("--config="))
    study.run(config.load(file.partition("=")[2], [flag for flag in flags if flag != file]), workdir)
    return workdir


def call(main, *arguments) -> tuple[int, str]:
    """Calls the `main` of a command in this process: its exit code and what it prints as errors."""
    verbosity, before = logging.get_verbosity(), {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT)}
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as end:
            code = end.code
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            logging.set_verbosity(verbosity)
    return code, stderr.getvalue()


def error_of(ended: tuple[int, str], code: int) -> list[str]:
    """The `error:` line of a command that ended with a code, and its details. Nothing else may follow, nor twice."""
    lines = ended[1].splitlines()
    at = [index for index, line in enumerate(lines) if line.startswith("error:")]
    assert (ended[0], len(at)) == (code, 1), ended[1]
    assert "Traceback" not in ended[1]
    error, *details = lines[at[0] :]
    assert all(line.startswith("  ") for line in details), ended[1]
    return [error.removeprefix("error: "), *(line.strip() for line in details)]


def start(flags: list[str], workdir: Path, **environment: str) -> subprocess.Popen:
    """Begins the command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "pneumojax.main", *flags, f"--workdir={workdir}"]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=200):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def ended(process: subprocess.Popen) -> tuple[int, str]:
    """Waits for a process: its exit code and what it printed as errors."""
    stderr = process.communicate(timeout=300)[1]
    return process.returncode, stderr


def fields_at(config, rate: float) -> dict:
    """What one step of a classifier is told, `Batch.fields`."""
    return {name: jnp.float32(values[0]) for name, values in tuning.fields(1, config).items()} | {
        "rate": jnp.float32(rate)
    }
