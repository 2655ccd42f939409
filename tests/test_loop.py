"""The loop around training: batches, resuming, divergence, signals."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pneumojax import loop
from pneumojax.errors import Diverged
from pneumojax.metrics import Writer, read


@pytest.mark.parametrize(("count", "batch_size"), [(10, 3), (12, 4), (5, 5), (7, 1)])
def test_each_epoch_is_a_shuffle_of_the_pool(count, batch_size):
    rows = np.arange(100, 100 + count, dtype=np.int32)
    pool = loop.make_pool(rows, 20)
    batch = jax.jit(loop.batch_of, static_argnums=3)
    per_epoch = count // batch_size
    batches = [np.asarray(batch(pool, jax.random.key(0), step, batch_size)) for step in range(3 * per_epoch)]
    epochs = np.array(batches).reshape(3, -1)
    for epoch in epochs:
        assert len(set(epoch.tolist())) == per_epoch * batch_size
        assert set(epoch.tolist()) <= set(rows.tolist())
    if count > 5:
        assert not np.array_equal(epochs[0], epochs[1])


def test_batches_do_not_depend_on_what_is_beyond_the_pool():
    rows = np.arange(9, dtype=np.int32)
    pool = loop.make_pool(rows, 16)
    filled = pool._replace(rows=pool.rows.at[9:].set(77))
    for step in range(8):
        a, b = (loop.batch_of(p, jax.random.key(1), step, 2) for p in (pool, filled))
        np.testing.assert_array_equal(a, b)


def test_scan_is_its_steps_one_by_one():
    def one(state, step):
        return state * 1.5 + step, {"loss": state}

    together, metrics = loop.scan(one, jnp.float32(1), jnp.arange(4))
    state, singly = jnp.float32(1), []
    for step in range(4):
        state, piece = loop.scan(one, state, jnp.array([step]))
        singly.append(piece["loss"])
    assert state == together
    np.testing.assert_array_equal(jnp.concatenate(singly), metrics["loss"])


def decay(state, steps):
    """Twelve steps of a toy that depends on the step's number."""
    x, losses = state["x"], []
    for step in steps:
        x = x * 0.9 + step
        losses.append(x.mean())
    return {"x": x}, {"loss": jnp.stack(losses)}


def run(workdir, advance=decay, steps=12, **kwargs):
    workdir.mkdir(exist_ok=True)
    writer = Writer(workdir)
    try:
        return loop.train(
            advance,
            {"x": jnp.ones(3)},
            steps,
            per_dispatch=2,
            save_every=4,
            directory=workdir / "checkpoints" / "stage",
            stages=("stage",),
            writer=writer,
            **kwargs,
        )["x"]
    finally:
        writer.close()


def failing_at(number):
    def advance(state, steps):
        if number in steps:
            raise RuntimeError("the machine is gone")
        return decay(state, steps)

    return advance


def test_an_interrupted_stage_goes_on_to_the_same_bits(tmp_path):
    whole = run(tmp_path / "whole")
    broken = tmp_path / "broken"
    with pytest.raises(RuntimeError):
        run(broken, failing_at(9))
    seen = []
    again = run(broken, lambda state, steps: (seen.extend(np.asarray(steps)), decay(state, steps))[1])
    assert min(seen) == 8  # the checkpoint after eight steps
    np.testing.assert_array_equal(whole, again)
    assert (broken / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def test_a_stage_that_is_whole_is_not_run_again(tmp_path):
    whole = run(tmp_path)
    np.testing.assert_array_equal(run(tmp_path, failing_at(0)), whole)


def test_half_a_line_of_metrics_is_dropped(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 2, "stage/loss": 1.0}\n{"step": 4, "sta')
    Writer(tmp_path).close()
    assert read(tmp_path) == {"stage/loss": {2: 1.0}}


def test_a_loss_that_is_not_finite_stops_at_its_step_and_keeps_the_last_good_state(tmp_path):
    def advance(state, steps):
        state, metrics = decay(state, steps)
        bad = np.asarray(steps) >= 6
        return {"x": jnp.where(bad.any(), jnp.nan, state["x"])}, {"loss": jnp.where(bad, jnp.nan, metrics["loss"])}

    with pytest.raises(Diverged, match=r"not finite at step 7;.*stage/4$"):
        run(tmp_path, advance)
    assert [path.name for path in (tmp_path / "checkpoints" / "stage").iterdir()] == ["4"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_state_first(tmp_path, number):
    def advance(state, steps):
        if 5 in steps:
            os.kill(os.getpid(), number)
        return decay(state, steps)

    with pytest.raises(SystemExit) as caught:
        run(tmp_path, advance)
    assert caught.value.code == 128 + number
    assert (tmp_path / "checkpoints" / "stage" / "6").is_dir()
    np.testing.assert_array_equal(run(tmp_path), run(tmp_path / "undisturbed"))


def test_pictures_are_made_after_each_dispatch(tmp_path):
    seen = []
    run(tmp_path, after=lambda step, state: seen.append(step))
    assert seen == [2, 4, 6, 8, 10, 12]
