"""Several processes as one: how they find each other, agree on what one of them knows, and end together.

All compute the same, step by step. Process 0 alone holds the workdir and what is kept for other runs, reads and writes
them; the others are told what it finds there, wherever their next step depends on it. Data, weights and code each has.
"""

import contextlib
import functools
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax._src import distributed  # the coordinator's client has no public name; Orbax takes it so as well
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from pneumojax import cli, meeting, sharding
from pneumojax.errors import BadInput, StudyError, describe
from pneumojax.meeting import FLAG
from pneumojax.messages import packed, unpacked

LAST_WORDS = 10_000  # milliseconds for all to hear why one ends
DAYS = 2**31 - 1  # milliseconds for process 0 to do what the others wait for; if it dies, jax ends them
SMALL = 2**20  # bytes that pass through the coordinator; more pass between devices, ten times as fast

_numbers = itertools.count()  # of agreements: the same one in all processes
_leaving = threading.Lock()  # is held by the thread that ends this process


def several() -> bool:
    """Whether this process is one of several."""
    return distributed.global_state.num_processes > 1


def first() -> bool:
    """Whether this is process 0, or the only one."""
    return distributed.global_state.process_id == 0


@contextlib.contextmanager
def joined(flag: str | None) -> Iterator[None]:
    """Within it this is one of the processes of a run, if there are several; to be entered before anything is computed.

    Args:
      flag: HOST:PORT,COUNT,NUMBER; '' for what jax finds in the environment; None for what it finds of SLURM's `srun`
        or a TPU pod, if that is several processes.

    Errors: BadInput where the flag cannot be, the port is in use, the coordinator cannot be reached, or some do not
    come.
    """
    address = meeting.parsed(flag) if flag else meeting.found(flag is not None)
    if address is None or address.count == 1:
        yield
        return
    meeting.meet(address)
    jax.config.update("jax_enable_preemption_service", False)  # or it would take SIGTERM for itself
    jax.distributed.initialize(
        address.coordinator, address.count, address.number, cluster_detection_method=address.method
    )
    logging.info("process %d of %d, at %s", address.number, address.count, address.coordinator)
    if not first():
        logging.set_verbosity(logging.ERROR)  # what there is to say process 0 says
    listener = threading.Thread(target=listen, name="hosts", daemon=True)
    listener.start()
    yield
    tell(None, None)
    listener.join()  # or it would wake up, in C++, when the interpreter is gone, which ends the process


def agreed(function: Callable[[], Any]) -> Any:
    """What `function` gives in process 0, which all processes get; it is called there alone.

    Where it raises something the others end with process 0 (`lockstep`).
    """
    if not several():
        return function()
    key, value, content = f"pneumojax/agreed/{next(_numbers)}", None, b""
    if first():
        value = function()
        content = packed(value)
        small = len(content) <= SMALL
        client().key_value_set_bytes(key, b"=" + content if small else str(len(content)).encode())
    else:
        told = client().blocking_key_value_get_bytes(key, DAYS)
        small, content = told[:1] == b"=", told[1:]
    if not small:
        own = np.frombuffer(content, np.uint8) if first() else np.zeros(int(told), np.uint8)
        content = multihost_utils.broadcast_one_to_all(own).tobytes()
    return value if first() else unpacked(content)


def check_alike(what: str, value: str | int, remedy: str) -> None:
    """Errors: BadInput in all processes where they have not the same of something."""
    if not several():
        return
    key, count = f"pneumojax/alike/{next(_numbers)}", distributed.global_state.num_processes
    client().key_value_set(f"{key}/{distributed.global_state.process_id}", str(value))
    values = [client().blocking_key_value_get(f"{key}/{number}", DAYS) for number in range(count)]
    if len(set(values)) > 1:
        told = ", ".join(f"process {number} {own[:16]}" for number, own in enumerate(values))
        raise BadInput(f"{FLAG}: the processes have not the same {what}: {told}; {remedy}")


def stopping(received: Sequence[int]) -> int:
    """The largest signal that any process has received, for all of them alike; 0 for none.

    All have to ask, at the same step: it takes a sum over all devices, and nothing where there is one process.
    """
    own = max(received, default=0)
    return int(_largest(_of_all(own))) if several() else own


@functools.cache
def _of_all(number: int) -> jax.Array:
    """Each device's own process' number: int32 [devices]."""
    spread = NamedSharding(sharding.mesh(), PartitionSpec("data"))
    return jax.make_array_from_process_local_data(spread, np.full(jax.local_device_count(), number, np.int32))


_largest = jax.jit(jnp.max)


@contextlib.contextmanager
def deferred_signals() -> Iterator[list[int]]:
    """Collects SIGTERM and SIGINT, instead of acting on them, while it is open; `stopping` says what others got."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
        late = stopping(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if late:
        raise SystemExit(128 + late)


@contextlib.contextmanager
def lockstep() -> Iterator[None]:
    """Around all that a process does: where one ends early, with a code, the others end with it and say what it said.

    They may wait for it in the middle of a step, and would otherwise until jax misses its heartbeat.
    """
    try:
        yield
    except BaseException as ending:
        if not several() or client() is None:
            raise
        number = distributed.global_state.process_id
        code, why = ending.code if isinstance(ending, SystemExit) else 1, ending.__cause__
        if not isinstance(ending, SystemExit):
            sys.excepthook(*sys.exc_info())
            why = StudyError(f"process {number} ended: {type(ending).__name__}: {describe(ending)[:200]}")
        tell(code, why if isinstance(why, StudyError) else None)
        leave(code)


def tell(code: int | None, why: StudyError | None) -> None:
    """Tells all processes how this one ends, None for well, unless another one was faster."""
    told = [code, distributed.global_state.process_id, str(why or ""), why.details if why else ()]
    with contextlib.suppress(RuntimeError):  # then, or where the coordinator is gone
        client().key_value_set_bytes("pneumojax/ended", packed(told))


def listen() -> None:
    """Waits for a process to end. Where it does so early, says why, and ends this one."""
    try:
        code, number, why, details = unpacked(client().blocking_key_value_get_bytes("pneumojax/ended", DAYS))
    except RuntimeError:  # the coordinator is gone, and jax ends this process
        return
    if code is None:
        return
    time.sleep(1)  # what all run into, as bad input, each says itself
    if code > 128:
        logging.info("process %d ends by signal %d", number, code - 128)
    if why:
        cli.say_for_another(StudyError(why, details))
    leave(code)


def leave(code: int) -> None:
    """Ends this process, once all have heard why: process 0 takes the coordinator with it."""
    with _leaving:
        with contextlib.suppress(RuntimeError):
            client().wait_at_barrier("pneumojax/left", LAST_WORDS)
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)  # nothing is waited for: jax's own end would wait for processes that are gone


def client():
    """Of the coordinator; None with one process."""
    return distributed.global_state.client
