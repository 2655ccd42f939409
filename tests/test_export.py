"""Networks and generators taken out of a finished run: what they compute elsewhere, and what cannot be taken out."""

import contextlib
import hashlib
import io
import json
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from ml_collections import ConfigDict
from runs import call, error_of

from pneumojax import checkpoint, classify, conversion, export, interchange, predict, pretrained, sample
from pneumojax import run as runs
from pneumojax.errors import BadInput
from pneumojax.gan import dcgan
from pneumojax.systems import finetune, folding
from pneumojax.tuning import split

NAME = "trial0/clean/with_gan"
PICTURES = np.random.default_rng(5).integers(0, 256, (3, 48, 48), np.uint8)


def taken(workdir: Path, out: Path, *flags: str) -> list[str]:
    """Exports into a folder: the lines that are printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        ended = call(export.main, f"--workdir={workdir}", f"--out={out}", *flags)
    assert ended[0] == 0, ended[1]
    return printed.getvalue().splitlines()


def logits_of(workdir: Path, name: str = NAME) -> np.ndarray:
    """What the run itself says of some pictures."""
    run = runs.load(workdir)
    return finetune.classifier(run, {stage.name: stage for stage in run.stages()}[name]).logits(PICTURES)


@pytest.fixture(scope="module")
def folder(whole, tmp_path_factory) -> Path:
    """An exported classifier, an eighth as wide as published. Nothing may be changed in it."""
    made = tmp_path_factory.mktemp("exported") / "below" / "folder"
    taken(whole, made, f"--classifier={NAME}", "--jax_export")
    return made


@pytest.fixture(scope="module")
def generator(whole, tmp_path_factory) -> Path:
    """An exported generator. Nothing may be changed in it."""
    made = tmp_path_factory.mktemp("exported") / "generator"
    taken(whole, made, "--gan=trial0/clean/gan_normal", "--jax_export")
    return made


def published(whole: Path, workdir: Path) -> Path:
    """The run with a network as wide as published in place of its own, and random: nothing is trained."""
    workdir.mkdir()
    for name in ("splits.json", "metrics.jsonl", "predictions.csv"):
        (workdir / name).symlink_to(whole / name)
    config = json.loads((whole / "config.json").read_text())
    config["model"]["width"] = 64
    checkpoint.write_json(workdir / "config.json", config)
    shutil.copy(whole / "results.json", workdir)
    system = finetune.prepare(runs.configs.frozen(ConfigDict(config)))
    variables = jax.tree.map(np.asarray, system.start(7))
    rng = np.random.default_rng(0)
    variables["batch_stats"] = jax.tree.map(
        lambda leaf: np.float32(leaf + rng.uniform(-0.1, 0.1, leaf.shape)), variables["batch_stats"]
    )
    recipe = system.recipe({})
    with checkpoint.open_manager(workdir / "checkpoints" / NAME) as manager:
        checkpoint.save(manager, 6, classify.start(recipe, split(variables, recipe.tuning)[0]))
    return workdir


def test_a_folder_holds_the_network_under_pytorchs_names_and_says_what_it_is(folder, whole):
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]  # nothing temporary is left
    names = {"model.safetensors", "model.jax_export", "config.json", "README.md", "DATA.md", "CLAIM.md"}
    assert {path.name for path in folder.iterdir()} == names
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    assert tensors["layer2.0.downsample.1.running_mean"].shape == (8,)
    assert tensors["fc.weight"].shape == (2, 32)
    run = runs.load(whole)
    variables = finetune.restored(run, {stage.name: stage for stage in run.stages()}[NAME])[1]
    kernel = np.asarray(variables["params"]["layer1_0"]["conv1"]["kernel"])
    np.testing.assert_array_equal(tensors["layer1.0.conv1.weight"][3, 1], kernel[:, :, 1, 3])
    assert len(tensors) == len(jax.tree.leaves([variables["params"], variables["batch_stats"]]))
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"] == {"0": "NORMAL", "1": "PNEUMONIA"}
    assert (config["model"], config["fields"], config["architecture"]) == ("resnet18", {"width": 4}, None)
    assert config["preprocessing"]["image_size"] == 48
    np.testing.assert_allclose(config["preprocessing"]["mean"], [0.485, 0.456, 0.406], atol=1e-6)
    np.testing.assert_allclose(config["preprocessing"]["std"], [0.229, 0.224, 0.225], atol=1e-6)
    assert config["run_differs_by"] < 1e-5
    for name, digest in config["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    text = (folder / "README.md").read_text()
    assert "does not load in torchvision: its own has not width 4" in " ".join(text.split())
    assert str(whole) not in "".join(path.read_text() for path in folder.glob("*.*") if path.suffix in (".md", ".json"))


def test_the_same_run_gives_the_same_bits(folder, whole, tmp_path):
    (tmp_path / "again").mkdir()  # an empty one may be there
    taken(whole, tmp_path / "again", f"--classifier={NAME}")
    for name in ("model.safetensors", "DATA.md", "CLAIM.md"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_jaxs_own_export_computes_what_the_run_does_and_says_when_it_expires(folder, whole):
    content = (folder / "model.jax_export").read_bytes()
    exported = jax.export.deserialize(bytearray(content))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    wanted = logits_of(whole)
    for count in (1, 3):
        np.testing.assert_allclose(exported.call(PICTURES[:count]), wanted[:count], atol=1e-4)
    facts = json.loads((folder / "config.json").read_text())["programs"]["model.jax_export"]
    assert facts["jax"] == jax.__version__
    assert facts["largest_difference"] < 1e-4
    text = " ".join((folder / "README.md").read_text().split())
    assert f"written by jax {jax.__version__} (calling convention {facts['calling_convention_version']})" in text
    assert "and it expires: jax promises to read it for 6 months after the release" in text


@pytest.mark.slow
def test_the_printed_three_lines_load_it_in_torchvision_and_it_is_taken_for_weights(
    whole, tmp_path, torchvision_models, monkeypatch
):
    import torch

    workdir = published(whole, tmp_path / "run")
    out = tmp_path / "it's [it]"
    where, *lines = taken(workdir, out, f"--classifier={NAME}")
    assert (where, len(lines)) == (str(out), 3)
    scope: dict = {}
    exec("\n".join(lines), scope)
    mean, std = (torch.tensor(one).reshape(3, 1, 1) for one in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        found = scope["model"](((torch.tensor(PICTURES)[:, None].float() / 255).expand(-1, 3, -1, -1) - mean) / std)
    wanted = logits_of(workdir)
    assert np.ptp(wanted) > 0.01
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-4 * max(1, np.abs(wanted).max()))

    monkeypatch.chdir(out)
    [block] = (out / "README.md").read_text().split("```python\n")[1:]
    of_card: dict = {}
    exec(block.partition("```")[0], of_card)
    assert torch.equal(of_card["model"].fc.weight, scope["model"].fc.weight)

    weights = pretrained.load(str(out), "resnet18")
    run = runs.load(workdir)
    variables = finetune.restored(run, {stage.name: stage for stage in run.stages()}[NAME])[1]
    for name in ("params", "batch_stats"):
        jax.tree.map(np.testing.assert_array_equal, weights.variables[name], jax.device_get(variables[name]))
    with pytest.raises(BadInput, match="holds the weights of resnet18; give another folder, or that network"):
        pretrained.load(str(out), "squeezenet")

    assert (weights.classes, weights.trained_by) == (("NORMAL", "PNEUMONIA"), NAME)
    config = run.config.as_configdict()
    config.model.weights = str(out)
    assert pretrained.of_config(config).variables["params"].keys() == weights.variables["params"].keys()
    assert finetune.prepare(runs.configs.frozen(config)).facts["weights_trained_by"] == NAME
    config.data.classes = ("bacteria", "virus")  # as many, but others
    found = pretrained.of_config(config)
    assert weights.variables["params"].keys() - found.variables["params"].keys() == {"fc"}
    other = changed(out, tmp_path / "other", id2label={str(label): str(label) for label in range(3)})
    with pytest.raises(BadInput, match=r"config\.json names 3 classes and its head has 2; export the run again"):
        pretrained.load(str(other), "resnet18")


def test_a_generator_is_the_part_of_a_gan_that_draws(generator, whole):
    tensors = safetensors.numpy.load_file(generator / "model.safetensors")
    run = runs.load(whole)
    [source] = sample.load(run, "trial0/clean", 0, "NORMAL")
    leaves = jax.tree.leaves(source.state.generator)
    assert all(name.startswith("generator.") for name in tensors)
    assert len(tensors) == len(leaves)
    assert sum(one.size for one in tensors.values()) == sum(leaf.size for leaf in leaves)
    latents = np.random.default_rng(1).normal(size=(3, 16)).astype(np.float32)
    network = dcgan.Generator(run.config.gan.filters, 32)
    wanted = jax.jit(lambda z: network.apply(source.state.generator, z, None, train=False))(latents)
    found = jax.export.deserialize(bytearray((generator / "model.jax_export").read_bytes())).call(latents)
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    config = json.loads((generator / "config.json").read_text())
    assert (config["kind"], config["gan"], config["classes"]) == ("generator", "dcgan", ["NORMAL"])
    assert config["synthetic"] == sample.SYNTHETIC
    text = (generator / "README.md").read_text()
    assert "What it makes is synthetic: made by a GAN" in text
    assert {path.name for path in generator.glob("*.md")} == {"README.md", "DATA.md"}


@pytest.mark.slow
def test_onnx_programs_give_what_jax_gives(whole, tmp_path, caplog):
    """Of images and of latents, for any number of them; normalisation is inside."""
    pytest.importorskip("jax2onnx")
    import onnx
    import onnxruntime

    def session(flag):
        folder = tmp_path / flag.partition("=")[0].strip("-")
        printed = taken(whole, folder, flag, "--onnx")
        assert printed == [str(folder)]  # and nothing of what jax2onnx says of itself
        content = (folder / "model.onnx").read_bytes()
        facts = json.loads((folder / "config.json").read_text())["programs"]["model.onnx"]
        assert facts["largest_difference"] < 1e-4
        said = {one.key: one.value for one in onnx.load_model_from_string(content).metadata_props}
        with pytest.raises(BadInput, match=r"model\.onnx.*no file of weights"):
            pretrained.load(str(folder / "model.onnx"), "resnet18")
        return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]), said

    run, said = session(f"--classifier={NAME}")
    wanted = logits_of(whole)
    for count in (1, 3):
        [found] = run.run(["logits"], {"images": PICTURES[:count]})
        np.testing.assert_allclose(found, wanted[:count], atol=1e-4)
    assert (said["of"], said["classes"]) == (NAME, "NORMAL, PNEUMONIA")
    assert said["use"] == "for research; not a diagnosis"
    run, said = session("--gan=trial0/clean/gan_pneumonia")
    assert said["use"].startswith("synthetic: made by a GAN")
    latents = np.random.default_rng(1).normal(size=(5, 16)).astype(np.float32)
    drawn = export.of_gan(runs.load(whole), "trial0/clean/gan_pneumonia").function
    np.testing.assert_allclose(run.run(["images"], {"latents": latents})[0], jax.jit(drawn)(latents), atol=1e-4)
    assert not [one for one in caplog.records if one.name.startswith("jax2onnx")]  # tracebacks of what it leaves out


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("alexnet", 64), ("squeezenet", 48), ("googlenet", 48)])
def test_other_networks_as_onnx(name, size):
    """With random numbers; `to_onnx` itself refuses what differs."""
    pytest.importorskip("jax2onnx")
    model, variables = model_of(name, size, width=8)
    function = finetune.logits_function(model, variables)
    inputs = {"images": jax.ShapeDtypeStruct((size, size), np.uint8)}
    tried = interchange.examples(inputs, 3, 2)
    content, facts = interchange.to_onnx(function, inputs, "logits", tried, {"of": "it\n<b>"})
    assert facts["largest_difference"] < 1e-4
    assert b"it\\n<b>" in content
    assert np.ptp(jax.jit(function)(*tried)) > 0


def test_onnx_without_jax2onnx_is_told(whole, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "jax2onnx", None)
    flags = [f"--workdir={whole}", "--gan=trial0/clean/gan_normal", f"--out={tmp_path / 'out'}", "--onnx"]
    [line] = error_of(call(export.main, *flags), 2)
    assert line.startswith("--onnx: ")
    assert line.endswith("pip install 'pneumojax[onnx]'")
    assert not list(tmp_path.iterdir())


def test_a_program_that_gives_other_numbers_is_none():
    tried = [np.ones((4, 2), np.float32)]
    right = [2 * one for one in (tried[0], tried[0][:1])]
    assert interchange.largest(lambda x: 2 * x, tried, right, "--onnx") == 0
    with pytest.raises(BadInput, match=r"--onnx gives other numbers than jax \(by 5.0e-01 of the largest\); leave it"):
        interchange.largest(lambda x: 2 * x, tried, [right[0], right[1] * 1.5], "--onnx")
    with pytest.raises(BadInput, match="other numbers"):
        interchange.largest(lambda x: 2 * x, tried, [right[0] * np.nan, right[1]], "--onnx")


def model_of(name: str, size: int, **fields):
    """A network with random numbers everywhere, also where fresh ones are 0 or 1."""
    from pneumojax import models

    model, rng = models.load(name)(num_classes=2, **fields), np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: classify.fresh_variables(jax.random.key(0), model, size))

    def filled(path, leaf):
        if leaf.ndim > 1:
            return np.float32(rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1])))
        return np.float32((path[-1].key in ("scale", "var")) + rng.uniform(0.05, 0.3, leaf.shape))

    return model, jax.tree_util.tree_map_with_path(filled, shapes)


@pytest.mark.parametrize(
    ("name", "fields", "stage", "exact"),
    [
        ("squeezenet", {"width": 8}, "classifier_1", True),  # a convolution of one pixel
        ("squeezenet", {"width": 8}, "features_12", True),  # whose first layer is one too
        ("resnet18", {"width": 4}, "fc", True),  # behind a mean over pixels
        ("resnet18", {"width": 4}, "layer4", False),  # padded, and a shortcut goes past it
    ],
)
def test_standardisation_is_folded_into_a_layer_where_that_is_exact(name, fields, stage, exact):
    model, variables = model_of(name, 48, **fields)
    number = model.STAGES.index(stage)
    shape = folding.tuning.stages(model, 48)[number].inputs.shape
    rng = np.random.default_rng(1)
    scaling = {"mean": rng.uniform(0, 2, shape[-1]), "deviation": rng.uniform(0.5, 2, shape[-1])}
    scaling["deviation"][0] = folding.ENDLESS  # of a channel that is constant
    scaling = {key: one.astype(np.float32) for key, one in scaling.items()}
    found = folding.standardised(model, variables, 48, number, scaling)
    assert (found is not None) == exact
    if exact:
        x = rng.uniform(0, 4, (5, *shape[1:])).astype(np.float32)
        x[..., 0] = scaling["mean"][0]
        given = (x - scaling["mean"]) / scaling["deviation"]
        wanted, same = (
            jax.jit(lambda one, x: model.apply(one, x, train=False, begin=number))(one, given_or_x)
            for one, given_or_x in ((variables, given), (found, x))
        )
        assert np.ptp(wanted) > 0
        np.testing.assert_allclose(same, wanted, atol=1e-4 * float(np.abs(wanted).max()))


@pytest.mark.parametrize(("name", "exact"), [("resnet18", True), ("squeezenet", False)])  # behind whose head is a ReLU
def test_a_probe_is_the_head_of_a_network_where_that_is_linear(name, exact):
    model, variables = model_of(name, 48, width=8)
    features = folding.tuning.stages(model, 48)[len(model.STAGES) - 1].inputs.shape[-1]
    rng = np.random.default_rng(2)
    slopes = rng.normal(size=(features, 1)) / features
    probe = {"weight": np.hstack([-slopes, slopes]).T, "bias": np.array([-0.1, 0.1])}
    known = {"mean": rng.uniform(0, 1, features), "deviation": rng.uniform(0.5, 1, features)}

    def answer(x):
        return np.asarray(classify.pooled(jnp.asarray(x))) @ probe["weight"].T + probe["bias"]

    found = folding.as_head(model, variables, 48, probe | known, answer)
    assert (found is not None) == exact
    if exact:
        np.testing.assert_allclose(found["params"]["fc"]["kernel"], probe["weight"].T.astype(np.float32))


WRONG = {
    "trial": (
        [],
        "--classifier=trial9/clean/with_gan",
        "has no classifier 'trial9/clean/with_gan'; give one of trial0/clean/",
    ),
    "gan": ([], "--gan=trial9/clean", "'trial9/clean' is no GAN of it; give --gan=trial0/clean/gan_normal or "),
    "several": ([], "--gan=trial0/clean", "is several GANs; give --gan=trial0/clean/gan_normal or trial0/clean/gan_pn"),
    "both": (["--classifier=x"], "--gan=y", "argument --gan: not allowed with argument --classifier"),
    "neither": ([], "--onnx", "one of the arguments --classifier --gan is required"),
    "workdir": (["--workdir=nowhere"], "--classifier=x", "nowhere is not the workdir of a finished run"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_exported_is_told_in_one_line(wrong, whole, tmp_path):
    flags, which, words = WRONG[wrong]
    [line] = error_of(call(export.main, f"--workdir={whole}", *flags, which, f"--out={tmp_path / 'out'}"), 2)
    assert words in line
    assert not list(tmp_path.iterdir())


def test_an_out_that_holds_files_is_2_one_that_cannot_be_written_4_and_nothing_is_lost(whole, tmp_path):
    flags = [f"--workdir={whole}", "--gan=trial0/clean/gan_normal"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/model.safetensors").write_text("mine")
    [line] = error_of(call(export.main, *flags, f"--out={tmp_path / 'mine'}"), 2)
    assert line == f"{tmp_path / 'mine'} holds files already; choose another --out or empty it"
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["mine"]
    for out in (tmp_path / "mine/model.safetensors", tmp_path / "mine/model.safetensors/below"):
        assert "another --out" in error_of(call(export.main, *flags, f"--out={out}"), 4)[0]
    assert (tmp_path / "mine/model.safetensors").read_text() == "mine"
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "model.safetensors"]


def edited(whole: Path, workdir: Path, **results) -> Path:
    """The run with other results; its checkpoints are the run's."""
    workdir.mkdir()
    for path in whole.iterdir():
        (workdir / path.name).symlink_to(path)
    told = json.loads((whole / "results.json").read_text())
    (workdir / "results.json").unlink()
    checkpoint.write_json(workdir / "results.json", told | results)
    return workdir


