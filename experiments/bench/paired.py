"""Two sides of a benchmark in processes of their own that take turns, so that what else the machine does hits both."""

import multiprocessing
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Rates(NamedTuple):
    """What both sides did in each round, per second."""

    ours: np.ndarray
    theirs: np.ndarray

    def row(self) -> str:
        """Medians and the median of the rounds' ratios with its range, as cells of a Markdown table."""
        ratios = self.ours / self.theirs
        cells = (
            f"{np.median(self.ours):.3g}",
            f"{np.median(self.theirs):.3g}",
            f"**{np.median(ratios):.2f}** [{ratios.min():.2f}, {ratios.max():.2f}]",
        )
        return " | ".join(cells)


def serve(connection, prepare: Callable, args: tuple) -> None:
    """One side: prepares, runs once to warm up, then once a request; answers (what was done, seconds)."""
    run = prepare(*args)
    run()
    connection.send(None)
    while connection.recv():
        started = time.perf_counter()
        done = run()
        connection.send((done, time.perf_counter() - started))


def compare(ours: Callable, theirs: Callable, args: tuple, rounds: int) -> Rates:
    """Alternates two sides.

    Args:
      ours, theirs: module-level functions of `args` that return a function to be timed; that returns a count of what
        it did. Both import what they need themselves.
      args: of both.
      rounds: in each of which both sides run, the first one in turn.
    """
    context = multiprocessing.get_context("spawn")
    connections, processes = [], []
    for prepare in (ours, theirs):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there, prepare, args))  # no daemon: sides have workers
        process.start()
        here.recv()  # warm before the other begins
        connections.append(here)
        processes.append(process)
    rates = ([], [])
    for number in range(rounds):
        for side in (0, 1) if number % 2 == 0 else (1, 0):
            connections[side].send(True)
            done, seconds = connections[side].recv()
            rates[side].append(done / seconds)
    for connection, process in zip(connections, processes, strict=True):
        connection.send(False)
        process.join()
    return Rates(*map(np.array, rates))
