"""States on disk: Orbax checkpoints, the newest kept, and arrays or texts that appear whole or not at all."""

import contextlib
import csv
import errno
import fcntl
import hashlib
import json
import os
import shutil
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging

from pneumojax import hosts, sharding
from pneumojax.errors import BadInput, describe
from pneumojax.paths import named

MARGIN = 2**20  # bytes beside the arrays: Orbax's records of them
NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}  # of some Lustre and NFS
# What readers of JSON, CSV and `.npz` raise of files that are not what they should be.
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, RecursionError, EOFError, csv.Error)
DAMAGED += (zipfile.BadZipFile, zlib.error)
OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO)


Manager = ocp.CheckpointManager | None  # None in all processes but the first, which are told what it finds


def open_manager(directory: Path, create: bool = True) -> contextlib.AbstractContextManager[Manager]:
    """The checkpoints of one stage. Saves are synchronous: none is lost if the process ends right after one."""
    if not hosts.first():
        return contextlib.nullcontext()
    fields = {"max_to_keep": 1 if create else None, "enable_async_checkpointing": False, "create": create}
    if hosts.several():  # Orbax is to wait for nobody, and makes no folder then
        if create:
            directory.mkdir(parents=True, exist_ok=True)
        alone = {"primary_host": 0, "active_processes": {0}, "barrier_sync_key_prefix": "first"}
        fields |= {"create": False, "multiprocessing_options": ocp.options.MultiprocessingOptions(**alone)}
    return ocp.CheckpointManager(directory.absolute(), options=ocp.CheckpointManagerOptions(**fields))


def latest(manager: Manager) -> int | None:
    """The step of the newest checkpoint."""
    return hosts.agreed(lambda: manager.latest_step())


def save(manager: Manager, step: int, state, record: dict | None = None) -> None:
    """Saves a tree of arrays under a step, and a record that JSON can hold, to which it adds the digest of the arrays.

    Args:
      manager: of the checkpoints.
      step: how many steps are done.
      state: a tree of arrays.
      record: whatever else; its "place", where it has one, is the end of the folder's path.

    Errors: OSError where the disk is full.
    """
    if hosts.several():
        state = sharding.fetched(state)  # by all of them, who then wait: one that ended would end the one that writes
    hosts.agreed(lambda: saved(manager, step, state, record))


def saved(manager: ocp.CheckpointManager, step: int, state, record: dict | None) -> None:
    """`save` in the process that has the manager."""

    def of_disk(number: int) -> OSError:
        return OSError(number, os.strerror(number), str(manager.directory))

    # Asked beforehand, since Orbax's threads print tracebacks of their own when a disk fills up under them.
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + MARGIN
    if shutil.disk_usage(manager.directory).free < needed:
        raise of_disk(errno.ENOSPC)
    try:
        record = {**(record or {}), "digest": digest(state)}
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record))
        manager.save(step, args=args)
    except Exception as error:  # tensorstore wraps the system's error into one of its own
        for number in OF_DISKS:
            if os.strerror(number) in str(error):
                raise of_disk(number) from error
        raise


def digest(state) -> str:
    """SHA-256 of a tree's arrays, with their paths, dtypes and shapes: 0.2 s at most for 50 MB."""
    hashed = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(jax.device_get(state))[0]:
        array = np.ascontiguousarray(leaf)
        hashed.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\0".encode())
        hashed.update(array.reshape(-1).view(np.uint8))
    return hashed.hexdigest()


def restore(manager: Manager, state, begin: bool = False) -> tuple[int, Any, dict]:
    """The newest state, with shapes, dtypes and shardings of the `state` given.

    Args:
      manager: of the checkpoints.
      state: a tree of arrays.
      begin: whether nothing need have been saved; what is given back then is step 0 and the `state` itself.

    Returns: (step, state, record).

    Errors: BadInput where a checkpoint must be there and is not, or where it is damaged, of another tree or of another
    place. One of an earlier version, without a digest, is believed.
    """
    if not hosts.several():
        return restored(manager, state, begin)

    def in_memory() -> tuple[int, list[np.ndarray], dict]:
        step, found, record = restored(manager, sharding.described(state), begin)
        return step, jax.device_get(jax.tree.leaves(found)) if step or not begin else [], record

    step, arrays, record = hosts.agreed(in_memory)
    if begin and not step:
        return 0, state, {}
    leaves, tree = jax.tree.flatten(state)
    placed = [sharding.placed(array, leaf.sharding) for array, leaf in zip(arrays, leaves, strict=True)]
    return step, jax.tree.unflatten(tree, placed), record


