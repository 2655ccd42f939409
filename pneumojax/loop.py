"""One way to train: jobs as rows of arrays, in turn, together as an axis of the arrays, or spread over devices.

A job is a state, the rows that each of its steps takes, and a key. What a step does is a pure function

    step(state, batch, key, constants, recipe) -> (state, {name: scalar})

compiled once with its static `recipe`. Checkpoints, metrics, signals and what is no longer finite are dealt with here.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from pneumojax import checkpoint, hosts, progress, sharding
from pneumojax.data import table as tables
from pneumojax.data.table import Table
from pneumojax.jobs import Batch, Diverged, Group, Job, Layout, Place, at, groups, say_undivided, stack
from pneumojax.progress import Task
from pneumojax.stage import Stage

# For programs that run once, as initialisation does: a tenth of the compilation, in which they spend all their time.
QUICK_COMPILATION = {"xla_backend_optimization_level": 0}


def epochs(pool: np.ndarray, batch_size: int, steps: int, seed: int) -> np.ndarray:
    """The rows of each step, int32 [steps, batch_size]: an epoch is the pool in a new order, less a partial batch."""
    rng = np.random.default_rng(seed)
    per_epoch = len(pool) // batch_size
    orders = [rng.permutation(pool)[: per_epoch * batch_size] for _ in range(-(-steps // per_epoch))]
    return np.concatenate([np.zeros(0, np.int32), *orders]).reshape(-1, batch_size)[:steps].astype(np.int32)


def scan(one, state, steps):
    """`lax.scan` of `one(state, step)` over a tree of arrays `steps` [k, …]; a single step needs no loop."""
    if len(jax.tree.leaves(steps)[0]) == 1:
        state, metrics = one(state, jax.tree.map(lambda leaf: leaf[0], steps))
        return state, {name: value[None] for name, value in metrics.items()}
    return jax.lax.scan(one, state, steps)


@partial(jax.jit, static_argnames=("step", "recipe", "layout"), donate_argnames="states")
def advance(states, keys, inputs, shared, step, recipe, layout: Layout):
    """Steps of jobs.

    Args:
      states: of jobs along axis 0.
      keys: [jobs].
      inputs: {"number", "index", "labels", "fields"} of each step: arrays [steps, jobs, …].
      shared: (examples, generated, constants), the same for all jobs.
      step: what a step does.
      recipe: static; what `step` depends on besides its arrays.
      layout: how the jobs lie.

    Returns: (states, {name: [steps, jobs]}).
    """

    def one_job(state, key, inputs, shared):
        examples, generated, constants = shared
        batch = Batch(tables.take(examples, generated, inputs["index"]), inputs["labels"], inputs["fields"])
        if not (layout.together or layout.spread):
            batch = batch._replace(**sharding.split_batch({"examples": batch.examples, "labels": batch.labels}))
        return step(state, batch, jax.random.fold_in(key, inputs["number"]), constants, recipe)

    def on_a_device(states, keys, inputs, shared):
        def one(states, inputs):
            if layout.together:
                return jax.vmap(one_job, (0, 0, 0, None))(states, keys, inputs, shared)
            return jax.tree.map(lambda leaf: leaf[None], one_job(at(states, 0), keys[0], at(inputs, 0), shared))

        return scan(one, states, inputs)

    if layout.spread:
        return sharding.each_its_own(on_a_device)(states, keys, inputs, shared)
    return sharding.whole(on_a_device(states, keys, inputs, shared))


@jax.jit
def finite(states):
    """Which jobs' states [jobs, …] hold finite numbers alone: bool [jobs]."""
    leaves = [leaf for leaf in jax.tree.leaves(states) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.isfinite(leaf).reshape(len(leaf), -1).all(1) for leaf in leaves]), 0)


