"""Files of weights that are whole: other names, containers, layouts, dtypes, heads; and tensors that are no weights.

The network is the first fifth of ResNet-18 with its head, small enough to be written hundreds of times: all that makes
files differ, convolutions, batch norm and a linear layer, is in it.
"""

import functools
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.torch
import torch

from pneumojax import weights

NETWORK = "resnet18"
LATER = re.compile(r"layer[234]\..*")


class Made(NamedTuple):
    """A file, and what is to come of it."""

    path: Path
    expected: dict[str, np.ndarray] | None  # float32 by torchvision's names; None where it is to be refused
    words: tuple[str, ...] = ()  # that the error, or the line that says what was read, must have
    either: bool = False  # it may be refused as well


@functools.cache
def shapes() -> dict[str, tuple[int, ...]]:
    """Of all tensors of the network, by PyTorch's own module."""
    module = weights.import_torchvision().models.resnet18(num_classes=2)
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


@functools.cache
def absent() -> tuple[str, ...]:
    """The layers that the files here do not have."""
    return tuple({name.rpartition(".")[0] for name in shapes() if LATER.fullmatch(name)})


def state_dict(rng: np.random.Generator, classes: int = 2) -> dict[str, torch.Tensor]:
    """Random tensors of few bits: exact in float16, bfloat16 and float32; variances above 0."""
    made = {}
    for name, shape in shapes().items():
        if LATER.fullmatch(name):
            continue
        if name.startswith("fc."):
            shape = (classes, *shape[1:])
        if name.endswith("num_batches_tracked"):
            made[name] = torch.tensor(int(rng.integers(1000)))
        else:
            values = rng.integers(1 if name.endswith("var") else -64, 64, shape) / 16
            made[name] = torch.from_numpy(np.asarray(values, np.float32))
    return made


def floats(tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    """The reference: what PyTorch itself makes of its tensors in float32."""
    found = {}
    for name, tensor in tensors.items():
        if not name.endswith("num_batches_tracked"):
            tensor = tensor.detach().dequantize() if tensor.is_quantized else tensor.detach()
            tensor = tensor if tensor.layout == torch.strided else tensor.to_dense()
            found[name] = tensor.to(torch.float64).to(torch.float32).contiguous().numpy()
    return found


def reread(path: Path) -> dict[str, np.ndarray]:
    """The reference where a file holds a plain state dict: PyTorch reads it again."""
    if path.suffix == ".safetensors":
        return floats(safetensors.torch.load_file(path))
    return floats(torch.load(path, weights_only=True, map_location="cpu"))


def saved(rng: np.random.Generator, held, path: Path) -> Path:
    """By torch.save, in its formats of today and of before 1.6, with the protocols that PyTorch reads safely."""
    zipped, protocol = bool(rng.integers(4)), int(rng.integers(2, 4))
    torch.save(held, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    return path


def any_of(rng: np.random.Generator, values):
    """One of several."""
    values = list(values)
    return values[rng.integers(len(values))]


def prefix(rng: np.random.Generator, folder: Path) -> Made:
    """A prefix before every name, and words of wrappers anywhere."""
    tensors = state_dict(rng)
    words = ("module", "model", "net", "_orig_mod", "backbone.0", "encoder", "features", "layer1", "fc", "été")
    before = "".join(f"{word}." for word in rng.choice(words, rng.integers(0, 3)))
    layer, word = any_of(rng, ("layer1.0", "layer1", "conv1", "fc")), any_of(rng, ("module", "_orig_mod"))
    inner = {name: name.replace(f"{layer}.", f"{layer}.{word}.", 1) if rng.integers(2) else name for name in tensors}
    if rng.integers(2):
        inner = {name: name for name in tensors}
    held = {before + inner[name]: tensor for name, tensor in tensors.items()}
    if rng.integers(4) == 0:
        held = {"n_averaged": torch.tensor(7), **held}
    said = ("without",) if set(held) - {"n_averaged"} != set(tensors) else ()
    return Made(saved(rng, held, folder / "w.pth"), floats(tensors), said)


def place(rng: np.random.Generator, folder: Path) -> Made:
    """Below a key of a checkpoint as programs that train write it; sometimes of two networks."""
    tensors = state_dict(rng)
    words = ("state_dict", "model", "model_state_dict", "ema", "net", "weights", 0, "a b", "module")
    keys = [any_of(rng, words) for _ in range(rng.integers(1, 4))]
    held: Any = tensors if rng.integers(2) else OrderedDict(tensors)
    twice = rng.integers(4) == 0
    for number, key in enumerate(reversed(keys)):
        beside = {"epoch": 3, "best": torch.tensor(0.5), "hyper_parameters": {"lr": 0.1, "classes": ["a", "b"]}}
        state = {n: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)} for n in range(3)}
        beside["optimizer_states"] = [{"state": state, "param_groups": [{"params": [0, 1, 2]}]}]
        if twice and number == 0:
            beside["other"] = {name: tensor.clone() for name, tensor in tensors.items()}
        held = [held] if key == 0 else {**beside, key: held}
    if twice and keys[-1] == 0:
        held = {"one": held, "other": state_dict(rng)}
    where = "/".join(map(str, keys))
    words = ("other", "more than once") if twice else (repr(where),)
    return Made(saved(rng, held, folder / "w.pth"), None if twice else floats(tensors), words)


