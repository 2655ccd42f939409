"""Bad input: one `error:` line that names the place and the remedy, the contract's exit code, nothing written over."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from configs import default
from pneumojax import config as config_module
from pneumojax.errors import BadInput

ROOT = Path(__file__).parents[1]


def error_of(done: subprocess.CompletedProcess, code: int) -> str:
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert done.returncode == code, done.stderr
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return lines[0]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], ("--config is missing",)),
        (["--config=configs/nowhere.py"], ("configs/nowhere.py",)),
        (["--config=configs/demo.py", "--config.gan.stepz=5"], ("stepz", "configs/default.py")),
        (["--config=configs/demo.py", "--config.gan.steps=many"], ("config.gan.steps", "many")),
        (["--config=configs/demo.py", "--confg.seed=1"], ("confg",)),
        (["--config=configs/demo.py", "--config.protocols=('sloppy',)"], ("config.protocols", "clean, paper")),
        (["--config=configs/demo.py", "--config.gan.name=stylegan9"], ("config.gan.name", "dcgan")),
        (["--config=configs/demo.py", "--config.model.weights=nowhere.pth"], ("config.model.width", "give 64")),
        (
            ["--config=configs/demo.py", "--config.model.width=64", "--config.model.weights=nowhere.pth"],
            ("nowhere.pth is not there", ".safetensors"),
        ),
        (
            ["--config=configs/demo.py", "--config.classifier.mode=head"],
            ("config.classifier.mode", "config.model.weights"),
        ),
        (["--config=configs/resnet18.py"], ("config.data.dir", "--config.data.dir=DIR")),
        (["--config=configs/demo.py", "--config.data.subset=(500,20)"], ("asks for 500 NORMAL", "hold 120")),
        (["--config=configs/demo.py", "--config.gan.batch_size=20"], ("config.gan.batch_size=20", "19 images")),
        (["--config=configs/demo.py", "--config.classifier.batch_size=52"], ("config.classifier.batch_size", "51 im")),
        (["--config=configs/demo.py", "--config.gan.image_size=32"], ("config.gan.image_size=32", "64 pixels")),
        (
            ["--config=configs/demo.py", "--config.model.name=alexnet", "--config.model.image_size=32"],
            ("config.model.image_size=32", "alexnet"),
        ),
    ],
)
def test_bad_flags_and_fields(command, tmp_path, flags, words):
    line = error_of(command(*flags, f"--workdir={tmp_path / 'run'}"), 2)
    assert all(word in line for word in words), line
    # the corrected command line may use the same workdir
    assert not (tmp_path / "run" / "config.json").exists()


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


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("trials", ()),
        ("trials", (0, 0)),
        ("trials", (-1,)),
        ("protocols", ()),
        ("enlarge", 0.5),
        ("data.on_bad", "ignore"),
        ("data.test_fraction", 1.0),
        ("data.subset", (0, 5)),
        ("gan.filters", 0),
        ("gan.steps", -1),
        ("classifier.shift", -2),
        ("evaluate.resamples", 0),
    ],
)
def test_values_that_types_let_through(field, value):
    c = default.get_config()
    config_module.validate(c)
    c.update_from_flattened_dict({field: value})
    with pytest.raises(BadInput, match=f"config.{field}="):
        config_module.validate(c)


def leaves(config: ConfigDict, prefix: str = "") -> list[str]:
    return [
        leaf
        for key, value in config.items()
        for leaf in (leaves(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else [f"{prefix}{key}"])
    ]


def test_no_field_is_dead():
    """Every field of the default config is read as an attribute somewhere outside the validation."""
    read = set()
    for path in (ROOT / "pneumojax").rglob("*.py"):
        if path.name != "config.py":
            tree = ast.parse(path.read_text())
            read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    dead = [field for field in leaves(default.get_config()) if field.split(".")[-1] not in read]
    assert not dead


def test_core_imports_neither_tensorflow_nor_torch():
    """Though torch is installed here, and tensorboardX would import it."""
    program = "import sys, pneumojax.main; print(sorted({'torch', 'tensorflow'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
