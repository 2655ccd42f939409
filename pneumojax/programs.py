"""Programs that jax compiles: where they are kept for later starts, what making them takes, which one is being made."""

import glob
import hashlib
import os
import re
import shutil
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import jax
from absl import logging
from jax.experimental import serialize_executable
from jax.experimental.compilation_cache import compilation_cache

from pneumojax import paths
from pneumojax.errors import describe

VARIABLE = "JAX_COMPILATION_CACHE_DIR"
DEFAULT = "~/.cache/pneumojax/programs"
ROOM = 2**27  # bytes that must be free: a disk that is all but full is for results
# Tracing, lowering, and XLA's work or reading what it did before; called so in jax 0.10.2 and 0.12.0.
PHASES = tuple(
    f"/jax/core/compile/{name}_duration" for name in ("jaxpr_trace", "jaxpr_to_mlir_module", "backend_compile")
)
COMPLAINT = re.compile(r"Error (reading|writing) persistent compilation cache entry for '(.*?)': (.*)", re.DOTALL)


class Making:
    """What the main thread makes of programs, as jax tells it."""

    def __init__(self):
        self.seconds = 0.0  # of all that are made
        self.name = ""  # of the one that is being made
        self.since = 0.0  # when that was begun, by `time.monotonic`
        self.told: Callable[[str], None] = lambda name: None  # is called when one is begun
        self._depth = 0  # making one can take another

    def begun(self, event: str, _, fun_name: str = "", **__) -> None:
        if event in PHASES and threading.current_thread() is threading.main_thread():
            self._depth += 1
            if self._depth == 1:
                self.name, self.since = fun_name.removeprefix("jit(").removesuffix(")"), time.monotonic()
                self.told(self.name)

    def ended(self, event: str, _, **__) -> None:
        if event in PHASES and threading.current_thread() is threading.main_thread() and self._depth:
            self._depth -= 1
            if not self._depth:
                self.name, self.seconds = "", self.seconds + time.monotonic() - self.since


making = Making()
jax.monitoring.register_scalar_listener(making.begun)
jax.monitoring.register_event_duration_secs_listener(making.ended)


def keep() -> None:
    """Has jax keep what it compiles, below JAX_COMPILATION_CACHE_DIR or in DEFAULT; says why where it cannot.

    In a folder for each kind of machine: jax tells programs apart by their code, flags and jaxlib, but not by the CPU
    that they were compiled for nor by the cores that sums were parted among. The bits are those of a program that is
    compiled anew (`test_study.py`).
    """
    theirs = jax.config.jax_compilation_cache_dir
    if not jax.config.jax_enable_compilation_cache or (theirs and theirs.endswith(kind())):
        return
    home = paths.cache(DEFAULT if theirs is None else theirs, VARIABLE)
    folder = home and home / kind()
    if folder and (why := unusable(folder) or refused()):
        logging.warning(
            "compiled programs are not kept for later starts: %s (%s says where they would be)", why, VARIABLE
        )
        folder = None
    jax.config.update("jax_compilation_cache_dir", folder and os.fspath(folder))
    jax.config.update("jax_enable_compilation_cache", folder is not None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # many small ones take most of the time
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    compilation_cache.reset_cache()
    if folder:
        warnings.showwarning = of_jax(warnings.showwarning, folder)


def kind() -> str:
    """The folder's name: CPU, what it can, and how many cores this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    known = {line for line in lines if line.startswith(("model", "flags", "Features"))}
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"for-{hashlib.sha256(repr((sorted(known), cores)).encode()).hexdigest()[:12]}"


def unusable(folder: Path) -> str:
    """Why nothing can be kept in a folder, which is made; '' where it can. Others may not write there: programs run."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return describe(error)
    return f"{folder}: less than {ROOM // 2**20} MB are free" if shutil.disk_usage(folder).free < ROOM else ""


def refused() -> str:
    """Why jax would not run here what it has compiled here; '' where it would.

    Some versions hold preferences of LLVM for features that the CPU lacks, where it has AVX-512 (jax's issue 38445).
    """
    try:
        device = jax.local_devices()[0]
        compiled = jax.jit(jax.numpy.sin).lower(jax.device_put(0.0, device)).compile()
        made = serialize_executable.serialize(compiled)
        serialize_executable.deserialize_and_load(*made, backend=device.client, execution_devices=[device])
    except Exception as error:  # whatever jaxlib makes of it
        return f"jax refuses here what it has compiled here: {describe(error)[:200]}"
    return ""


def of_jax(shown, folder: Path):
    """What takes the place of `warnings.showwarning`: complaints about `folder` are one line each kind.

    An entry that a kill left damaged is removed; jax would neither read it nor write it anew.
    """

    told = set()

    def show(message, category, *others, **named):
        if not (found := COMPLAINT.match(str(message))):
            shown(message, category, *others, **named)
            return
        doing, program, why = found.groups()
        if doing not in told:
            told.add(doing)
            logging.warning(
                "%s: %s compiled programs fails: %s; they are compiled anew", folder, doing, " ".join(why.split())[:200]
            )
        for entry in folder.glob(f"{glob.escape(program)}-*") if doing == "reading" else ():
            with suppress(OSError):
                entry.unlink()

    return show
