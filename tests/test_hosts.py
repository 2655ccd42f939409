"""Several processes as one: the files of one process with as many devices, signals, what ends all of them."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from runs import ROOT, bits, call, ended, error_of, load, start, wait_for

from pneumojax import hosts, main, meeting, metrics
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


SCRIPT = """
import os, signal, sys
from pathlib import Path
import jax, jax.numpy as jnp, numpy as np, optax
from ml_collections import FrozenConfigDict
from pneumojax import cli, hosts, loop, metrics, sharding
from pneumojax.data.table import Table
from pneumojax.gan.drawing import Recipe
from pneumojax.jobs import Job, Place
from pneumojax.stage import Stage
from pneumojax.timings import Timings

flag, workdir, found, stop = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def step(state, batch, key, constants, recipe):
    x = batch.examples.reshape(len(batch.labels), -1) / 255 + 0.1 * jax.random.normal(key, (len(batch.labels), 64))
    x = (x - x.mean(0)) / (x.std(0) + 1)
    def loss_of(w):
        return optax.softmax_cross_entropy_with_integer_labels(x @ w, batch.labels).mean()
    loss, gradient = jax.value_and_grad(loss_of)(state["w"])
    return {"w": state["w"] - 0.5 * gradient}, {"loss": loss}

def job(number):
    rows = loop.epochs(np.arange(40), 8, 12, number)
    start = lambda: {"w": jax.random.normal(jax.random.key(number), (64, 2))}
    return Job(Stage(number, "clean", arm="toy"), start, rows, jax.random.key(number), place)

with hosts.lockstep(), cli.exit_codes(workdir, "--workdir"), hosts.joined(flag or None):
    assert hosts.agreed(lambda: np.arange(300_000) if hosts.first() else 0)[-1] == 299_999  # more than a megabyte
    images = np.random.default_rng(0).integers(0, 255, (40, 8, 8), np.uint8)
    table = Table(sharding.replicate(images), np.arange(40, dtype=np.int32) % 2)
    if hosts.first():
        workdir.mkdir(exist_ok=True)
    place = Place(workdir, metrics.writer(workdir, {}), Timings(workdir / "t.json"))
    advance, numbers, states = loop.advance, [], {}
    def stopped(states, keys, inputs, *rest):
        numbers.append(int(inputs["number"].min()))
        if numbers[-1] == stop and not hosts.first():
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(states, keys, inputs, *rest)
    loop.advance = stopped
    recipe = Recipe(None, FrozenConfigDict({"log_every": 3, "save_every": 6}))
    for kind, jobs in {"alone": [job(0)], "spread": [job(n) for n in (1, 2, 3)]}.items():
        for one, state in loop.train(step, jobs, table, {}, recipe):
            states[f"{kind}{one.stage.trial}"] = sharding.fetched(state["w"])
    place.writer.close()
    np.savez(found, first=numbers[0], devices=jax.device_count(), **states)
