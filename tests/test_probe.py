"""The linear probe: at its optimum, the same whatever is repeated, and honest about what it cannot fit."""

import json
import shutil

import numpy as np
import pytest
import runs
import safetensors.numpy
from runs import PROBE as FIELDS
from runs import flags_of
from scipy.optimize import minimize

from pneumojax import config as configs
from pneumojax import export, predict, run, systems
from pneumojax.data import phantom
from pneumojax.data.table import Table
from pneumojax.errors import BadInput
from pneumojax.jobs import Diverged
from pneumojax.systems import finetune, frozen_probe


def blobs(seed=0, classes=2, n=60, d=5):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    return rng.normal(size=(n, d)) * np.arange(1, d + 1) + 3 + labels[:, None], labels


@pytest.mark.parametrize("classes", [2, 3])
def test_a_probe_is_at_the_optimum_of_its_penalised_likelihood(classes):
    """Against scipy's minimiser on the loss as it stands in the docstring, written anew."""
    x, y = blobs(classes=classes)
    weights = np.random.default_rng(1).random(len(y))
    weights /= weights.sum()
    probe = frozen_probe.fitted(x.astype(np.float32), y, weights, 0.05, 10_000)
    x = x.astype(np.float32).astype(float)
    mean = (weights[:, None] * x).sum(0)
    z = (x - mean) / np.sqrt((weights[:, None] * (x - mean) ** 2).sum(0))

    def loss(flat):
        if classes == 2:  # one weight a feature, as the penalty counts it
            w = np.stack([np.zeros(z.shape[1]), flat[:-1]], 1)
            b = np.array([0, flat[-1]])
        else:
            w, b = flat[: z.shape[1] * classes].reshape(z.shape[1], classes), flat[z.shape[1] * classes :]
        logits = z @ w + b
        own = logits[np.arange(len(y)), y]
        return weights @ (np.log(np.exp(logits).sum(1)) - own) + 0.05 / 2 * (w**2).sum()

    size = z.shape[1] + 1 if classes == 2 else (z.shape[1] + 1) * classes
    best = minimize(loss, np.zeros(size), method="BFGS", options={"gtol": 1e-9, "maxiter": 10_000}).x
    found = frozen_probe.apply(probe, x)
    if classes == 2:
        assert np.allclose(found[:, 1] - found[:, 0], z @ best[:-1] + best[-1], atol=1e-4)
    else:
        w, b = best[: z.shape[1] * classes].reshape(-1, classes), best[z.shape[1] * classes :]
        logits = z @ w + b
        assert np.allclose(found - found.mean(1, keepdims=True), logits - logits.mean(1, keepdims=True), atol=1e-4)
    assert probe["converged"]


def test_images_again_change_nothing_and_constant_features_have_no_weight():
    x, y = blobs()
    x[:, 2] = 7.0
    once = frozen_probe.fitted(x, y, np.full(60, 1 / 60), 0.01, 10_000)
    twice = frozen_probe.fitted(np.concatenate([x, x]), np.tile(y, 2), np.full(120, 1 / 120), 0.01, 10_000)
    assert np.allclose(frozen_probe.apply(once, x), frozen_probe.apply(twice, x), atol=1e-5)
    assert not once["weights"][2].any() or np.isinf(once["deviation"][2])
    moved = x.copy()
    moved[:, 2] = -1000.0
    assert frozen_probe.apply(once, moved).tolist() == frozen_probe.apply(once, x).tolist()
    with pytest.raises(BadInput, match="all features are constant: .*; bring other config.model.weights or images"):
        frozen_probe.fitted(np.ones_like(x), y, np.full(60, 1 / 60), 0.01, 10_000)


def test_log_loss_is_that_of_the_definition():
    logits = np.log(np.array([[0.9, 0.1], [0.25, 0.75]], np.float32))
    assert frozen_probe.log_loss(logits, np.array([0, 0])) == pytest.approx(-(np.log(0.9) + np.log(0.25)) / 2)


@pytest.fixture(scope="module")
def done(probed):
    return run.load(probed)


def test_a_study_with_a_probe_is_whole_and_duplicates_are_worth_nothing(done):
    arms = done.results["protocols"]["disjoint"]
    assert arms["duplicated"]["mean"] == arms["without_gan"]["mean"]
    assert done.results["classifier"]["system"] == "frozen_probe"
    assert done.results["classifier"]["stage"] == "layer4"
    columns = [done.predictions[name] for name in ("arm", "part", "name", "logit_pneumonia")]
    logits = {key: value for *key, value in zip(*columns, strict=True) for key in [tuple(key)]}
    of = {arm: [v for key, v in logits.items() if key[0] == arm] for arm in arms}
    assert np.allclose(of["duplicated"], of["without_gan"], atol=1e-5)
    assert np.abs(np.array(of["classical"]) - of["without_gan"]).max() > 1e-3


def test_its_penalty_is_the_one_with_the_lowest_log_loss_on_the_inner_part(done):
    folder = done.workdir / "checkpoints/trial0/disjoint/without_gan"
    chosen = float(np.load(folder / "probe.npz")["penalty"])
    assert chosen in frozen_probe.DEFAULTS["penalties"]
    parts = np.array(done.predictions["part"])
    inner = (parts == "inner") & (np.array(done.predictions["arm"]) == "without_gan")
    split = done.splits["trials"][0]["disjoint"]
    assert inner.sum() == len(split["inner"]) > 10
    assert sorted(np.array(done.predictions["name"])[inner]) == sorted(split["inner"])


