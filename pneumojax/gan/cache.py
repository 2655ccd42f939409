"""Trained GANs by content, shared by runs: what depends on nothing else need not be made again.

An entry is a folder whose name is a hash of all that its images depend on: the GAN's code and config, the images that
it sees, its seed, what it is to make, versions and devices. It holds the last checkpoint, the images, losses and grids.
"""

import hashlib
import importlib.metadata
import inspect
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
from absl import logging

from pneumojax import checkpoint, jobs, loop, metrics
from pneumojax.data import pixels
from pneumojax.errors import describe
from pneumojax.jobs import Place
from pneumojax.stage import Stage

NO_PART = ("save_every", "cache")  # fields of config.gan that nothing in an entry depends on
VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy")


def code_of(module: ModuleType) -> dict[str, str]:
    """The source of a module and of all that it imports of its own package, by name."""
    sources, queue = {}, [module]
    while queue:
        one = queue.pop()
        sources[one.__name__] = inspect.getsource(one)
        for value in vars(one).values():
            name = str(value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None))
            ours = name.partition(".")[0] in ("pneumojax", module.__name__.partition(".")[0])
            if ours and name not in sources and name in sys.modules:
                queue.append(sys.modules[name])
    return sources


def key_of(module: ModuleType, config, of_training: ModuleType, parts: dict[str, np.ndarray | str]) -> str:
    """What an entry is called.

    Args:
      module: the GAN.
      config: `config.gan`.
      of_training: the module that trains it.
      parts: whatever else its images depend on, arrays and texts by name.
    """
    text = json.dumps(
        {
            "code": code_of(module)
            | {one.__name__: inspect.getsource(one) for one in (of_training, loop, jobs, pixels)},
            "config": {name: value for name, value in config.to_dict().items() if name not in NO_PART},
            "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
            "devices": [device.device_kind for device in jax.devices()],
            "flags": os.environ.get("XLA_FLAGS", ""),
        },
        sort_keys=True,
    )
    digest = hashlib.sha256(text.encode())
    for name, value in sorted(parts.items()):
        content = value if isinstance(value, str) else f"{value.dtype} {value.shape} "
        digest.update(f"\0{name}\0{content}".encode())
        if isinstance(value, np.ndarray):
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:32]


def entry_of(config, key: str) -> Path | None:
    """The folder of an entry; None where `config.cache` is ''."""
    return Path(config.cache).expanduser() / "gan" / key if config.cache else None


def deliver(entry: Path | None, stage: Stage, images: Path, place: Place) -> None:
    """Puts what a stage has left in a run into an entry, whole or not at all."""
    if entry is None or os.path.exists(entry):
        return
    partial = entry.with_name(f".{entry.name}.{os.getpid()}.partial")
    try:
        shutil.copytree(place.checkpoints(stage), partial / "checkpoint")
        shutil.copy(images, partial / "images.npz")
        rows = [row for row in map(metrics.parted, metrics.read(place.workdir)) if row[1] == stage]
        for step, _, values in rows:
            if "grid" in values:
                shutil.copy(place.workdir / values["grid"], partial / f"{step}.png")
        scalars = [[step, values] for step, _, values in rows if "grid" not in values]
        checkpoint.write_json(partial / "metrics.json", scalars)
        partial.rename(entry)
    except OSError as error:
        logging.warning("GANs are not kept for other runs: config.gan.cache: %s", describe(error))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def fetch(entry: Path | None, stage: Stage, images: Path, place: Place) -> None:
    """Puts an entry, if it is there, where a run would have put what it makes itself."""
    if entry is None or not os.path.exists(entry) or images.exists():  # Path.exists raises where it may not look
        return
    try:
        arrays = checkpoint.read_arrays(entry / "images.npz")
        scalars = json.loads((entry / "metrics.json").read_text())
        grids = {int(path.stem): path.read_bytes() for path in sorted(entry.glob("*.png"))}
        [_] = (entry / "checkpoint").iterdir()  # the last one
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        logging.warning("%s is damaged (%s): %s is made anew", entry, describe(error), stage.name)
        shutil.rmtree(entry, ignore_errors=True)  # or what is made anew would not be kept
        return
    target = place.checkpoints(stage)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(entry / "checkpoint", target)
    for step, values in scalars:
        place.writer.write_scalars(stage, step, values)
    for step, content in grids.items():
        place.writer.write_grid(stage, step, content)
    checkpoint.write_arrays(images, **arrays)  # last: its being there says that all is
    logging.info("%s was made before: %s", stage.name, entry)
