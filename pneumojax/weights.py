"""Tensors under torchvision's names, from files and by torchvision's own download; pickles may make nothing else."""

import hashlib
import os
import pickle
import re
import urllib.error
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from pneumojax.errors import BadInput, describe

ENUMS = {  # torchvision's names of the published weights
    "alexnet": "AlexNet_Weights.IMAGENET1K_V1",
    "squeezenet": "SqueezeNet1_1_Weights.IMAGENET1K_V1",
    "squeezenet1_0": "SqueezeNet1_0_Weights.IMAGENET1K_V1",
    "googlenet": "GoogLeNet_Weights.IMAGENET1K_V1",
    "resnet18": "ResNet18_Weights.IMAGENET1K_V1",
}
TORCH_WANTED = "needs PyTorch; pip install 'pneumojax[torch]', or pass the weights as .safetensors"


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a `.safetensors`, `.pth` or `.pt` file, float32, by name.

    Errors: BadInput where the file is missing, damaged, of another kind, or holds anything but tensors by name.
    """
    if not path.is_file():
        raise BadInput(f"{path} is not there; give a .safetensors or .pth file, a converted folder or 'torchvision'")
    if path.suffix == ".safetensors":
        try:
            tensors = safetensors.numpy.load_file(path)
        except (safetensors.SafetensorError, OSError) as error:
            raise BadInput(f"{path} is not a whole .safetensors file, fetch it again: {describe(error)}") from error
    elif path.suffix in (".pth", ".pt"):
        tensors = as_numpy(path, load_pickle(path))
    else:
        raise BadInput(f"{path}: weights are read from .safetensors, .pth and .pt files")
    return {name: np.asarray(tensor, np.float32) for name, tensor in tensors.items()}


def load_pickle(path: Path):
    """What torch.load gives of a file when it may make tensors and plain containers, and nothing else."""
    try:
        import torch
    except ImportError as error:
        raise BadInput(f"{path} {TORCH_WANTED}") from error
    try:
        return torch.load(path, weights_only=True, map_location="cpu")
    except pickle.UnpicklingError as error:  # its message advises to load the file unsafely: not repeated
        raise BadInput(
            f"{path} is damaged, or holds more than plain tensors, which could run a program when it is loaded: "
            "refused; give a file of a network's state_dict() alone, best as .safetensors"
        ) from error
    except (EOFError, RuntimeError, OSError, ValueError, KeyError) as error:
        raise BadInput(f"{path} is not a whole PyTorch file; fetch it again") from error


def as_numpy(path: Path, loaded) -> dict[str, np.ndarray]:
    """A state dict of PyTorch as numpy arrays."""
    import torch

    if not isinstance(loaded, dict) or not all(isinstance(value, torch.Tensor) for value in loaded.values()):
        keys = f" of {', '.join(map(str, list(loaded)[:5]))}" if isinstance(loaded, dict) else ""
        what = f"{type(loaded).__name__}{keys}"
        raise BadInput(f"{path} holds a {what} and not tensors by name; save the network's state_dict() alone")
    return {name: tensor.float().numpy() for name, tensor in loaded.items()}


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


def download(name: str, cache: Path) -> dict[str, np.ndarray]:
    """The published ImageNet weights of the network `name`, by torchvision's own API.

    The file is kept in `cache`. Its hash is part of its name and is checked at each use.

    Errors: BadInput where the network has none, torchvision is missing, the download fails or the hash is wrong.
    """
    if name not in ENUMS:
        raise BadInput(f"config.model.weights='torchvision': there are none of {name}; give 'none' or a file")
    try:
        torchvision = import_torchvision()
    except ImportError as error:
        raise BadInput(f"config.model.weights='torchvision' {TORCH_WANTED}") from error
    weights = torchvision.models.get_weight(ENUMS[name])
    path = cache / weights.url.rpartition("/")[2]
    remedy = (
        f"fetch {weights.url} where there is a network and pass --config.model.weights=FILE, "
        "or pass --config.model.weights=none to train from scratch"
    )
    if path.exists() and not hash_fits(path):
        raise BadInput(f"{path} does not have the hash that its name says; remove it, or {remedy}")
    try:
        loaded = weights.get_state_dict(
            model_dir=os.fspath(cache), map_location="cpu", progress=True, check_hash=True, weights_only=True
        )
    except (urllib.error.URLError, OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise BadInput(f"config.model.weights='torchvision': {describe(error)} ({weights.url}); {remedy}") from error
    return as_numpy(path, loaded)


def hash_fits(path: Path) -> bool:
    """Whether a file's SHA-256 begins with the digits at the end of its name, as torchvision names them."""
    wanted = re.search(r"-([a-f0-9]+)\.", path.name)[1]
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().startswith(wanted)
