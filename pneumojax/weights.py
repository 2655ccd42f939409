"""Tensors from files and by torchvision's own download, as they lie there; pickles may make nothing else."""

import hashlib
import http.client
import io
import json
import os
import pickle
import re
import stat
import warnings
import zipfile
from collections import Counter
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import safetensors

from pneumojax.errors import WRITE_ERRNOS, BadInput, NotWritable, describe

ENUMS = {  # torchvision's names of the published weights
    "alexnet": "AlexNet_Weights.IMAGENET1K_V1",
    "squeezenet": "SqueezeNet1_1_Weights.IMAGENET1K_V1",
    "squeezenet1_0": "SqueezeNet1_0_Weights.IMAGENET1K_V1",
    "googlenet": "GoogLeNet_Weights.IMAGENET1K_V1",
    "inception_v3": "Inception_V3_Weights.IMAGENET1K_V1",
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
    "vgg16": "VGG16_Weights.IMAGENET1K_V1",
    "vgg19": "VGG19_Weights.IMAGENET1K_V1",
    "densenet121": "DenseNet121_Weights.IMAGENET1K_V1",
    "densenet201": "DenseNet201_Weights.IMAGENET1K_V1",
}
DTYPES = {  # of .safetensors
    **{"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": jnp.bfloat16},
    **{"F8_E4M3": jnp.float8_e4m3fn, "F8_E5M2": jnp.float8_e5m2, "F8_E8M0": jnp.float8_e8m0fnu},
    **{"F8_E4M3FNUZ": jnp.float8_e4m3fnuz, "F8_E5M2FNUZ": jnp.float8_e5m2fnuz},
    **{f"{kind}{bits}": np.dtype(f"{kind.lower()}{bits // 8}") for kind in "IU" for bits in (8, 16, 32, 64)},
    **{"BOOL": np.bool_, "C64": np.complex64},
}
WANTED = "give a .safetensors or .pth file, a converted or exported folder or 'torchvision'"
TORCH_WANTED = "needs PyTorch; pip install 'pneumojax[torch]', or pass the weights as .safetensors"


def read(path: Path):
    """What a file of weights holds: tensors by name, or for PyTorch's whatever containers they lie in.

    Which kind a file is its first bytes tell, whatever it is called.

    Returns: a dict of numpy arrays of a `.safetensors` file; of PyTorch's what `torch.load` gives.

    Errors: BadInput where the file cannot be read, is damaged or of another kind, or would make more than tensors.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadInput(f"{path} is no file; {WANTED}")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise BadInput(f"{path} is not there; {WANTED}") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} cannot be read: {describe(error)}; {WANTED}") from error
    if content[4:9] == b"\0\0\0\0{":  # eight bytes of the header's length, then JSON
        return load_safetensors(path, content)
    if content.startswith((b"PK", b"\x80")):
        return load_pickle(path, content)
    what = f"begins with {content[:16]!r}" if content else "is empty"
    raise BadInput(f"{path} {what}, which is no file of weights: fetch it again, or {WANTED}")


def load_safetensors(path: Path, content: bytes) -> dict[str, np.ndarray]:
    """The tensors of a `.safetensors` file as they are stored."""
    try:
        header = content[8 : 8 + int.from_bytes(content[:8], "little")]
        json.loads(header, object_pairs_hook=without_repeats)  # safetensors takes the last of two and says nothing
        tensors = safetensors.deserialize(content)
    except (safetensors.SafetensorError, ValueError, RecursionError) as error:
        raise BadInput(f"{path} is not a whole .safetensors file, fetch it again: {describe(error)[:200]}") from error
    return {name: of_bytes(path, name, **tensor) for name, tensor in tensors}


def without_repeats(pairs: list[tuple[str, object]]) -> dict:
    """An object of JSON. Errors: ValueError where a key stands twice."""
    if repeated := [key for key, count in Counter(key for key, _ in pairs).items() if count > 1]:
        raise ValueError(f"{shown(repeated[0])} stands twice in its header")
    return dict(pairs)


def of_bytes(path: Path, name: str, dtype: str, shape: list[int], data: bytearray) -> np.ndarray:
    """A tensor of a `.safetensors` file. Errors: BadInput for a dtype of which several numbers share a byte."""
    if dtype not in DTYPES:
        raise BadInput(f"{path}: {shown(name)} is of dtype {dtype}, which is not read; save it as F32")
    return np.ndarray(shape, DTYPES[dtype], data)


def load_pickle(path: Path, content: bytes):
    """What torch.load gives of a file when it may make tensors and plain containers, and nothing else."""
    try:
        import torch
    except ImportError as error:
        raise BadInput(f"{path} {TORCH_WANTED}") from error
    if content.startswith(b"PK"):
        check_archive(path, content)
    try:
        # The warnings are about kinds of tensors; a sparse one with wrong indices would write beyond its numbers.
        with warnings.catch_warnings(action="ignore"), torch.sparse.check_sparse_tensor_invariants():
            return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:  # its message advises to load the file unsafely: not repeated
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"holds {named[1]}," if named else "is damaged, or pickled by a protocol above 3, or holds"
        raise BadInput(
            f"{path} {what} more than plain tensors, which could run a program when it is loaded: "
            "refused; give a file of a network's state_dict() alone, best as .safetensors"
        ) from error
    except Exception as error:  # torch raises whatever it likes of a damaged file
        raise BadInput(f"{path} is not a whole PyTorch file, fetch it again: {describe(error)[:200]}") from error


def check_archive(path: Path, content: bytes) -> None:
    """Errors: BadInput for a zip archive that is damaged, which torch.load does not look for, or not of torch.save."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names, damaged = archive.namelist(), archive.testzip()
    except Exception as error:  # so does zipfile
        raise BadInput(f"{path} is not a whole PyTorch file; fetch it again") from error
    if damaged or len(set(names)) < len(names):
        what = f"the checksum of {shown(damaged)} does not fit" if damaged else "a member stands twice"
        raise BadInput(f"{path} is damaged: {what}; fetch it again")
    members = {name.partition("/")[2] for name in names}
    if "constants.pkl" in members:
        raise BadInput(f"{path} is a TorchScript program: refused; give a file of the network's state_dict() alone")
    if "data.pkl" not in members:
        raise BadInput(f"{path} is a zip archive that torch.save did not write: unpack it, or {WANTED}")


