"""Members of a sweep as jobs of submitit, on this machine; members are the scripts of test_sweep.py."""

import os
import signal
import time
from pathlib import Path

import pytest
import runs
from test_sweep import fake, results, states, sweep  # noqa: F401

from experiments.sweep import by_submitit, ledger, members
from pneumojax.errors import BadInput


@pytest.fixture
def scripts(fake, monkeypatch) -> Path:  # noqa: F811
    """Scripts in place of members, and Python in place of itself, which submitit needs."""
    script = fake / "python"
    monkeypatch.undo()

    def command_of(found, entry):
        return [str(script), *entry.command, f"--workdir={(found.out / entry.id).absolute()}"]

    monkeypatch.setattr(ledger, "command_of", command_of)
    return fake


def test_members_are_jobs_and_failed_ones_are_run_again(tmp_path, scripts):
    out, flags = tmp_path / "out", ("--submitit=cluster=local,timeout_min=5", "--wait")
    code, said = sweep(out, "seed=0,2,3", *flags)
    assert (code, said.splitlines()[0].partition(": ")[0]) == (137, "error")
    assert {seed: (state.name, state.code) for seed, state in states(out).items()} == {
        0: ("whole", None),
        2: ("failed", 2),
        3: ("failed", 137),
    }
    (scripts / "repaired").touch()
    assert sweep(out, "seed=0,2,3", *flags)[0] == 137
    assert {seed: state.name for seed, state in states(out).items()} == {0: "whole", 2: "whole", 3: "failed"}


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_before_its_time_ends_a_member_saves_and_is_queued_again_and_told_to_end_it_ends(tmp_path, scripts, number):
    out = tmp_path / "out"
    found = ledger.sweep_of(out, "configs/demo.py", [], members.members("configs/demo.py", [], "seed=4"))
    out.mkdir()
    [entry] = found.entries
    [job] = by_submitit.submit(found, found.entries, "cluster=local,timeout_min=5")
    end = time.monotonic() + 100
    while not (out / entry.id / "waits").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    controller = job._process.pid
    [task] = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(task), number)
    job._process.wait(timeout=100)
    again = number == signal.SIGUSR2
    assert ledger.state_of(found, entry).name == ("whole" if again else "stopped")
    assert len((out / entry.id / "attempts").read_text().splitlines()) == 1 + again


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("timeout_min", "'timeout_min' is not NAME=VALUE"),
        ("slurm_partition=gpu", "submitit ends a job after 5 minutes if not told; give timeout_min=MINUTES"),
    ],
)
def test_what_submitit_cannot_be_told_is_one_line(tmp_path, flag, told):
    assert told in runs.error_of(sweep(tmp_path / "out", "seed=0", f"--submitit={flag}"), 2)[0]
    assert not (tmp_path / "out").exists()
    both = sweep(tmp_path / "out", "seed=0", "--submitit=timeout_min=1", "--jobs=2")
    assert "--submitit has its own options" in runs.error_of(both, 2)[0]


def test_parameters_that_submitit_does_not_know_are_one_line(tmp_path, scripts):
    found = ledger.sweep_of(tmp_path, "configs/demo.py", [], members.members("configs/demo.py", [], "seed=0"))
    with pytest.raises(BadInput, match=r"submitit refuses it .*nodez"):
        by_submitit.submit(found, found.entries, "cluster=local,timeout_min=5,nodez=2")
