"""Process settings that must stand before jax is imported: XLA flags, the allocator, variables that jax reads."""

import ctypes
import importlib.metadata
import importlib.util
import os

# jaxlib 0.10 gives convolutions to YNN, whose filter gradients are slow; this leaves them to Eigen (1.6x), and
# keeps YNN's reductions, without which batch norm is ten times slower. An unknown flag ends the process.
CPU_FLAGS = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
# Without it, reductions on a GPU may add in another order at each run.
GPU_FLAGS = "--xla_gpu_deterministic_ops=true"

# glibc returns big buffers to the system after every step; keeping them saves a tenth. (mallopt's parameter, value)
MALLOC_OPTIONS = {-1: 2**31 - 1, -2: 200_000_000, -3: 2**31 - 1, -8: 1}  # trim, top pad, mmap threshold, arenas


PINNED = {  # settings of jax that change what numbers mean, or only break; no study wants others
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_disable_jit": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_transfer_guard": None,  # allow
    "jax_transfer_guard_host_to_device": None,
    "jax_transfer_guard_device_to_device": None,
    "jax_transfer_guard_device_to_host": None,
}
SPELLED = {True: ("1", "true", "t", "yes", "y", "on"), False: ("0", "false", "f", "no", "n", "off"), None: ("allow",)}
SET_ASIDE: dict[str, str] = {}  # name in PINNED → what the user's variable said, where it was another value


def has_accelerator() -> bool:
    """Whether jax will find a plug-in for a GPU or TPU here, told without importing jax."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms != "cpu"
    return any(
        importlib.util.find_spec(name)
        for name in ("jax_cuda12_plugin", "jax_cuda13_plugin", "jax_rocm7_plugin", "libtpu")
    )


def configure() -> None:
    """Sets flags and allocator for the device that jax will use. Flags that the user has set stay in force.

    Variables of PINNED are taken out of the environment, since jax cannot be imported with some of their values;
    `environment.pinned` says which. A variable that jax refuses ends the process with one line and 2.
    """
    if has_accelerator():
        flags = GPU_FLAGS
    elif importlib.metadata.version("jaxlib").startswith("0.10."):
        flags = CPU_FLAGS
    else:
        flags = ""
    theirs = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = theirs if flags in theirs else f"{flags} {theirs}".strip()  # once: a parent may have
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in MALLOC_OPTIONS.items():
            libc.mallopt(option, value)
    for name, wanted in PINNED.items():
        theirs = os.environ.pop(name.upper(), "")
        if theirs and theirs.lower() not in SPELLED.get(wanted, (str(wanted),)):
            SET_ASIDE[name] = theirs
    import_jax()


def import_jax() -> None:
    """Imports jax, which reads its variables then; one that it refuses is an `error:` line and exit code 2."""
    try:
        import jax  # noqa: F401
    except ValueError as error:
        from pneumojax import cli, errors

        text = str(error).upper().replace(".", "_")
        given = sorted((name for name in os.environ if name.startswith("JAX_") and name in text), key=len)
        what = f"{given[-1]}={os.environ[given[-1]]!r}" if given else "a variable JAX_…"
        cli.fail(errors.BadInput(f"{what}: jax refuses it ({errors.describe(error)}); unset it or give another value"))
