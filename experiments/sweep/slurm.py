"""Members as a SLURM job array, submitted by `sbatch`: one script, an element a member.

What the script relies on, each seen with slurmctld 22.05 (tests/test_slurm.py):

- `srun` takes SIGTERM for an order to kill its tasks, so that nothing is forwarded to it. Preemption, `scancel` and
  `--signal` without `B:` reach the tasks themselves, which save and end with 143; they have the cluster's KillWait for
  it (30 s by default), before the time limit what `--signal` says.
- A job that is preempted or whose node died is queued again by SLURM (`--requeue`), about two minutes later; one that
  came to its time limit the script queues again itself. Either goes on from its checkpoint.
- jax finds its coordinator at a port made of the job's id modulo 4096: two steps or jobs on a node collide.
  JAX_COORDINATOR_PORT is made of the job's id and restarts instead, the next that is free on the node.
- `--open-mode=append` and logs that are appended to, or a requeue would wipe what was said before.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from experiments.sweep import ledger
from experiments.sweep.ledger import Entry, Sweep
from pneumojax import checkpoint
from pneumojax.errors import BadInput, describe

POLL = 2  # seconds
RESTARTS = 1000  # of one member by its time limit: none goes round for ever

SCRIPT = """#!/bin/bash
# A member of the sweep in {out} for each element: sbatch {out}/sweep.sbatch
#SBATCH --job-name=sweep --array={array}
#SBATCH --requeue --open-mode=append --signal=TERM@60
#SBATCH --output={logs}
{options}
case $SLURM_ARRAY_TASK_ID in
{cases}
  *) echo "error: no member $SLURM_ARRAY_TASK_ID" >&2; exit 2 ;;
esac
mkdir -p "$workdir"
rm -f "$workdir/exit.txt"
exec >> "$workdir/log.txt" 2>&1

port=$((10240 + (SLURM_JOB_ID + 8191 * ${{SLURM_RESTART_COUNT:-0}}) % 22000))
while (: < "/dev/tcp/127.0.0.1/$port") 2> /dev/null; do port=$((port + 1)); done
export JAX_COORDINATOR_PORT=$port

srun ${{SLURM_CPUS_PER_TASK:+--cpus-per-task=$SLURM_CPUS_PER_TASK}} "$@"
code=$?
if [ $code = 143 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ] && scontrol requeue "$SLURM_JOB_ID"; then
  sleep 60  # SLURM ends this script
fi
echo $code > "$workdir/exit.txt"
exit $code
"""


def submit(sweep: Sweep, entries: Sequence[Entry], options: str, at_once: int | None) -> str:
    """Writes OUT/sweep.sbatch for these members and submits it.

    Args:
      sweep: they are of.
      entries: that are to be run.
      options: of sbatch, as on its command line.
      at_once: members that may run at a time; None for as many as there is room for.

    Returns: the job's id.

    Errors: BadInput where sbatch refuses, and where the sweep's last job still runs.
    """
    check_last(sweep)
    for entry in entries:
        ledger.begin(sweep, entry)
    script = sweep.out / "sweep.sbatch"
    checkpoint.write_bytes(script, script_of(sweep, entries, options, at_once).encode())
    told = subprocess.run(["sbatch", "--parsable", script], capture_output=True, text=True)
    if told.returncode:
        raise BadInput(f"sbatch refuses {script}; mend --slurm={options!r}", told.stderr.strip().splitlines())
    job = told.stdout.partition(";")[0].strip()  # of 'ID;CLUSTER'
    checkpoint.write_bytes(job_file(sweep), f"{job}\n".encode())
    return job


def check_here() -> None:
    """Errors: BadInput where there is no sbatch."""
    if not shutil.which("sbatch"):
        raise BadInput("--slurm: there is no sbatch here; run this where SLURM jobs are submitted, or give --jobs=N")


def check_last(sweep: Sweep) -> None:
    """Errors: BadInput where the last job of a sweep is still queued or runs."""
    try:
        job = job_file(sweep).read_text().strip()
    except OSError:
        return
    if is_queued(job):
        raise BadInput(f"{sweep.out}: job {job} of this sweep is still queued or runs; wait for it, or scancel {job}")


def is_queued(job: str) -> bool:
    """Whether a job is queued or runs, as long as nobody denies it."""
    told = subprocess.run(["squeue", "--noheader", "--jobs", job], capture_output=True, text=True)
    return bool(told.stdout.strip()) or (told.returncode != 0 and "Invalid job id" not in told.stderr)


def wait(job: str) -> None:
    """Waits until all elements of a job have ended."""
    while is_queued(job):
        time.sleep(POLL)


def job_file(sweep: Sweep) -> Path:
    """Where the id of the last job is kept."""
    return sweep.out / "slurm" / "job.txt"


def largest_array() -> int:
    """Elements that an array may have here, MaxArraySize; 1,001 where that is not to be learnt, as SLURM has it."""
    told = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", told, re.MULTILINE)
    return int(found[1]) if found else 1001


def script_of(sweep: Sweep, entries: Sequence[Entry], options: str, at_once: int | None) -> str:
    """The batch script; its elements are the members, in order.

    Errors: BadInput for options with an open quote, and for line ends, which would end a comment of the script.
    """
    out = os.path.abspath(sweep.out)
    cases = [
        f"  {number}) workdir={shlex.quote(f'{out}/{one.id}')}; set -- {shlex.join(ledger.command_of(sweep, one))} ;;"
        for number, one in enumerate(entries)
    ]
    try:
        given = shlex.join(shlex.split(options))
    except ValueError as error:
        raise BadInput(f"--slurm={options!r}: {describe(error)}; close the quote") from error
    for flag, text in (("--out", out), ("--slurm", given)):
        if "\n" in text:
            raise BadInput(f"{flag}={text!r}: sbatch reads it line by line; leave the line end out")
    return SCRIPT.format(
        out=shlex.quote(out),
        array=f"0-{len(entries) - 1}" + (f"%{at_once}" if at_once else ""),
        logs=shlex.quote(f"{out.replace('%', '%%')}/slurm/%A_%a.txt"),
        options=f"#SBATCH {given}" if given else "",
        cases="\n".join(cases),
        restarts=RESTARTS,
    )
