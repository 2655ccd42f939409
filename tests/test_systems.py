"""Fine-tuning: heads on cached features, arms that train otherwise, what is left for `predict`."""

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
from invented import variables_of
from ml_collections import FrozenConfigDict
from PIL import Image
from runs import bits, call, error_of, fields_at, finish, start, wait_for

from configs import default
from pneumojax import arms, classify, data, loop, models, predict, pretrained, run, tuning
from pneumojax import config as configs
from pneumojax.data.table import Index, Table
from pneumojax.errors import BadInput, Diverged
from pneumojax.jobs import Batch, Job
from pneumojax.stage import Stage
from pneumojax.systems import features, finetune

ROOT = Path(__file__).parents[1]
MISSING = ("features.12.expand1x1", "features.12.expand3x3.bias", "classifier.1")
SIZE = 64
quick_step = jax.jit(classify.train_step, static_argnames="recipe", compiler_options=loop.QUICK_COMPILATION)


def config_of(**changes) -> FrozenConfigDict:
    config = default.get_config().classifier
    config.update({"mode": "head", "batch_size": 4, "log_every": 4, "save_every": 4, "predict_batch_size": 16})
    config.update({"learning_rate": 1e-3, **changes})
    return FrozenConfigDict(config)


def fresh(name: str, width: int = 16) -> tuple:
    model = models.load(name)(num_classes=2, width=width)
    return model, variables_of(model, SIZE)


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
                place=place,
                fields=tuning.fields(8, config),
            )

    seen = features.table_of(recipe, variables, table, SIZE)
    assert seen.examples.shape == (48, *features.shape_of(recipe, SIZE))  # three batches of 16
    plain = [s for _, s in loop.train(classify.train_step, list(jobs("plain")), table, frozen, recipe)]
    joint = [s for _, s in loop.train(classify.train_step, list(jobs("joint")), seen, frozen, recipe, True)]
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
    for mode, frozen_layers in (("head", 5), ("last_k", 4), ("full", 0)):
        config = config_of(mode=mode, weight_decay=0.0)
        chosen = tuning.choose(model, SIZE, variables, config, new_layers(variables, "fc"))
        assert chosen.begin == frozen_layers
        trained, frozen = tuning.split(variables, chosen)
        recipe = classify.Recipe(model, config, chosen)
        batch = Batch(images, labels, fields_at(config, 1e-3))
        state, _ = quick_step(classify.start(recipe, trained), batch, jax.random.key(0), frozen, recipe)
        after = flatten_dict(classify.variables_of(state, frozen))
        before = flatten_dict(variables)
        changed = {path for path in before if not np.array_equal(before[path], after[path])}
        for index, stage in enumerate(tuning.stages(model, SIZE)):
            paths = {("params", *path) for path in stage.params} | {("batch_stats", *path) for path in stage.statistics}
            assert bool(paths & changed) == (index >= frozen_layers)

    slow = classify.Recipe(model, config, chosen._replace(rates=tuple((path, 1.0) for path, _ in chosen.rates)))
    moved = {}
    for name, recipe_ in (("slow", slow), ("fast", recipe)):
        state, _ = quick_step(classify.start(recipe_, trained), batch, jax.random.key(0), frozen, recipe_)
        moved[name] = state.params["fc"]["bias"] - trained["params"]["fc"]["bias"]
    np.testing.assert_allclose(moved["fast"], 10 * moved["slow"], rtol=1e-4)


