"""The one way to train: rows, resuming, divergence, signals, jobs in turn and together."""

import json
import os
import signal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from pneumojax import loop, metrics
from pneumojax.data.table import Table
from pneumojax.errors import BadInput
from pneumojax.loop import Diverged, Job, Place
from pneumojax.metrics import Writer
from pneumojax.progress import Task
from pneumojax.stage import Stage
from pneumojax.timings import Timings

STEPS = 12
TABLE = Table(jnp.arange(20.0).reshape(20, 1), np.arange(20, dtype=np.int32))


class Recipe(NamedTuple):
    config: FrozenConfigDict = FrozenConfigDict({"log_every": 3, "save_every": 6})


def decay(state, batch, key, constants, recipe):
    """A toy that depends on its rows, labels, key and fields."""
    x = state["x"] * 0.9 + batch.fields["rate"] * (batch.examples.mean() + batch.labels[0]) + constants
    return {"x": x + 0.01 * jax.random.normal(key)}, {"loss": (x * batch.fields.get("scale", 1.0)).mean()}


def job(trial: int = 0, place=None, **fields) -> Job:
    rates = {"rate": np.ones(STEPS, np.float32)} | {k: np.asarray(v, np.float32) for k, v in fields.items()}
    rows = loop.epochs(np.arange(20), 4, STEPS, trial)
    stage = Stage(trial, "clean", arm="toy")
    return Job(stage, lambda: {"x": jnp.ones(3)}, rows, jax.random.key(trial), place, rates)


def run(workdir, jobs=None, **options) -> dict[int, object]:
    """Trial → state or how it diverged."""
    workdir.mkdir(exist_ok=True)
    place = Place(workdir, Writer(workdir, {}), Timings(workdir / ".timings.json"))
    try:
        own = [one._replace(place=place) for one in jobs or [job()]]
        trained = loop.train(decay, own, TABLE, jnp.float32(0.5), Recipe(), **options)
        return {job.stage.trial: s if isinstance(s, Diverged) else np.asarray(s["x"]) for job, s in trained}
    finally:
        place.writer.close()


@pytest.fixture
def at_step(monkeypatch):
    """Calls a function before the dispatch that has a step in it."""

    def call(step, function):
        advance = loop.advance

        def wrapped(states, keys, inputs, *rest):
            if step in np.asarray(inputs["number"]):
                function()
            return advance(states, keys, inputs, *rest)

        monkeypatch.setattr(loop, "advance", wrapped)
        return lambda: monkeypatch.setattr(loop, "advance", advance)

    return call


def fail():
    raise RuntimeError("the machine is gone")


@pytest.mark.parametrize(("count", "batch_size"), [(10, 3), (12, 4), (5, 5), (7, 1)])
def test_each_epoch_is_a_shuffle_of_the_pool(count, batch_size):
    pool = np.arange(100, 100 + count)
    per_epoch = count // batch_size
    rows = loop.epochs(pool, batch_size, 3 * per_epoch, 0)
    assert rows.shape == (3 * per_epoch, batch_size)
    assert rows.dtype == np.int32
    epochs = rows.reshape(3, -1)
    for epoch in epochs:
        assert len(set(epoch.tolist())) == per_epoch * batch_size
        assert set(epoch.tolist()) <= set(pool.tolist())
    if count > 5:
        assert not np.array_equal(epochs[0], epochs[1])
    np.testing.assert_array_equal(loop.epochs(pool, batch_size, 2, 0), rows[:2])  # fewer steps are the first ones
    assert not np.array_equal(loop.epochs(pool, batch_size, 3 * per_epoch, 1), rows)


def test_scan_is_its_steps_one_by_one():
    def one(state, step):
        return state * 1.5 + step, {"loss": state}

    together, found = loop.scan(one, jnp.float32(1), jnp.arange(4))
    state, singly = jnp.float32(1), []
    for step in range(4):
        state, piece = loop.scan(one, state, jnp.array([step]))
        singly.append(piece["loss"])
    assert state == together
    np.testing.assert_array_equal(jnp.concatenate(singly), found["loss"])


