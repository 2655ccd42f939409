"""Fine-tuning on cached features: what it computes is what stepping through the whole network computes."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict
from ml_collections import FrozenConfigDict
from PIL import Image
from runs import bits, start, wait_for

from configs import default
from pneumojax import classify, loop, models, pretrained, tuning
from pneumojax.data.table import Table
from pneumojax.errors import BadInput
from pneumojax.jobs import Batch, Job
from pneumojax.stage import Stage
from pneumojax.systems import features

ROOT = Path(__file__).parents[1]
MISSING = ("features.12.expand1x1", "features.12.expand3x3.bias", "classifier.1")
SIZE = 64


def config_of(**changes) -> FrozenConfigDict:
    config = default.get_config().classifier
    config.update({"mode": "head", "batch_size": 4, "log_every": 4, "save_every": 4, "predict_batch_size": 16})
    config.update({"learning_rate": 1e-3, **changes})
    return FrozenConfigDict(config)


def fresh(name: str) -> tuple:
    model = models.load(name)(num_classes=2)
    return model, classify.init(jax.random.key(0), model, SIZE)


def new_layers(variables, *layers) -> frozenset:
    return frozenset(path for path in flatten_dict(variables["params"]) if "/".join(path).startswith(layers))


@pytest.mark.parametrize(
    ("name", "new", "begin"),
    [("squeezenet", ("features_12/expand1x1", "classifier_1"), 8), ("resnet18", ("fc",), 5)],
)
def test_heads_on_cached_features_are_those_of_the_plain_way(name, new, begin, place):
    """The same logits after training, for two heads at once, dropout included; some of the images are generated."""
    model, variables = fresh(name)
    config = config_of()
    chosen = tuning.choose(model, SIZE, variables, config, new_layers(variables, *new))
    assert chosen.begin == begin
    recipe = classify.Recipe(model, config, chosen)
    rng = np.random.default_rng(0)
    labels = np.arange(40, dtype=np.int32) % 2
    images = (rng.integers(0, 150, (40, SIZE, SIZE)) + 100 * labels[:, None, None]).astype(np.uint8)
    table = Table(jnp.asarray(images[:33]), labels, jnp.asarray(images[33:, ::2, ::2]))
    trained, frozen = tuning.split(variables, chosen)

    def jobs(arm):
        for index, pool in enumerate((np.arange(0, 24), np.arange(10, 40))):
            yield Job(
                stage=Stage(index, "clean", arm=arm),
                start=lambda: classify.start(recipe, trained),
                rows=loop.epochs(pool, 4, 8, index),
                key=jax.random.key(index),
                fields={"rate": tuning.rates(8, config)},
            )

    seen = features.table_of(recipe, variables, table, SIZE)
    assert seen.examples.shape == (48, *features.shape_of(recipe, SIZE))  # three batches of 16
    plain = [s for _, s in loop.train(classify.train_step, list(jobs("plain")), table, frozen, recipe, place)]
    joint = [s for _, s in loop.train(classify.train_step, list(jobs("joint")), seen, frozen, recipe, place, True)]
    everything = np.arange(40)
    before = classify.predict(variables, table, everything, recipe)
    for one, other in zip(plain, joint, strict=True):
        expected = classify.predict(classify.variables_of(one, frozen), table, everything, recipe)
        ours = classify.predict(classify.variables_of(other, frozen), seen, everything, recipe)
        np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())
        assert np.abs(ours - before).max() > 100 * np.abs(ours - expected).max()  # there was something to learn
    assert np.abs(trained["params"]["fc" if name == "resnet18" else "classifier_1"]["kernel"]).max() > 0


def test_frozen_layers_keep_their_bits_and_new_ones_move_faster():
    model, variables = fresh("resnet18")
    images, labels = jnp.ones((4, SIZE, SIZE), jnp.uint8) * 90, jnp.array([0, 1, 1, 1])
    step = jax.jit(classify.train_step, static_argnames="recipe")
    for mode, frozen_layers in (("head", 5), ("last_k", 4), ("full", 0)):
        config = config_of(mode=mode, weight_decay=0.0)
        chosen = tuning.choose(model, SIZE, variables, config, new_layers(variables, "fc"))
        assert chosen.begin == frozen_layers
        trained, frozen = tuning.split(variables, chosen)
        recipe = classify.Recipe(model, config, chosen)
        batch = Batch(images, labels, {"rate": jnp.float32(1e-3)})
        state, _ = step(classify.start(recipe, trained), batch, jax.random.key(0), frozen, recipe)
        after = flatten_dict(classify.variables_of(state, frozen))
        before = flatten_dict(variables)
        changed = {path for path in before if not np.array_equal(before[path], after[path])}
        for index, stage in enumerate(tuning.stages(model, SIZE)):
            paths = {("params", *path) for path in stage.params} | {("batch_stats", *path) for path in stage.statistics}
            assert bool(paths & changed) == (index >= frozen_layers)

    slow = classify.Recipe(model, config, chosen._replace(rates=tuple((path, 1.0) for path, _ in chosen.rates)))
    moved = {}
    for name, recipe_ in (("slow", slow), ("fast", recipe)):
        state, _ = step(classify.start(recipe_, trained), batch, jax.random.key(0), frozen, recipe_)
        moved[name] = state.params["fc"]["bias"] - trained["params"]["fc"]["bias"]
    np.testing.assert_allclose(moved["fast"], 10 * moved["slow"], rtol=1e-4)


def test_schedules():
    at = [0, 4, 10, 50, 99]
    rates = {
        name: tuning.rates(100, config_of(schedule=name, warmup=0.1, learning_rate=1.0))[at]
        for name in tuning.SCHEDULES
    }
    assert rates["linear"].dtype == np.float32
    np.testing.assert_allclose(rates["constant"], [0.1, 0.5, 1, 1, 1], rtol=1e-6)
    np.testing.assert_allclose(rates["linear"], [0.1, 0.48, 0.9, 0.5, 0.01], rtol=1e-5)
    expected = [(1 + np.cos(np.pi * step / 100)) / 2 for step in (10, 50, 99)]
    np.testing.assert_allclose(rates["cosine"][2:], expected, rtol=1e-3)


def test_more_stages_than_there_are():
    model, variables = fresh("resnet18")
    with pytest.raises(BadInput, match=r"trains the last 7 stages and this network has 6"):
        tuning.choose(model, SIZE, variables, config_of(mode="last_k", last_k=7), frozenset())


@pytest.mark.parametrize("name", ["alexnet", "squeezenet", "squeezenet1_0", "googlenet", "resnet18"])
def test_stages_in_turn_are_the_network(name):
    model = models.load(name)(num_classes=2, width=16)
    variables = classify.init(jax.random.key(0), model, 80)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 80, 80, 3)), jnp.float32)
    x = images
    for index, stage in enumerate(tuning.stages(model, 80)):
        assert x.shape[1:] == stage.inputs.shape[1:]
        x = jax.jit(model.apply, static_argnames=("begin", "end"))(variables, x, begin=index, end=index + 1)
    np.testing.assert_allclose(x, jax.jit(model.apply)(variables, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["squeezenet", "googlenet"])
def test_bfloat16_computes_in_it_and_keeps_the_rest_in_float32(name):
    model = models.load(name)(num_classes=2, width=16)
    variables = classify.init(jax.random.key(0), model, SIZE)
    config = config_of(mode="full")
    chosen = tuning.choose(model, SIZE, variables, config, frozenset())
    images = jnp.asarray(np.random.default_rng(0).integers(0, 255, (4, SIZE, SIZE)), jnp.uint8)
    logits = {}
    for dtype in ("float32", "bfloat16"):
        recipe = classify.Recipe(model, config, chosen, dtype)
        logits[dtype] = classify.predict(variables, Table(images, np.zeros(4, np.int32)), np.arange(4), recipe)
    trained, frozen = tuning.split(variables, chosen)
    batch = Batch(images, jnp.array([0, 1, 0, 1]), {"rate": jnp.float32(1e-3)})
    step = jax.jit(classify.train_step, static_argnames="recipe")
    state, metrics = step(classify.start(recipe, trained), batch, jax.random.key(0), frozen, recipe)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
    assert np.isfinite(metrics["loss"])
    assert logits["bfloat16"].dtype == np.float32
    difference = np.abs(logits["bfloat16"] - logits["float32"]).max() / np.abs(logits["float32"]).max()
    assert 1e-5 < difference < 0.05


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_flags):
    """Flags of a shrunk study in head mode, from a trunk that lacks `MISSING`; the folder of its data and `whole`."""
    root = tmp_path_factory.mktemp("heads")
    rng = np.random.default_rng(0)
    variables = jax.tree.map(np.asarray, classify.init(jax.random.key(3), models.load("squeezenet")(), SIZE))
    tensors = pretrained.to_torch(variables, "squeezenet")
    trunk = {name: value for name, value in tensors.items() if not name.startswith(MISSING)}
    safetensors.numpy.save_file(trunk, root / "trunk.safetensors")
    for label, shade in (("NORMAL", 0), ("PNEUMONIA", 90)):
        (root / "data" / label).mkdir(parents=True)
        for index in range(40):
            picture = (rng.integers(0, 160, (50, 60)) + shade).astype(np.uint8)
            Image.fromarray(picture).save(root / "data" / label / f"{label}-{index:03d}.png")
    flags = [
        *(*tiny_flags, "--config.data.name=folder", f"--config.data.dir={root / 'data'}"),
        *(f"--config.data.cache={root / 'cache'}", "--config.model.name=squeezenet", "--config.model.width=64"),
        *(f"--config.model.weights={root / 'trunk.safetensors'}", f"--config.model.allow_missing={MISSING}"),
        *("--config.classifier.mode=head", "--config.classifier.learning_rate=0.0003", "--config.trials=(0,)"),
    ]
    done = run(flags, root / "whole")
    assert done.returncode == 0, done.stderr
    return flags, root


def run(flags, workdir) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pneumojax.main", *flags, f"--workdir={workdir}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_a_study_in_head_mode_says_what_was_trained(study):
    flags, root = study
    classifier = json.loads((root / "whole/results.json").read_text())["classifier"]
    assert classifier["mode"] == "head"
    assert classifier["cached_features"]
    assert classifier["new_parameters"] == [
        *("classifier_1.bias", "classifier_1.kernel", "features_12.expand1x1.bias", "features_12.expand1x1.kernel"),
        "features_12.expand3x3.bias",
    ]
    assert classifier["trained_parameters"] == 64 * 256 + 256 + 256 + 512 * 2 + 2
    page = (root / "whole/report.html").read_text()
    assert "features_12.expand1x1" in page


def predict(*arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pneumojax.predict", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)


def test_predict_gives_the_logits_of_the_study(study):
    _, root = study
    stage = ("clean", "with_gan_epochs", "0")
    lines = [line.split(",") for line in (root / "whole/predictions.csv").read_text().splitlines()[1:]]
    expected = {line[6]: np.array(line[9:], np.float32) for line in lines if tuple(line[:3]) == stage}
    done = predict(
        root / "data/NORMAL", root / "data/PNEUMONIA", f"--workdir={root / 'whole'}", "--json",
        "--classifier=trial0/clean/with_gan_epochs",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert len(answers) == 80
    scale = max(np.abs(value).max() for value in expected.values())
    compared = 0
    for answer in answers:
        name = str(Path(answer["file"]).relative_to(root / "data"))
        logits = np.array(list(answer["logits"].values()))
        assert answer["class"] == ("NORMAL", "PNEUMONIA")[int(np.argmax(logits))]
        shares = np.exp(logits) / np.exp(logits).sum()
        assert answer["probability"] == pytest.approx(shares.max(), abs=1e-6)
        if name in expected:
            np.testing.assert_allclose(logits, expected[name], atol=1e-5 * scale)
            compared += 1
    assert compared == len(expected) > 40


def test_predict_names_what_it_cannot_use(study, tmp_path):
    _, root = study
    good = next((root / "data/NORMAL").iterdir())
    (tmp_path / "bad.png").write_bytes(good.read_bytes()[:60])
    done = predict(good, tmp_path / "bad.png", f"--workdir={root / 'whole'}")
    assert done.returncode == 2
    [line] = done.stdout.splitlines()
    file, label, share = line.split("\t")
    assert (file, label in ("NORMAL", "PNEUMONIA"), 0.5 <= float(share) <= 1) == (str(good), True, True)
    assert "error: 1 of 2 images cannot be read" in done.stderr
    for arguments, words in (
        ((good, f"--workdir={tmp_path}"), "not the workdir of a finished run"),
        *(
            ((good, f"--workdir={root / 'whole'}", f"--classifier={wrong}"), "give one of trial0/clean/")
            for wrong in ("trial7/clean/with_gan", "trial0/clean", "trial0/clean/gan_normal", "trial0", ".", "")
        ),
        ((tmp_path / "none.png", f"--workdir={root / 'whole'}"), "none.png is no image"),
        ((f"--workdir={root / 'whole'}",), "IMAGE"),
    ):
        done = predict(*arguments)
        assert done.returncode == 2
        [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
        assert words in line


def test_killed_among_the_heads_it_ends_in_the_same_bits(study, tmp_path):
    """SIGKILL while heads train, in a checkpoint that is being written, and when some heads are whole."""
    flags, root = study
    workdir = tmp_path / "killed"
    stages = workdir / "checkpoints"
    for condition in (
        lambda: list(stages.glob("jobs/*/4")),
        lambda: list(stages.glob("jobs/*/*tmp*")),
        lambda: (stages / "trial0/paper/without_gan").exists(),
    ):
        process = start(flags, workdir)
        wait_for(condition, process)
        process.kill()
        process.wait()
        assert not (workdir / "results.json").exists()
    assert start(flags, workdir).wait(300) == 0
    assert bits(workdir) == bits(root / "whole")


def test_features_that_need_more_memory_than_allowed(study, tmp_path):
    flags, _ = study
    done = run([*flags, "--config.classifier.feature_memory=0.001"], tmp_path / "run")
    assert done.returncode == 2
    assert "bfloat16" in done.stderr
    assert not (tmp_path / "run" / "config.json").exists()


def test_other_weights_than_a_run_began_with_refuse(study):
    flags, root = study
    trunk = root / "trunk.safetensors"
    tensors = safetensors.numpy.load_file(trunk)
    results = root / "whole/results.json"
    content = results.read_text()
    results.unlink()
    safetensors.numpy.save_file(tensors | {"features.0.bias": tensors["features.0.bias"] + 1}, trunk)
    done = run(flags, root / "whole")
    assert done.returncode == 2
    assert "the weights are not those" in done.stderr
    safetensors.numpy.save_file(tensors, trunk)
    assert run(flags, root / "whole").returncode == 0  # and with the old ones it ends as before
    again = json.loads(results.read_text())
    assert again["protocols"] == json.loads(content)["protocols"]
