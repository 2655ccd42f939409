"""Odd files of weights, one a call, read by `pneumojax.pretrained.load` and by PyTorch or numpy alone.

The network is the first fifth of ResNet-18 with its head, small enough to be written hundreds of times: all that makes
files differ, convolutions, batch norm and a linear layer, is in it.
"""

import functools
import io
import json
import re
import shutil
import struct
import tempfile
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import safetensors.torch
import torch
from flax.traverse_util import flatten_dict

from experiments.fuzz import Outcome
from pneumojax import pretrained
from pneumojax.errors import BadInput

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
    from pneumojax import weights

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


def damaged(rng: np.random.Generator, folder: Path) -> Made:
    """Cut, filled with zeros, or one bit turned: as PyTorch reads it where nothing tells of it, or refused."""
    suffix = any_of(rng, (".pth", ".safetensors"))
    path, tensors = folder / f"w{suffix}", state_dict(rng)
    if suffix == ".pth":
        saved(rng, tensors, path)
    else:
        safetensors.torch.save_file(tensors, path)
    content, kind = bytearray(path.read_bytes()), any_of(rng, ("cut", "zeros", "bit", "bit near an end", "empty"))
    where = int(rng.integers(len(content)))
    if kind == "bit near an end":
        where = int(any_of(rng, (rng.integers(2000), len(content) - 1 - rng.integers(2000))))
    if kind in ("cut", "empty"):
        del content[where if kind == "cut" else 0 :]
    else:
        content[where : where + 64] = bytes(64) if kind == "zeros" else [content[where] ^ 1 << rng.integers(8)]
    path.write_bytes(content)
    try:
        if zipfile.is_zipfile(path) and zipfile.ZipFile(path).testzip():
            raise ValueError("a checksum does not fit")
        expected = reread(path)
        if not all(np.isfinite(array).all() for array in expected.values()):
            raise ValueError("not finite")
    except Exception:  # whatever the reference says
        return Made(path, None, (path.name,))
    same = {name: tensor.shape for name, tensor in expected.items()}
    right = {name: shape for name, shape in same.items() if name in shapes()} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items() if not name.endswith("tracked")
    }
    variances = all((array >= 0).all() for name, array in expected.items() if name.endswith("var"))
    return Made(path, expected if right and variances else None)


def foreign(rng: np.random.Generator, folder: Path) -> Made:
    """What is no file of weights, under the name of one."""
    path, net = folder / f"w{any_of(rng, ('.pth', '.safetensors', '.pt', '.onnx', ''))}", torch.nn.Linear(2, 2)
    kind = any_of(rng, ("module", "script", "onnx", "page", "pointer", "npz", "zip", "folder", "none", "npy", "list"))
    if kind == "module":
        torch.save(net, path)
    elif kind == "script":
        torch.jit.save(torch.jit.script(net), path)
    elif kind in ("npz", "npy"):
        content = io.BytesIO()
        (np.savez if kind == "npz" else np.save)(content, np.ones(3))
        path.write_bytes(content.getvalue())
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(any_of(rng, ("w.pth", "w/w.pth", "é/..//data.pkl")), b"x")
    elif kind == "folder":
        path.mkdir()
    elif kind == "list":
        torch.save(any_of(rng, ([torch.ones(2)], torch.ones(2), {}, None, 3, "text", {"a": {}})), path)
    elif kind != "none":
        start = {"onnx": b"\x08\x07\x12\x07pytorch\x1a", "page": b"<!DOCTYPE html><html>", "pointer": b"version https:"}
        path.write_bytes(start[kind] + rng.bytes(200))
    return Made(path, None, (path.name,))


def header(rng: np.random.Generator, folder: Path) -> Made:
    """A .safetensors file by hand: any dtype, order, metadata; or one that is not as the format wants it."""
    tensors, start, blocks, entries = state_dict(rng), 0, [], []
    for name in rng.permutation(list(tensors)):
        block = tensors[name].numpy().tobytes()
        kind = "I64" if name.endswith("tracked") else "F32"
        offsets = [start, start + len(block)]
        entries.append((str(name), {"dtype": kind, "shape": list(tensors[name].shape), "data_offsets": offsets}))
        start, blocks = start + len(block), [*blocks, block]
    kind = any_of(
        rng, ("good", "metadata", "twice", "dtype", "offset", "shape", "length", "text", "suffix", "i32", "deep")
    )
    number, words = int(rng.integers(len(entries))), ("w.",)
    name, entry = entries[number]
    if kind == "metadata":
        entries.insert(0, ("__metadata__", {"format": "pt"}))
    elif kind == "twice":
        entries.append((name, entry | {"dtype": "U8", "shape": [entry["data_offsets"][1] - entry["data_offsets"][0]]}))
    elif kind in ("dtype", "offset", "shape"):
        field, to = {"dtype": ("dtype", "F99"), "offset": ("data_offsets", [0, 3]), "shape": ("shape", [7, 7])}[kind]
        entries[number] = (name, entry | {field: to})
    elif kind == "i32":
        name = "conv1.weight"
        entries = [(one, of | {"dtype": "I32"} if one == name else of) for one, of in entries]
        words = (name, "int32")
    text = "{" + ", ".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries) + "}"
    if kind == "text":
        text = text[:-5]
    elif kind == "deep":
        text = '{"a":' * 100_000
    text += " " * (-len(text) % any_of(rng, (8, 128)))
    length = 2**40 if kind == "length" else len(text.encode())
    path = folder / ("w.pth" if kind == "suffix" else "w.safetensors")
    path.write_bytes(struct.pack("<Q", length) + text.encode() + b"".join(blocks))
    return Made(path, floats(tensors) if kind in ("good", "metadata", "suffix") else None, words)


