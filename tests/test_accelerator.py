"""What is to be measured of an accelerator runs whole, at toy size, where there is none."""

import subprocess
import sys

import pytest

from experiments.bench import accelerator


@pytest.mark.slow
def test_every_table_is_printed_and_every_cell_filled():
    command = [sys.executable, "-m", "experiments.bench.accelerator", "--toy", "--minutes=9"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    tables = "\n".join(row[0] for row in rows)
    for told in ("training, images/s", "steps/s, 4 filters", "2 DCGANs", "DCGAN, bf16", "trial, twice", "the study of"):
        assert told in tables
    cells = [cell for row in rows for cell in row]
    assert not [cell for cell in cells if cell.startswith(("failed", "not run")) or cell == "NO"]
    assert {cell for row in rows if row[0] in accelerator.COMPARED for cell in row[1:]} == {"yes"}


def test_what_does_not_fit_the_minutes_is_not_run():
    assert accelerator.apart(accelerator.Budget(1), accelerator.many, "in turn") == "not run"
