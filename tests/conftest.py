"""Shared parts of the tests: a shrunk demo, X-ray-like JPEGs on disk, the command as its users run it."""

import os
import subprocess
import sys
from pathlib import Path

from pneumojax import runtime

runtime.configure()  # as main.py does, before jax is imported

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from PIL import Image  # noqa: E402

ROOT = Path(__file__).parents[1]
TINY = {
    "data.phantom_images": (50, 80),
    "data.subset": (12, 20),
    "enlarge": 2.0,
    "gan.filters": 4,
    "gan.batch_size": 6,
    "gan.steps": 6,
    "gan.log_every": 2,
    "gan.sample_every": 4,
    "gan.save_every": 2,
    "model.image_size": 48,
    "model.width": 4,
    "classifier.batch_size": 6,
    "classifier.steps": 6,
    "classifier.log_every": 2,
    "classifier.save_every": 4,
    "classifier.predict_batch_size": 16,
    "evaluate.resamples": 50,
}


@pytest.fixture(scope="session")
def tiny_flags() -> list[str]:
    """The shipped demo, smaller still, as flags of the command."""
    return ["--config=configs/demo.py", *(f"--config.{field}={value}" for field, value in TINY.items())]


@pytest.fixture
def command():
    """Runs `python -m pneumojax.main` in the repository and returns the finished process."""

    def run(*flags: str, timeout: float = 300) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "pneumojax.main", *flags],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@pytest.fixture
def xray_folder(tmp_path) -> Path:
    """A data directory as the published one: JPEGs of several sizes, gray and RGB, patients with several images."""
    root = tmp_path / "chest_xray"
    rng = np.random.default_rng(0)
    files = [f"train/NORMAL/IM-{i:04d}-000{k}.jpeg" for i in range(8) for k in (1, 2)]
    files += [f"test/NORMAL/NORMAL2-IM-{i:04d}-0001.jpeg" for i in range(8)]
    files += [f"train/PNEUMONIA/person{i}_bacteria_{i + k}.jpeg" for i in range(8) for k in (1, 2)]
    files += [f"val/PNEUMONIA/person{i}_virus_{i}.jpeg" for i in range(4, 14)]
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = (int(rng.integers(40, 90)), int(rng.integers(40, 90)))
        gray = Image.fromarray(rng.integers(0, 255, shape, np.uint8))
        (gray if rng.random() < 0.5 else gray.convert("RGB")).save(path, quality=90)
    return root


@pytest.fixture(scope="session")
def torchvision_models():
    """torchvision.models."""
    from pneumojax import weights

    return weights.import_torchvision().models
