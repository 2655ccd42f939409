"""Weights from files, folders and a server, and those that are refused."""

import hashlib
import http.server
import json
import logging
import re
import shutil
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

from pneumojax import config, models, pretrained, weights
from pneumojax.errors import BadInput, NotWritable
from pneumojax.systems import finetune
from pneumojax.tuning import MODES

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


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_files_that_are_refused(state_dict, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pth(state_dict, tmp_path / "good.pth")
    safetensors.numpy.save_file(state_dict, tmp_path / "good.safetensors")
    torch.save({"w": Evil()}, tmp_path / "evil.pth")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    torch.save({"epoch": 3, "arch": "squeezenet"}, tmp_path / "wrapped.pth")
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    for name in ("good.pth", "good.safetensors"):
        content = (tmp_path / name).read_bytes()
        (tmp_path / f"half-{name}").write_bytes(content[: len(content) // 2])
        (tmp_path / f"empty-{name}").touch()
        (tmp_path / f"foreign-{name}").write_bytes(b"%PDF-1.4 not weights at all" * 9)
    (tmp_path / "weights.onnx").write_bytes(b"\x08\x07\x12\x07pytorch" * 9)
    (tmp_path / "folder.pth").mkdir()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pth")
    np.savez(tmp_path / "arrays.npz", w=np.ones(1))
    (tmp_path / "arrays.npz").rename(tmp_path / "arrays.pth")
    torch.save({"w": torch.ones(1)}, tmp_path / "new.pth", pickle_protocol=4)
    for name, words in {
        "evil.pth": "evil.pth holds getattr, more than plain tensors.*refused",
        "module.pth": "holds torch.nn.modules.linear.Linear, more than plain tensors.*refused",
        "wrapped.pth": "holds a dict of epoch, arch and not tensors",
        "list.pth": "holds a value of type list",
        "half-good.pth": "not a whole PyTorch file",
        "empty-good.pth": "is empty",
        "foreign-good.pth": "begins with b'%PDF-1.4 not wei', which is no file of weights",
        "half-good.safetensors": "not a whole .safetensors file",
        "empty-good.safetensors": "is empty",
        "foreign-good.safetensors": "begins with b'%PDF",
        "weights.onnx": "no file of weights.*give a .safetensors or .pth file",
        "nowhere.pth": "nowhere.pth is not there",
        "folder.pth": "folder.pth/weights.json cannot be read: No such file.*give a folder that",
        "script.pth": "is a TorchScript program: refused",
        "arrays.pth": "is a zip archive that torch.save did not write",
        "new.pth": "a protocol above 3",
    }.items():
        with pytest.raises(BadInput, match=words) as caught:
            pretrained.load(name, "squeezenet")
        assert name in str(caught.value)
        assert "weights_only" not in str(caught.value)  # torch's own message advises to switch it off
    with pytest.raises(BadInput, match="not the weights of torchvision's resnet18"):
        pretrained.load("good.pth", "resnet18")
    assert not (tmp_path / "evil-was-here").exists()


@pytest.fixture(scope="module")
def folder(state_dict, tmp_path_factory) -> Path:
    """A converted folder. Nothing may be changed in it."""
    made = tmp_path_factory.mktemp("converted") / "folder"
    variables = pretrained.convert(state_dict, "squeezenet")
    pretrained.save(pretrained.Weights(variables, pretrained.digest(variables)), "squeezenet", "x", made)
    return made


def test_whatever_file_of_a_converted_folder_is_damaged_is_named(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file() and path.name != "weights.json"]
    for path in files:
        content = path.read_bytes()
        for damaged in (content[: len(content) // 2], content + b"x", None):
            path.unlink()
            if damaged is not None and damaged != content:
                path.write_bytes(damaged)
            name = re.escape(str(path.relative_to(tmp_path / "copy")))
            with pytest.raises(
                BadInput, match=rf"copy (is damaged|cannot be read): .*{name}.*convert the weights again"
            ):
                pretrained.load(str(tmp_path / "copy"), "squeezenet")
            path.write_bytes(content)
    same(*(pretrained.load(str(one), "squeezenet").variables for one in (folder, tmp_path / "copy")))


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({}, "is not a folder of"),
        (None, "is not a folder of"),
        ([1], "is not a folder of"),
        ({"shapes": {"classifier.1.bias": "no shape"}}, "is not a folder of"),
        ({"shapes": {"classifier.1.bias": [10**12]}}, "it has other tensors than squeezenet"),
        ({"shapes": {"classifier.1.bias": [1000]}}, "is damaged"),
        ({"shapes": {}}, "is damaged"),
        ({"digest": "0"}, "its weights are not those that were written"),
        ({"files": 3}, "is not a folder of"),
        ({"model": None}, "holds the weights of None"),
    ],
)
def test_a_record_of_a_converted_folder_that_says_otherwise_is_refused(folder, tmp_path, record, words):
    shutil.copytree(folder, tmp_path / "copy")
    before = json.loads((folder / "weights.json").read_text())
    (tmp_path / "copy/weights.json").write_text(
        json.dumps(before | record if isinstance(record, dict) and record else record)
    )
    with pytest.raises(BadInput, match=words):
        pretrained.load(str(tmp_path / "copy"), "squeezenet")


def test_a_damaged_folder_is_one_line_of_the_command(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    largest = max((tmp_path / "copy").rglob("*"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-9])
    done = convert_command("--model=squeezenet", f"--from={tmp_path / 'copy'}", f"--out={tmp_path / 'out'}")
    assert done.returncode == 2
    assert [line[:7] for line in done.stderr.splitlines()] == ["error: "]


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
    with pytest.raises(BadInput, match=rf"invalid hash.*fetch {address}/{wrong.name} where .* give a file"):
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
    with pytest.raises(BadInput, match=r"404.*fetch .* and give a file"):
        load("squeezenet-12345678.pth")
    monkeypatch.setattr(published, "url", "http://127.0.0.1:9/squeezenet-12345678.pth")
    for mode, advice in {
        "full": "or config.model.weights='none'$",
        "head": "or config.model.weights='none' with config.classifier.mode='full'$",
        "last_k": "or config.model.weights='none' with config.classifier.mode='full'$",
    }.items():
        fields = {"model.weights": "torchvision", "model.name": "squeezenet", "model.cache": cache}
        given = config.load("configs/default.py", flags(fields | {"classifier.mode": mode}))
        with pytest.raises(BadInput, match=f"refused.*give a file as config.model.weights, {advice}"):
            pretrained.of_config(given)
    (tmp_path / "file").touch()
    with pytest.raises(NotWritable, match="file/weights: Not a directory; .* choose another model.cache"):
        pretrained.load("torchvision", "squeezenet", cache=str(tmp_path / "file"))


def flags(fields: dict) -> list[str]:
    return [f"--config.{field}={value}" for field, value in fields.items()]


def test_what_a_download_advises_is_a_config_that_can_be():
    """Word for word, under every mode."""
    for mode in MODES:
        advised = dict(re.findall(r"config\.([\w.]+)='(\w+)'", weights.from_scratch(mode)))
        config.load("configs/default.py", flags({"model.weights": "torchvision", "classifier.mode": mode} | advised))


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


def test_a_study_says_which_parameters_start_anew(state_dict, tmp_path, caplog):
    safetensors.numpy.save_file(state_dict, tmp_path / "w.safetensors")
    fields = {"model.name": "squeezenet", "model.weights": tmp_path / "w.safetensors", "model.image_size": 64}
    given = config.frozen(config.load("configs/default.py", flags(fields)))
    with caplog.at_level(logging.INFO, "absl"):
        facts = finetune.prepare(given).facts
    assert facts["new_parameters"] == ["classifier_1.bias", "classifier_1.kernel"]
    assert "2 parameters start anew: classifier_1.bias, classifier_1.kernel" in caplog.text
    assert "w.safetensors: 52 tensors of squeezenet" in caplog.text


NETWORK = """
import flax.linen as nn
import jax.numpy as jnp


class Model(nn.Module):
    num_classes: int = 1000

    TORCH_NAMES = {NAMES}

    @nn.compact
    def __call__(self, x, train: bool = False):
        for name in ("branch5x5_1", "branch5x5_2", "tail_3"):
            x = nn.Conv(4, (3, 3), (4, 4), name=name)(x)
        return nn.Dense(self.num_classes, name="fc")(x.mean((1, 2)))
"""


@pytest.fixture
def network(tmp_path, monkeypatch):
    """Makes a network of `pneumojax.models` with a TORCH_NAMES."""
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])

    def make(name: str, names: dict) -> str:
        (tmp_path / f"{name}.py").write_text(NETWORK.replace("{NAMES}", repr(names)))
        return name

    yield make
    for name in [name for name in sys.modules if name.startswith("pneumojax.models.own_")]:
        del sys.modules[name]


def test_a_model_names_those_of_its_layers_that_end_in_a_number_otherwise(network, tmp_path):
    """Inception's `branch5x5_1` is no first part of a `branch5x5`; the rule stands for all others."""
    own = network("own_named", {name: name for name in ("branch5x5_1", "branch5x5_2")})
    layers = {"branch5x5_1": (4, 3, 3, 3), "branch5x5_2": (4, 4, 3, 3), "tail.3": (4, 4, 3, 3), "fc": (2, 4)}
    tensors = {f"{layer}.weight": torch.randn(shape) for layer, shape in layers.items()}
    tensors |= {f"{layer}.bias": torch.randn(shape[0]) for layer, shape in layers.items()}
    assert pretrained.table(own, 2).keys() == tensors.keys()
    torch.save(tensors, tmp_path / "own.pth")
    params = pretrained.load(str(tmp_path / "own.pth"), own).variables["params"]
    assert set(params) == {"branch5x5_1", "branch5x5_2", "tail_3", "fc"}
    np.testing.assert_array_equal(params["branch5x5_2"]["kernel"][1, 2], tensors["branch5x5_2.weight"][:, :, 1, 2].T)
    by_rule = network("own_plain", {})
    with pytest.raises(BadInput, match="8 tensors differ") as caught:
        pretrained.load(str(tmp_path / "own.pth"), by_rule)
    assert "missing: branch5x5.1.weight" in caught.value.details


def test_two_layers_of_one_name_are_refused(network):
    own = network("own_twice", {"branch5x5_1": "branch", "branch5x5_2": "branch"})
    with pytest.raises(BadInput, match=r"branch5x5_1/bias and branch5x5_2/bias are both called branch\.bias"):
        pretrained.table(own)
