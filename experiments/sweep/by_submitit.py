"""Members as jobs of submitit, for who submits everything by it: `--submitit='timeout_min=120,gpus_per_node=1'`.

What a job runs is `experiments.sweep.child`; SLURM's own arrays (`--slurm`) need no package and are what is tested on
a cluster.
"""

import importlib
import os
from collections.abc import Sequence
from types import ModuleType

from experiments.sweep import ledger, slurm
from experiments.sweep.child import Member
from experiments.sweep.ledger import Entry, Sweep
from pneumojax import checkpoint
from pneumojax.errors import BadInput, describe

LOG_LEVEL = "SUBMITIT_LOG_LEVEL"
EXAMPLE = "--submitit='timeout_min=120,slurm_partition=gpu,gpus_per_node=1'"


def module() -> ModuleType:
    """submitit. Errors: BadInput where it is not installed."""
    told = os.environ.setdefault(LOG_LEVEL, "NOCONFIG")  # or its import closes the handlers of everybody's logs
    try:
        return importlib.import_module("submitit")
    except ImportError as error:
        raise BadInput("--submitit: submitit is not installed; pip install submitit, or give --slurm") from error
    finally:
        if told == "NOCONFIG":
            del os.environ[LOG_LEVEL]  # jobs have logs of their own


def parsed(text: str) -> dict[str, int | str]:
    """Parameters of submitit's executor, and `cluster`. Errors: BadInput for what is none, and without a time limit."""
    found: dict[str, int | str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not equals or not name.strip().isidentifier():
            raise BadInput(f"--submitit={text!r}: {part!r} is not NAME=VALUE; give e.g. {EXAMPLE}")
        found[name.strip()] = int(value) if value.strip().isdigit() else value.strip()
    if not isinstance(found.get("timeout_min"), int):
        raise BadInput(
            f"--submitit={text!r}: submitit ends a job after 5 minutes if not told; give timeout_min=MINUTES"
        )
    return found


def submit(sweep: Sweep, entries: Sequence[Entry], text: str) -> list:
    """Submits members. Returns: submitit's jobs.

    Errors: BadInput where submitit refuses, and where jobs of this sweep still run.
    """
    submitit, parameters = module(), parsed(text)
    cluster, record = parameters.pop("cluster", None), sweep.out / "submitit" / "jobs.txt"
    last = record.read_text().split() if cluster != "local" and record.exists() else []
    if queued := [job for job in last if slurm.is_queued(job)]:
        raise BadInput(f"{sweep.out}: job {queued[0]} of this sweep is still queued or runs; wait for it")
    for entry in entries:
        ledger.begin(sweep, entry)
    own = [Member(ledger.command_of(sweep, one), str((sweep.out / one.id).absolute())) for one in entries]
    try:
        executor = submitit.AutoExecutor(folder=str((sweep.out / "submitit" / "%j").absolute()), cluster=cluster)
        executor.update_parameters(**parameters)
        with executor.batch():
            jobs = [executor.submit(member) for member in own]
    except Exception as error:  # of submitit, sbatch or a parameter
        raise BadInput(f"--submitit={text!r}: submitit refuses it ({describe(error)[:200]}); mend it") from error
    checkpoint.write_bytes(record, "".join(f"{job.job_id}\n" for job in jobs).encode())
    return jobs


def wait(jobs: Sequence) -> None:
    """Waits until all jobs have ended, whichever way."""
    for job in jobs:
        job.exception()