@functools.cache
def converted() -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    """The files of a folder that was converted once, and its tensors."""
    tensors = floats(state_dict(np.random.default_rng(0)))
    variables = pretrained.convert(tensors, NETWORK, absent())
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "folder"
        pretrained.save(pretrained.Weights(variables, pretrained.digest(variables)), NETWORK, "w.pth", root)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}, tensors


def converted_folder(rng: np.random.Generator, folder: Path) -> Made:
    """A converted folder of which one file is damaged: the same tensors, or refused."""
    files, tensors = converted()
    root = folder / "folder"
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    name = any_of(rng, ["weights.json", *files])
    path, content = root / name, bytearray(files[name])
    kind = any_of(rng, ("whole", "gone", "cut", "bit", "no file", "value"))
    if kind == "gone":
        path.unlink() if rng.integers(2) else shutil.rmtree(any_of(rng, [p for p in root.rglob("*") if p.is_dir()]))
    elif kind == "no file":
        path.unlink()
        path.mkdir()
    elif kind == "cut":
        path.write_bytes(content[: rng.integers(len(content) + 1)])
    elif kind == "bit" and content:
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
    elif kind == "value":
        record = json.loads(files["weights.json"])
        other = any_of(rng, (None, 3, "text", [], {}, {"fc.bias": [10**12]}, {"fc.bias": -1}, float("nan")))
        record[any_of(rng, record)] = other
        (root / "weights.json").write_text(json.dumps(any_of(rng, (record, record, [record], None))))
    return Made(root, tensors, (), kind != "whole")


KINDS = {
    "prefix": prefix,
    "place": place,
    "dtype": dtype,
    "layout": layout,
    "head": head,
    "not finite": value,
    "no floats": no_floats,
    "names": names,
    "damaged": damaged,
    "no weights": foreign,
    "header of safetensors": header,
    "converted folder": converted_folder,
}


def here(name: str, array: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Path and axes in the variables, written down a second time: HWIO, [inputs, outputs]."""
    *layers, leaf = re.sub(r"\.(\d+)", r"_\1", name).split(".")
    if leaf.startswith("running_"):
        return ("batch_stats", *layers, leaf.removeprefix("running_")), array
    leaf = "bias" if leaf == "bias" else "scale" if array.ndim == 1 else "kernel"
    turned = np.einsum("oihw->hwio" if array.ndim == 4 else "oi->io", array) if array.ndim > 1 else array
    return ("params", *layers, leaf), turned


def differences(variables: dict, expected: dict[str, np.ndarray]) -> list[str]:
    """Paths whose arrays are missing, too many, of another dtype or not the same to the bit."""
    got, wanted = flatten_dict(variables), dict(here(name, array) for name, array in expected.items())
    return [
        "/".join(path)
        for path in got.keys() | wanted.keys()
        if path not in got
        or path not in wanted
        or got[path].dtype != np.float32
        or not np.array_equal(got[path], wanted[path])
    ]


def case(rng: np.random.Generator, folder: Path) -> Outcome:
    """Makes one file of weights in an empty folder and reads it."""
    kind = any_of(rng, KINDS)
    name = f"weights: {kind}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = KINDS[kind](rng, folder)
        try:
            with mock.patch("pneumojax.pretrained.logging") as log:
                variables = pretrained.load(str(made.path), NETWORK, absent()).variables
        except BadInput as error:
            text = "\n".join((str(error), *error.details))
            lacking = [word for word in made.words if word not in text]
            if made.expected is not None and not made.either:
                return Outcome(name, "wrong", f"refused: {text[:300]}")
            if lacking or any(line.startswith("error:") for line in text.splitlines()):
                return Outcome(name, "wrong", f"the error lacks {lacking}: {text[:300]}")
            return Outcome(name, "refused")
    if made.expected is None:
        return Outcome(name, "silent", f"taken, though it lacks what {made.words} tell of")
    if wrong := differences(variables, made.expected):
        return Outcome(name, "wrong", f"{len(wrong)} tensors differ: {', '.join(wrong[:5])}")
    lines = "\n".join(text % tuple(rest) for text, *rest in (call.args for call in log.info.call_args_list))
    if not made.either and (lacking := [word for word in made.words if word not in lines]):
        return Outcome(name, "silent", f"not said: {lacking} in {lines}")
    return Outcome(name, "right")