def test_a_dispatch_ends_where_metrics_are_written(monkeypatch):
    assert loop.dispatches(0, 3, 2) == [(0, 1), (1, 2), (2, 3)]
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert loop.dispatches(0, 10, 4) == [(0, 4), (4, 8), (8, 10)]
    assert loop.dispatches(3, 10, 4) == [(3, 4), (4, 8), (8, 10)]


def test_a_job_is_its_steps(tmp_path):
    """What the loop hands to a step: the rows of the table, their labels, a key of the job and the step's number."""
    state, own = {"x": jnp.ones(3)}, job()
    for number in range(STEPS):
        rows = own.rows[number]
        batch = loop.Batch(TABLE.examples[rows], jnp.asarray(TABLE.labels[rows]), {"rate": jnp.float32(1)})
        state, _ = decay(state, batch, jax.random.fold_in(own.key, number), jnp.float32(0.5), None)
    np.testing.assert_allclose(run(tmp_path)[0], state["x"], rtol=1e-5)


@pytest.mark.parametrize("together", [False, True])
def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, at_step, together):
    jobs = [job(0), job(1)]
    whole = run(tmp_path / "whole", jobs, together=together)
    mend = at_step(9, fail)
    with pytest.raises(RuntimeError):
        run(tmp_path / "broken", jobs, together=together)
    mend()
    seen = []
    at_step(6, lambda: seen.append(6))
    at_step(5, lambda: seen.append(5))
    again = run(tmp_path / "broken", jobs, together=together)
    assert seen.count(5) == (0 if together else 1)  # the first went on from step 6, the second began
    assert seen.count(6) == (1 if together else 2)
    for trial in (0, 1):
        np.testing.assert_array_equal(whole[trial], again[trial])
    for name in ("metrics.jsonl",):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_is_whole_is_not_run_again(tmp_path, at_step):
    jobs = [job(0), job(1)]
    whole = run(tmp_path, jobs, together=True)
    at_step(0, fail)
    again = run(tmp_path, jobs, together=True)
    np.testing.assert_array_equal(whole[1], again[1])
    assert not list((tmp_path / "checkpoints" / "jobs").iterdir())  # what they shared is gone
    assert run(tmp_path, [j._replace(done=True) for j in jobs]) == {}


def test_together_and_in_turn_are_the_same(tmp_path):
    jobs = [job(t) for t in range(3)] + [job(3)._replace(rows=job(3).rows[:6], fields={"rate": np.ones(6, np.float32)})]
    turn, together = run(tmp_path / "turn", jobs), run(tmp_path / "together", jobs, together=True)
    for trial in range(4):
        np.testing.assert_allclose(turn[trial], together[trial], rtol=1e-6)
    assert not np.array_equal(turn[0], turn[1])
    one, other = ((tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("turn", "together"))
    assert [json.loads(line).keys() for line in one] == [json.loads(line).keys() for line in other]
    assert [json.loads(line)["step"] for line in one] == [3, 6, 9, 12] * 3 + [3, 6]


@pytest.mark.parametrize("together", [False, True])
def test_a_job_that_diverges_fails_alone(tmp_path, together):
    """At its step and by its loss, with its last good state kept; also when the run is begun again."""
    bad = np.ones(STEPS)
    bad[7] = np.nan
    jobs = [job(0), job(1, scale=bad), job(2)]
    jobs = [j._replace(fields={"scale": np.ones(STEPS, np.float32)} | j.fields) for j in jobs]
    for _ in range(2):
        found = run(tmp_path, jobs, together=together)
        assert found[1] == Diverged(8, "loss", "checkpoints/trial1/clean/toy/6")
        for trial in (0, 2):
            np.testing.assert_allclose(found[trial], run(tmp_path / f"alone{trial}", [job(trial)])[trial], rtol=1e-6)
    assert [p.name for p in (tmp_path / "checkpoints/trial1/clean/toy").iterdir()] == ["6"]
    steps = [row["step"] for row in metrics.read(tmp_path) if row["trial"] == 1]
    assert steps == [3, 6]


def test_a_state_that_is_not_finite_after_the_last_step_is_seen(tmp_path):
    """Its losses were all finite: they are of the state before the step."""
    last = np.ones(STEPS)
    last[-1] = np.inf
    place = Place(tmp_path, Writer(tmp_path, {}), Timings(tmp_path / ".timings.json"))
    first = job(0, place, rate=last, scale=[1.0] * (STEPS - 1) + [0.0])

    def blind(state, batch, key, constants, recipe):
        state, found = decay(state, batch, key, constants, recipe)
        return state, {"loss": jnp.nan_to_num(found["loss"], posinf=0.0)}

    [(_, found)] = loop.train(blind, [first], TABLE, jnp.float32(0.5), Recipe())
    assert found == Diverged(12, "state", "checkpoints/trial0/clean/toy/6")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_state_after_the_step_that_runs(tmp_path, at_step, number):
    """Also between two lines of metrics: what was gathered for the next one is saved as well."""
    mend = at_step(4, lambda: os.kill(os.getpid(), number))
    with pytest.raises(SystemExit) as caught:
        run(tmp_path / "run")
    mend()
    assert caught.value.code == 128 + number
    assert [p.name for p in (tmp_path / "run/checkpoints/trial0/clean/toy").iterdir()] == ["5"]
    np.testing.assert_array_equal(run(tmp_path / "run")[0], run(tmp_path / "undisturbed")[0])
    one, other = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("run", "undisturbed"))
    assert one == other


