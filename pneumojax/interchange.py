"""A traced function as a program for other tools: ONNX, by jax2onnx, and jax's own export; both are tried.

Every input has a first axis N of any length, as has the output.
"""

import contextlib
import importlib.metadata
import io
import logging
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from pneumojax.errors import BadInput, describe
from pneumojax.names import printable

TOLERANCE = 1e-4  # of the largest number that comes out, or of 1
PLATFORMS = ("cpu", "cuda", "tpu")
# What jax promises of its export (its manual, 'Exporting and serialization').
EXPIRY = (
    "jax promises to read it for 6 months after the release of the version that wrote it, and with versions up to 3 "
    "weeks older; beyond that, export the run again"
)
Inputs = Mapping[str, jax.ShapeDtypeStruct]  # by name, in the function's order; shapes of one example, without N


def examples(inputs: Inputs, count: int, largest: int) -> list[np.ndarray]:
    """Random inputs, always the same: of uint8 any value, of other whole numbers below `largest`, else from N(0, 1)."""
    rng, made = np.random.default_rng(0), []
    for one in inputs.values():
        shape = (count, *one.shape)
        if np.issubdtype(one.dtype, np.integer):
            made.append(rng.integers(0, 256 if one.dtype == np.uint8 else largest, shape).astype(one.dtype))
        else:
            made.append(rng.normal(size=shape).astype(one.dtype))
    return made


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two arrays, as a part of the largest number in the second or of 1."""
    if one.shape != other.shape:
        return np.inf
    return float(np.abs(one - other).max() / max(1.0, np.abs(other).max()))


def batched(inputs: Inputs) -> list[jax.ShapeDtypeStruct]:
    """The inputs with an axis N before their own."""
    (count,) = jax.export.symbolic_shape("N")
    return [jax.ShapeDtypeStruct((count, *one.shape), one.dtype) for one in inputs.values()]


def to_onnx(function: Callable, inputs: Inputs, output: str, tried: list[np.ndarray], said: dict) -> tuple[bytes, dict]:
    """An ONNX program.

    Args:
      function: what it computes, traced by jax.
      inputs: of it.
      output: what its output is called.
      tried: inputs, several examples of each, that onnxruntime has to answer as jax does, all at once and one alone.
      said: texts for its metadata, by key.

    Returns: (the file, {"opset", "jax2onnx", "onnxruntime", "largest_difference"}).

    Errors: BadInput where jax2onnx or onnxruntime are not installed, or cannot do it, or give other numbers.
    """
    try:
        with quiet():
            import jax2onnx
            import onnxruntime
    except ImportError as error:
        raise BadInput(f"--onnx: {describe(error)}; pip install 'pneumojax[onnx]'") from error
    versions = {name: importlib.metadata.version(name) for name in ("jax2onnx", "onnxruntime")}
    try:
        with quiet():
            model = jax2onnx.to_onnx(function, batched(inputs), input_names=list(inputs), output_names=[output])
        del model.metadata_props[:]
        for key, text in said.items():
            model.metadata_props.add(key=key, value=printable(text))
        content = model.SerializeToString()
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        found = [session.run([output], dict(zip(inputs, some, strict=True)))[0] for some in both(tried)]
    except Exception as error:  # either raises whatever it likes
        what = f"{type(error).__name__}: {describe(error)[:300]}"
        raise BadInput(f"--onnx: {told(versions)} cannot do it ({what}); leave it out") from error
    facts = versions | {"opset": max(one.version for one in model.opset_import if one.domain in ("", "ai.onnx"))}
    return content, facts | {"largest_difference": largest(function, tried, found, f"--onnx: {told(versions)}")}


def to_jax(function: Callable, inputs: Inputs, tried: list[np.ndarray]) -> tuple[bytes, dict]:
    """A file of `jax.export`, for the platforms of PLATFORMS. Arguments: as of `to_onnx`.

    Returns: (the file, {"jax", "calling_convention_version", "platforms", "expiry", "largest_difference"}).

    Errors: BadInput where the function takes no N that is not known, the program gives other numbers, or jax wants
    flatbuffers, which the extra `onnx` brings.
    """
    try:
        with exact():
            exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*batched(inputs))
    except Exception as error:  # whatever a network does that takes a fixed number of examples, as len()
        what = f"{type(error).__name__}: {describe(error)[:300]}"
        raise BadInput(
            f"--jax_export: it cannot be traced for any number of examples ({what}); leave it out"
        ) from error
    try:
        content = bytes(exported.serialize())
    except ImportError as error:
        raise BadInput(f"--jax_export: {describe(error)}; pip install flatbuffers") from error
    call = jax.export.deserialize(bytearray(content)).call
    found = [np.asarray(call(*some)) for some in both(tried)]
    facts = {
        "jax": jax.__version__,
        "calling_convention_version": exported.calling_convention_version,
        "platforms": list(exported.platforms),
        "expiry": EXPIRY,
    }
    return content, facts | {"largest_difference": largest(function, tried, found, "--jax_export")}


def both(tried: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """All examples, and the first one alone."""
    return tried, [one[:1] for one in tried]


def largest(function: Callable, tried: list[np.ndarray], found: list[np.ndarray], what: str) -> float:
    """The largest difference from the function itself. Errors: BadInput where it is beyond TOLERANCE."""
    with exact():
        wanted = np.asarray(jax.jit(function)(*map(jnp.asarray, tried)))
    worst = max(difference(found[0], wanted), difference(found[1], wanted[:1]))
    if not worst <= TOLERANCE:
        raise BadInput(f"{what} gives other numbers than jax (by {worst:.1e} of the largest); leave it out")
    return worst


def exact():
    """Within it products are of float32 on GPUs and TPUs too, which else round their factors."""
    return jax.default_matmul_precision("highest")


def told(versions: dict[str, str]) -> str:
    """'jax2onnx 0.17.1, onnxruntime 1.32.0'."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


@contextlib.contextmanager
def quiet():
    """Within it what jax2onnx prints is not seen: of its own working, and tracebacks of parts that it leaves out."""
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
