"""Trained GANs by content, shared by runs: what depends on nothing else need not be made again.

An entry is a folder whose name is a hash of all that its images depend on: the GAN's code and config, the images that
it sees, its seed, what it is to make, versions, flags and devices. It holds the last checkpoint, the images, losses and
grids.
"""

import ast
import contextlib
import fcntl
import hashlib
import importlib.util
import inspect
import json
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
from absl import logging

from pneumojax import checkpoint, environment, hosts, jobs, loop, metrics, paths
from pneumojax.data import pixels
from pneumojax.errors import NotWritable, describe
from pneumojax.gan import drawing, pictures, watch
from pneumojax.jobs import Place
from pneumojax.stage import Stage

BESIDE = (drawing, pictures, watch, loop, jobs, pixels)  # what all GANs depend on beside their own code
NO_PART = ("save_every", "cache", "seeds")  # fields of config.gan that nothing in an entry depends on


def code_of(module: ModuleType) -> dict[str, str]:
    """The source of a module and of all that it imports of its own package, by name."""
    sources, queue = {}, [module]
    own = {"pneumojax", module.__name__.partition(".")[0]}
    while queue:
        one = queue.pop()
        if one.__name__ not in sources:
            sources[one.__name__] = inspect.getsource(one)
            found = [name for name in imported(one, sources[one.__name__]) if name.partition(".")[0] in own]
            queue += [sys.modules[name] for name in found]
    return sources


def imported(module: ModuleType, source: str) -> Iterator[str]:
    """The modules that a source imports, as far as they were imported."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in sys.modules)
        elif isinstance(node, ast.ImportFrom):
            home = importlib.util.resolve_name("." * node.level + (node.module or ""), module.__package__)
            for full_name in (f"{home}.{alias.name}" for alias in node.names):
                name = full_name if full_name in sys.modules else home
                yield from [name] if name in sys.modules else []


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
            "code": code_of(module) | {one.__name__: inspect.getsource(one) for one in (of_training, *BESIDE)},
            "config": {name: value for name, value in config.to_dict().items() if name not in NO_PART},
            "settings": environment.settings(),
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
    """The folder of an entry; None where there is no cache."""
    home = paths.cache(config.cache, "config.gan.cache")
    return home and home / "gan" / key


def deliver(entry: Path | None, stage: Stage, images: Path, place: Place) -> None:
    """Puts what a stage has left in a run into an entry, whole or not at all."""
    if entry is None or not hosts.first() or os.path.exists(entry):  # False, unlike Path.exists, where nobody may look
        return
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=entry.parent) as folder:
            partial = Path(folder) / entry.name
            shutil.copytree(place.checkpoints(stage), partial / "checkpoint")
            if (record := watch.record_of(watch.kept(place, stage))).exists():
                shutil.copytree(watch.kept(place, stage), partial / "kept")
                shutil.copy(record, partial / "kept.json")
            shutil.copy(images, partial / "images.npz")
            rows = [row for row in map(metrics.parted, metrics.read(place.workdir)) if row[1] == stage]
            for step, _, values in rows:
                if "grid" in values:
                    shutil.copy(place.workdir / values["grid"], partial / f"{step}.png")
            checkpoint.write_json(partial / "metrics.json", [[step, values] for step, _, values in rows])
            partial.rename(entry)
    except OSError as error:
        if not os.path.exists(entry):  # else another run was faster
            logging.warning("GANs are not kept for other runs: config.gan.cache: %s", describe(error))


@contextlib.contextmanager
def alone(entries: Sequence[Path]):
    """Within it no other run makes these entries; one that does is waited for, so that they can be fetched.

    That spares work and nothing depends on it: where the cache cannot be written, or its file system has no locks, each
    run makes its own.
    """
    if not entries or not hosts.first():
        yield
        return
    first = min(entries)  # of a set; runs of one sweep make the same sets
    path = first.parents[1] / "making" / first.name
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(path.open("a"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logging.info("another run makes the same GANs; waiting for them: %s", path)
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            logging.info("GANs may be made by several runs at a time: config.gan.cache: %s", describe(error))
        yield


def fetch(entry: Path | None, stage: Stage, images: Path, place: Place) -> None:
    """Puts an entry, if it is there, where a run would have put what it makes itself."""
    if entry is None or not hosts.first() or images.exists() or not os.path.exists(entry):
        return
    try:
        arrays = {"images": checkpoint.read_arrays(entry / "images.npz")["images"]}
        lines = json.loads((entry / "metrics.json").read_text())
        grids = {step: (entry / f"{step}.png").read_bytes() for step, values in lines if "grid" in values}
        os.listdir(entry / "checkpoint" / str(lines[-1][0]))
        for path in entry.rglob("*"):  # what cannot be read is damaged; what then fails is writing
            if not path.is_dir():
                path.read_bytes()
    except (OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile) as error:
        logging.warning("%s is damaged (%s): %s is made anew", entry, describe(error), stage.name)
        shutil.rmtree(entry, ignore_errors=True)  # or what is made anew would not be kept
        return
    copy(entry / "checkpoint", place.checkpoints(stage))
    if (entry / "kept.json").exists():
        copy(entry / "kept", kept := watch.kept(place, stage))
        checkpoint.write_bytes(watch.record_of(kept), (entry / "kept.json").read_bytes())
    for step, values in lines:
        if "grid" in values:
            place.writer.write_grid(stage, step, grids[step])
        else:
            place.writer.write_scalars(stage, step, values)
    checkpoint.write_arrays(images, **arrays)  # last: its being there says that all is
    logging.info("%s was made before: %s", stage.name, entry)


def copy(source: Path, target: Path) -> None:
    """Copies a folder, whole or not at all, in place of what was there."""
    copied = target.with_name(f".{target.name}.partial")
    for folder in (target, copied):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        shutil.copytree(source, copied)
    except shutil.Error as error:  # [(from, to, why)], where other errors of the system have a number and a path
        raise NotWritable(f"{copied}: {error.args[0][0][2]}; free space there or choose another --workdir") from error
    copied.rename(target)