def test_predict_gives_the_logits_that_were_scored(done):
    images = phantom.load(done.config.data, done.config.model.image_size)
    rows = {name: row for row, name in enumerate(images.names)}
    lines = zip(*(done.predictions[n] for n in ("arm", "part", "name", "logit_normal", "logit_pneumonia")), strict=True)
    own = {name: logits for arm, part, name, *logits in lines if (arm, part) == ("classical", "test")}
    found = predict.load(done, "trial0/disjoint/classical")(images.pixels[[rows[name] for name in own]])
    assert np.allclose(found, np.array(list(own.values()), np.float32), atol=1e-5)


@pytest.mark.parametrize("stage", ["", "layer3"])
def test_it_is_exported_as_the_networks_head_or_beside_an_earlier_stage(done, tmp_path, stage):
    """Its numbers under other names: what another program computes with them is what `predict` says."""
    name, images = "trial0/disjoint/classical", np.random.default_rng(0).integers(0, 256, (4, 48, 48), np.uint8)
    workdir = done.workdir
    if stage:  # a probe on it, with numbers of no fit
        workdir = tmp_path / "run"
        shutil.copytree(done.workdir, workdir)
        config = json.loads((workdir / "config.json").read_text())
        config["system"]["stage"] = stage
        (workdir / "config.json").write_text(json.dumps(config))
        rng = np.random.default_rng(1)
        kept = {"mean": rng.uniform(0, 1, 16), "deviation": np.r_[np.inf, rng.uniform(0.5, 1, 15)]}
        kept |= {"weights": rng.normal(size=(16, 2)), "intercept": np.array([0.5, -0.5])}
        np.savez(workdir / "checkpoints" / name / "probe.npz", **kept)
    out = tmp_path / "out"
    assert runs.call(export.main, f"--workdir={workdir}", f"--classifier={name}", f"--out={out}")[0] == 0
    again = run.load(workdir)
    exported = export.of_classifier(again, name)
    wanted = predict.load(again, name)(images)
    assert np.ptp(wanted) > 1e-3
    assert np.allclose(exported.function(images), wanted, atol=1e-4)
    tensors = safetensors.numpy.load_file(out / "model.safetensors")
    card = (out / "README.md").read_text()
    if stage:
        probe = safetensors.numpy.load_file(out / "probe.safetensors")
        assert probe["weight"].shape == (2, 16)
        assert not probe["weight"][:, 0].any()
        assert not any(name.startswith(("layer4", "fc")) for name in tensors)
        assert "The network ends with `layer3`" in card
        assert "its logits are those of the probe beside it" in " ".join(card.split())
    else:
        assert not (out / "probe.safetensors").exists()
        assert "is folded into the network's head" in card
        assert np.allclose(tensors["fc.weight"], exported.tensors["model.safetensors"]["fc.weight"])


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"system.penalties": "(0.1,-1.0)"}, "config.system.penalties=(0.1, -1.0): give numbers above 0"),
        ({"system.penalties": "()"}, "config.system.penalties=(): give numbers above 0"),
        ({"system.stage": "layer9"}, "resnet18 has no stage 'layer9' before its head"),
        ({"classifier.seeds": "2"}, "config.classifier.seeds=2: a probe takes nothing from a seed"),
    ],
)
def test_what_a_probe_cannot_do_is_one_line(tiny_flags, fields, line):
    config = configs.load("configs/demo.py", flags_of({**FIELDS, **fields}))
    with pytest.raises(BadInput) as raised:
        systems.load("frozen_probe").prepare(configs.frozen(config))
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


def test_without_an_inner_part_one_penalty_is_given_or_none_can_be_chosen(tiny_flags, tmp_path):
    flags, why = [*tiny_flags, *flags_of(FIELDS)], r"config.evaluate.inner=.*: {} keeps no part of the training pat"
    with pytest.raises(BadInput, match=why.format("disjoint")):
        runs.finish([*flags, "--config.evaluate.inner=0.0"], tmp_path / "run")
    with pytest.raises(BadInput, match=why.format("paper")):
        runs.finish([*flags, "--config.protocols=('disjoint','paper')"], tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


def fit_of(stage, tested=()) -> systems.Fit:
    return systems.Fit(
        stage=stage, train=np.arange(40), extra=np.zeros(0, int), inner=np.arange(40, 60), steps=1,
        tested=np.array(tested, int), overrides={}, init_seed=0, seed=0, done=False,
        groups=np.zeros(0, int),
    )  # fmt: skip


def test_features_that_are_not_finite_have_diverged_and_constant_ones_are_named(done, place, monkeypatch):
    """One dead number was enough: scikit-learn ended the study with a traceback."""
    x, y = blobs(n=80)
    x[70, 1] = np.inf
    stages = done.stages()
    network = finetune.System(done.config, *[None] * 5)._replace(weights=None)
    system = frozen_probe.System(network, None, {})
    monkeypatch.setattr(finetune.System, "start", lambda *_: {})
    monkeypatch.setattr(frozen_probe.classify, "predict", lambda _, table, rows, *__: table.examples[rows])
    fits = [fit_of(stages[0], [70]), fit_of(stages[1], [60])]
    first, second = (made for _, made in frozen_probe.logits(system, fits, Table(x, y), place))
    assert first == Diverged(0, "features", None)
    assert np.isfinite(second).all()
    with pytest.raises(BadInput, match="^trial0/disjoint/without_gan: all features are constant"):
        list(frozen_probe.logits(system, fits[:1], Table(np.ones_like(x), y), place))


def test_one_that_has_not_converged_is_no_probe(done):
    fit = fit_of(done.stages()[0])
    config = json.loads((done.workdir / "config.json").read_text())
    config["system"]["iterations"] = 1
    network = frozen_probe.System(frozen_probe.finetune.System(configs.frozen(config), *[None] * 5), None, {})
    x, y = blobs()
    with pytest.raises(BadInput, match=r"has not converged after config.system.iterations=1"):
        frozen_probe.chosen(network, fit, x[:40], x[40:], y)
