"""Files of weights as programs that train write them, and what is told of those that cannot be used."""

import logging
from collections import OrderedDict

import numpy as np
import pytest
import safetensors.numpy
import torch

from pneumojax import pretrained, weights
from pneumojax.errors import BadInput

MISSING = ("layer2", "layer3", "layer4")


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    """ResNet-18's up to its first stage, by torchvision's own module, with a head for 3 classes."""
    torch.manual_seed(0)
    module = weights.import_torchvision().models.resnet18(num_classes=3)
    for name, buffer in module.named_buffers():
        if name.endswith(("mean", "var")):
            buffer.uniform_(0.5, 2)
    return {name: tensor for name, tensor in module.state_dict().items() if not name.startswith(MISSING)}


@pytest.fixture(scope="module")
def absent() -> tuple[str, ...]:
    return tuple({name.rpartition(".")[0] for name in pretrained.table("resnet18") if name.startswith(MISSING)})


@pytest.fixture
def read(tmp_path, absent):
    """Saves and loads: what was read, by torchvision's names, float32."""

    def of(held, **how) -> dict[str, np.ndarray]:
        torch.save(held, tmp_path / "w.pth", **how)
        return pretrained.to_torch(pretrained.load(str(tmp_path / "w.pth"), "resnet18", absent).variables, "resnet18")

    return of


def check(got: dict[str, np.ndarray], expected: dict[str, torch.Tensor]) -> None:
    """The same names and, to the bit, what PyTorch makes of its tensors in float32."""
    expected = {name: tensor for name, tensor in expected.items() if not name.endswith("num_batches_tracked")}
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert got[name].dtype == np.float32
        np.testing.assert_array_equal(got[name], tensor.detach().double().float().numpy(), err_msg=name)


@pytest.mark.parametrize(
    ("renamed", "said"),
    [
        (lambda name: name, "20 tensors of resnet18; "),
        (lambda name: f"module.{name}", "without 'module.' in their names"),
        (lambda name: f"_orig_mod.{name}", "without '_orig_mod.' in their names"),
        (lambda name: f"module._orig_mod.{name}", "without '_orig_mod.' and 'module.' in their names"),
        (lambda name: f"model.{name}", "without 'model.' in their names"),
        (lambda name: f"my.own.net.{name}", "without 'my.own.net.' in their names"),
        (lambda name: f"layer1.{name}", "without 'layer1.' in their names"),
        (lambda name: f"net.module.{name}", "without 'module.' and 'net.' in their names"),
        (lambda name: name.replace("layer1.", "layer1.module."), "without 'module.' in their names"),
    ],
)
def test_what_wraps_names_is_left_out_and_said(read, tensors, renamed, said, caplog):
    with caplog.at_level(logging.INFO, "absl"):
        check(read({renamed(name): tensor for name, tensor in tensors.items()}), tensors)
    [line] = [record.getMessage() for record in caplog.records if record.getMessage().startswith("weights: ")]
    assert said.replace("20", str(sum(not name.endswith("tracked") for name in tensors))) in line
    assert "5 passed over, counters and auxiliary heads" in line


def test_the_average_of_a_network_by_pytorch_is_read(read, tensors):
    check(read({"n_averaged": torch.tensor(3), **{f"module.{name}": t for name, t in tensors.items()}}), tensors)


def lightning(tensors: dict) -> dict:
    """As Lightning writes a checkpoint."""
    state = {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}}
    return {
        "epoch": 3,
        "pytorch-lightning_version": "2.5",
        "state_dict": OrderedDict((f"model.{name}", tensor) for name, tensor in tensors.items()),
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5), "monitor": "loss"}},
        "optimizer_states": [{"state": state, "param_groups": [{"lr": 0.1, "params": [0]}]}],
    }


@pytest.mark.parametrize(
    ("held", "place"),
    [
        (lightning, "state_dict"),
        (lambda t: {"model": t, "best_acc1": torch.tensor(71.0), "epoch": 3}, "model"),
        (lambda t: {"model_state_dict": t, "optimizer": {}}, "model_state_dict"),
        (lambda t: {"ema": {"module": t, "decay": 0.999}}, "ema/module"),
        (lambda t: [{"lr": 0.1}, (3, t)], "1/1"),
        (lambda t: {"model": t, "the same again": t}, "model"),
    ],
)
def test_the_one_dict_of_the_networks_tensors_is_found_and_its_place_is_said(read, tensors, held, place, caplog):
    with caplog.at_level(logging.INFO, "absl"):
        check(read(held(tensors)), tensors)
    assert f", those below {place!r}" in caplog.text


