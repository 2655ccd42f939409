"""What decides bits besides config and data: pinned, or recorded and said."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import runs
from absl import logging

from pneumojax import environment
from pneumojax.errors import BadInput


@pytest.fixture
def warnings(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda text, *values: said.append(text % values))
    return said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("jax_enable_x64", True),
        pytest.param("jax_default_prng_impl", "rbg", marks=[pytest.mark.slow, pytest.mark.long]),
        pytest.param("jax_threefry_partitionable", False, marks=[pytest.mark.slow, pytest.mark.long]),
    ],
)
def test_a_setting_that_changes_numbers_is_set_aside_and_said(name, value, single, tiny_flags, tmp_path, warnings):
    before = getattr(jax.config, name)
    jax.config.update(name, value)
    try:
        flags = [*tiny_flags, "--config.trials=(1,)", f"--config.gan.cache={tmp_path / 'cache'}"]
        done = runs.finish(flags, tmp_path / "run")
        assert getattr(jax.config, name) == value  # the caller's own
    finally:
        jax.config.update(name, before)
    assert f"{name.upper()}={value} is set aside: results are those of {before}" in warnings
    assert runs.bits(done) == runs.bits(single(1))


def test_variables_that_decide_are_recorded_and_others_are_not(monkeypatch):
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "tensorfloat32")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/somewhere")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    variables = environment.settings()["variables"]
    assert variables["JAX_DEFAULT_MATMUL_PRECISION"] == "tensorfloat32"
    assert not {"JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_X64"} & set(variables)
    assert "XLA_FLAGS" in variables


def test_the_commit_is_that_of_this_checkout():
    git = ["git", "-C", str(runs.ROOT), "rev-parse", "HEAD"]
    head = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    assert environment.code()["commit"].rstrip("+") == head


def test_a_package_within_the_checkout_of_something_else_has_no_commit(tmp_path):
    shutil.copytree(runs.ROOT / "pneumojax", tmp_path / "site" / "pneumojax")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    script = "from pneumojax import environment; import json; print(json.dumps(environment.code()))"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tmp_path / "site", env={**os.environ, "PYTHONPATH": "."}, capture_output=True)
    found = json.loads(done.stdout)
    assert found["commit"] is None
    assert found["digest"] == environment.code()["digest"]


def of_run(workdir) -> dict:
    """What a run says of its surroundings, less the memory that it took."""
    known = runs.load(workdir)["environment"]
    assert known.pop("peak_memory_gb")["host"] > 0
    return known


def test_a_run_that_goes_on_under_other_code_or_settings_says_so(tiny_flags, tmp_path, warnings, monkeypatch):
    flags = [*tiny_flags, "--config.trials=(1,)", "--config.protocols=('clean',)", "--config.arms=('without_gan',)"]
    done = runs.finish(flags, tmp_path / "run")
    first = of_run(done)
    assert first["code"] == environment.code()
    assert "also" not in first

    (done / "results.json").unlink()
    runs.finish(flags, done)
    assert not [line for line in warnings if "other code" in line]
    assert of_run(done) == first

    (done / "results.json").unlink()
    monkeypatch.setenv("XLA_FLAGS", "--xla_of_another_start=1")
    monkeypatch.setattr(environment, "code", lambda modules: {**first["code"], "digest": "another"})
    runs.finish(flags, done)
    (said,) = [line for line in warnings if "other code or settings" in line]
    assert f"code.digest: {first['code']['digest']} then, another now" in said
    assert "variables.XLA_FLAGS" in said
    second = of_run(done)
    assert second["code"]["digest"] == "another"
    assert second["also"] == [first]
    assert "made under other code or settings" in (done / "report.html").read_text()


def test_the_code_of_an_arm_from_elsewhere_counts(tmp_path):
    arm = tmp_path / "mylab_arms.py"
    arm.write_text("one = 1\n")
    before = environment.code((str(arm),))
    arm.write_text("one = 2\n")
    assert environment.code((str(arm),))["digest"] != before["digest"]


def test_devices_that_are_not_there_are_an_error_with_the_extra(tmp_path, monkeypatch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'tpu'")

    monkeypatch.setattr(jax, "devices", devices)
    for asked, extra in {"cuda": "[cuda13]", "tpu,cpu": "[tpu]"}.items():
        monkeypatch.setenv("JAX_PLATFORMS", asked)
        with pytest.raises(BadInput, match="there are none of these devices") as error:
            environment.check_devices()
        assert f"JAX_PLATFORMS={asked!r}" in str(error.value)
        assert extra in str(error.value)


@pytest.mark.parametrize("platform", ["cuda", "tpu", "nonsense"])
def test_the_command_says_so_in_one_line_and_makes_nothing(platform, tmp_path):
    process = runs.start(["--config=configs/demo.py"], tmp_path / "run", JAX_PLATFORMS=platform)
    message, *_ = runs.error_of(runs.ended(process), 2)
    assert f"JAX_PLATFORMS={platform!r}" in message
    assert not (tmp_path / "run").exists()


def test_environments_join_and_part_again():
    one, two = {"code": {"digest": "a"}}, {"code": {"digest": "b"}}
    assert environment.joined([one, two, one]) == {**one, "also": [two]}
    assert environment.parted({**one, "also": [two]}) == [two, one]


@pytest.mark.parametrize(
    ("name", "value"),
    [("JAX_DEFAULT_MATMUL_PRECISION", "nonsense"), ("JAX_DEFAULT_DEVICE", "bogus"), ("JAX_PLATFORM_NAME", "gpu")],
)
def test_a_variable_that_jax_refuses_is_one_line(name, value, tmp_path):
    process = runs.start(["--config=configs/demo.py"], tmp_path / "run", JAX_PLATFORMS="", **{name: value})
    message, *_ = runs.error_of(runs.ended(process), 2)
    assert message.startswith(f"{name}={value!r}: ")
    assert not (tmp_path / "run").exists()


def test_a_pinned_variable_that_jax_refuses_is_set_aside_and_said(tmp_path):
    wrong = {"JAX_ENABLE_X64": "maybe", "JAX_DEFAULT_PRNG_IMPL": "bogus", "JAX_TRANSFER_GUARD": "disallow"}
    (tmp_path / "a file").touch()
    process = runs.start(["--config=configs/demo.py"], tmp_path / "a file/run", **wrong, JAX_DISABLE_JIT="false")
    code, text = runs.ended(process)
    assert code in (2, 4)
    assert all(f"{name}={value} is set aside: results are those of" in text for name, value in wrong.items())
    assert "JAX_DISABLE_JIT" not in text
    assert "Traceback" not in text


def test_what_only_breaks_is_set_aside_within_a_study_and_set_back(warnings):
    for name, value in (("jax_numpy_rank_promotion", "raise"), ("jax_transfer_guard", "disallow")):
        before = getattr(jax.config, name)
        jax.config.update(name, value)
        try:
            with environment.pinned():
                assert (jax.numpy.zeros((2, 3)) + np.arange(3)).shape == (2, 3)
            assert getattr(jax.config, name) == value
        finally:
            jax.config.update(name, before)
        assert f"{name.upper()}={value} is set aside: results are those of {environment.PINNED[name]}" in warnings
