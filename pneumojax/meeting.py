"""How the processes of one run find each other: by a flag, or in what the cluster says; and wait until all are there.

Before jax is told of them: it ends the process, with a stack and no word, where one of them does not come, and shares a
port with whoever has it.
"""

import contextlib
import os
import socket
import time
from typing import NamedTuple

from absl import logging
from jax._src import clusters  # has no public name; jax.distributed would not say before whether there are several

from pneumojax.errors import BadInput, describe

FLAG = "--distributed"
EXAMPLE = f"{FLAG}=node1:12345,2,0"
PATIENCE = 120.0  # seconds for all to come
WITHOUT_FLAG = ("slurm", "gcetpu", "gketpu")  # jax's names of what tells the processes of one run by itself
WORD, GO = 16, b"go"  # bytes of what a process says, its number and their count; and what it is told


class Address(NamedTuple):
    """Where a process finds the others."""

    coordinator: str  # HOST:PORT of process 0
    count: int  # of processes
    number: int  # its own
    method: str = "deactivate"  # of jax, by which it was found in the environment


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


def meet(address: Address) -> None:
    """Waits until all processes are there. Errors: BadInput where the port is in use, or some do not come."""
    host, _, port = address.coordinator.rpartition(":")
    told = address.number, address.count, address.coordinator, PATIENCE
    logging.info("process %d of %d waits for the others, at %s, for %.0f s at most", *told)
    if address.number == 0:
        gather(int(port), address.count)
    else:
        join(host.strip("[]"), int(port), f"{address.number:8d}{address.count:8d}".encode())


def gather(port: int, count: int) -> None:
    """What process 0 does: waits for the others, and tells them that all are there."""
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, dualstack_ipv6=family == socket.AF_INET6)
    except OSError as error:
        what = f"{FLAG}: port {port} of process 0 cannot be had ({describe(error)})"
        raise BadInput(f"{what}; give another one to all processes (JAX_COORDINATOR_PORT under srun)") from error
    there: dict[int, socket.socket] = {}
    end = time.monotonic() + PATIENCE
    with contextlib.ExitStack() as stack:
        stack.enter_context(server)
        while len(there) < count - 1:
            server.settimeout(max(0.01, end - time.monotonic()))
            try:
                connection = stack.enter_context(server.accept()[0])
            except TimeoutError:
                missing = ", ".join(str(number) for number in range(1, count) if number not in there)
                what = f"{FLAG}: of {count} processes {missing} did not come within {PATIENCE:.0f} s"
                raise BadInput(f"{what}; start all, each with its own number") from None
            connection.settimeout(5)
            with contextlib.suppress(OSError, ValueError):  # somebody else's call at this port
                said = connection.recv(WORD, socket.MSG_WAITALL)
                number, theirs = int(said[: WORD // 2]), int(said[WORD // 2 :])
                if theirs != count or number in there or not 0 < number < count:
                    who = f"a process calls itself number {number} of {theirs}, where there are {count}, each once"
                    raise BadInput(f"{FLAG}: {who}; give each its own number, and all the same count")
                there[number] = connection
        for connection in there.values():
            connection.sendall(GO)


def join(host: str, port: int, word: bytes) -> None:
    """What the others do: call process 0 until it answers, and wait until it says that all are there."""
    what, end = f"{FLAG}: the coordinator {host}:{port}", time.monotonic() + PATIENCE
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=5)
            break
        except OSError as error:
            if time.monotonic() > end:
                remedy = "start process 0 there, with a port that is open between hosts"
                raise BadInput(f"{what} cannot be reached ({describe(error)}); {remedy}") from error
        time.sleep(0.5)
    with connection:
        connection.settimeout(2 * PATIENCE)
        try:
            connection.sendall(word)
            answer, why = connection.recv(len(GO), socket.MSG_WAITALL), "it ended"
        except OSError as error:
            answer, why = b"", describe(error)
    if answer != GO:
        remedy = "see what process 0 says, or whether another program has its port"
        raise BadInput(f"{what} does not answer ({why}); {remedy}")
