"""States on disk: Orbax checkpoints, the newest kept, and arrays or texts that appear whole or not at all."""

import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from pneumojax.errors import BadInput

MARGIN = 2**20  # bytes beside the arrays: Orbax's records of them


def open_manager(directory: Path) -> ocp.CheckpointManager:
    """The checkpoints of one stage. Saves are synchronous: none is lost if the process ends right after one."""
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    return ocp.CheckpointManager(directory.absolute(), options=options)


def save(manager: ocp.CheckpointManager, step: int, state, record: dict | None = None) -> None:
    """Saves a tree of arrays under a step, and a record that JSON can hold. Errors: OSError where the disk is full."""
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(manager.directory))
    # Asked beforehand, since Orbax's threads print tracebacks of their own when a disk fills up under them.
    needed = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + MARGIN
    if shutil.disk_usage(manager.directory).free < needed:
        raise full
    try:
        args = ocp.args.Composite(state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record or {}))
        manager.save(step, args=args)
    except Exception as error:  # tensorstore wraps the system's error into one of its own
        if os.strerror(errno.ENOSPC) in str(error):
            raise full from error
        raise


def restore(manager: ocp.CheckpointManager, state) -> tuple[int, Any, dict]:
    """The newest state, with shapes, dtypes and shardings of the `state` given; that one where there is none.

    Returns: (step, state, record); step 0 where nothing was saved.
    """
    step = manager.latest_step()
    if step is None:
        return 0, state, {}
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, state)
    args = ocp.args.Composite(state=ocp.args.StandardRestore(target), record=ocp.args.JsonRestore())
    restored = manager.restore(step, args=args)
    return step, restored.state, restored.record


def has(directory: Path, step: int) -> bool:
    """Whether the checkpoint of a step is there, whole."""
    return (directory / str(step)).is_dir()


@contextlib.contextmanager
def held(folder: Path, flag: str):
    """Makes a folder and holds it for this process. Errors: BadInput where another one does, which names the `flag`."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadInput(f"{folder} is in use by another process; wait for it or choose another {flag}") from None
        yield


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name, then renames it: it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value) -> None:
    """Writes strict JSON: a NaN is an error here and not in its reader."""
    write_bytes(path, (json.dumps(value, indent=1, allow_nan=False) + "\n").encode())


def write_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Writes named arrays as one `.npz`."""
    content = io.BytesIO()
    np.savez(content, **arrays)
    write_bytes(path, content.getbuffer())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Reads the arrays of an `.npz`; nothing in it is unpickled."""
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)