def test_a_signal_while_pictures_are_made_saves_the_step_that_follows(tmp_path):
    """At step 3, where metrics are written, nothing is saved yet."""

    def after(stage, step, state):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit):
        run(tmp_path / "run", after=after)
    assert [p.name for p in (tmp_path / "run/checkpoints/trial0/clean/toy").iterdir()] == ["4"]
    np.testing.assert_array_equal(run(tmp_path / "run")[0], run(tmp_path / "undisturbed")[0])


def test_pictures_are_made_where_metrics_are_written(tmp_path):
    seen = []
    run(tmp_path, after=lambda stage, step, state: seen.append((stage.trial, step, state["x"].shape)))
    assert seen == [(0, step, (3,)) for step in (3, 6, 9, 12)]


def test_the_mean_of_large_losses_is_finite(place):
    window = {"loss": np.full((2, 1), 3e38, np.float32)}
    loop.report(loop.groups([job(0, place)], together=False)[0], set(), 2, window, Task("toy"))
    assert metrics.read(place.workdir)[0]["loss"] == float(np.float32(3e38))


def test_half_a_line_of_metrics_is_dropped_and_tensorboard_follows(tmp_path):
    lines = [{"step": 2, "trial": 0, "protocol": "clean", "arm": "toy", "loss": 1.0}, {"step": 4}]
    (tmp_path / "metrics.jsonl").write_text(f"{json.dumps(lines[0])}\n{json.dumps(lines[1])[:-4]}")
    (tmp_path / "events.out.tfevents.1.old").write_bytes(b"what a kill left")
    writer = Writer(tmp_path, {})
    writer.write_scalars(Stage(0, "clean", arm="toy"), 2, {"loss": 1.0})
    writer.close()
    assert metrics.read(tmp_path) == lines[:1]
    [events] = tmp_path.glob("events.out.tfevents.*")
    assert b"trial0/clean/toy/loss" in events.read_bytes()


def test_times_of_several_starts_add_up(tmp_path):
    path = tmp_path / ".timings.json"
    path.write_text('{"gan": 100.0}')
    timings = Timings(path)
    with timings.of("classifier"), timings.of("features"):
        pass
    with timings.of("gan"):
        timings.flush()
    assert 100.0 <= json.loads(path.read_text())["gan"] < 101
    assert json.loads(path.read_text()).keys() == {"gan", "classifier", "features"}


@pytest.mark.parametrize("name", ["step", "trial", "protocol", "arm", "gan", "grid"])
def test_a_metric_that_is_called_as_a_key_of_its_line_is_refused(name, place):
    with pytest.raises(BadInput, match=f"trial0/clean/gan_normal: a metric is called '{name}'"):
        place.writer.write_scalars(Stage(0, "clean", gan="normal"), 3, {"d_loss": 1.0, name: 2.0})
    assert metrics.read(place.workdir) == []
