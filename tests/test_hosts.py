"""Several processes as one: the files of one process with as many devices, signals, what ends all of them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from runs import ROOT, bits, call, ended, error_of, load, start, wait_for

from pneumojax import hosts, main, meeting
from pneumojax.errors import BadInput

# One trial of two arms: two GANs and two networks, each on a device of its own, of which the others have none.
SMALL = {
    "trials": (0,),
    "protocols": ("clean",),
    "arms": ("without_gan", "with_gan"),
    "gan.steps": 20,
    "gan.sample_every": 10,
    "model.name": "stephen2019",
}
PATIENCE = "--xla_cpu_collective_timeout_seconds=900 --xla_cpu_collective_call_terminate_timeout_seconds=900"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def devices(count: int) -> dict[str, str]:
    """The environment of a process with so many of them."""
    return {"XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={count} {PATIENCE}"}


def begin(flags, workdir: Path, counts=(2, 2)) -> list[subprocess.Popen]:
    """Processes of one run, with so many devices each; those beside the first do not see its workdir."""
    port = free_port()
    return [
        start(
            [*flags, f"--distributed=127.0.0.1:{port},{len(counts)},{number}"],
            workdir if number == 0 else workdir.with_name("unseen"),
            **devices(count),
        )
        for number, count in enumerate(counts)
    ]


def ends(processes) -> list[tuple[int, str]]:
    """How they end; what one says is read while the others say something."""
    try:
        return [ended(process) for process in processes]
    finally:
        for process in processes:
            with contextlib.suppress(OSError):
                process.kill()


@pytest.fixture(scope="module")
def flags(tiny_flags) -> list[str]:
    """Less the cache of GANs, which could give to one run what another has made."""
    other = {"--config.gan.cache", *(f"--config.{field}" for field in SMALL)}
    kept = [flag for flag in tiny_flags if flag.partition("=")[0] not in other]
    return kept + [f"--config.{field}={value}" for field, value in SMALL.items()]


def cached(folder: Path) -> str:
    return f"--config.gan.cache={folder / 'cache'}"


@pytest.fixture(scope="module")
def one(flags, tmp_path_factory) -> Path:
    """A whole run of one process with four devices."""
    folder = tmp_path_factory.mktemp("one")
    code, said = ended(start([*flags, cached(folder)], folder / "run", **devices(4)))
    assert code == 0, said
    return folder / "run"


@pytest.fixture(scope="module")
def two(flags, tmp_path_factory) -> Path:
    """A whole run of two processes with two devices each."""
    folder = tmp_path_factory.mktemp("two")
    told = ends(begin([*flags, cached(folder)], folder / "run"))
    assert [code for code, _ in told] == [0, 0], told
    assert not (folder / "unseen").exists()  # process 1 has written nothing
    return folder / "run"


def logits(workdir: Path) -> np.ndarray:
    lines = [line.split(",") for line in (workdir / "predictions.csv").read_text().splitlines()]
    return np.array([line[-2:] for line in lines[1:]], float)


@pytest.mark.slow
def test_two_processes_with_two_devices_end_as_one_with_four(one, two):
    """What each GAN draws is the same to the bit; of the network, whose sums gloo adds in another order, the scores."""
    for name in ("splits.json", "config.json"):
        digests = [bits(workdir)[name] for workdir in (one, two)]
        assert digests[0] == digests[1]
    samples = [{path.name: path.read_bytes() for path in (run / "samples").glob("generated*")} for run in (one, two)]
    assert samples[0] == samples[1]
    assert len(samples[0]) > 2
    lines = [(run / "metrics.jsonl").read_text().splitlines() for run in (one, two)]
    for a, b in zip(*lines, strict=True):
        if "gan" in json.loads(a):
            assert a == b
    np.testing.assert_allclose(logits(one), logits(two), rtol=1e-3, atol=1e-4)
    scores = [load(run)["protocols"]["clean"]["with_gan"]["trials"][0] for run in (one, two)]
    assert scores[0]["confusion_matrix"] == scores[1]["confusion_matrix"]
    for name, value in scores[0]["scores"].items():
        assert scores[1]["scores"][name] == pytest.approx(value, abs=1e-4)
    assert {path.relative_to(one) for path in tree(one)} == {path.relative_to(two) for path in tree(two)}
    environment = load(two)["environment"]
    assert (environment["processes"], len(environment["devices"])) == (2, 4)


def tree(workdir: Path) -> list[Path]:
    """Its files, less those within checkpoints, whose names Orbax makes up, and events."""
    found = [path for path in workdir.rglob("*") if path.is_file() and "events" not in path.name]
    return [path for path in found if not {"state", "record"} & set(path.relative_to(workdir).parts[:-1])]


@pytest.mark.slow
def test_a_signal_to_one_process_saves_and_ends_both(flags, two, tmp_path):
    """Also to the one that holds nothing; what goes on from there is what was not interrupted, to the bit."""
    run = tmp_path / "run"
    processes = begin([*flags, cached(tmp_path)], run)
    wait_for(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size, processes[0])
    processes[1].send_signal(signal.SIGTERM)
    told = ends(processes)
    assert [code for code, _ in told] == [143, 143], told
    assert "is saved after step" in told[0][1]
    assert not (run / "results.json").exists()
    assert [code for code, _ in ends(begin([*flags, cached(tmp_path)], run))] == [0, 0]
    assert bits(run) == bits(two)


READ = """
import sys, jax
from pathlib import Path
from pneumojax import checkpoint, run
from pneumojax.stage import Stage
from pneumojax.systems import finetune
recipe, variables = finetune.restored(run.load(Path(sys.argv[1])), Stage(0, "clean", arm="with_gan"))
print(jax.device_count(), checkpoint.digest(variables))
"""


@pytest.mark.slow
def test_a_checkpoint_is_restored_on_another_count_of_devices(one, two):
    """Of four devices on one and two, of two processes on one."""

    def read(workdir: Path, count: int) -> list[str]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **devices(count)}
        command = [sys.executable, "-c", READ, str(workdir)]
        return subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout.split()

    digest = read(one, 4)[1]
    assert [read(one, count) for count in (1, 2)] == [["1", digest], ["2", digest]]
    digest = read(two, 1)[1]
    assert read(two, 4) == ["4", digest]


@pytest.mark.slow
def test_processes_with_unequal_counts_of_devices(flags, tmp_path):
    for told in ends(begin(flags, tmp_path / "run", counts=(2, 1))):
        [line] = error_of(told, 2)
        assert line.startswith(
            "--distributed: the processes have not the same count of devices: process 0 2, process 1 1;"
        )
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_bad_input_in_one_process_ends_both(flags, tmp_path):
    """Process 0 alone sees that the workdir is another run's; process 1 ends with it and says the same."""
    (tmp_path / "results.json").write_text("somebody's")
    for told in ends(begin(flags, tmp_path, counts=(1, 1))):
        assert "holds results but no config.json" in error_of(told, 2)[0]