def test_of_two_networks_in_a_file_none_is_chosen(read, tensors):
    other = {name: tensor.clone() for name, tensor in tensors.items()}
    with pytest.raises(BadInput, match="of resnet18 more than once, below 'model' and below 'ema/0'; give"):
        read({"model": tensors, "ema": [other], "epoch": 1})
    with pytest.raises(BadInput, match=r"have the prefix 'student\.', 27 others have not, as teacher\.conv1"):
        read({f"{who}.{name}": tensor for who in ("student", "teacher") for name, tensor in tensors.items()})


def test_a_checkpoint_of_another_network_tells_so_and_not_of_its_containers(read):
    with pytest.raises(BadInput, match="these are not the weights of torchvision's resnet18") as caught:
        read({"epoch": 3, "state_dict": {"features.0.weight": torch.ones(64, 3, 3, 3)}})
    assert "unknown: features.0.weight" in caught.value.details


def test_names_that_are_not_the_networks_are_told(read, tensors):
    for more, words in {
        ("model.conv1.weight", "w"): "",
        ("module.conv1.weight", "w"): "module.conv1.weight are both the network's conv1.weight",
        (3, "w"): "holds the key 3 beside tensors",
        ("epoch", 3): "holds a value of type int under epoch beside tensors",
        ("x\nerror: forged", "w"): "",
    }.items():
        key, value = more
        with pytest.raises(BadInput, match=words or "1 tensors differ") as caught:
            read({**tensors, key: torch.ones(2) if value == "w" else value})
        if not words:
            assert caught.value.details == (f"unknown: {weights.shown(key)}",)
            assert "\n" not in caught.value.details[0]
    with pytest.raises(BadInput, match=r"have the prefix 'model\.', 1 others have not, as loss\.weight"):
        read({"loss.weight": torch.ones(2), **{f"model.{name}": tensor for name, tensor in tensors.items()}})


LAYOUTS = {
    "parameters": torch.nn.Parameter,
    "float16": lambda t: t.half(),
    "bfloat16": lambda t: t.bfloat16(),
    "float64": lambda t: t.double() / 3,
    "float8": lambda t: t.to(torch.float8_e4m3fn),
    "channels last": lambda t: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t,
    "transposed": lambda t: t.mT.contiguous().mT if t.ndim > 1 else t,
    "every second": lambda t: torch.stack([t, -t], -1)[..., 0],
    "expanded": lambda t: t[:1].expand(t.shape),
    "negative": lambda t: torch.complex(t, -t).conj().imag,
}


@pytest.mark.parametrize("way", LAYOUTS)
def test_tensors_are_read_whatever_their_layout_and_precision(read, tensors, way):
    made = {name: tensor if tensor.ndim == 0 else LAYOUTS[way](tensor) for name, tensor in tensors.items()}
    check(read(made), made)


@pytest.mark.filterwarnings("ignore::UserWarning")  # PyTorch's, on kinds that are young or going
def test_sparse_and_quantised_tensors_are_read_as_what_they_stand_for(read, tensors):
    sparse = {name: tensor.to_sparse() if tensor.ndim else tensor for name, tensor in tensors.items()}
    sparse["fc.weight"] = tensors["fc.weight"].to_sparse_csr()
    check(read(sparse), tensors)
    quantised = dict(tensors)
    quantised["conv1.weight"] = torch.quantize_per_tensor(tensors["conv1.weight"], 0.01, 0, torch.qint8)
    scales, zeros = torch.full((3,), 0.02, dtype=torch.float64), torch.tensor([0, 3, -3])
    quantised["fc.weight"] = torch.quantize_per_channel(tensors["fc.weight"], scales, zeros, 0, torch.qint8)
    expected = tensors | {
        "conv1.weight": quantised["conv1.weight"].int_repr().float() * 0.01,
        "fc.weight": (quantised["fc.weight"].int_repr() - zeros[:, None]).float() * 0.02,
    }
    got = read(quantised)
    for name in ("conv1.weight", "fc.weight"):
        np.testing.assert_allclose(got[name], expected[name], rtol=1e-6)