def test_runs_of_another_version_and_systems_without_a_network_are_told(whole, tmp_path, monkeypatch):
    old = edited(whole, tmp_path / "old", schema=1)
    [line] = error_of(call(export.main, f"--workdir={old}", f"--classifier={NAME}", f"--out={tmp_path / 'o'}"), 2)
    assert "is of another version of pneumojax (schema 1); run it anew" in line
    monkeypatch.delattr(finetune, "exported")
    [line] = error_of(call(export.main, f"--workdir={whole}", f"--classifier={NAME}", f"--out={tmp_path / 'o'}"), 2)
    assert "the system finetune keeps no network whose logits are its answers; it cannot be exported" in line
    assert not (tmp_path / "o").exists()


def test_a_classifier_that_diverged_is_said_to_have(whole, tmp_path):
    """By export and predict: it is none of those that are listed, and no word that nobody knows."""
    shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("checkpoints"))
    results = json.loads((whole / "results.json").read_text())
    trial = results["protocols"]["clean"]["with_gan"]["trials"][0]
    trial["diverged"] = {"step": 4, "metric": "loss", "checkpoint": None}
    checkpoint.write_json(tmp_path / "run/results.json", results)
    with (whole / "predictions.csv").open() as file:
        kept = [line for line in file if not line.startswith("clean,with_gan,0,")]
    (tmp_path / "run/predictions.csv").write_text("".join(kept))
    words = f"{tmp_path / 'run'}: {NAME} diverged (loss after step 4); give one of trial0/clean/without_gan, "
    flags = f"--workdir={tmp_path / 'run'}", f"--classifier={NAME}"
    for ended in (
        call(export.main, *flags, f"--out={tmp_path / 'out'}"),
        call(predict.main, *flags, tmp_path / "run/samples"),
    ):
        [line] = error_of(ended, 2)
        assert line.startswith(words)
        assert NAME not in line.removeprefix(words).split(", ")


