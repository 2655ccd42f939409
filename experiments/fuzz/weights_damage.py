"""Files of weights that are damaged, made by hand, or something else; and converted folders of which a file is."""

import functools
import io
import json
import shutil
import struct
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import safetensors.torch
import torch

from experiments.fuzz.weights_files import NETWORK, Made, absent, any_of, floats, reread, saved, shapes, state_dict
from pneumojax import pretrained


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
