"""Files of a run that goes on or is read again, damaged: one line that names the file and the remedy."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from runs import call, error_of

from pneumojax import checkpoint, environment, loop, main, metrics, predict
from pneumojax import workdir as workdirs
from pneumojax.errors import BadInput
from pneumojax.jobs import Place
from pneumojax.stage import Stage
from pneumojax.timings import Timings

READERS = {
    "splits.json": lambda workdir: workdirs.record_plan(workdir, {}, [], "", {}),
    "environment.json": lambda workdir: environment.record(workdir / "environment.json"),
    "metrics.jsonl": lambda workdir: metrics.Writer(workdir, {}),
    "checkpoints/trial0/clean/with_gan.diverged.json": lambda workdir: loop.diverged_before(
        Place(workdir, None, None), Stage(0, "clean", arm="with_gan")
    ),
}
LINE = '{"step": 1, "trial": 0, "protocol": "clean", "arm": "a", "loss": 0.5}\n'


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("splits.json", text) for text in ("{", "{}", "[]", '"text"', "\0")),
        *(("environment.json", text) for text in ("{", "[5]", "{}")),
        *(("metrics.jsonl", f"{LINE}{text}\n{LINE}") for text in ("garbage", "{}", "[]", LINE.replace("0.5", '"low"'))),
        *(("checkpoints/trial0/clean/with_gan.diverged.json", text) for text in ("", "[]", '{"step": 5}')),
    ],
)
def test_a_run_does_not_go_on_with_a_damaged_record(tmp_path, name, content):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    with pytest.raises(BadInput) as error:
        READERS[name](tmp_path)
    assert str(error.value).startswith(f"{path} is damaged (")
    assert str(error.value).endswith("; bring it back or choose another --workdir")
    assert path.read_text() == content


def test_a_run_goes_on_where_its_files_lie_elsewhere_by_now_and_keeps_that(tmp_path):
    """A mount of another name is not another config: the images are known by their digest."""
    config = {"seed": 0, "data": {"dir": "/old", "cache": "/a"}, "gan": {"cache": "/b"}, "model": {"weights": "none"}}
    moved = config | {"data": {"dir": "/new", "cache": "/c"}, "gan": {"cache": ""}}
    assert not workdirs.record_plan(tmp_path, config, [], "pixels", {})
    workdirs.check_config(tmp_path, moved)
    assert workdirs.record_plan(tmp_path, moved, [], "pixels", {})
    assert json.loads((tmp_path / "config.json").read_text()) == moved
    with pytest.raises(BadInput, match="the images are not those that .* began with .*'/new'"):
        workdirs.record_plan(tmp_path, moved, [], "others", {})
    with pytest.raises(BadInput, match="is of another config"):
        workdirs.check_config(tmp_path, moved | {"seed": 1})


def test_the_command_says_so_in_one_line(whole, tiny_flags, tmp_path):
    for name in ("config.json", "splits.json"):
        shutil.copy(whole / name, tmp_path)
    (tmp_path / "splits.json").write_text("{}")
    [line] = error_of(call(main.main, *tiny_flags, f"--workdir={tmp_path}"), 2)
    assert line.startswith(f"{tmp_path}/splits.json is damaged")


def test_a_damaged_line_of_metrics_is_named_by_its_number(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(f"{LINE}garbage\n{LINE}")
    with pytest.raises(BadInput, match="line 2 "):
        metrics.read(tmp_path)


def test_seconds_that_cannot_be_read_are_counted_anew_and_that_is_said(tmp_path, caplog):
    for content in ("{", "[5]", '{"gan": "long"}'):
        (tmp_path / ".timings.json").write_text(content)
        assert Timings(tmp_path / ".timings.json").seconds == {}
        assert f"{tmp_path}/.timings.json is damaged" in caplog.messages[-1]


def test_a_run_that_began_under_what_is_not_known_says_so(tmp_path, caplog):
    path = tmp_path / "environment.json"
    environment.record(path)
    assert not caplog.messages
    path.unlink()
    environment.record(path, begun=True)
    assert "environment.json is not there: under what this run was begun is not known" in caplog.messages[-1]


def test_a_checkpoint_whose_arrays_were_changed_is_damaged(tmp_path):
    state, noise = {"w": jnp.zeros(64), "n": jnp.zeros(3, jnp.int32)}, np.random.default_rng(0).normal(size=64)
    with checkpoint.open_manager(tmp_path / "own") as manager:
        checkpoint.save(manager, 7, {"w": jnp.asarray(noise, jnp.float32), "n": jnp.arange(3)})
    before = checkpoint.read(tmp_path / "own", state)
    changed = {"w": before["w"].at[5].set(1.0), "n": before["n"]}
    assert checkpoint.digest(changed) != checkpoint.digest(before)
    with checkpoint.open_manager(tmp_path / "other") as manager:
        checkpoint.save(manager, 7, changed)
    shutil.rmtree(tmp_path / "own/7/state")  # whole to Orbax: of the same shapes, with other numbers
    shutil.copytree(tmp_path / "other/7/state", tmp_path / "own/7/state")
    with pytest.raises(BadInput, match="own/7 is damaged, its arrays are not those that were saved"):
        checkpoint.read(tmp_path / "own", state)


def test_a_checkpoint_without_a_digest_is_an_older_one(tmp_path):
    with checkpoint.open_manager(tmp_path / "own") as manager:
        checkpoint.save(manager, 7, {"w": jnp.arange(3.0)})
    record = tmp_path / "own/7/record/metadata"
    assert set(json.loads(record.read_text())) == {"digest"}
    record.write_text("{}")
    assert checkpoint.read(tmp_path / "own", {"w": jnp.zeros(3)})["w"].tolist() == [0.0, 1.0, 2.0]


def test_the_checkpoint_of_another_trial_is_not_taken(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    ours, other = (tmp_path / f"run/checkpoints/trial{trial}/clean/with_gan" for trial in (0, 1))
    shutil.rmtree(ours)
    shutil.copytree(other, ours)
    [line] = error_of(call(predict.main, f"--workdir={tmp_path / 'run'}", tmp_path / "run/samples"), 2)
    assert "trial0/clean/with_gan/6 is that of trial1/clean/with_gan" in line