def test_a_sparse_tensor_whose_indices_lie_beyond_it_is_refused(read, tensors):
    """PyTorch makes it all the same and writes beyond its memory."""
    for index in (3, 10**6, -1):
        beyond = torch.sparse_coo_tensor(torch.tensor([[index]]), torch.ones(1), (3,), check_invariants=False)
        with pytest.raises(BadInput, match="w.pth is not a whole PyTorch file, fetch it again: .*ind"):
            read(tensors | {"fc.bias": beyond})


def test_tensors_that_share_their_numbers_and_files_of_before_pytorch_1_6_are_read(read, tensors):
    shared = tensors | {"layer1.1.bn1.weight": tensors["layer1.0.bn1.weight"], "bn1.bias": tensors["fc.weight"][0, :64]}
    check(read(shared), shared)
    check(read(shared, _use_new_zipfile_serialization=False), shared)


@pytest.mark.parametrize(
    ("name", "spoilt", "words"),
    [
        (
            "conv1.weight",
            {(0, 0, 0, 0): np.nan, (1, 2, 3, 4): np.inf},
            "conv1.weight holds 2 of 9408 numbers that",
        ),
        ("fc.bias", {(1,): -np.inf}, "fc.bias holds 1 of 3 numbers that are NaN or infinite"),
        ("fc.weight", {(2, 3): 1e39}, "fc.weight holds 1 of 1536 numbers that are NaN or infinite in float32"),
        ("bn1.running_var", {(7,): -0.5}, "bn1.running_var is a variance and holds 1 numbers below 0"),
    ],
)
def test_numbers_that_no_network_has_are_counted(read, tensors, name, spoilt, words):
    array = tensors[name].double().clone()
    for place, value in spoilt.items():
        array[place] = value
    with pytest.raises(BadInput, match=f"w.pth: {words}"):
        read(tensors | {name: array})


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_without_real_numbers_are_named(read, tensors):
    for kind, words in {
        torch.int64: "is of dtype int64, where real numbers belong",
        torch.uint16: "is of dtype uint16",
        torch.bool: "is of dtype bool",
        torch.complex64: "is of dtype complex64",
        torch.complex32: "is of dtype complex64",
    }.items():
        with pytest.raises(BadInput, match=f"layer1.0.conv1.weight {words}"):
            read(tensors | {"layer1.0.conv1.weight": tensors["layer1.0.conv1.weight"].to(kind)})
    with pytest.raises(BadInput, match="bn1.bias is of a kind .* on the device 'meta' and has no values"):
        read(tensors | {"bn1.bias": tensors["bn1.bias"].to("meta")})
    with pytest.raises(BadInput, match="fc.weight is a nested tensor"):
        read(tensors | {"fc.weight": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])})


@pytest.mark.parametrize("classes", [1, 2, 7, 1000])
def test_the_head_may_have_any_number_of_classes(read, tensors, classes):
    fitting = tensors | {"fc.weight": torch.randn(classes, 512), "fc.bias": torch.randn(classes)}
    check(read(fitting), fitting)


def test_a_head_of_no_class_a_damaged_one_and_scalars_are_misshaped(read, tensors):
    for bias, weight in (
        ((0,), (0, 512)),
        ((2,), (3, 512)),
        ((), (3, 512)),
        ((3,), (3, 1, 512)),
        ((10**9,), (10**9, 512)),
    ):
        spoilt = {"fc.bias": torch.ones(1)[0].expand(bias), "fc.weight": torch.ones(1)[0].expand(weight)}
        with pytest.raises(BadInput, match="tensors? differ") as caught:
            read(tensors | spoilt)
        assert {line.split()[1] for line in caught.value.details} <= {"fc.bias", "fc.weight"}


def test_a_bit_that_turned_in_a_pth_is_noticed(tensors, tmp_path, absent):
    """PyTorch itself does not look at the checksums."""
    path = tmp_path / "w.pth"
    torch.save(tensors, path)
    content = bytearray(path.read_bytes())
    content[content.find(tensors["layer1.1.conv2.weight"].numpy().tobytes()) + 1002] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path)["layer1.1.conv2.weight"], tensors["layer1.1.conv2.weight"])
    with pytest.raises(BadInput, match=r"w.pth is damaged: the checksum of w/data/\d+ does not fit; fetch it again"):
        pretrained.load(str(path), "resnet18", absent)


