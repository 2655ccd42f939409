"""Bad input: one `error:` line that names the place and the remedy, the contract's exit code, nothing written over."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ROOT, call, ended, error_of, start

from pneumojax import main, runtime


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ([], "--config is missing; pass e.g. --config=configs/demo.py"),
        (["--config=configs/demo.py", "--config.trials=(0, 0)", "--config.seed", "3"], "config.trials=(0, 0): give "),
        (["--confg.seed=1", "--config=configs/demo.py"], "--confg.seed=1 is not a flag; fields are set by "),
        (["--config=configs/demo.py", "more"], "unknown argument 'more'; fields are set by --config.a.b=value"),
    ],
)
def test_a_wrong_command_line(tmp_path, flags, line):
    """What a config can have wrong is in test_config.py."""
    assert error_of(call(main.main, *flags, f"--workdir={tmp_path / 'run'}"), 2)[0].startswith(line)
    assert not (tmp_path / "run").exists()


def test_the_command_itself_ends_with_2(tmp_path):
    [line] = error_of(ended(start(["--config=configs/demo.py", "--config.seed=x"], tmp_path / "run")), 2)
    assert line.startswith("config.seed='x': give a whole number")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "flags", [["--config=stopped.py"], ["--config=configs/demo.py", "--config.arms=('stopped.arm',)"]]
)
def test_a_signal_while_a_file_of_the_user_runs_is_no_error_of_it(tmp_path, monkeypatch, flags):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("stopped.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\n")
    code, said = call(main.main, *flags, "--workdir=run")
    assert (code, "error:" in said) == (143, False), said


def test_a_damaged_folder_lists_its_files(tmp_path, xray_folder):
    os.truncate(xray_folder / "train/NORMAL/IM-0001-0001.jpeg", 300)
    os.truncate(xray_folder / "train/NORMAL/IM-0002-0001.jpeg", 0)
    flags = ["--config=configs/resnet18_cpu.py", f"--config.data.dir={xray_folder}", f"--config.data.cache={tmp_path}"]
    done = call(main.main, *flags, "--config.model.image_size=32", f"--workdir={tmp_path / 'run'}")
    line, *listed = error_of(done, 2)
    assert "2 of 50 images" in line
    assert [text.split(":")[0] for text in listed] == [
        "train/NORMAL/IM-0001-0001.jpeg",
        "train/NORMAL/IM-0002-0001.jpeg",
    ]
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_workdir_that_cannot_be_written(tmp_path, tiny_flags):
    (tmp_path / "file").write_text("in the way")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/here/below")):
        assert "another --workdir" in error_of(call(main.main, *tiny_flags, f"--workdir={workdir}"), 4)[0]
    assert (tmp_path / "file").read_text() == "in the way"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes; root alone can make one."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system is not permitted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_ends_with_4(small_disk, tiny_flags):
    [line] = error_of(ended(start(tiny_flags, small_disk / "run")), 4)
    assert "No space left on device" in line


def test_results_without_config_are_not_written_over(tmp_path, tiny_flags):
    (tmp_path / "results.json").write_text("somebody's")
    [line] = error_of(call(main.main, *tiny_flags, f"--workdir={tmp_path}"), 2)
    assert "holds results but no config.json" in line
    assert (tmp_path / "results.json").read_text() == "somebody's"


def test_core_imports_neither_tensorflow_nor_torch():
    """Though torch is installed here, and tensorboardX would import it; nor at once what takes a second."""
    later = {"torch", "tensorflow", "matplotlib", "pandas", "scipy.optimize", "scipy.stats", "sklearn"}
    program = f"import sys, pneumojax.main; print(sorted({later} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_flags_of_the_compiler_are_set_once_and_those_of_the_user_last(monkeypatch):
    """Programs and GANs at rest are found by them: a process that a run starts has those that the run has."""
    monkeypatch.setattr(runtime, "has_accelerator", lambda: True)
    monkeypatch.setenv("XLA_FLAGS", "--xla_own=1")
    for _ in range(2):
        runtime.configure()
        assert os.environ["XLA_FLAGS"] == f"{runtime.GPU_FLAGS} --xla_own=1"