def is_tensor(value) -> bool:
    """Whether something is a tensor of PyTorch, which need not be imported here, or an array."""
    return isinstance(value, np.ndarray) or hasattr(value, "detach")


def shape_of(name: str, tensor) -> tuple[int, ...]:
    """Errors: BadInput for a nested tensor, which has none."""
    if getattr(tensor, "is_nested", False):
        raise BadInput(f"{shown(name)} is a nested tensor, which is not read; save a plain one")
    return tuple(np.shape(tensor))


def floats(name: str, tensor) -> np.ndarray:
    """A tensor of any layout and any dtype of real numbers as a float32 array; a float64 array of numpy's stays one.

    Errors: BadInput, which names it, where it holds no values, other ones, or any that is not finite in float32.
    """
    try:
        array = dense(tensor) if hasattr(tensor, "detach") else np.asarray(tensor)
    except (RuntimeError, TypeError, NotImplementedError) as error:
        raise BadInput(f"{shown(name)} is of a kind that cannot be read: {describe(error)[:200]}") from error
    if not jax.dtypes.issubdtype(array.dtype, np.floating):
        raise BadInput(f"{shown(name)} is of dtype {array.dtype}, where real numbers belong; save it as float32")
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if bad := single.size - int(np.isfinite(single).sum()):
        raise BadInput(f"{shown(name)} holds {bad} of {single.size} numbers that are NaN or infinite in float32")
    return array if tensor is array and array.dtype == np.float64 else single


def dense(tensor) -> np.ndarray:
    """A tensor of PyTorch as an array; float32 where numpy lacks its dtype. Errors: whatever PyTorch raises."""
    import torch

    if tensor.is_meta:
        raise TypeError("it is on the device 'meta' and has no values; save the network after they are loaded")
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    tensor = tensor.to_dense().resolve_conj().resolve_neg()
    if tensor.dtype == torch.complex32:
        tensor = tensor.to(torch.complex64)
    if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float64):
        tensor = tensor.float()
    return tensor.numpy()


def shown(name) -> str:
    """A name as a file has it, for one line of a message: printable, and not without end."""
    text = name if isinstance(name, str) and name.isprintable() else repr(name)
    return text if len(text) <= 100 else f"{text[:100]}…"


def import_torchvision():
    """torchvision, also where its compiled operators do not fit the CPU build of PyTorch: two are declared then.

    Errors: ImportError.
    """
    import torch

    try:
        import torchvision.models
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision.models

        torchvision.declared = library  # they go when it goes
    return torchvision


def from_scratch(mode: str) -> str:
    """How a study does without weights, under a `config.classifier.mode`: those that freeze layers want some."""
    return "config.model.weights='none'" + ("" if mode == "full" else " with config.classifier.mode='full'")


def download(name: str, cache: Path, instead: str = "give a file", field: str = "config.model.weights"):
    """The published ImageNet weights of the network `name`, by torchvision's own API.

    The file is kept in `cache`. Its hash is part of its name and is checked at each use.

    Returns: what `torch.load` gives of it.

    Errors: BadInput where the network has none, torchvision is missing, the download fails or the hash is wrong; it
    names the `field` that asked for them and says what to do `instead`. NotWritable where the file cannot be kept.
    """
    if name not in ENUMS:
        raise BadInput(f"{field}='torchvision': there are none of {name}; {instead}")
    try:
        torchvision = import_torchvision()
    except ImportError as error:
        raise BadInput(f"{field}='torchvision' {TORCH_WANTED}") from error
    weights = torchvision.models.get_weight(ENUMS[name])
    path = cache / weights.url.rpartition("/")[2]
    remedy = f"fetch {weights.url} where there is a network and {instead}"
    try:
        rotten = path.exists() and not hash_fits(path)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}; choose another model.cache, or {remedy}") from error
    if rotten:
        raise BadInput(f"{path} does not have the hash that its name says; remove it, or {remedy}")
    try:
        return weights.get_state_dict(
            model_dir=os.fspath(cache), map_location="cpu", progress=True, check_hash=True, weights_only=True
        )
    except (OSError, http.client.HTTPException, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        # an error of the network has no such number and names no file
        if isinstance(error, OSError) and (error.errno in WRITE_ERRNOS or (error.errno and error.filename)):
            where = error.filename or cache
            raise NotWritable(f"{where}: {error.strerror}; free space there or choose another model.cache") from error
        raise BadInput(f"{field}='torchvision': {describe(error)} ({weights.url}); {remedy}") from error


def hash_fits(path: Path) -> bool:
    """Whether a file's SHA-256 begins with the digits at the end of its name, as torchvision names them."""
    return hash_of(path).startswith(re.search(r"-([a-f0-9]+)\.", path.name)[1])


def hash_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