def test_schedules():
    at = [0, 4, 10, 50, 99]
    rates = {
        name: tuning.rates(100, config_of(schedule=name, warmup=0.1, learning_rate=1.0))[at]
        for name in tuning.SCHEDULES
    }
    assert rates["linear"].dtype == np.float32
    quarter = np.sqrt(0.5) / 2
    for schedule, warmup, expected in (
        ("constant", 0.0, [1, 1, 1, 1]),
        ("linear", 0.0, [1, 0.75, 0.5, 0.25]),
        ("cosine", 0.0, [1, 0.5 + quarter, 0.5, 0.5 - quarter]),
        ("constant", 0.5, [0.5, 1, 1, 1]),
        ("linear", 1.0, [0.25, 0.375, 0.375, 0.25]),
        ("cosine", 0.5, [0.5, 0.5 + quarter, 0.5, 0.5 - quarter]),
    ):
        found = tuning.rates(4, config_of(schedule=schedule, warmup=warmup, learning_rate=0.2))
        np.testing.assert_allclose(found, 0.2 * np.array(expected), rtol=1e-6)
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
    variables = variables_of(model, 80)
    options = {"static_argnames": ("begin", "end"), "compiler_options": loop.QUICK_COMPILATION}
    apply = jax.jit(model.apply, **options)
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 80, 80, 3)), jnp.float32)
    x = images
    for index, stage in enumerate(tuning.stages(model, 80)):
        assert x.shape[1:] == stage.inputs.shape[1:]
        x = apply(variables, x, begin=index, end=index + 1)
    np.testing.assert_allclose(x, apply(variables, images), rtol=1e-4, atol=1e-5)


def in_dtypes(name: str):
    """A narrow network, trained whole: its variables, four images and their recipe in each dtype."""
    model, variables = fresh(name)
    config = config_of(mode="full")
    chosen = tuning.choose(model, SIZE, variables, config, frozenset())
    images = jnp.asarray(np.random.default_rng(0).integers(0, 255, (4, SIZE, SIZE)), jnp.uint8)
    return (
        variables,
        images,
        {dtype: classify.Recipe(model, config, chosen, dtype) for dtype in ("float32", "bfloat16")},
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet", "googlenet"])
def test_bfloat16_gives_nearly_the_same_logits_in_float32(name):
    variables, images, recipes = in_dtypes(name)
    arrays, logits = (variables, images, None, Index(np.arange(4), np.full(4, -1))), {}
    for dtype, recipe in recipes.items():
        compiled = classify.logits_of.lower(*arrays, recipe).compile(loop.QUICK_COMPILATION)
        logits[dtype] = np.asarray(compiled(*arrays))
    assert logits["bfloat16"].dtype == np.float32
    difference = np.abs(logits["bfloat16"] - logits["float32"]).max() / np.abs(logits["float32"]).max()
    assert 1e-5 < difference < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["squeezenet", "resnet18"])
def test_a_step_in_bfloat16_keeps_its_state_in_float32(name):
    variables, images, recipes = in_dtypes(name)
    recipe = recipes["bfloat16"]
    trained, frozen = tuning.split(variables, recipe.tuning)
    batch = Batch(images, jnp.array([0, 1, 0, 1]), fields_at(recipe.config, 1e-3))
    state, metrics = quick_step(classify.start(recipe, trained), batch, jax.random.key(0), frozen, recipe)
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
    assert np.isfinite(metrics["loss"])


@pytest.fixture(scope="module")
def study(tmp_path_factory, tiny_flags):
    """Flags of a shrunk study in head mode, from a trunk that lacks `MISSING`; the folder of its data and `whole`."""
    root = tmp_path_factory.mktemp("heads")
    rng = np.random.default_rng(0)
    variables = jax.tree.map(np.asarray, variables_of(models.load("squeezenet")(), SIZE))
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
    finish(flags, root / "whole")
    return flags, root


@pytest.mark.slow
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


def joined(done: run.Run, stage: Stage):
    """All that a classifier said, as one prediction."""
    parts = [p for p in run.predictions_of(done) if Stage(p.trial, p.protocol, arm=p.arm) == stage]
    return parts[0]._replace(
        names=[name for p in parts for name in p.names], logits=np.concatenate([p.logits for p in parts])
    )