def test_a_port_in_use(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        flags = ["--config=configs/demo.py", f"--distributed=127.0.0.1:{port},2,0", f"--workdir={tmp_path / 'run'}"]
        [line] = error_of(call(main.main, *flags), 2)
    assert line.startswith(f"--distributed: port {port} of process 0 cannot be had (")
    assert "give another one to all processes" in line
    assert not (tmp_path / "run").exists()


def test_a_coordinator_that_cannot_be_reached(tmp_path, monkeypatch):
    monkeypatch.setattr(meeting, "PATIENCE", 1.0)
    place = f"127.0.0.1:{free_port()}"
    flags = ["--config=configs/demo.py", f"--distributed={place},2,1", f"--workdir={tmp_path / 'run'}"]
    [line] = error_of(call(main.main, *flags), 2)
    assert line.startswith(f"--distributed: the coordinator {place} cannot be reached (")


def test_processes_that_do_not_come(tmp_path, monkeypatch):
    """Process 0 of three, and one other."""
    monkeypatch.setattr(meeting, "PATIENCE", 2.0)
    place = f"127.0.0.1:{free_port()}"
    other = threading.Thread(target=lambda: said.append(call_of(meeting.parsed(f"{place},3,2"))))
    said: list[str] = []
    other.start()
    flags = ["--config=configs/demo.py", f"--distributed={place},3,0", f"--workdir={tmp_path / 'run'}"]
    [line] = error_of(call(main.main, *flags), 2)
    assert line.startswith(
        "--distributed: of 3 processes 1 did not come within 2 s; start all, each with its own number"
    )
    other.join()
    assert said[0].startswith(f"--distributed: the coordinator {place} does not answer (it ended)")


def test_a_number_that_is_given_twice(monkeypatch):
    monkeypatch.setattr(meeting, "PATIENCE", 5.0)
    place, said = f"127.0.0.1:{free_port()}", []
    others = [threading.Thread(target=lambda: said.append(call_of(meeting.parsed(f"{place},3,1")))) for _ in range(2)]
    for other in others:
        other.start()
    assert "calls itself number 1 of 3" in call_of(meeting.parsed(f"{place},3,0"))
    for other in others:
        other.join()
    assert all("does not answer" in line for line in said)


def call_of(address: meeting.Address) -> str:
    """What a process is told that does not meet the others."""
    with pytest.raises(BadInput) as error:
        meeting.meet(address)
    return str(error.value)


@pytest.mark.parametrize("value", ["node1", "node1:80,2", "node1:x,2,0", ":80,2,0", "node1:80,2,2", "node1:99999,2,0"])
def test_a_flag_that_cannot_be(tmp_path, value):
    [line] = error_of(call(main.main, "--config=configs/demo.py", f"--distributed={value}", f"--workdir={tmp_path}"), 2)
    assert line == f"--distributed={value!r}: give HOST:PORT,PROCESSES,NUMBER, e.g. --distributed=node1:12345,2,0"


STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "0",
}


def test_srun_needs_no_flag(monkeypatch):
    """A task of one, and a batch script, which is in no step, run as they would without SLURM."""
    for name in (name for name in os.environ if name.startswith(("SLURM_", "JAX_COORDINATOR"))):
        monkeypatch.delenv(name)
    assert meeting.found(anywhere=False) is None
    with pytest.raises(BadInput, match="no cluster is told here"):
        meeting.found(anywhere=True)
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    assert meeting.found(anywhere=False) == ("gpu03:61447", 2, 1, "slurm")
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "12345")
    assert meeting.found(anywhere=False).coordinator == "gpu03:12345"
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert meeting.found(anywhere=False) is None
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    assert meeting.found(anywhere=False) is None


def test_one_process_agrees_with_itself():
    assert hosts.agreed(lambda: {"a": 1}) == {"a": 1}
    assert (hosts.first(), hosts.several()) == (True, False)
    assert hosts.stopping([]) == 0
    assert hosts.stopping([signal.SIGINT, signal.SIGTERM]) == signal.SIGTERM
    hosts.check_alike("images", "digest", "")