def test_what_a_file_is_its_first_bytes_tell_and_not_its_name(tensors, tmp_path, absent):
    """And a header of safetensors may be as long as it likes, also as a pickle or an archive begins."""
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    torch.save(tensors, tmp_path / "torch.safetensors")
    loaded = [pretrained.load(str(tmp_path / "torch.safetensors"), "resnet18", absent)]
    for beginning in (b"\x80", b"PK", None):
        content = safetensors.numpy.save(arrays)
        length = int.from_bytes(content[:8], "little")
        wanted = length
        while beginning and not wanted.to_bytes(8, "little").startswith(beginning):
            wanted += 1
        header = content[8 : 8 + length] + b" " * (wanted - length)
        (tmp_path / "w.ckpt").write_bytes(wanted.to_bytes(8, "little") + header + content[8 + length :])
        loaded.append(pretrained.load(str(tmp_path / "w.ckpt"), "resnet18", absent))
    assert len({one.digest for one in loaded}) == 1


def by_hand(path, entries: str, data: bytes) -> str:
    path.write_bytes(len(entries).to_bytes(8, "little") + entries.encode() + data)
    return str(path)


def test_headers_of_safetensors_that_lie_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    one = '"fc.bias": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}'
    for entries, words in {
        f"{{{one}": "is not a whole .safetensors file",
        f"{{{one}, {one.replace('F32', 'F16').replace('[1]', '[2]')}}}": "fc.bias stands twice in its header",
        f"{{{one.replace('F32', 'F99')}}}": "is not a whole .safetensors file.*F99",
        f"{{{one.replace('[1]', '[2]')}}}": "is not a whole .safetensors file",
        f"{{{one.replace('F32', 'F4').replace('[1]', '[8]')}}}": "fc.bias is of dtype F4, which is not read",
        "{" * 100_000: "is not a whole .safetensors file",
    }.items():
        with pytest.raises(BadInput, match=words):
            pretrained.load(by_hand(path, entries, bytes(4)), "resnet18")


def test_safetensors_of_any_dtype_of_real_numbers_are_read(tensors, tmp_path, absent):
    from safetensors.torch import save_file

    for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.float8_e5m2, torch.float8_e4m3fn):
        made = {name: tensor.to(dtype) if tensor.ndim else tensor for name, tensor in tensors.items()}
        save_file(made, tmp_path / "w.safetensors")
        variables = pretrained.load(str(tmp_path / "w.safetensors"), "resnet18", absent).variables
        check(pretrained.to_torch(variables, "resnet18"), made)
    save_file(tensors | {"fc.bias": torch.ones(3, dtype=torch.int64)}, tmp_path / "w.safetensors")
    with pytest.raises(BadInput, match="fc.bias is of dtype int64"):
        pretrained.load(str(tmp_path / "w.safetensors"), "resnet18", absent)


def test_paths_that_cannot_be_read_are_told_as_they_are(tmp_path):
    (tmp_path / "file").touch()
    for path, words in {
        tmp_path / ("x" * 300): "config.model.weights=.*File name too long",
        tmp_path / "file/w.pth": "cannot be read: .*Not a directory",
        "~nobody-of-this-name/w.pth": "config.model.weights='~nobody-of-this-name/w.pth': no home folder of that user",
    }.items():
        with pytest.raises(BadInput, match=words):
            pretrained.load(str(path), "resnet18")


@pytest.mark.parametrize("place", ["w.pth", "locked/w.pth", "folder", "locked/folder"])
def test_what_this_user_may_not_read_is_named_and_not_where_the_command_writes(tmp_path, place, capsys, monkeypatch):
    """Simulated, since root may read everything."""
    path = tmp_path / place

    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    path.mkdir(parents=True) if "folder" in place else path.parent.mkdir(exist_ok=True)
    monkeypatch.setattr(type(path), "is_dir" if "locked" in place else "open", refuse)
    monkeypatch.setattr(type(path), "read_bytes", refuse)
    if "folder" not in place:
        path.touch()
    with pytest.raises(SystemExit) as caught:
        pretrained.main(["--model=resnet18", f"--from={path}", f"--out={tmp_path / 'out'}"])
    assert caught.value.code == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert "Permission denied" in line
    assert str(path) in line
    assert "free space" not in line


def test_kernels_of_no_trained_layer_are_said(read, tensors, caplog):
    read(tensors)
    read({**tensors, "fc.weight": torch.zeros_like(tensors["fc.weight"])})
    read({name: torch.ones_like(tensor) for name, tensor in tensors.items()})
    one, six = (line.partition("no trained layer: ")[2] for line in caplog.messages if "no trained layer" in line)
    assert one == "fc.weight"
    assert six == "6 kernels, conv1.weight, fc.weight, layer1.0.conv1.weight and so on"