@pytest.mark.slow
def test_predict_gives_the_logits_of_the_study(study):
    _, root = study
    said = joined(run.load(root / "whole"), Stage(0, "clean", arm="with_gan_epochs"))
    expected = dict(zip(said.names, said.logits, strict=True))
    arguments = (root / "data/NORMAL", root / "data/PNEUMONIA", f"--workdir={root / 'whole'}", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "pneumojax.predict", *arguments, "--classifier=trial0/clean/with_gan_epochs"],
        cwd=ROOT, capture_output=True, text=True, timeout=100,
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


@pytest.mark.slow
def test_predict_names_what_it_cannot_use(study, tmp_path, capsys):
    _, root = study
    good, whole = next((root / "data/NORMAL").iterdir()), f"--workdir={root / 'whole'}"
    (tmp_path / "bad.png").write_bytes(good.read_bytes()[:60])
    error, detail = error_of(call(predict.main, good, tmp_path / "bad.png", whole), 2)
    [line] = capsys.readouterr().out.splitlines()
    file, label, share = line.split("\t")
    assert (file, label in ("NORMAL", "PNEUMONIA"), 0.5 <= float(share) <= 1) == (str(good), True, True)
    assert error == "1 of 2 images cannot be read; the others are above"
    assert detail.startswith(f"{tmp_path / 'bad.png'}: ")
    there = ", ".join(f"trial0/clean/{arm}" for arm in ("without_gan", "with_gan", "with_gan_epochs"))
    for arguments, words in (
        ((good, f"--workdir={tmp_path}"), "not the workdir of a finished run"),
        *(
            ((good, whole, f"--classifier={wrong}"), f"has no classifier {wrong!r}; give one of {there}, trial0/paper/")
            for wrong in ("trial7/clean/with_gan", "trial0/clean", "trial0/clean/gan_normal", "trial0", ".", "")
        ),
        ((tmp_path / "none.png", whole), "none.png is no image"),
        ((whole,), "IMAGE"),
    ):
        [error] = error_of(call(predict.main, *arguments), 2)
        assert words in error


@pytest.mark.slow
@pytest.mark.long
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


