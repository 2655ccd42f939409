"""Weights from files, folders and a server, and those that are refused."""

import hashlib
import http.server
import json
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import torch

from pneumojax import models, pretrained
from pneumojax.errors import BadInput

ROOT = Path(__file__).parents[1]
MISSING = ("features.12.expand1x1", "classifier.1")


@pytest.fixture(scope="module")
def state_dict() -> dict[str, np.ndarray]:
    """SqueezeNet's tensors under torchvision's names, random."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: models.load("squeezenet")().init(jax.random.key(0), jnp.zeros((1, 64, 64, 3))))
    filled = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)
    return pretrained.to_torch({"batch_stats": {}, **filled}, "squeezenet")


def save_pth(state_dict, path):
    torch.save({name: torch.tensor(value) for name, value in state_dict.items()}, path)


def same(one: dict, other: dict):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_all_kinds_of_files_hold_the_same_weights(state_dict, tmp_path):
    safetensors.numpy.save_file(state_dict, tmp_path / "w.safetensors")
    save_pth(state_dict, tmp_path / "w.pth")
    from_safetensors, from_pth = (
        pretrained.load(str(tmp_path / f"w.{kind}"), "squeezenet") for kind in ("safetensors", "pth")
    )
    pretrained.save(from_pth, "squeezenet", "w.pth", tmp_path / "folder")
    from_folder = pretrained.load(str(tmp_path / "folder"), "squeezenet")
    for other in (from_safetensors, from_folder):
        same(from_pth.variables, other.variables)
        assert other.digest == from_pth.digest
    same(from_pth.variables, pretrained.convert(state_dict, "squeezenet"))


def test_reading_safetensors_and_folders_imports_no_torch(state_dict, tmp_path):
    safetensors.numpy.save_file(state_dict, tmp_path / "w.safetensors")
    pretrained.save(pretrained.load(str(tmp_path / "w.safetensors"), "squeezenet"), "squeezenet", "w", tmp_path / "f")
    program = (
        "import sys; from pneumojax import pretrained\n"
        f"for source in ('w.safetensors', 'f'): pretrained.load({str(tmp_path)!r} + '/' + source, 'squeezenet')\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def convert_command(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pneumojax.pretrained", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


def test_the_command_converts_once_and_overwrites_nothing(state_dict, tmp_path):
    less = {name: value for name, value in state_dict.items() if not name.startswith(MISSING)}
    safetensors.numpy.save_file(less, tmp_path / "trunk.safetensors")
    arguments = ("--model=squeezenet", f"--from={tmp_path / 'trunk.safetensors'}", f"--out={tmp_path / 'out'}")
    refused = convert_command(*arguments)
    assert refused.returncode == 2
    lines = refused.stderr.splitlines()
    assert [line for line in lines if line.startswith("error:")] == [lines[-5]]
    assert "4 tensors differ" in lines[-5]
    assert "  missing: features.12.expand1x1.weight" in lines
    assert not (tmp_path / "out").exists()
    done = convert_command(*arguments, "--allow_missing", *MISSING)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "weights.json").read_text())["source"] == "trunk.safetensors"
    loaded = pretrained.load(str(tmp_path / "out"), "squeezenet", MISSING)
    same(loaded.variables, pretrained.convert(less, "squeezenet", MISSING))
    again = convert_command(*arguments, "--allow_missing", *MISSING)
    assert (again.returncode, again.stderr.count("error:")) == (2, 1)
    assert "is there already" in again.stderr
    with pytest.raises(BadInput, match=r"4 tensors differ.*config.model.allow_missing"):
        pretrained.load(str(tmp_path / "out"), "squeezenet")
    with pytest.raises(BadInput, match="holds the weights of squeezenet"):
        pretrained.load(str(tmp_path / "out"), "resnet18")


class Evil:
    """What a pickle must not be able to do."""

    def __reduce__(self):
        return (Path.touch, (Path("evil-was-here"),))


def test_files_that_are_refused(state_dict, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pth(state_dict, tmp_path / "good.pth")
    safetensors.numpy.save_file(state_dict, tmp_path / "good.safetensors")
    torch.save({"w": Evil()}, tmp_path / "evil.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    torch.save({"state_dict": {"w": torch.ones(1)}, "epoch": 3}, tmp_path / "wrapped.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    for name in ("good.pth", "good.safetensors"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"half-{name}").write_bytes(content[: len(content) // 2])
        (tmp_path / f"empty-{name}").touch()
        (tmp_path / f"foreign-{name}").write_bytes(b"%PDF-1.4 not weights at all" * 9)
    (tmp_path / "weights.onnx").touch()
    for name, words in {
        "evil.pth": "refused",
        "module.pth": "refused",
        "wrapped.pth": "dict of state_dict, epoch and not tensors",
        "list.pth": "holds a list",
        "half-good.pth": "not a whole PyTorch file",
        "empty-good.pth": "not a whole PyTorch file",
        "foreign-good.pth": "refused",
        "half-good.safetensors": "not a whole .safetensors file",
        "empty-good.safetensors": "not a whole .safetensors file",
        "foreign-good.safetensors": "not a whole .safetensors file",
        "weights.onnx": "are read from .safetensors, .pth and .pt",
        "nowhere.pth": "is not there",
    }.items():
        with pytest.raises(BadInput, match=words) as caught:
            pretrained.load(name, "squeezenet")
        assert name in str(caught.value)
        assert "weights_only" not in str(caught.value)  # torch's own message advises to switch it off
    with pytest.raises(BadInput, match="not the weights of torchvision's resnet18"):
        pretrained.load("good.pth", "resnet18")
    assert not (tmp_path / "evil-was-here").exists()


def test_damaged_folders_are_refused(state_dict, tmp_path):
    folder = tmp_path / "folder"
    converted = pretrained.Weights(pretrained.convert(state_dict, "squeezenet"), "")
    converted = converted._replace(digest=pretrained.digest(converted.variables))
    pretrained.save(converted, "squeezenet", "x", folder)
    noticed = set()
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "weights.json":
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            try:
                same(pretrained.load(str(folder), "squeezenet").variables, converted.variables)
            except BadInput:
                noticed.add(path)
            path.write_bytes(content)
    assert max(folder.rglob("*"), key=lambda path: path.stat().st_size) in noticed
    (folder / "weights.json").write_text("{}")
    with pytest.raises(BadInput, match="is not a folder of"):
        pretrained.load(str(folder), "squeezenet")


@pytest.fixture
def server(tmp_path):
    """A loopback server of the files in a folder: (folder, address)."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_torchvisions_download_checks_its_hash(state_dict, server, tmp_path, torchvision_models, monkeypatch):
    folder, address = server
    cache = tmp_path / "cache"
    save_pth(state_dict, folder / "w.pth")
    published = torchvision_models.SqueezeNet1_1_Weights.IMAGENET1K_V1.value

    def load(name):
        monkeypatch.setattr(published, "url", f"{address}/{name}")
        return pretrained.load("torchvision", "squeezenet", cache=str(cache))

    wrong = folder / "squeezenet-00000000.pth"
    wrong.write_bytes((folder / "w.pth").read_bytes())
    with pytest.raises(BadInput, match=r"invalid hash.*--config.model.weights=FILE.*--config.model.weights=none"):
        load(wrong.name)
    assert not list(cache.rglob("squeezenet-*"))

    digest = hashlib.sha256((folder / "w.pth").read_bytes()).hexdigest()[:8]
    right = (folder / "w.pth").rename(folder / f"squeezenet-{digest}.pth")
    same(load(right.name).variables, pretrained.convert(state_dict, "squeezenet"))
    right.unlink()
    same(load(right.name).variables, pretrained.convert(state_dict, "squeezenet"))  # from the cache

    [kept] = cache.rglob("squeezenet-*")
    kept.write_bytes(b"rotten")
    with pytest.raises(BadInput, match="does not have the hash that its name says; remove it"):
        load(right.name)
    with pytest.raises(BadInput, match=r"404.*train from scratch"):
        load("squeezenet-12345678.pth")
    monkeypatch.setattr(published, "url", "http://127.0.0.1:9/squeezenet-12345678.pth")
    with pytest.raises(BadInput, match=r"refused.*train from scratch"):
        pretrained.load("torchvision", "squeezenet", cache=str(cache))


def test_a_head_for_other_classes_is_replaced_and_one_that_fits_is_kept(state_dict):
    given = pretrained.convert(state_dict, "squeezenet")
    model = models.load("squeezenet")
    for classes, replaced in ((2, True), (1000, False)):
        fresh = jax.tree.map(
            lambda leaf: np.zeros(leaf.shape, np.float32),
            jax.eval_shape(lambda n=classes: model(num_classes=n).init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)))),
        )
        variables, new = pretrained.start_from({"batch_stats": {}, **fresh}, given)
        assert new == ({("classifier_1", "kernel"), ("classifier_1", "bias")} if replaced else set())
        np.testing.assert_array_equal(
            variables["params"]["features_0"]["kernel"], given["params"]["features_0"]["kernel"]
        )
