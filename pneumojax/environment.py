"""What decides bits besides config and data: settings of jax, pinned; versions, flags, devices and code, recorded."""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path

import jax
from absl import logging
from flax.traverse_util import flatten_dict

from pneumojax import checkpoint, hosts, programs
from pneumojax.errors import BadInput, describe
from pneumojax.runtime import PINNED, SET_ASIDE

PACKAGE = Path(__file__).parent
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "pillow", "simplejpeg")
# The environment's variables of these beginnings are recorded: flags of compilers and precision,
DECIDING = ("JAX_", "XLA_", "LIBTPU_", "NVIDIA_TF32", "TF_XLA", "CUBLAS_", "CUDNN_")
# less what is pinned, and what says where things lie, who shares the work or what is logged.
IDLE = (
    *(name.upper() for name in PINNED),
    *("JAX_PLATFORM", "JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE", "JAX_ENABLE_COMPILATION_CACHE"),
    *("JAX_COORDINATOR", "JAX_NUM_PROCESSES", "JAX_PROCESS", "JAX_LOCAL", "JAX_CUDA_VISIBLE", "JAX_ROCM_VISIBLE"),
    *("JAX_LOG", "JAX_TRACEBACK", "JAX_DUMP", "JAX_DEBUG", "JAX_EXPLAIN", "JAX_CHECK", "XLA_PYTHON_CLIENT"),
)
PEAKS = "peak_memory_gb"  # beside them in results.json: {"host", "device"}, gigabytes, device where it tells them
ASKING = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_DEFAULT_DEVICE")
EXTRAS = {"cuda": "cuda13", "gpu": "cuda13", "tpu": "tpu"}  # or cuda12


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Within it jax has the settings of PINNED, whatever the user's are; a line names those that are set aside.

    Programs are kept for later starts from then on.

    Errors: BadInput where jax has not the devices that variables ask for.
    """
    theirs = {name: getattr(jax.config, name) for name in PINNED if hasattr(jax.config, name)}
    theirs = {name: value for name, value in theirs.items() if value != PINNED[name]}
    for name, value in (SET_ASIDE | theirs).items():
        logging.warning("%s=%s is set aside: results are those of %s", name.upper(), value, PINNED[name])
    for name in theirs:
        jax.config.update(name, PINNED[name])
    try:
        check_devices()
        programs.keep()
        yield
    finally:
        for name, value in theirs.items():
            jax.config.update(name, value)


def check_devices() -> None:
    """Errors: BadInput where jax cannot have the devices that JAX_PLATFORMS and the like ask for."""
    try:
        jax.devices()
        jax.numpy.zeros(()).block_until_ready()  # asks for the default one
    except (RuntimeError, AssertionError, ValueError) as error:  # the latter where no plug-in of CUDA is installed
        asked = {name: os.environ[name] for name in ASKING if os.environ.get(name)}
        extra = next((extra for name, extra in EXTRAS.items() if name in " ".join(asked.values())), None)
        remedy = f"pip install 'pneumojax[{extra}]', or " if extra else ""
        raise BadInput(
            f"{', '.join(f'{name}={value!r}' for name, value in asked.items()) or 'jax'}: there are none of these "
            f"devices ({describe(error)}); {remedy}give {'=cpu, '.join(asked or ASKING[:1])}=cpu"
        ) from error


def check_alike(config: dict) -> None:
    """Errors: BadInput where the processes of a run differ in devices, config or code; they are connected then."""
    if hosts.several():
        hosts.check_alike("count of devices", jax.local_device_count(), "give each as many")
        digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()
        hosts.check_alike("config", digest, "give each the same --config and fields")
        hosts.check_alike("code", code()["digest"], "give each the same version of pneumojax")
        hosts.stopping(())  # at the first sum gloo waits 30 s for the others, later as long as it takes


def settings() -> dict:
    """Versions, flags and devices, on which the bits of every computation depend."""
    variables = {k: v for k, v in os.environ.items() if k.startswith(DECIDING) and not k.startswith(IDLE) and v}
    found = {
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "machine": platform.machine(),
        "devices": [device.device_kind for device in jax.devices()],
        "processes": jax.process_count(),
        "variables": dict(sorted(variables.items())),
    }
    if jax.default_backend() == "cpu":  # sums are parted by the cores that a process may use
        found |= {"processor": processor(), "cores": len(os.sched_getaffinity(0))}
    return found


@functools.cache
def processor() -> str:
    """The CPU's name; XLA compiles for what it can."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def code(modules: tuple[str, ...] = ()) -> dict:
    """Which code this is: {"version", "commit" (None outside a checkout, '+' behind it where files differ), "digest"}.

    Args:
      modules: files of modules from elsewhere that take part.
    """
    sources = hashlib.sha256()
    for path in (*sorted(PACKAGE.rglob("*.py")), *map(Path, sorted(modules))):
        name = path.relative_to(PACKAGE) if path.is_relative_to(PACKAGE) else path.name
        sources.update(f"{name}\0".encode() + path.read_bytes() + b"\0")
    return {"version": version(), "commit": commit(), "digest": sources.hexdigest()[:16]}


def version() -> str:
    """Of this package; '' where it was not installed."""
    try:
        return importlib.metadata.version("pneumojax")
    except importlib.metadata.PackageNotFoundError:
        return ""


@functools.cache
def commit() -> str | None:
    """The commit of the checkout that this package lies in, '+' behind it where its files differ from it."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(PACKAGE), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # an environment may lie within another project's checkout
        return git("rev-parse", "HEAD") + "+" * bool(git("status", "--porcelain", "--", "."))
    except (OSError, subprocess.SubprocessError):
        return None


def record(path: Path, modules: tuple[str, ...] = (), begun: bool = False) -> None:
    """Keeps in a file, the newest last, each environment that a run is worked on in; says where it is another one.

    Args:
      path: the file.
      modules: see `code`.
      begun: whether the run has been worked on before; where nothing was kept then, that is said.

    Errors: BadInput where the file is damaged.
    """
    now, before = {"code": code(modules), **settings()}, recorded(path)
    if before and (lines := differing(before[-1], now)):
        logging.warning("this run goes on under other code or settings, its bits may be others: %s", "; ".join(lines))
    if begun and not before:
        logging.warning("%s is not there: under what this run was begun is not known, its bits may be others", path)
    if not before or before[-1] != now:
        checkpoint.write_json(path, [*(one for one in before if one != now), now])


def recorded(path: Path) -> list[dict]:
    """The environments that `record` has kept. Errors: BadInput where the file is damaged."""
    if not path.exists():
        return []
    with checkpoint.record_of_run(path):
        found = checkpoint.read_json(path, list)
        if not all(isinstance(one, dict) for one in found):
            raise TypeError("an environment is no object")
    return found


def joined(environments: list[dict]) -> dict:
    """The last of several as results.json has it: the others, if there are any, are its "also"."""
    *others, last = environments
    also = [one for row, one in enumerate(others) if one != last and one not in others[:row]]
    return last | ({"also": also} if also else {})


def parted(joined: dict) -> list[dict]:
    """The inverse of `joined`, less the memory that was held."""
    return [*joined.get("also", ()), {name: value for name, value in joined.items() if name not in ("also", PEAKS)}]


def differing(old: dict, new: dict) -> list[str]:
    """What differs between two environments, a line each."""
    old, new = (flatten_dict(one, sep=".") for one in (old, new))
    return [f"{n}: {old.get(n)} then, {new.get(n)} now" for n in sorted(old | new) if old.get(n) != new.get(n)]
