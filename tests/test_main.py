"""Bad input: one `error:` line that names the place and the remedy, the contract's exit code, nothing written over."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def error_of(done: subprocess.CompletedProcess, code: int) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ([], "--config is missing; pass e.g. --config=configs/demo.py"),
        (["--config=configs/demo.py", "--config.trials=(0, 0)", "--config.seed", "3"], "config.trials=(0, 0): give "),
        (["--confg.seed=1", "--config=configs/demo.py"], "--confg.seed=1 is not a flag; fields are set by "),
        (["--config=configs/demo.py", "more"], "unknown argument 'more'; fields are set by --config.a.b=value"),
    ],
)
def test_a_wrong_command_line(command, tmp_path, flags, line):
    """What a config can have wrong is in test_config.py."""
    assert error_of(command(*flags, f"--workdir={tmp_path / 'run'}"), 2).startswith(f"error: {line}")
    assert not (tmp_path / "run").exists()


def test_a_damaged_folder_lists_its_files(command, tmp_path, xray_folder):
    os.truncate(xray_folder / "train/NORMAL/IM-0001-0001.jpeg", 300)
    os.truncate(xray_folder / "train/NORMAL/IM-0002-0001.jpeg", 0)
    flags = ["--config=configs/resnet18_cpu.py", f"--config.data.dir={xray_folder}", f"--config.data.cache={tmp_path}"]
    done = command(*flags, "--config.model.image_size=32", f"--workdir={tmp_path / 'run'}")
    assert "2 of 50 images" in error_of(done, 2)
    listed = [line for line in done.stderr.splitlines() if line.startswith("  ")]
    assert [line.split(":")[0] for line in listed] == [
        "  train/NORMAL/IM-0001-0001.jpeg",
        "  train/NORMAL/IM-0002-0001.jpeg",
    ]
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_diverging_run_ends_with_3_and_keeps_what_it_has(command, tmp_path, tiny_flags):
    done = command(*tiny_flags, "--config.classifier.learning_rate=1e30", f"--workdir={tmp_path / 'run'}")
    assert "trial0/clean/without_gan: the loss is not finite at step" in error_of(done, 3)
    assert (tmp_path / "run/checkpoints/trial0/clean/gan_normal/6").is_dir()


def test_a_workdir_that_cannot_be_written(command, tmp_path, tiny_flags):
    (tmp_path / "file").write_text("in the way")
    for workdir in (tmp_path / "file", tmp_path / "file" / "run", Path("/proc/here/below")):
        assert "another --workdir" in error_of(command(*tiny_flags, f"--workdir={workdir}"), 4)
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


def test_a_full_disk_ends_with_4(command, small_disk, tiny_flags):
    line = error_of(command(*tiny_flags, f"--workdir={small_disk / 'run'}"), 4)
    assert "No space left on device" in line


def test_results_without_config_are_not_written_over(command, tmp_path, tiny_flags):
    (tmp_path / "results.json").write_text("somebody's")
    assert "holds results but no config.json" in error_of(command(*tiny_flags, f"--workdir={tmp_path}"), 2)
    assert (tmp_path / "results.json").read_text() == "somebody's"


def test_core_imports_neither_tensorflow_nor_torch():
    """Though torch is installed here, and tensorboardX would import it."""
    program = "import sys, pneumojax.main; print(sorted({'torch', 'tensorflow'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