def dtype(rng: np.random.Generator, folder: Path) -> Made:
    """Each tensor in a dtype of its own."""
    real = (torch.float16, torch.bfloat16, torch.float64, torch.float32, torch.float8_e5m2, torch.float8_e4m3fn)
    tensors = {
        name: tensor if name.endswith("tracked") else (tensor / 3).to(any_of(rng, real))
        for name, tensor in state_dict(rng).items()
    }
    if rng.integers(2):
        safetensors.torch.save_file(tensors, folder / "w.safetensors")
        return Made(folder / "w.safetensors", reread(folder / "w.safetensors"))
    path = saved(rng, tensors, folder / "w.pth")
    try:
        return Made(path, reread(path))
    except AttributeError:  # of PyTorch: some dtypes are younger than the format of before 1.6
        return Made(path, None, (path.name,))


def laid_out(rng: np.random.Generator, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers, or nearly, in another layout."""
    ways = {
        "plain": lambda t: t,
        "transposed": lambda t: t.mT.contiguous().mT if t.ndim > 1 else t,
        "channels last": lambda t: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t,
        "view": lambda t: torch.cat([t, t])[len(t) :],
        "every second": lambda t: torch.stack([t, -t], -1)[..., 0],
        "expanded": lambda t: t[:1].expand(t.shape),
        "parameter": torch.nn.Parameter,
        "needs gradients": lambda t: t.clone().requires_grad_(),
        "sparse": lambda t: t.to_sparse(),
        "sparse rows": lambda t: t.to_sparse_csr() if t.ndim == 2 else t,
        "sparse columns": lambda t: t.to_sparse_csc() if t.ndim == 2 else t,
        "quantised": lambda t: torch.quantize_per_tensor(t, 1 / 32, 0, torch.qint8),
        "quantised by channel": lambda t: torch.quantize_per_channel(
            t,
            torch.full((len(t),), 1 / 16, dtype=torch.float64),
            torch.zeros(len(t), dtype=torch.int64),
            0,
            torch.qint8,
        ),
        "negative": lambda t: torch.complex(torch.zeros_like(t), -t).conj().imag,
    }
    return tensor if tensor.ndim == 0 else ways[any_of(rng, ways)](tensor)


def layout(rng: np.random.Generator, folder: Path) -> Made:
    """Views, sparse, quantised, shared, transposed tensors and Parameters."""
    tensors = {name: laid_out(rng, name, tensor) for name, tensor in state_dict(rng).items()}
    if rng.integers(2):
        tensors["layer1.1.bn1.weight"] = tensors["layer1.0.bn1.weight"] = tensors["layer1.0.bn1.bias"]
    return Made(saved(rng, tensors, folder / "w.pth"), floats(tensors))


def head(rng: np.random.Generator, folder: Path) -> Made:
    """Any number of classes."""
    tensors = state_dict(rng, int(any_of(rng, (0, 1, 2, 3, 5, 10, 1000))))
    path = saved(rng, tensors, folder / "w.pth")
    return Made(path, floats(tensors)) if len(tensors["fc.bias"]) else Made(path, None, ("fc.bias", "fc.weight"))


def value(rng: np.random.Generator, folder: Path) -> Made:
    """NaN, infinities, what overflows in float32, variances below 0: refused with the tensor and the count."""
    tensors = state_dict(rng)
    name = any_of(rng, [name for name in tensors if not name.endswith("tracked")])
    numbers = (float("nan"), float("inf"), -float("inf"), 1e39) + ((-1.0,) if name.endswith("var") else ())
    number, array = any_of(rng, numbers), tensors[name].double()
    chosen = rng.choice(array.numel(), min(array.numel(), int(rng.integers(1, 9))), replace=False)
    array.view(-1)[torch.from_numpy(chosen)] = number
    tensors[name] = array if number == 1e39 else array.float()
    return Made(saved(rng, tensors, folder / "w.pth"), None, (name, f" {len(chosen)} "))


def no_floats(rng: np.random.Generator, folder: Path) -> Made:
    """Tensors that hold other things, or nothing: refused with the tensor."""
    tensors = state_dict(rng)
    name = any_of(rng, [name for name in tensors if not name.endswith("tracked")])
    t = tensors[name]
    kinds = {
        "meta": lambda: t.to("meta"),
        "scalar": lambda: t.reshape(-1)[0],
        "no numbers": lambda: t[:0],
        "one axis more": lambda: t[None],
        "indices beyond": lambda: torch.sparse_coo_tensor([[10**6]], torch.ones(1), (3,), check_invariants=False),
        "nested": lambda: torch.nested.nested_tensor([t.reshape(-1), t.reshape(-1)[:1]]),
    }
    other = (torch.int64, torch.int8, torch.uint8, torch.uint16, torch.bool, torch.complex64, torch.complex32)
    kinds |= {str(one): (lambda one=one: t.to(one)) for one in other}
    kind = any_of(rng, kinds)
    tensors[name] = kinds[kind]()
    torch.save(tensors, folder / "w.pth")
    return Made(folder / "w.pth", None, ("indices",) if kind == "indices beyond" else (name,))


class Anything:
    """What is more than tensors."""


def names(rng: np.random.Generator, folder: Path) -> Made:
    """Names that are no network's: too many, too few, twice, no texts, with values that are no tensors."""
    tensors: dict = state_dict(rng)
    name = any_of(rng, [name for name in tensors if not name.endswith("tracked")])
    kind = any_of(rng, ("more", "fewer", "twice", "no text", "no tensor", "other prefix", "line", "object"))
    words = (name,)
    if kind == "more":
        tensors["fc2.weight"], words = torch.ones(2), ("unknown: fc2.weight",)
    elif kind == "fewer":
        del tensors[name]
    elif kind == "twice":
        tensors[f"module.{name}"] = tensors[name]
    elif kind == "no text":
        tensors[3], words = torch.ones(2), ("3",)
    elif kind == "no tensor":
        tensors["epoch"], words = 3, ("epoch",)
    elif kind == "other prefix":
        tensors = {f"model.{name}": tensor for name, tensor in tensors.items()} | {"loss.weight": torch.ones(2)}
        words = ("loss.weight", "model.")
    elif kind == "line":
        tensors["x\nerror: forged"], words = torch.ones(2), (r"x\nerror: forged",)
    else:
        tensors[name], words = Anything(), ("refused",)
    return Made(saved(rng, tensors, folder / "w.pth"), None, words)
