"""A forest on a network's features: chosen by patients, grown to the same bits, grown again for `predict`."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from invented import variables_of
from PIL import Image
from runs import bits, call, error_of, finish

from pneumojax import classify, config, data, export, models, novelty, predict, pretrained, run, saliency, study
from pneumojax.data.splits import Split
from pneumojax.data.table import Table
from pneumojax.errors import BadInput
from pneumojax.jobs import Diverged
from pneumojax.stage import Stage
from pneumojax.systems import Fit, finetune, forest, trees
from pneumojax.systems.finetune import Network
from pneumojax.systems.trees import Choice
from pneumojax.timings import Timings

NOTHING = np.zeros(0, int)
STAGE = Stage(0, "clean", arm="without_gan")
LABELS = np.arange(40, dtype=np.int32) % 2


def small(tiny_flags, *flags) -> list[str]:
    """A forest on a few phantoms: one trial and protocol, two arms."""
    return [
        *(*tiny_flags, "--config.system.name=forest", "--config.model.name=wu2020", "--config.trials=(0,)"),
        *("--config.protocols=('clean',)", "--config.arms=('without_gan', 'with_gan')"),
        *("--config.system.trees=(3, 5)", "--config.system.leaf=(1,)", "--config.system.median=3"),
        *("--config.classifier.optimizer=adam", "--config.classifier.learning_rate=0.001", *flags),
    ]


@pytest.fixture(scope="module")
def grown(tmp_path_factory, tiny_flags):
    """A whole run of it. Nothing may be changed in it."""
    return finish(small(tiny_flags), tmp_path_factory.mktemp("forest") / "whole")


def pictures(done: run.Run) -> dict[str, np.ndarray]:
    """The images of a run by name."""
    images = data.load(done.config.data, done.config.model.image_size)
    return dict(zip(images.names, images.pixels, strict=True))


def assert_predict_gives_the_logits_of_the_study(done: run.Run, arm: str):
    said = next(p for p in run.predictions_of(done) if (p.arm, p.part) == (arm, "unseen"))
    shown = pictures(done)
    logits = predict.load(done, f"trial0/clean/{arm}")(np.stack([shown[name] for name in said.names]))
    np.testing.assert_allclose(logits, said.logits, atol=1e-6)


def test_a_study_with_a_forest(grown):
    done = run.load(grown)
    facts = done.results["classifier"]
    assert (facts["system"], facts["network"], facts["mode"]) == ("forest", "trained", "full")
    assert "forest" in (grown / "report.html").read_text()
    for said in run.predictions_of(done):
        shares = np.exp(said.logits.astype(float))
        np.testing.assert_allclose(shares.sum(1), 1, atol=1e-6)
        assert shares.min() >= 1 / (5 + 2) - 1e-6  # of five trees at most none is for a class
    assert_predict_gives_the_logits_of_the_study(done, "with_gan")


def test_its_network_can_be_looked_into_and_there_are_no_maps(grown, tmp_path):
    done = run.load(grown)
    opened = forest.classifier(done, STAGE).opened
    images = np.stack([*pictures(done).values()][:5])
    given = opened.variables, finetune.table_of(images), np.arange(5), opened.recipe
    expected = classify.predict(*given, forest.before_head)
    np.testing.assert_allclose(novelty.features_of(opened, images), expected, atol=1e-5)
    assert opened.onward is None
    assert "The system forest has no gradient" in (grown / "report.html").read_text()
    assert not [*(grown / "samples").glob("maps-*")]
    Image.fromarray(images[0]).save(tmp_path / "a.png")
    [line] = error_of(call(predict.main, f"--workdir={grown}", f"--explain={tmp_path / 'maps'}", tmp_path / "a.png"), 2)
    assert line == f"--explain: {grown}: {saliency.NO_GRADIENT}; leave it out"


def test_what_a_forest_grew_from_is_no_pickle_and_is_checked(grown, tmp_path):
    kept = forest.kept_at(grown / "checkpoints" / STAGE.name)
    with np.load(kept, allow_pickle=False) as arrays:
        held = dict(arrays)
    done = run.load(grown)
    assert held["features"].dtype == np.float32
    assert (
        len(held["features"])
        == len(held["labels"])
        == done.results["protocols"]["clean"]["without_gan"]["trials"][0]["train"]
    )
    elsewhere = done._replace(workdir=tmp_path)
    place = forest.kept_at(tmp_path / "checkpoints" / STAGE.name)
    place.parent.mkdir(parents=True)
    for changed, words in (
        ({"said": held["said"] + 1}, "does not grow the forest of the run: scikit-learn is not of the version"),
        ({"features": np.array([print], object)}, "is damaged"),
        ({"features": held["features"][:3]}, "is damaged"),
        ({"trees": np.array(0)}, "is damaged"),
    ):
        np.savez(place, **{**held, **changed})
        with pytest.raises(BadInput, match=words) as caught:
            forest.classifier(elsewhere, STAGE)
        assert "\n" not in str(caught.value)
    place.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        forest.classifier(elsewhere, STAGE)


@pytest.mark.slow
def test_interrupted_among_the_forests_it_ends_in_the_same_bits(grown, tiny_flags, tmp_path, monkeypatch):
    """When the first one is whole, and when what the second grew from is kept but not its logits."""
    answers, calls = forest.answers, []

    def interrupted(*arguments):
        made = answers(*arguments)
        calls.append(made)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return made

    for _ in range(2):
        monkeypatch.setattr(forest, "answers", interrupted)
        with pytest.raises(KeyboardInterrupt):
            finish(small(tiny_flags), tmp_path / "run")
        assert not (tmp_path / "run/results.json").exists()
    monkeypatch.setattr(forest, "answers", answers)
    assert len(calls) == 3  # the first forest was not grown again
    assert bits(finish(small(tiny_flags), tmp_path / "run")) == bits(grown)


@pytest.mark.slow
def test_a_frozen_network_wants_its_weights(tmp_path, tiny_flags):
    variables = jax.tree.map(np.asarray, variables_of(models.load("wu2020")(width=32), 224))
    tensors = pretrained.to_torch(variables, "wu2020")
    safetensors.numpy.save_file(tensors, tmp_path / "whole.safetensors")
    del tensors["convolution.1.bias"]
    safetensors.numpy.save_file(tensors, tmp_path / "part.safetensors")
    flags = [
        *("--config.model.width=32", "--config.model.image_size=224", "--config.arms=('without_gan',)"),
        *("--config.system.network=frozen", "--config.system.median=0", "--config.classifier.mode=head"),
        *("--config.data.phantom_images=(14, 22)", "--config.data.subset=(10, 16)", "--config.system.folds=2"),
    ]
    lacking = [f"--config.model.weights={tmp_path}/part.safetensors", "--config.model.allow_missing=('convolution.1',)"]
    with pytest.raises(BadInput, match="'frozen': the weights lack convolution_1.bias, which would be random"):
        finish(small(tiny_flags, *flags, *lacking), tmp_path / "run")
    weights = f"--config.model.weights={tmp_path}/whole.safetensors"
    done = run.load(finish(small(tiny_flags, *flags, weights), tmp_path / "run"))
    facts = done.results["classifier"]
    assert (facts["network"], facts["mode"], facts["trained_parameters"]) == ("frozen", "frozen", 0)
    assert not done.curves
    assert_predict_gives_the_logits_of_the_study(done, "without_gan")


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("network=thawed", "give one of trained, frozen"),
        ("network=frozen", "there are no weights; set config.model.weights, or give 'trained'"),
        *((f"median={value}", "give 0 for no filter, or an odd number from 3") for value in (1, 4, -3)),
        *((f"{field}=()", "give one whole number from") for field in ("trees", "depth", "leaf")),
        ("trees=(0,)", "give one whole number from 1"),
        ("leaf=(1.5,)", "give one whole number from 1"),
        ("depth=(True,)", "give one whole number from 0"),
        *((f"share={value}", "give one fraction within 0…1") for value in ("()", "(1.5,)", "('sqrt',)")),
        ("folds=1", "give 2 or more"),
        ("folds=40", "a forest of trial0/clean/without_gan has "),
    ],
)
def test_a_field_that_cannot_be_is_one_line_and_nothing_is_written(flag, words, tiny_flags, tmp_path):
    with pytest.raises(BadInput) as caught:
        finish(small(tiny_flags, f"--config.system.{flag}"), tmp_path / "run")
    assert str(caught.value).startswith(f"config.system.{flag.partition('=')[0]}=")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run/config.json").exists()


def test_images_on_the_disk_are_not_filtered(tiny_flags):
    c = config.load("configs/demo.py", [*small(tiny_flags)[1:], "--config.data.residence=stream"])
    with pytest.raises(BadInput, match="config.system.median=3: images are filtered in memory"):
        forest.check_fields(c)


def test_a_network_without_stages_is_refused(tiny_flags, monkeypatch):
    monkeypatch.setattr(models.load("wu2020"), "STAGES", ())
    c = config.load("configs/demo.py", small(tiny_flags)[1:])
    with pytest.raises(BadInput, match="wu2020 has no stages before its head"):
        forest.prepare(config.frozen(c))


# Who is in a fold


def fit_of(groups, train=None) -> Fit:
    rows = np.arange(len(groups)) if train is None else train
    return Fit(STAGE, rows, NOTHING, NOTHING, 6, np.arange(3), {}, 0, 5, False, np.asarray(groups))


def examples_of(features, labels) -> trees.Examples:
    return trees.Examples(features, labels, np.ones(len(labels)))


def test_extra_images_are_learnt_from_alone_and_never_beside_their_patient(tiny_flags):
    """Copies of images are of their patients: a fold that asks about one learns from no copy of his."""
    groups = np.concatenate([np.arange(40) // 4, np.arange(40) // 4])
    labels = np.concatenate([LABELS, LABELS])
    fit = fit_of(groups, np.arange(40))._replace(extra=np.arange(40, 80))
    folds = forest.inner_folds(system_of(tiny_flags), fit, labels)
    assert sorted(place for fold in folds for place in fold.test) == list(range(40))
    for fold in folds:
        assert not set(groups[fold.train]) & set(groups[fold.test])
        assert (fold.train >= 40).sum() == (fold.train < 40).sum()


def test_generated_images_are_in_no_fold_but_where_there_are_no_others(tiny_flags):
    """Their GAN saw the patients that a fold asks about; nor does a forest be asked about them."""
    groups, labels = np.concatenate([np.arange(40) // 4, -40 - np.arange(40)]), np.concatenate([LABELS, LABELS])
    pooled = np.random.default_rng(0).permutation(80)
    added = fit_of(groups, np.arange(40))._replace(extra=np.arange(40, 80))
    for fit in (fit_of(groups, pooled), added):
        rows = np.concatenate([fit.train, fit.extra])
        folds = forest.inner_folds(system_of(tiny_flags), fit, labels)
        assert sorted(rows[place] for fold in folds for place in fold.test) == list(range(40))
        assert all((groups[rows[fold.train]] >= 0).all() for fold in folds)
    folds = forest.inner_folds(system_of(tiny_flags), fit_of(groups, np.arange(40, 80)), labels)
    assert sorted(place for fold in folds for place in fold.test) == list(range(40))


def system_of(tiny_flags, *flags) -> forest.System:
    c = config.frozen(config.load("configs/demo.py", small(tiny_flags, *flags)[1:]))
    return forest.System(SimpleNamespace(config=c), {})


def test_patients_are_whole_in_the_inner_folds(tiny_flags):
    groups = np.arange(40) // 4 * 7
    train = np.random.default_rng(0).permutation(40)[:36]
    folds = forest.inner_folds(system_of(tiny_flags), fit_of(groups, train), LABELS)
    assert len(folds) == 3
    assert sorted(place for fold in folds for place in fold.test) == list(range(36))
    for fold in folds:
        sides = [set(groups[train[side]].tolist()) for side in fold]
        assert not sides[0] & sides[1]
        assert all(set(LABELS[train[side]].tolist()) == {0, 1} for side in fold)


def test_folds_that_lack_a_class_are_refused(tiny_flags):
    system = system_of(tiny_flags)
    with pytest.raises(BadInput, match="config.system.folds=3: a forest of trial0/clean/without_gan has 1 patients"):
        forest.inner_folds(system, fit_of(np.zeros(40, int)), LABELS)
    with pytest.raises(BadInput, match="0 patients with PNEUMONIA"):
        forest.inner_folds(system, fit_of(np.arange(40)), np.zeros(40, np.int32))


def test_one_setting_alone_takes_no_folds(tiny_flags):
    system = system_of(tiny_flags, "--config.system.trees=(4,)")
    assert forest.inner_folds(system, fit_of(np.zeros(40, int)), LABELS) == []
    assert trees.grid(system.own) == [Choice(4, 0, 1, 0.0)]


def test_groups_of_a_study(tiny_flags, tmp_path):
    """Images of a patient are one group; each generated image is one of its own, whatever its name."""
    c = config.load("configs/demo.py", small(tiny_flags, "--config.trials=(0, 1)")[1:])
    planned = study.plan_of(study.load(config.frozen(c), Timings(tmp_path / "timings.json")), tmp_path)
    world, groups = planned.world, planned.fits[0].groups
    made = np.array([name.startswith("generated/") for name in world.names])
    assert len(set(groups[made].tolist())) == made.sum() > len({*world.names}) - (~made).sum() > 0  # names come twice
    assert groups[made].max() < 0 <= groups[~made].min()
    pairs = {(patient, group) for patient, group in zip(world.patients, groups.tolist(), strict=True)}
    real = [pair for pair in pairs if not pair[0].startswith("generated/")]
    assert len({patient for patient, _ in real}) == len(real) < (~made).sum()


# What is no number


@pytest.mark.parametrize(("value", "metric"), [(1.0, "constant features"), (np.nan, "features"), (np.inf, "features")])
def test_features_that_tell_nothing_are_no_forest(value, metric, tiny_flags, tmp_path):
    """A dead network, whose forest would give every image the shares of the classes."""
    model = models.load("wu2020")(num_classes=2, width=4)
    system = system_of(tiny_flags)
    recipe = classify.Recipe(model, system.network.config.classifier, None)
    recipe = forest.frozen_recipe(SimpleNamespace(recipe=lambda overrides: recipe))
    features = jnp.ones((40, 8)).at[7, 3].set(value)
    made = Network(recipe, {"params": {}, "batch_stats": {}}, Table(features, LABELS))
    place = SimpleNamespace(checkpoints=lambda stage: tmp_path / stage.name, workdir=tmp_path)
    assert forest.answers(system, fit_of(np.arange(40)), made, place) == Diverged(6, metric, None)
    assert not list(tmp_path.rglob("*.npz"))


# Trees


def test_votes_are_shares_with_one_vote_more_of_each_class():
    features, labels = np.arange(20, dtype=np.float32)[:, None], np.repeat([0, 1], 10)
    for count in (1, 9):
        made = trees.grown(Choice(count, 0, 1, 0.0), 0, examples_of(features, labels))
        said = trees.votes(made, np.array([[-5.0], [30.0]], np.float32))
        sure, unsure = np.log([(count + 1) / (count + 2), 1 / (count + 2)])
        np.testing.assert_allclose(said, [[sure, unsure], [unsure, sure]], rtol=1e-6)
        assert said.dtype == np.float32
    shares = np.round(np.exp(trees.votes(made, features)) * 11 - 1, 4) / 9
    np.testing.assert_allclose(shares, made.predict_proba(features), atol=1e-4)


def test_a_forest_grows_to_the_same_bits():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 8)).astype(np.float32)
    labels = (features[:, 0] + 0.3 * rng.normal(size=60) > 0).astype(int)
    one, other, third = (trees.grown(Choice(30, 0, 1, 0.5), seed, examples_of(features, labels)) for seed in (1, 1, 2))
    asked = rng.normal(size=(200, 8)).astype(np.float32)
    np.testing.assert_array_equal(trees.votes(one, asked), trees.votes(other, asked))
    assert not np.array_equal(trees.votes(one, asked), trees.votes(third, asked))
    assert one.n_jobs == 1


def test_the_settings_with_the_least_log_loss_in_the_folds_are_chosen():
    """Noise is learnt by heart by leaves of one image; large leaves do better on what was not seen. Ties: the first."""
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(90, 3)).astype(np.float32), rng.integers(0, 2, 90)
    folds = [Split(np.setdiff1d(np.arange(90), part), part) for part in np.split(np.arange(90), 3)]
    eager, calm = Choice(15, 0, 1, 1.0), Choice(15, 0, 20, 1.0)
    losses = [trees.log_loss(choice, folds, examples_of(features, labels), 0) for choice in (eager, calm)]
    assert losses[0] > losses[1] + 0.03
    assert trees.chosen([eager, calm], folds, examples_of(features, labels), 0) == calm
    assert trees.chosen(
        [eager, calm._replace(depth=9), calm], folds, examples_of(features, labels), 0
    ) == calm._replace(depth=9)
    assert trees.chosen([eager], (), examples_of(features, labels), 0) == eager
    [(train, test)] = folds[:1]
    said = trees.grown(calm, 0, examples_of(features[train], labels[train])).predict_proba(features[test])[
        np.arange(30), labels[test]
    ]
    by_hand = -np.log((15 * said + 1) / 17).mean()
    assert trees.log_loss(calm, folds[:1], examples_of(features, labels), 0) == pytest.approx(by_hand, rel=1e-6)


def test_a_forest_is_no_network_that_could_be_exported(grown, tmp_path):
    flags = [f"--workdir={grown}", "--classifier=trial0/clean/with_gan", f"--out={tmp_path / 'out'}"]
    [line] = error_of(call(export.main, *flags), 2)
    assert "the system forest keeps no network whose logits are its answers; it cannot be exported, python -m" in line
    assert not (tmp_path / "out").exists()