def train(
    step: Callable,
    jobs: Sequence[Job],
    table: Table,
    constants,
    recipe,
    together: bool = False,
    after: Callable[[Stage, int, Any], None] = lambda stage, step, state: None,
) -> Iterator[tuple[Job, Any]]:
    """Trains jobs, going on from checkpoints where there are some.

    Args:
      step: what a step does, as above.
      jobs: all that belong together, whatever of them is done: how they are grouped depends on nothing else.
      table: what their rows refer to.
      constants: a tree of arrays for all steps.
      recipe: hashable, with a `config` that has `log_every` and `save_every`, in steps.
      together: whether jobs are one more axis of the arrays; else they run in turn, or spread over devices.
      after: called with (stage, steps done, state) each `log_every` steps and at the end, for pictures.

    Yields: (job, its state after the last step, or how it diverged), group after group, but for groups that are done.
    Where a job diverges the others go on without it.

    SIGTERM and SIGINT save the state after the step that runs and end the process by SystemExit(128 + signal).
    """
    with progress.task(
        "GANs" if jobs and jobs[0].stage.gan else "classifiers", sum(job.rows.size for job in jobs)
    ) as task:
        for group in task.each((group, *group.told(jobs)) for group in groups(jobs, together)):
            if all(job.done for job in group.jobs):
                continue
            say_undivided(group)
            diverged = {i: how for i, job in enumerate(group.jobs) if (how := diverged_before(job.place, job.stage))}
            own = [job.place.checkpoints(job.stage) for job in group.jobs]
            if all(i in diverged or checkpoint.has(directory, group.steps) for i, directory in enumerate(own)):
                states = {i: newest(own[i], job.start()) for i, job in enumerate(group.jobs) if i not in diverged}
            else:
                states = train_group(group, diverged, (step, recipe), table, constants, after, task)
            for index, job in enumerate(group.jobs):
                yield job, diverged.get(index) or states[index]


def train_group(group: Group, diverged: dict, step_and_recipe, table, constants, after, task: Task) -> dict[int, Any]:
    """`train` for one group; `diverged` takes what diverges. Returns: the last states of the others, by their index."""
    recipe = step_and_recipe[1]
    jobs, every = group.padded(), recipe.config.log_every
    put = sharding.spread if group.layout.spread else sharding.replicate
    states, keys = put(stack([job.start() for job in jobs])), put(stack([job.key for job in jobs]))
    rows = np.stack([job.rows for job in jobs], 1)
    with checkpoint.open_manager(group.directory) as manager, hosts.deferred_signals() as received:
        done, at_rest, record = checkpoint.restore(manager, group.at_rest(states), begin=True)
        states = put(group.running(at_rest))
        window = {name: np.array(values, np.float32) for name, values in record.get("window", {}).items()}
        pieces = dispatches(done, group.steps, every)
        waiting = []
        task.skip(task.done + done * rows[0, : len(group.jobs)].size)
        for (begin, end), (examples, index) in zip(
            pieces, tables.feed(table, [rows[slice(*piece)] for piece in pieces]), strict=True
        ):
            inputs = {
                "number": np.broadcast_to(np.arange(begin, end, dtype=np.int32)[:, None], (end - begin, len(jobs))),
                "index": index,
                "labels": table.labels[rows[begin:end]],
                "fields": {name: np.stack([job.fields[name][begin:end] for job in jobs], 1) for name in jobs[0].fields},
            }
            shared = (examples, table.generated, constants)
            states, metrics = advance(states, keys, inputs, shared, *step_and_recipe, group.layout)
            waiting.append(metrics)
            jax.block_until_ready(waiting[-2:][0])  # one step late, so that a signal waits for no more
            task.advance(rows[begin:end, : len(group.jobs)].size)
            stopping = hosts.stopping(received)  # a signal from here on, in pictures, waits for the next step
            whole = end % every == 0 or end == group.steps
            if not (whole or stopping):
                continue
            fresh = joined(sharding.fetched(waiting))
            window = joined([window, fresh]) if window else fresh
            first, waiting = end - len(next(iter(fresh.values()))), []
            seen = not_finite(fresh, first)
            if whole:
                report(group, diverged.keys() | seen, end, window, task)
                window = {}
            due = end % recipe.config.save_every < every or end == group.steps or stopping
            if due:
                seen |= {i: (end, "state") for i in np.flatnonzero(~sharding.fetched(finite(states))) if i not in seen}
            note_divergence(group, diverged, seen, manager, states)
            if len(diverged) == len(group.jobs):
                break
            if whole:
                for i, job in enumerate(group.jobs):
                    if i not in diverged:
                        after(job.stage, end, at(states, i))
            if due:
                for place in group.places:
                    place.writer.flush()
                    place.timings.flush()
                waited = {"window": {name: values.tolist() for name, values in window.items()}}
                checkpoint.save(
                    manager, end, group.at_rest(states), waited | group.jobs[0].place.record(group.directory)
                )
            if stopping:
                logging.info("signal %d: %s is saved after step %d", stopping, group.jobs[0].stage.name, end)
                raise SystemExit(128 + stopping)
    return keep(group, diverged, states)