def restored(manager: ocp.CheckpointManager, state, begin: bool) -> tuple[int, Any, dict]:
    """`restore` in the process that has the manager."""
    check_open(Path(manager.directory))
    step = manager.latest_step()
    if step is None:
        if begin:
            return 0, state, {}
        raise missing(manager.directory)
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target), record=ocp.args.JsonRestore())
    where = f"the checkpoint {manager.directory / str(step)}"
    try:
        restored = manager.restore(step, args=args)
    except Exception as error:  # Orbax and tensorstore raise whatever they like of a damaged folder
        raise BadInput(f"{where} is damaged; bring it back or run anew: {describe(error)[:200]}") from error
    record = dict(restored.record)
    if record.pop("digest", None) not in (None, digest(restored.state)):
        raise BadInput(f"{where} is damaged, its arrays are not those that were saved; bring it back or run anew")
    if not str(manager.directory).endswith(record.get("place", "")):
        raise BadInput(f"{where} is that of {record['place']}; bring its own back or run anew")
    return step, restored.state, record


def read(directory: Path, state) -> Any:
    """The newest state in a folder, of which nothing is changed nor made. Errors: BadInput as `restore` has them."""
    hosts.agreed(lambda: check_there(directory))
    with open_manager(directory, create=False) as manager:
        return restore(manager, state)[1]


def check_there(directory: Path) -> None:
    """Errors: BadInput where there is no folder of checkpoints, or it may not be read."""
    check_open(directory)
    if not directory.is_dir():
        raise missing(directory)


def check_open(directory: Path) -> None:
    """Errors: BadInput where a folder of checkpoints, or something in it, may not be read: Orbax calls it damaged."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise BadInput(f"{error.filename}: {error.strerror}; give this user the right to read it, or mend it")

    try:
        os.stat(directory)
    except OSError as error:
        refuse(error)
    for folder, _, names in os.walk(directory, onerror=refuse):
        for name in names:
            try:
                with open(os.path.join(folder, name), "rb"):
                    pass
            except OSError as error:
                refuse(error)


def missing(directory: Path) -> BadInput:
    """What is raised where a checkpoint must be there."""
    return BadInput(f"{directory} holds no checkpoint; bring it back or run anew")


def has(directory: Path, step: int) -> bool:
    """Whether the checkpoint of a step is there, whole."""
    return hosts.agreed((directory / str(step)).is_dir)


def remove(directory: Path) -> None:
    """Removes a folder of checkpoints."""
    if hosts.first():
        shutil.rmtree(directory)


@contextlib.contextmanager
def held(folder: Path, flag: str):
    """Makes a folder and holds it for this process, the first of several; where it has no locks, that is said.

    Yields: the file that is locked; processes that inherit it hold the folder too.

    Errors: BadInput where another process holds it, which names the `flag`.
    """
    if not hosts.first():
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            with named(folder / ".lock"):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{folder} is in use by another process; wait for it or choose another {flag}") from None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            what = "nothing keeps a second process from writing there at the same time"
            logging.warning("%s: its file system has no locks (%s): %s; start none", folder, error.strerror, what)
        yield lock


@contextlib.contextmanager
def written(path: Path):
    """A file to write to under a temporary name, which is then renamed: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with named(path), partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, whole or not at all; of several processes the first does."""
    if hosts.first():
        with written(path) as file:
            file.write(content)


def write_json(path: Path, value) -> None:
    """Writes strict JSON: a NaN is an error here and not in its reader."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path, kind: type = dict) -> Any:
    """What a file of JSON holds. Errors: TypeError where it is not of a kind, ValueError where it is no JSON."""
    value = json.loads(path.read_text())
    if not isinstance(value, kind):
        raise TypeError(f"it holds a {type(value).__name__} where a {kind.__name__} should be")
    return value


@contextlib.contextmanager
def record_of_run(path: Path, flag: str = "--workdir"):
    """Gives a file that a run goes on with to be read.

    Errors: BadInput, which names it and the remedy, where it cannot be read or is not what it should be.
    """
    try:
        yield path
    except OSError as error:
        what = f"cannot be read ({error.strerror or describe(error)})"
    except DAMAGED as error:
        what = f"is damaged ({describe(error)})"
    else:
        return
    raise BadInput(f"{path} {what}; bring it back or choose another {flag}")


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes named arrays as one `.npz`, without a copy of them in memory; of several processes the first does."""
    if hosts.first():
        with written(path) as file:
            np.savez(file, **arrays)


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of an `.npz`; nothing in it is unpickled."""
    with named(path), np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
