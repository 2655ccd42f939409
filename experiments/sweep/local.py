"""Members as processes of this machine, some at a time; or many of them in one process, as jobs of one program.

With GPUs each member has one of its own, by CUDA_VISIBLE_DEVICES, whatever --jobs says: its bits depend on the number
of devices. On a CPU all members see all cores, and the system shares these out: XLA parts its sums by the cores that a
process may use, so that members with fewer of them would end in other bits than the same runs alone.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from tqdm import tqdm

from experiments.sweep import ledger
from experiments.sweep.ledger import Entry, Sweep
from pneumojax import cli, hosts, progress, runtime
from pneumojax.errors import BadInput
from pneumojax.names import printable

POLL = 0.1  # seconds


class Running(NamedTuple):
    """Members that run in one process."""

    entries: Sequence[Entry]
    process: subprocess.Popen
    slot: dict[str, str]
    since: int  # the bytes that the first one's log had before


def slots(jobs: int | None, devices: Sequence[str]) -> list[dict[str, str]]:
    """What each process that may run at a time has in its environment; as many as there are devices if not given.

    Errors: BadInput for more jobs than devices.
    """
    if not devices:
        return [{}] * (jobs or 1)
    if jobs and jobs > len(devices):
        raise BadInput(
            f"--jobs={jobs}: there are {len(devices)} GPUs (CUDA_VISIBLE_DEVICES={','.join(devices)}), and a member "
            f"takes one for itself; give at most {len(devices)}"
        )
    return [{"CUDA_VISIBLE_DEVICES": device} for device in devices[: jobs or len(devices)]]


def devices() -> list[str]:
    """The NVIDIA GPUs that members may have, as CUDA_VISIBLE_DEVICES names them; none where jax is to use others."""
    if not runtime.has_accelerator():
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        named = [word.strip() for word in given.split(",")]
        return [word for word in named if word and not word.startswith("-")]
    try:
        listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"^GPU (\d+):", listed, re.MULTILINE)


def run(sweep: Sweep, groups: Sequence[Sequence[Entry]], free: Sequence[dict[str, str]], lock: int) -> None:
    """Runs members until each has ended, whichever way.

    Args:
      sweep: they are of.
      groups: that are to be run, a process each.
      free: see `slots`.
      lock: descriptor of the file that holds the sweep's folder: members that outlive this process hold it on.

    Errors: SystemExit(128 + signal) after SIGTERM or SIGINT, of which the members are told by SIGTERM, when all have
    ended: they save their states. OSError where the folder cannot be written; then too none is left running.
    """
    queue, free, running, stopping = deque(groups), list(free), [], False
    count = sum(map(len, groups))
    with progress.shown(), progress.task("sweep", count, "members") as task, hosts.deferred_signals() as told:
        try:
            while running or (queue and not told):
                while queue and free and not told:
                    running.append(start(sweep, queue.popleft(), free.pop(0), lock))
                    first, *others = running[-1].entries
                    beside = f", and {len(others)} more in one program" if others else ""
                    say(f"begun, {len(groups) - len(queue)} of {len(groups)}{beside}", first)
                time.sleep(POLL)
                if told and not stopping:  # once: a second signal could reach a member that is saving its state
                    stopping = True
                    stop(running)
                for one in [one for one in running if one.process.poll() is not None]:
                    running.remove(one)
                    free.append(one.slot)
                    ended(sweep, one)
                    task.advance(len(one.entries))
        except BaseException:
            stop(running)
            raise


def start(sweep: Sweep, entries: Sequence[Entry], slot: dict[str, str], lock: int) -> Running:
    """Begins members. They are in a process group of their own, or Ctrl-C would reach them beside what `run` tells."""
    for entry in entries:
        ledger.begin(sweep, entry)
        ledger.log_of(sweep, entry).touch()  # which says that it is begun
    with ledger.log_of(sweep, entries[0]).open("ab") as log:
        since = log.tell()
        process = subprocess.Popen(
            ledger.command_of(sweep, *entries),
            env={**os.environ, **slot},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            process_group=0,
            pass_fds=(lock,),
        )
    return Running(entries, process, slot, since)


def stop(running: Sequence[Running]) -> None:
    """Tells members to save their states and end, and waits until they have."""
    for one in running:
        one.process.terminate()
    for one in running:
        one.process.wait()


def ended(sweep: Sweep, one: Running) -> None:
    """Keeps how members have ended, and says so. What their process wrote is in the logs of all that shared it."""
    code, first = one.process.returncode, ledger.log_of(sweep, one.entries[0])
    for entry in one.entries:
        if entry is not one.entries[0]:
            with first.open("rb") as source, ledger.log_of(sweep, entry).open("ab") as own:
                source.seek(one.since)
                shutil.copyfileobj(source, own)
        ledger.end(sweep, entry, code if code >= 0 else 128 - code)
        state = ledger.state_of(sweep, entry)
        say(state.name if state.name in ledger.DONE else f"{state.name}, exit code {state.code}: {state.error}", entry)


def say(what: str, entry: Entry) -> None:
    """A line on a member, above the live one."""
    with tqdm.external_write_mode(sys.stdout):
        cli.show(printable(f"{ledger.label(entry)}: {what}"))
