"""A wheel, built and installed into a fresh environment without extras, runs the demo from an empty folder."""

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest
from runs import ROOT, load

pytestmark = [pytest.mark.slow, pytest.mark.long]


def output_of(*command, cwd: Path) -> str:
    """What a command prints; it knows nothing of this checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The Python of an environment that has the wheel and what it depends on, from the registry, and no more."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in ("pneumojax", "configs"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    venv.create(folder / "environment", with_pip=True)
    python = folder / "environment/bin/python"
    output_of(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, folder / "source", cwd=folder)
    [wheel] = folder.glob("*.whl")
    output_of(python, "-m", "pip", "install", "--quiet", "--no-compile", wheel, cwd=folder)
    shutil.rmtree(folder / "source")
    return python


def test_the_demo_runs_from_an_empty_folder(installed, tiny_flags, tmp_path):
    flags = [*tiny_flags, "--config.trials=(0,)"]
    output_of(installed, "-m", "pneumojax.main", *flags, cwd=tmp_path)
    workdir = tmp_path / "runs/demo"
    assert load(workdir)["protocols"]["clean"]["with_gan"]["unseen"]["mean"]["auc"] >= 0
    assert json.loads((workdir / "config.json").read_text())["model"]["width"] == 4
    assert {"report.html", "results.csv", "predictions.csv"} <= {path.name for path in workdir.iterdir()}
    assert "</html>" in (workdir / "report.html").read_text()
    told = output_of(installed, "-m", "pneumojax.report", f"--workdir={workdir}", cwd=tmp_path)
    assert told == f"{workdir / 'report.html'}\n"


def test_own_configs_find_those_of_the_wheel(installed, tmp_path):
    """The README's config, `from configs import demo`, where no other configs/ is."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/mine.py").write_text(
        "from configs import demo\n\n\ndef get_config():\n    c = demo.get_config()\n    c.seed = 5\n    return c\n"
    )
    script = "from pneumojax import config; print(config.load('configs/mine.py').seed, config.__file__)"
    seed, file = output_of(installed, "-c", script, cwd=tmp_path).split()
    assert seed == "5"
    assert Path(file).is_relative_to(installed.parents[1])


def test_no_extra_came_with_it(installed, tmp_path):
    """And it calls itself by the version that it was built as."""
    listed = {
        one["name"].lower()
        for one in json.loads(output_of(installed, "-m", "pip", "list", "--format=json", cwd=tmp_path))
    }
    assert not listed & {
        "torch",
        "torchvision",
        "pydicom",
        "grain",
        "pandas",
        "wandb",
        "tensorflow",
        "tensorboard",
        "pytest",
    }
    version = output_of(installed, "-c", "import pneumojax; print(pneumojax.__version__)", cwd=tmp_path).strip()
    metadata = "import importlib.metadata as m; print(m.version('pneumojax'))"
    assert output_of(installed, "-c", metadata, cwd=tmp_path).strip() == version