@pytest.mark.slow
def test_features_that_need_more_memory_than_allowed(study, tmp_path):
    flags, _ = study
    with pytest.raises(BadInput, match=r"config.classifier.feature_memory=0.001: .*feature_dtype='bfloat16'"):
        finish([*flags, "--config.classifier.feature_memory=0.001"], tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_other_weights_than_a_run_began_with_refuse(study):
    flags, root = study
    trunk = root / "trunk.safetensors"
    tensors = safetensors.numpy.load_file(trunk)
    results = root / "whole/results.json"
    content = results.read_text()
    results.unlink()
    safetensors.numpy.save_file(tensors | {"features.0.bias": tensors["features.0.bias"] + 1}, trunk)
    with pytest.raises(BadInput, match="the weights are not those"):
        finish(flags, root / "whole")
    safetensors.numpy.save_file(tensors, trunk)
    finish(flags, root / "whole")  # and with the old ones it ends as before
    again = json.loads(results.read_text())
    assert again["protocols"] == json.loads(content)["protocols"]


NETWORK = """
import flax.linen as nn


class Model(nn.Module):
    num_classes: int
    width: int = 4
    STAGES = ("body", "fc")

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        def body(x):
            for number in (1, 2):
                x = nn.Conv(self.width, (5, 5), (3, 3), name=f"conv{number}")(x)
                # momentum 1: its statistics stay as they are
                x = nn.relu(nn.BatchNorm(not train, momentum=1.0, name=f"bn{number}")(x))
            return x

        def head(x):
            return nn.Dense(self.num_classes, name="fc")(x.mean((1, 2)))

        for stage in (body, head)[begin:end]:
            x = stage(x)
        return x
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory, tiny_flags):
    """Flags of a study in head mode, one trial without GAN, with a network of two stages; the file of its weights."""
    root = tmp_path_factory.mktemp("tiny")
    (root / "two_stages.py").write_text(NETWORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "__path__", [*models.__path__, str(root)])
        variables = variables_of(models.load("two_stages")(num_classes=2), 48)
        tensors = pretrained.to_torch(jax.tree.map(np.asarray, variables), "two_stages")
        safetensors.numpy.save_file(tensors, root / "weights.safetensors")
        flags = [
            *(*tiny_flags, "--config.model.name=two_stages", f"--config.model.weights={root / 'weights.safetensors'}"),
            *("--config.trials=(0,)", "--config.protocols=('clean',)", "--config.enlarge=1.0"),
            *("--config.classifier.mode=head", "--config.classifier.learning_rate=0.1"),
        ]
        yield flags, root / "weights.safetensors"


def flipped(offer):
    """An arm of one's own."""
    arm = arms.without_gan(offer)
    return arm._replace(title="flipped", against="without_gan", overrides={"flip": True})


def whole_network(offer):
    """Another one."""
    overrides = {"mode": "full", "optimizer": "adam", "learning_rate": 0.01}
    return arms.without_gan(offer)._replace(title="all stages", against="without_gan", overrides=overrides)


@pytest.fixture
def cached(monkeypatch):
    """The recipes of which features are computed once an image."""
    recipes, table_of = [], features.table_of
    monkeypatch.setattr(features, "table_of", lambda recipe, *rest: recipes.append(recipe) or table_of(recipe, *rest))
    return recipes


@pytest.mark.slow
def test_arms_that_train_otherwise_are_programs_of_their_own_and_predict_knows_them(tiny, cached, tmp_path):
    flags, _ = tiny
    names = "('without_gan','test_systems.flipped','test_systems.whole_network')"
    done = run.load(finish([*flags, f"--config.arms={names}"], tmp_path / "run"))
    assert [(recipe.config.mode, recipe.config.flip) for recipe in cached] == [("head", False)]
    images = data.load(done.config.data, 48)
    logits = {}
    for stage in done.stages():
        assert done.arm(stage)["overrides"] == {
            "without_gan": {},
            "flipped": {"flip": True},
            "whole_network": {"mode": "full", "optimizer": "adam", "learning_rate": 0.01},
        }.pop(stage.arm)
        said = joined(done, stage)
        rows = [images.names.index(name) for name in said.names]
        logits[stage.arm] = predict.load(done, stage.name)(images.pixels[rows])
        np.testing.assert_allclose(logits[stage.arm], said.logits, atol=1e-5 * np.abs(said.logits).max())
    assert list(logits) == ["without_gan", "flipped", "whole_network"]
    for other in ("flipped", "whole_network"):
        assert np.abs(logits[other] - logits["without_gan"]).max() > 1e-3 * np.abs(logits["without_gan"]).max()
    assert [row["arms"] for row in done.results["contrasts"]][-1] == ["whole_network", "without_gan"]


@pytest.mark.slow
def test_augmented_heads_do_not_use_cached_features_and_say_so(tiny, cached, tmp_path):
    """Nor ask for the memory of features."""
    flags, _ = tiny
    facts = {}
    for rotation in (0.0, 5.0):
        fields = [
            f"--config.classifier.rotation={rotation}",
            f"--config.classifier.feature_memory={1 - rotation / 5.1}",
        ]
        facts[rotation] = run.load(finish([*flags, *fields], tmp_path / str(rotation))).results["classifier"]
    assert facts[0.0]["cached_features"] is True
    assert facts[5.0] == facts[0.0] | {"cached_features": False}
    assert [recipe.config.rotation for recipe in cached] == [0.0]


def test_logits_that_overflow_are_a_divergence(tiny, tmp_path):
    """In training batch norm hides how large weights are; in evaluation it divides by the statistics of the file."""
    flags, path = tiny
    tensors = safetensors.numpy.load_file(path)
    large = {"conv1.weight": 1e16, "conv2.weight": 1e16, "fc.weight": 1e10}
    tensors |= {name: tensors[name] * np.float32(factor) for name, factor in large.items()}
    safetensors.numpy.save_file(tensors, tmp_path / "large.safetensors")
    fields = {"model.weights": tmp_path / "large.safetensors", "classifier.mode": "full"}
    own = [f"--config.{field}={value}" for field, value in (fields | {"classifier.learning_rate": 1e-20}).items()]
    with pytest.raises(Diverged, match="diverged, 1 of the study") as caught:
        finish([*flags, *own], tmp_path / "run")
    kept = "checkpoints/trial0/clean/without_gan/6"
    assert caught.value.details == (f"trial 0, clean, without_gan: logits after step 6 (last good checkpoint: {kept})",)
    arm = json.loads((tmp_path / "run/results.json").read_text())["protocols"]["clean"]["without_gan"]
    assert arm["diverged"] == {"trial": 0, "step": 6, "metric": "logits", "checkpoint": kept}
    assert (tmp_path / "run" / kept).is_dir()
    assert "logits is not finite after step 6" in (tmp_path / "run/report.html").read_text()


def test_features_are_standardised_by_the_images_that_are_trained_on():
    rng = np.random.default_rng(0)
    examples = rng.normal(3.0, 5.0, (24, 3, 3, 4)).astype(np.float32)
    examples[..., 2] = 7.0
    rows = np.arange(1, 20, 2)
    found = features.scaling_of(Table(jnp.asarray(examples), np.zeros(24, np.int32)), rows, 4)
    np.testing.assert_allclose(found["mean"], examples[rows].mean((0, 1, 2)), rtol=1e-5)
    expected = examples[rows].std((0, 1, 2), dtype=float)
    np.testing.assert_allclose(found["deviation"][[0, 1, 3]], expected[[0, 1, 3]], rtol=1e-5)
    assert found["deviation"][2] == np.float32(features.ENDLESS)

    model, variables = fresh("resnet18")
    config = config_of(standardise=True)
    chosen = tuning.choose(model, SIZE, variables, config, new_layers(variables, "fc"))
    recipe = classify.Recipe(model, config, chosen)
    x = rng.normal(size=(2, *features.shape_of(recipe, SIZE))).astype(np.float32)
    channels = x.shape[-1]
    scaling = {"mean": np.arange(channels, dtype=np.float32), "deviation": np.full(channels, 4.0, np.float32)}
    state = classify.start(recipe, tuning.split(variables, chosen)[0], scaling)
    whole = classify.variables_of(state, tuning.split(variables, chosen)[1])
    by_hand = classify.from_features(recipe, variables, (x - scaling["mean"]) / 4, train=False)
    np.testing.assert_allclose(classify.from_features(recipe, whole, x, train=False), by_hand, rtol=1e-5)
    batch = Batch(jnp.asarray(x), jnp.array([0, 1]), fields_at(config, 0.1))
    after, _ = quick_step(state, batch, jax.random.key(0), tuning.split(variables, chosen)[1], recipe)
    assert all(np.array_equal(after.scaling[name], scaling[name]) for name in scaling)


@pytest.mark.slow
def test_a_standardised_study_on_features_in_memory_predicts_from_its_workdir(study, tmp_path):
    flags, _ = study
    given = {"classifier.mode": "last_k", "classifier.standardise": "True", "arms": "('without_gan',)"}
    done = run.load(finish([*flags, *(f"--config.{name}={v}" for name, v in given.items())], tmp_path / "run"))
    assert done.results["classifier"]["cached_features"] is True
    said = joined(done, Stage(0, "clean", arm="without_gan"))
    images = data.load(done.config.data, done.config.model.image_size)
    rows = [images.names.index(name) for name in said.names]
    found = predict.load(done, "trial0/clean/without_gan")(np.asarray(images.pixels)[rows])
    np.testing.assert_allclose(found, said.logits, atol=1e-4 * np.abs(said.logits).max())
    assert len(said.names) > 40


def test_what_cannot_be_standardised_is_one_line(tiny_flags):
    config = configs.load("configs/demo.py", ["--config.classifier.standardise=True"])
    with pytest.raises(BadInput, match=r"^config.classifier.standardise=True: what is standardised are features"):
        finetune.prepare(configs.frozen(config))
