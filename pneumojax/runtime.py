"""Process settings that must stand before jax is imported: XLA flags and the allocator."""

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
    """Sets flags and allocator for the device that jax will use. Flags that the user has set stay in force."""
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
