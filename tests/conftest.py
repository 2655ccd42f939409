"""Shared parts of the tests: a shrunk demo and what it leaves, X-ray-like JPEGs on disk, programs compiled once."""

import fcntl
import functools
import gc
import os
import shutil
import sys
from pathlib import Path

from pneumojax import runtime

ROOT = Path(__file__).parents[1]
LONGEST = (  # the files that xdist begins with, so that none of them is alone in the end
    *("test_study", "test_slurm", "test_gan_contract", "test_accelerator", "test_hosts", "test_systems"),
    *("test_together", "test_models", "test_gan", "test_gan_evaluate", "test_gan_parts", "test_controls"),
    *("test_gan_cache", "test_saliency", "test_export", "test_stream", "test_environment", "test_sharding"),
)

# Before jax is imported, and for the processes that tests start: all of this session and later ones share programs.
# `pytest --cache-clear` empties it. The bits of results are the same with and without (`test_study.py`).
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache/d/jax"))
runtime.configure()  # as the commands do
gc.set_threshold(50_000, 20, 20)  # tracing makes many objects that stay: by Python's own 700, a seventh of its time

import jax  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import runs  # noqa: E402
from PIL import Image  # noqa: E402

from pneumojax import programs  # noqa: E402

programs.keep()

TINY = {
    "data.phantom_images": (50, 80),
    "data.subset": (12, 20),
    "enlarge": 2.0,
    "gan.filters": 4,
    "gan.batch_size": 6,
    "gan.steps": 6,
    "gan.log_every": 2,
    "gan.sample_every": 4,
    "gan.save_every": 4,
    "model.image_size": 48,
    "model.width": 4,
    "classifier.batch_size": 6,
    "classifier.steps": 6,
    "classifier.log_every": 2,
    "classifier.save_every": 4,
    "classifier.predict_batch_size": 16,
}


def pytest_configure(config):
    config.option.loadscopereorder = False  # xdist would begin with the files of the most tests


def pytest_collection_modifyitems(items):
    """The longest files first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


MAPS = 20_000  # of memory that programs of tests may take


@pytest.fixture(autouse=True, scope="module")
def room_for_programs():
    """Programs of earlier modules are forgotten where they are many, and read again by who wants them.

    Linux allows a process 65,530 maps; a compiled program has three, and XLA ends the process where there is none left.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """Runs a study once for all processes of this call of pytest, of which each gets a copy of its own."""
    own = tmp_path_factory.mktemp("runs")
    shared = shared_by_processes(tmp_path_factory)

    def run(name: str, flags: list[str]) -> Path:
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (shared / name / "results.json").exists():
                runs.finish(flags, shared / name)
        return shutil.copytree(shared / name, own / name)

    return run


def shared_by_processes(tmp_path_factory) -> Path:
    """A folder that all processes of this call of pytest have."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def tiny_flags(tmp_path_factory) -> list[str]:
    """The shipped demo, smaller still, as flags of the command; what its GANs make is shared by all tests."""
    fields = TINY | {"gan.cache": shared_by_processes(tmp_path_factory) / "cache"}
    return ["--config=configs/demo.py", *(f"--config.{field}={value}" for field, value in fields.items())]


@pytest.fixture(scope="session")
def whole(once, tiny_flags) -> Path:
    """A whole run of the shrunk demo: three trials, two protocols, all arms. Nothing may be changed in it."""
    return once("whole", tiny_flags)


@pytest.fixture(scope="session")
def single(once, tiny_flags):
    """Whole runs of one trial of it, by its number. Nothing may be changed in them."""
    return functools.cache(lambda trial: once(f"trial{trial}", [*tiny_flags, f"--config.trials=({trial},)"]))


@pytest.fixture(scope="session")
def probed(once, tiny_flags) -> Path:
    """A whole run of a frozen probe. Nothing may be changed in it."""
    return once("probed", [*tiny_flags, *runs.flags_of(runs.PROBE)])


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


@pytest.fixture
def place(tmp_path):
    """Where training leaves its traces."""
    from pneumojax.jobs import Place
    from pneumojax.metrics import Writer
    from pneumojax.timings import Timings

    made = Place(tmp_path, Writer(tmp_path, {}), Timings(tmp_path / ".timings.json"))
    yield made
    made.writer.close()


@pytest.fixture(autouse=True)
def modules_that_tests_write_are_forgotten(tmp_path_factory):
    """Or another test that writes one of the same name would get the first."""
    yield
    written = str(tmp_path_factory.getbasetemp())
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(written):
            del sys.modules[name]
