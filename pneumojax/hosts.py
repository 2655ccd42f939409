"""Several processes as one: how they find each other, agree on what one of them knows, and end together.

All compute the same, step by step. Process 0 alone holds the workdir and what is kept for other runs, reads and writes
them; the others are told what it finds there, wherever their next step depends on it. Data, weights and code each has.
"""

import contextlib
import functools
import itertools
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax._src import clusters, distributed  # the coordinator's client has no public name; Orbax takes it so as well
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from pneumojax import cli, sharding
from pneumojax.errors import BadInput, StudyError, describe

FLAG = "--distributed"
EXAMPLE = f"{FLAG}=node1:12345,2,0"
PATIENCE = 120.0  # seconds for a coordinator to be there
LAST_WORDS = 10_000  # milliseconds for all to hear why one ends
DAYS = 2**31 - 1  # milliseconds for process 0 to do what the others wait for; if it dies, jax ends them
SMALL = 2**20  # bytes that pass through the coordinator; more pass between devices, ten times as fast
WITHOUT_FLAG = ("slurm", "gcetpu", "gketpu")  # jax's names of what tells the processes of one run by itself

_numbers = itertools.count()  # of agreements: the same one in all processes
_leaving = threading.Lock()  # is held by the thread that ends this process


class Address(NamedTuple):
    """Where a process finds the others."""

    coordinator: str  # HOST:PORT of process 0
    count: int  # of processes
    number: int  # its own
    method: str = "deactivate"  # of jax, by which it was found in the environment


def several() -> bool:
    """Whether this process is one of several."""
    return distributed.global_state.num_processes > 1


def first() -> bool:
    """Whether this is process 0, or the only one."""
    return distributed.global_state.process_id == 0


def start(flag: str | None) -> None:
    """Joins the other processes of this run, if there are any; before anything is computed.

    Args:
      flag: HOST:PORT,COUNT,NUMBER; '' for what jax finds in the environment; None for what it finds of SLURM's `srun`
        or a TPU pod, if that is several processes.

    Errors: BadInput where the flag cannot be, the port is in use, the coordinator cannot be reached, or some do not
    come.
    """
    address = parsed(flag) if flag else found(flag is not None)
    if address is None or address.count == 1:
        return
    host, _, port = address.coordinator.rpartition(":")
    if address.number == 0:
        check_free(int(port))
    else:
        wait_for(host.strip("[]"), int(port))
    jax.config.update("jax_enable_preemption_service", False)  # or it would take SIGTERM for itself
    try:
        jax.distributed.initialize(
            address.coordinator,
            address.count,
            address.number,
            cluster_detection_method=address.method,
            initialization_timeout=int(PATIENCE),
        )
    except (RuntimeError, ValueError) as error:
        what = f"{FLAG}: {address.count} processes should meet at {address.coordinator} and did not"
        raise BadInput(f"{what}: {describe(error)[:200]}; start all of them, each with its own number") from error
    logging.info("process %d of %d, at %s", address.number, address.count, address.coordinator)
    if not first():
        logging.set_verbosity(logging.ERROR)  # what there is to say process 0 says
    threading.Thread(target=listen, name="hosts", daemon=True).start()


def parsed(flag: str) -> Address:
    """What the flag says. Errors: BadInput."""
    coordinator, *numbers = flag.split(",")
    host, _, port = coordinator.rpartition(":")
    try:
        count, number = map(int, numbers)
        if not (host and 0 < int(port) < 2**16 and 0 <= number < count):
            raise ValueError
    except ValueError:
        raise BadInput(f"{FLAG}={flag!r}: give HOST:PORT,PROCESSES,NUMBER, e.g. {EXAMPLE}") from None
    return Address(coordinator, count, number)


def found(anywhere: bool) -> Address | None:
    """What jax finds in the environment. Errors: BadInput where `anywhere` is asked for and it finds nothing."""
    for cluster in clusters.ClusterEnv._cluster_types:
        asked = cluster.name in WITHOUT_FLAG or (anywhere and not cluster.opt_in_only_method)
        if asked and cluster.is_env_present():
            count = cluster.get_process_count()
            if count == 1:
                return None
            port = os.environ.get("JAX_COORDINATOR_PORT")
            coordinator = cluster.get_coordinator_address(int(PATIENCE), port)
            return Address(coordinator, count, cluster.get_process_id(), cluster.name)
    if anywhere:
        raise BadInput(f"{FLAG}: no cluster is told here (SLURM's srun, a TPU pod, MPI); give e.g. {EXAMPLE}")
    return None


def check_free(port: int) -> None:
    """Errors: BadInput where a port is in use here; jax's coordinator would share it with whoever has it."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=family == socket.AF_INET6).close()
    except OSError as error:
        what = f"{FLAG}: port {port} of process 0 cannot be had ({describe(error)})"
        raise BadInput(f"{what}; give another one to all processes (JAX_COORDINATOR_PORT under srun)") from error


def wait_for(host: str, port: int) -> None:
    """Waits until process 0 listens. Errors: BadInput where it does not in time."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                what = f"{FLAG}: the coordinator {host}:{port} cannot be reached ({describe(error)})"
                raise BadInput(f"{what}; start process 0 there, with a port that is open between hosts") from error
        time.sleep(0.5)


def agreed(function: Callable[[], Any]) -> Any:
    """What `function` gives in process 0, which all processes get; it is called there alone.

    Where it raises something the others end with process 0 (`lockstep`).
    """
    if not several():
        return function()
    key, value, content = f"pneumojax/agreed/{next(_numbers)}", None, b""
    if first():
        value = function()
        content = pickle.dumps(value)
        head = len(content), content if len(content) <= SMALL else b""
        client().key_value_set_bytes(key, pickle.dumps(head))
        length = len(content)
    else:
        length, content = pickle.loads(client().blocking_key_value_get_bytes(key, DAYS))
    if length > SMALL:
        own = np.frombuffer(content, np.uint8) if first() else np.zeros(length, np.uint8)
        content = multihost_utils.broadcast_one_to_all(own).tobytes()
    return value if first() else pickle.loads(content)


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
        told = pickle.dumps((code, why if isinstance(why, StudyError) else None))
        with contextlib.suppress(RuntimeError):  # another one was faster, or the coordinator is gone
            client().key_value_set_bytes("pneumojax/ended", told)
        leave(code)


def listen() -> None:
    """Waits for another process to end early, says why, and ends this one."""
    try:
        code, why = pickle.loads(client().blocking_key_value_get_bytes("pneumojax/ended", DAYS))
    except Exception:  # all ended well, or the coordinator is gone, and jax ends this process
        return
    time.sleep(1)  # what all run into, as bad input, each says itself
    if why:
        cli.say_for_another(why)
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
    """Of the coordinator; None before `start` and with one process."""
    return distributed.global_state.client
