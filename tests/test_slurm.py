"""A sweep as an array of a real SLURM, of one node on this machine: a member is preempted, one fails, none is lost."""

import csv
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
import runs

from experiments.sweep import ledger
from experiments.sweep.__main__ import main

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

# cred_expire: a job that is queued again waits so long, and no shorter; 120 s if not said.
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
{plugins}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=60
MpiDefault=none
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=1 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def programs(root: Path) -> dict[str, str]:
    """Where the daemons are, by name; skips where one is not."""
    found = {}
    for name in (
        "munged",
        "slurmctld",
        "slurmd",
        "slurmstepd",
        "sbatch",
        "srun",
        "scontrol",
        "scancel",
        "squeue",
        "sinfo",
    ):
        folders = os.pathsep.join(str(root / folder) for folder in ("usr/sbin", "usr/bin", "usr/local/bin"))
        path = shutil.which(f"{name}-wlm", path=folders) or shutil.which(name, path=folders)
        if not path:
            pytest.skip(f"there is no {name} below {root}; .ci/slurm FOLDER unpacks SLURM, PNEUMOJAX_SLURM names it")
        found[name] = path
    return found


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A SLURM of one node with one CPU; jobs of the partition high preempt those of low. Its commands are in PATH."""
    root, folder = Path(os.environ.get("PNEUMOJAX_SLURM") or "/"), tmp_path / "slurm"
    found = programs(root)
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    for one in (tmp_path, *tmp_path.parents):  # munged wants its socket to be reached by all
        if one.stat().st_uid == os.getuid() and one != Path("/tmp"):
            one.chmod(one.stat().st_mode | 0o111)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    plugins = next(root.glob("usr/lib/*/slurm-wlm"), None)
    known = {"host": socket.gethostname().partition(".")[0], "user": getpass.getuser(), "folder": folder}
    known |= {"controller": free_port(), "daemon": free_port()}
    known["plugins"] = f"PluginDir={plugins}" if plugins else ""
    (folder / "slurm.conf").write_text(CONF.format(**known))
    if plugins:
        monkeypatch.setenv("LD_LIBRARY_PATH", f"{plugins.parent}:{plugins}", prepend=os.pathsep)
    monkeypatch.setenv("PATH", f"{root / 'usr/bin'}", prepend=os.pathsep)
    monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    munge = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    commands = (
        [found["munged"], "--foreground", *(f"--{flag}={folder}/munge.{name}" for flag, name in munge.items())],
        [found["slurmctld"], "-D", "-c"],
        [found["slurmd"], "-D", "-N", known["host"], "-d", found["slurmstepd"]],
    )
    daemons = []
    try:
        for command in commands:
            log = (folder / f"{Path(command[0]).name}.log").open("w")
            daemons.append(subprocess.Popen(command, stdout=log, stderr=log))
            time.sleep(1)
        deadline = time.monotonic() + 60
        while output("sinfo", "--noheader", "--format=%T") not in ("idle", "idle\nidle"):
            ends = [path.read_text()[-300:] for path in folder.glob("*.log")]
            if time.monotonic() > deadline or any(one.poll() is not None for one in daemons):
                pytest.skip(f"SLURM does not start here: {ends}")
            time.sleep(0.5)
        yield folder
        output("scancel", "--user", known["user"])  # of a test that failed
        deadline = time.monotonic() + 90
        while output("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.5)
    finally:
        for one in reversed(daemons):
            one.terminate()
            one.wait(60)


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


SWEEP = """
def sweep():
    short = {{"classifier.steps": 6, "classifier.log_every": 2, "classifier.save_every": 4}}
    yield {{"classifier.steps": {long}, "classifier.log_every": 20, "classifier.save_every": 100_000}}
    yield short | {{"data.name": "folder", "data.dir": "gone"}}
    for rate in (1e-3, 1e-2, 1e-1):
        for seed in (0, 1):
            yield short | {{"classifier.learning_rate": rate, "seed": seed}}
"""
LONG = 2000  # steps of the member that is preempted


def table(out: Path) -> list[dict[str, str]]:
    with (out / "sweep.csv").open(newline="") as file:
        return [{name: cell for name, cell in row.items() if name != "workdir"} for row in csv.DictReader(file)]


def test_an_array_ends_as_the_local_run_does_though_one_is_preempted_and_one_fails(
    tmp_path, tiny_flags, cluster, monkeypatch
):
    monkeypatch.chdir(runs.ROOT)
    (tmp_path / "mine.py").write_text(SWEEP.format(long=LONG))
    swept = ("steps", "log_every", "save_every")  # of the classifier, which are not set for all members then
    flags = [flag for flag in tiny_flags if not flag.startswith(tuple(f"--config.classifier.{n}=" for n in swept))]
    flags += ["--config.arms=('without_gan',)", "--config.protocols=('clean',)", "--config.trials=(0,)"]
    array, here = tmp_path / "array", tmp_path / "here"
    command = (*flags, f"--sweep={tmp_path / 'mine.py'}")

    def preempt():
        while not any(path.stat().st_size for path in array.glob("*/metrics.jsonl")):
            time.sleep(0.1)
        output("sbatch", "--partition=high", "--output=/dev/null", "--wrap=sleep 1")

    threading.Thread(target=preempt, daemon=True).start()
    ended = runs.call(main, *command, f"--out={array}", "--slurm=--partition=low", "--jobs=1", "--wait")
    error, *details = runs.error_of(ended, 2)
    assert "1 of 8 members are not whole" in error
    assert "failed, exit code 2: error: config.data.dir='gone'" in details[0]

    long, failing, *others = ledger.read(array).entries
    said = ledger.log_of(ledger.read(array), long).read_text()
    logs = "".join(path.read_text() for path in (array / "slurm").glob("*_0.txt"))
    assert "DUE TO PREEMPTION" in said + logs
    assert said.count("is saved after step") == 1
    assert len(others) == 6

    here.mkdir()
    shutil.copy(array / "sweep.json", here)
    for entry in others[1:]:  # in this process, which has compiled it all; the rest as processes
        runs.finish(list(entry.command), here / entry.id)
    runs.error_of(runs.call(main, *command, f"--out={here}"), 2)
    assert table(here) == table(array)