def changed(folder: Path, copy: Path, **fields) -> Path:
    """An exported folder whose config.json says otherwise."""
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    checkpoint.write_json(copy / "config.json", config | fields)
    return copy


def test_exported_folders_that_are_no_weights_are_told(folder, generator, tmp_path):
    onnx = changed(folder, tmp_path / "onnx", fields={})
    (onnx / "model.safetensors").write_bytes(b"\x08\x0a\x12\x08jax2onnx" * 9)
    renamed = changed(onnx, tmp_path / "renamed", made_by="another program")
    loose = changed(folder, tmp_path / "loose", fields={})
    (loose / "model.safetensors").unlink()
    (loose / "model.safetensors").symlink_to(tmp_path / "nowhere")
    for one, words in {
        folder: "holds a resnet18 with width=4; weights are taken for one as it was published",
        generator: "holds a generator and no classifier",
        changed(folder, tmp_path / "later", schema=99): r"made by another version, pneumojax \S+ \(schema 99\)",
        changed(folder, tmp_path / "odd", fields=3): "config.json is damaged",
        changed(folder, tmp_path / "none", files={}): "config.json is damaged",
        changed(folder, tmp_path / "nobody", id2label={}): "config.json is damaged: it says neither classes",
        changed(folder, tmp_path / "probe", fields={}, lacks=["layer4", "fc"]): (
            r"without layer4, fc; pass --config\.model\.allow_missing=\"\('layer4', 'fc'\)\", and they start anew"
        ),
        onnx: "is damaged: model.safetensors is not as it was written; export the run again",
        loose: r"loose/model\.safetensors is not there; give ",
        renamed: r"model\.safetensors begins with .* which is no file of weights",
    }.items():
        with pytest.raises(BadInput, match=words):
            pretrained.load(str(one), "resnet18")


def test_what_a_network_up_to_its_probe_lacks_is_told_by_blocks():
    names = conversion.table("resnet18")
    assert conversion.lacking(names, "resnet18") == []
    assert conversion.lacking([one for one in names if not one.startswith("fc.")], "resnet18") == ["fc"]
    upto = [one for one in names if not one.startswith(("fc.", "layer4.", "layer3.1."))]
    assert conversion.lacking(upto, "resnet18") == ["layer3.1", "layer4", "fc"]
