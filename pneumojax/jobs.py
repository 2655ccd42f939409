"""What is trained, as data: jobs, the groups of them that run at the same time, where they leave their traces."""

import hashlib
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from pneumojax import sharding
from pneumojax.metrics import Writer
from pneumojax.stage import Stage
from pneumojax.timings import Timings


class Place(NamedTuple):
    """Where training leaves its traces."""

    workdir: Path
    writer: Writer
    timings: Timings

    def checkpoints(self, stage: Stage) -> Path:
        """The folder of a stage's checkpoints."""
        return self.workdir / "checkpoints" / stage.name

    def record(self, directory: Path) -> dict[str, str]:
        """What a checkpoint says of where it belongs: {"place": its folder below `checkpoints`}."""
        return {"place": str(directory.relative_to(self.workdir / "checkpoints"))}


class Job(NamedTuple):
    """One thing to train."""

    stage: Stage
    start: Callable[[], Any]  # gives the state before the first step, a tree of arrays
    rows: np.ndarray  # int32 [steps, B], of the table
    key: jax.Array  # step n draws from it and n alone
    place: Place  # of its run
    fields: dict[str, np.ndarray] = {}  # numbers of each step, [steps], for `Batch.fields`
    done: bool = False  # whether nobody asks for its state any more


class Batch(NamedTuple):
    """What one step of one job is given."""

    examples: jax.Array  # [B, …], of the table
    labels: jax.Array  # int32 [B]
    fields: dict[str, jax.Array]


class Diverged(NamedTuple):
    """A job whose loss, state or logits are no longer finite."""

    step: int  # after which it was seen
    metric: str  # the loss's name, `state` or `logits`
    checkpoint: str | None  # the last good one, below the workdir


def place_of(workdir: Path) -> Place:
    """Where a finished run has left what it leaves; nothing more is written there."""
    return Place(workdir, None, None)


class Layout(NamedTuple):
    """How the jobs of a group lie; static."""

    together: bool  # as one more axis of the arrays, under vmap
    spread: bool  # each on one device


class Group(NamedTuple):
    """Jobs that run at the same time, with equally many steps."""

    jobs: Sequence[Job]
    layout: Layout

    @property
    def steps(self) -> int:
        return len(self.jobs[0].rows)

    def told(self, jobs: Sequence[Job]) -> tuple[str, int]:
        """Which of all `jobs` they are, 'job 3 of 12, trial0/clean/gan_normal', and how many images they take.

        Where these are of several runs the name of its workdir stands before a stage's.
        """
        first, count = next(i for i, job in enumerate(jobs, 1) if job is self.jobs[0]), len(self.jobs)
        which = f"job {first} of {len(jobs)}" if count == 1 else f"{count} of {len(jobs)} jobs"
        others = f" and {count - 1} more" if count > 1 else ""
        of_run = f"{self.jobs[0].place.workdir.name}/" if len({job.place.workdir for job in jobs}) > 1 else ""
        return f"{which}, {of_run}{self.jobs[0].stage.name}{others}", sum(job.rows.size for job in self.jobs)

    def padded(self) -> list[Job]:
        """The jobs as the arrays hold them: equally many on each device, where the last one stands in for none."""
        missing = -len(self.jobs) % jax.device_count() if self.layout.spread else 0
        return [*self.jobs, *[self.jobs[-1]] * missing]

    def at_rest(self, states):
        """The states as a checkpoint holds them: that of a job that is alone without the axis of jobs."""
        return states if len(self.jobs) > 1 else at(states, 0)

    def running(self, states):
        """The inverse of `at_rest`."""
        return states if len(self.jobs) > 1 else stack([states] * len(self.padded()))

    @property
    def places(self) -> list[Place]:
        """Those of its jobs, each once."""
        return list({job.place.workdir: job.place for job in self.jobs}.values())

    @property
    def directory(self) -> Path:
        """Of the checkpoints: those of a job that is alone are its own, several share one while they train."""
        first = self.jobs[0]
        if len(self.jobs) == 1:
            return first.place.checkpoints(first.stage)
        workdirs = [os.path.relpath(job.place.workdir, first.place.workdir) for job in self.jobs]
        names = " ".join(f"{own}/{job.stage.name}" for own, job in zip(workdirs, self.jobs, strict=True))
        return first.place.workdir / "checkpoints" / "jobs" / hashlib.sha256(names.encode()).hexdigest()[:12]


def stack(trees: Sequence):
    """Trees of arrays as one tree with a new axis 0."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def at(tree, index: int):
    """One of the trees that were stacked.

    In one program, and waited for: leaf by leaf many small ones would be under way at the same time, whose collectives,
    where jobs are spread over devices, can wait for each other for ever on CPUs.
    """
    return jax.block_until_ready(_at(tree, index))


@partial(jax.jit, static_argnames="index")
def _at(tree, index: int):
    return sharding.whole(jax.tree.map(lambda leaf: leaf[index], tree))


def layout_of(count: int, together: bool) -> Layout:
    """How so many jobs lie: on several devices each is computed on one of them, one that is alone on all."""
    return Layout(together, spread=jax.device_count() > 1 and count > 1)


def groups(jobs: Sequence[Job], together: bool) -> list[Group]:
    """The jobs that run at the same time: those with equally many steps of equal size, where it is more than one."""
    layout = layout_of(len(jobs), together)
    if layout == Layout(together=False, spread=False):
        return [Group([job], layout) for job in jobs]
    result = []
    for shape in dict.fromkeys(job.rows.shape for job in jobs):
        own = [job for job in jobs if job.rows.shape == shape]
        width = len(own) if together else jax.device_count()
        result += [Group(own[first : first + width], layout) for first in range(0, len(own), width)]
    return result


def say_undivided(group: Group) -> None:
    """Warns where a batch cannot be split over the devices."""
    batch, devices = group.jobs[0].rows.shape[1], jax.device_count()
    if not group.layout.spread and batch % devices:
        name = group.jobs[0].stage.name
        logging.warning("%s: %d devices do not divide a batch of %d: each has all of it", name, devices, batch)