def dispatches(done: int, steps: int, every: int) -> list[tuple[int, int]]:
    """The steps of each call of the compiled program; none goes beyond a multiple of `every`."""
    size = every if jax.default_backend() != "cpu" else 1  # XLA's loops slow convolutions down fivefold on a CPU
    pieces = []
    while done < steps:
        end = min(done + size, (done // every + 1) * every, steps)
        pieces.append((done, end))
        done = end
    return pieces


def joined(pieces: Sequence[dict]) -> dict[str, np.ndarray]:
    """Metrics of steps that follow one another: {name: [steps, jobs]}."""
    return {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}


def not_finite(metrics: dict[str, np.ndarray], first: int) -> dict[int, tuple[int, str]]:
    """Jobs in whose metrics [steps, jobs] a number is not finite: index → (steps done, metric)."""
    bad = {name: ~np.isfinite(values) for name, values in metrics.items()}
    seen = {}
    for job in np.flatnonzero(np.any(list(bad.values()), (0, 1))).tolist():
        step = int(np.argmax(np.any([values[:, job] for values in bad.values()], 0)))
        seen[job] = (first + step + 1, next(name for name, values in bad.items() if values[step, job]))
    return seen


def note_divergence(group: Group, diverged: dict, seen: dict, manager, states) -> None:
    """Puts what was seen of jobs into `diverged` and on the disk, and keeps the last good checkpoint of each."""
    for i in sorted(i for i in seen if i < len(group.jobs) and i not in diverged):
        (stage, place), last = (group.jobs[i].stage, group.jobs[i].place), checkpoint.latest(manager)
        own = place.checkpoints(stage)
        if last and len(group.jobs) > 1:  # the others write over the one that they share
            good = checkpoint.restore(manager, group.at_rest(states))[1]
            with checkpoint.open_manager(own) as its:
                checkpoint.save(its, last, at(good, i), place.record(own))
        kept = str(own.relative_to(place.workdir) / str(last)) if last else None
        diverged[i] = how = Diverged(*seen[i], kept)
        name = f"{place.workdir.name}/{stage.name}"
        logging.error("%s diverged: %s is not finite after step %d", name, how.metric, how.step)
        checkpoint.write_json(record_of_divergence(place, stage), how._asdict())


def report(group: Group, without, step: int, window: dict[str, np.ndarray], task: Task) -> None:
    """Tells and writes the mean metrics of a window, [steps, jobs], of all jobs but some; float32 could overflow."""
    text = " ".join(f"{name} {values[:, : len(group.jobs)].mean(dtype=float):.4f}" for name, values in window.items())
    task.tell(f"step {step}/{group.steps} {text}")
    for i, job in enumerate(group.jobs):
        if i not in without:
            means = {name: float(v[:, i].mean(dtype=float)) for name, v in window.items()}
            job.place.writer.write_scalars(job.stage, step, means)


def keep(group: Group, diverged: dict, states) -> dict[int, Any]:
    """The last states of jobs by their index, each saved as its own, where they shared a checkpoint."""
    last = {i: at(states, i) for i in range(len(group.jobs)) if i not in diverged}
    if len(group.jobs) > 1:
        for i, state in last.items():
            place = group.jobs[i].place
            own = place.checkpoints(group.jobs[i].stage)
            if not checkpoint.has(own, group.steps):
                with checkpoint.open_manager(own) as manager:
                    checkpoint.save(manager, group.steps, state, place.record(own))
        checkpoint.remove(group.directory)
    return last


def diverged_before(place: Place, stage: Stage) -> Diverged | None:
    """How a stage diverged, if an earlier start of this run saw it. Errors: BadInput where the record is damaged."""
    path = record_of_divergence(place, stage)

    def read() -> Diverged | None:
        if not path.exists():
            return None
        with checkpoint.record_of_run(path):
            return Diverged(**checkpoint.read_json(path))

    how = hosts.agreed(read)
    return how and Diverged(*how)


def record_of_divergence(place: Place, stage: Stage) -> Path:
    """The file that says that a stage diverged."""
    directory = place.checkpoints(stage)
    return directory.with_name(f"{directory.name}.diverged.json")


def newest(directory: Path, target):
    """The newest state in a directory, as a tree like `target`. Errors: BadInput where there is none."""
    return checkpoint.read(directory, sharding.replicate(target))
