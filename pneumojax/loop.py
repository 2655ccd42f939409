"""The loop around all training: dispatches of many steps, losses fetched after each, states saved and found again."""

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from pneumojax import checkpoint, sharding
from pneumojax.errors import Diverged
from pneumojax.metrics import Writer

Advance = Callable[[Any, np.ndarray], tuple[Any, dict[str, jax.Array]]]

# For programs that run once, as initialisation does: a tenth of the compilation, in which they spend all their time.
QUICK_COMPILATION = {"xla_backend_optimization_level": 0}


class Pool(NamedTuple):
    """Images to train on, in an array whose shape does not depend on how many they are: programs compile once."""

    rows: jax.Array  # int32 [capacity], indices of images; what follows the first `count` is not read
    count: jax.Array  # int32


def make_pool(rows: np.ndarray, capacity: int) -> Pool:
    """Puts indices of images [n] on the device, n up to capacity."""
    padded = np.zeros(capacity, np.int32)
    padded[: len(rows)] = rows
    return sharding.replicate(Pool(jnp.asarray(padded), jnp.int32(len(rows))))


def batch_of(pool: Pool, key, step, batch_size: int):
    """Inside jit: the images of one step, int32 [batch_size].

    Each epoch goes through the pool in a new order and drops the last, partial batch. The order is a function of key
    and step alone, so a step can be replayed without those before it.
    """
    per_epoch = pool.count // batch_size
    bits = jax.random.bits(jax.random.fold_in(key, step // per_epoch), pool.rows.shape)
    order = jnp.argsort(jnp.where(jnp.arange(len(bits)) < pool.count, bits, jnp.uint32(2**32 - 1)))
    return pool.rows[jax.lax.dynamic_slice(order, (step % per_epoch * batch_size,), (batch_size,))]


def steps_of_dispatch(per_dispatch: int) -> int:
    """Steps in one call of a compiled program: one on a CPU, where XLA's loops slow convolutions down fivefold."""
    return 1 if jax.default_backend() == "cpu" else per_dispatch


def scan(one, state, steps):
    """`lax.scan` of `one(state, step)` over a tree of arrays `steps` [k, …]; a single step needs no loop."""
    if len(jax.tree.leaves(steps)[0]) == 1:
        state, metrics = one(state, jax.tree.map(lambda leaf: leaf[0], steps))
        return state, {name: value[None] for name, value in metrics.items()}
    return jax.lax.scan(one, state, steps)


def train(
    advance: Advance,
    state,
    steps: int,
    *,
    per_dispatch: int,
    save_every: int,
    directory: Path,
    stages: tuple[str, ...],
    writer: Writer,
    after: Callable[[int, Any], None] = lambda step, state: None,
):
    """Runs a stage's steps from its newest checkpoint, or from `state` where there is none, to the last one.

    Args:
      advance: (state, numbers of the steps, int32 [k]) → (state, {name: [k] or [k, stages]}); compiled.
      steps: how many there are.
      per_dispatch: steps whose mean losses are logged, run in one dispatch where that is faster.
      save_every: steps between checkpoints; the last step is always saved.
      directory: the checkpoints.
      stages: what is trained, several if they are trained as one; prefixes of the metrics' tags.
      writer: where the metrics go.
      after: called with (step, state) after each dispatch, for pictures.

    Returns: the state after the last step.

    Errors: Diverged where a loss is not finite; the last good checkpoint stays. SIGTERM and SIGINT save the state
    and end the process by SystemExit(128 + signal).
    """
    size = steps_of_dispatch(per_dispatch)
    with checkpoint.open_manager(directory) as manager, deferred_signals() as received:
        step, state = checkpoint.restore(manager, state)
        while step < steps:
            started = time.monotonic()
            until = min(step + per_dispatch, steps)
            pieces = []
            for start in range(step, until, size):
                state, piece = advance(state, np.arange(start, min(start + size, until), dtype=np.int32))
                pieces.append(piece)
            pieces = jax.device_get(pieces)
            metrics = {
                name: np.concatenate([piece[name] for piece in pieces]).reshape(until - step, len(stages))
                for name in pieces[0]
            }
            finite = np.all([np.isfinite(values) for values in metrics.values()], 0)
            if not finite.all():
                first, which = np.argwhere(~finite)[0]
                raise Diverged(
                    f"{stages[which]}: the loss is not finite at step {step + first + 1}; lower the "
                    f"learning rate and use a new --workdir. Last good checkpoint: "
                    + (f"{directory}/{manager.latest_step()}" if manager.latest_step() else "none")
                )
            rate = (until - step) / (time.monotonic() - started)
            step = until
            text = " ".join(f"{name} {values.mean():.4f}" for name, values in metrics.items())
            others = f" and {len(stages) - 1} more" if len(stages) > 1 else ""
            logging.info("%s%s step %d/%d %s (%.3g steps/s)", stages[0], others, step, steps, text, rate)
            means = {
                f"{stage}/{name}": float(values[:, index].mean())
                for index, stage in enumerate(stages)
                for name, values in metrics.items()
            }
            writer.write_scalars(step, means)
            after(step, state)
            if step % save_every < per_dispatch or step == steps or received:
                writer.flush()
                checkpoint.save(manager, step, state)
            if received:
                raise SystemExit(128 + received[0])
    return state


@contextlib.contextmanager
def deferred_signals():
    """Collects SIGTERM and SIGINT, instead of acting on them, while it is open."""
    received: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        raise SystemExit(128 + received[0])