"""


def script(folder: Path, counts: Sequence[int], workdir: Path, stop=-1) -> list:
    """What each process of SCRIPT has found, or its exit code where that is another than 0."""
    folder.mkdir()
    place, several, processes = f"127.0.0.1:{free_port()},{len(counts)}", len(counts) > 1, []
    for number, count in enumerate(counts):
        own = workdir if number == 0 else folder / "unseen"
        words = [f"{place},{number}" if several else "", str(own), str(folder / f"{number}.npz"), str(stop)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **devices(count)}
        command = [sys.executable, "-c", SCRIPT, *words]
        processes.append(subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True))
    found = []
    for number, (code, said) in enumerate(ends(processes)):
        assert code in (0, 143), said
        found.append(code or dict(np.load(folder / f"{number}.npz")))
    assert not (folder / "unseen").exists()  # what the others do leaves nothing
    return found


@pytest.mark.slow
def test_jobs_are_trained_as_in_one_process_and_go_on_with_other_devices(tmp_path):
    """A job that is alone, its batches on all devices, and three that have one each, within the rounding of sums.

    A signal to one process saves in the first, and another count of processes and devices goes on from there.
    """
    [one] = script(tmp_path / "one", (4,), tmp_path / "a")
    two = script(tmp_path / "two", (2, 2), tmp_path / "b")
    assert [found["devices"] for found in (one, *two)] == [4, 4, 4]
    for name in ("alone0", "spread1", "spread2", "spread3"):
        np.testing.assert_array_equal(two[0][name], two[1][name])
        np.testing.assert_allclose(two[0][name], one[name], rtol=1e-5 * name.startswith("alone"), atol=1e-6)
    assert [(tmp_path / name / "metrics.jsonl").read_text().count("\n") for name in "ab"] == [16, 16]
    assert script(tmp_path / "stopped", (2, 2), tmp_path / "c", stop=7) == [143, 143]
    shutil.copytree(tmp_path / "c", tmp_path / "d")
    for name, counts in {"c": (1,), "d": (2,)}.items():
        [gone_on] = script(tmp_path / f"on{counts[0]}", counts, tmp_path / name)
        assert (gone_on["devices"], gone_on["first"]) == (*counts, 8)  # after the step in which the signal came
        np.testing.assert_allclose(gone_on["alone0"], one["alone0"], rtol=1e-5, atol=1e-6)


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
    """The same files, plan and scores; losses and logits within the rounding of sums.

    XLA parts sums by its threads, of which a process has as many as devices where these are more than its cores.
    """
    for name in ("splits.json", "config.json"):
        digests = [bits(workdir)[name] for workdir in (one, two)]
        assert digests[0] == digests[1]
    left, found = ({str(path.relative_to(run)) for path in tree(run)} for run in (one, two))
    assert left - found == {"samples/maps-trial0-clean-with_gan.png"}  # which one process alone cannot make of several
    assert found < left
    for row, other in zip(*map(metrics.read, (one, two)), strict=True):
        (step, stage, values), (*place, others) = metrics.parted(row), metrics.parted(other)
        assert place == [step, stage]
        assert values.pop("grid", None) == others.pop("grid", None)
        assert values == pytest.approx(others, rel=1e-3, abs=1e-5)
    np.testing.assert_allclose(logits(one), logits(two), rtol=1e-3, atol=1e-4)
    for arm in ("without_gan", "with_gan"):
        [trial], [other] = (load(run)["protocols"]["clean"][arm]["trials"] for run in (one, two))
        for part in (lambda found: found, lambda found: found["unseen"]):
            assert part(trial)["confusion_matrix"] == part(other)["confusion_matrix"]
            assert part(trial)["scores"] == pytest.approx(part(other)["scores"], abs=1e-4)
    environment = load(two)["environment"]
    assert (environment["processes"], len(environment["devices"])) == (2, 4)


def tree(workdir: Path) -> list[Path]:
    """Its files, less those within checkpoints, whose names Orbax makes up, and events."""
    found = [path for path in workdir.rglob("*") if path.is_file() and "events" not in path.name]
    return [path for path in found if not {"state", "record"} & set(path.relative_to(workdir).parts[:-1])]


@pytest.mark.slow
@pytest.mark.long
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
for workdir in sys.argv[1:]:
    recipe, variables = finetune.restored(run.load(Path(workdir)), Stage(0, "clean", arm="with_gan"))
    print(jax.device_count(), checkpoint.digest(variables))
"""


@pytest.mark.slow
def test_a_checkpoint_is_restored_on_another_count_of_devices(one, two):
    """Of one process with four devices, and of two processes."""
    found = {}
    for count in (1, 2, 4):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **devices(count)}
        command = [sys.executable, "-c", READ, str(one), str(two)]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        found[count] = [line.split() for line in done.stdout.splitlines()]
    digests = [digest for _, digest in found[4]]
    assert found == {count: [[str(count), digest] for digest in digests] for count in (1, 2, 4)}


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


def test_a_coordinator_that_cannot_be_reached(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(meeting, "PATIENCE", 1.0)
    place = f"127.0.0.1:{free_port()}"
    flags = ["--config=configs/demo.py", f"--distributed={place},2,1", f"--workdir={tmp_path / 'run'}"]
    [line] = error_of(call(main.main, *flags), 2)
    assert line.startswith(f"--distributed: the coordinator {place} cannot be reached (")
    assert f"process 1 of 2 waits for the others, at {place}, for 1 s at most" in caplog.text


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
