"""`python -m pneumojax.gan.evaluate`: what it says of GANs that copy, collapse, make noise, diverge or are honest."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from runs import call, error_of, finish

from pneumojax import checkpoint, run, sample
from pneumojax.data import phantom, splits
from pneumojax.embedding import Embedding
from pneumojax.gan import comparison, drawing, evaluate, quality
from pneumojax.gan.material import Case, Pool
from pneumojax.report import quality as section
from pneumojax.stage import Stage, seed_of

CONFIG = SimpleNamespace(phantom_images=(240, 240), classes=("NORMAL", "PNEUMONIA"))
SIDE = 16  # pixels of the GAN
EMBED = Embedding("thumbnails", 32, lambda images: quality.thumbnails(images, 8).astype(np.float32))
ROW = {"kid", "fid", "precision", "recall", "density", "coverage", "copy_rate", "tell_auc", "n_real", "n_generated"}


@pytest.fixture(scope="module")
def pool() -> Pool:
    large, small = (phantom.load(CONFIG, size) for size in (32, SIDE))
    groups = splits.group(large.patients, large.digests)
    return Pool(large._replace(pixels=()), large.pixels, small.pixels, groups)


@pytest.fixture(scope="module")
def case(pool) -> Case:
    """NORMAL: 60 images to train on, 90 held out, the others for the floor; nothing is generated."""
    rng = np.random.default_rng(0)
    order = splits.members(np.flatnonzero(pool.images.labels == 0), pool.groups)
    rows = np.concatenate([order[group] for group in rng.permutation(list(order))])
    other = np.flatnonzero(pool.images.labels == 1)[:90]
    nothing = np.zeros((0, SIDE, SIDE), np.uint8)
    return Case(
        Stage(0, "clean", gan="normal"), 0, nothing, rows[:60], rows[64:150], rows[154:], other, "the GAN diverged"
    )


def measured(case: Case, pool: Pool, generated: np.ndarray) -> tuple[dict, dict[str, dict]]:
    rows = np.unique(np.concatenate([case.training, case.held_out, case.floor, case.other_class]))
    real = comparison.look_at_real(pool, rows, EMBED)
    return comparison.rows_of(case._replace(generated=generated), pool, real, rows, EMBED)


def test_the_five_rows_beside_a_gan(case, pool):
    row, beside = measured(case, pool, pool.small[case.floor])
    assert row.keys() >= ROW
    assert list(beside) == ["held_out", "through_gan_size", "training_copies", "other_class", "noise"]
    kids = {kind: one["same_size"]["kid"]["value"] for kind, one in beside.items()}
    assert kids["held_out"] == pytest.approx(row["same_size"]["kid"]["value"])  # the GAN made the floor's images
    assert abs(kids["held_out"]) < 3 * beside["held_out"]["same_size"]["kid"]["std"]
    assert kids["held_out"] < kids["other_class"] < kids["noise"]
    assert beside["training_copies"]["copy_rate"] == 1
    assert beside["training_copies"]["c_t"] < -5
    assert beside["held_out"]["tell_auc"] < 0.6 < 0.95 < beside["noise"]["tell_auc"]
    assert beside["noise"]["coverage"] < 0.05 < 0.8 < beside["held_out"]["coverage"]

    scale = quality.scale_of(EMBED.features(pool.large[case.training]))
    real, made = (scale * EMBED.features(images) for images in (pool.large[case.held_out], pool.small[case.floor]))
    assert row["kid"]["value"] == pytest.approx(quality.kid(real, made), rel=1e-6)
    assert beside["held_out"]["fid"] == pytest.approx(
        quality.frechet(real[:86], (scale * EMBED.features(pool.large[case.floor]))[:86]), rel=1e-6
    )


def test_a_gan_that_copies_a_third_is_caught_and_held_out_patients_are_not(case, pool):
    rng = np.random.default_rng(1)
    made = pool.small[case.floor].astype(float)
    honest, _ = measured(case, pool, made.astype(np.uint8))
    assert honest["copy_rate"] <= honest["copy_honest"][1]
    copies = rng.permutation(len(made))[: round(0.3 * len(made))]
    made[copies] = pool.small[rng.choice(case.training, len(copies))]
    made[copies[::2]] = made[copies[::2], :, ::-1]  # mirrored ones too
    made[copies] += rng.normal(0, 3, made[copies].shape)
    caught, _ = measured(case, pool, np.clip(made, 0, 255).astype(np.uint8))
    assert caught["copy_rate"] > 0.25
    assert caught["copy_interval"][0] > caught["copy_honest"][1]


def told(row: dict, beside: dict) -> str:
    name = {"trial": 0, "protocol": "clean", "class": "NORMAL"}
    return section.sentence(row | name, beside)


def test_noise_collapse_and_divergence_are_told_in_words_and_no_number_is_made_up(case, pool):
    noise = np.random.default_rng(2).integers(0, 255, (40, SIDE, SIDE)).astype(np.uint8)
    row, beside = measured(case, pool, noise)
    text = told(row, beside)
    assert text.startswith(
        "trial 0, clean, NORMAL: noise, or nearly so: more than half as far from real images as noise is"
    )
    deviations = (row["same_size"]["kid"]["value"] - beside["held_out"]["same_size"]["kid"]["value"]) / beside[
        "held_out"
    ]["same_size"]["kid"]["std"]
    assert f", {deviations:.0f} of the floor's deviations above it" in text

    one = pool.small[case.training[:1]]
    row, beside = measured(case, pool, one.repeat(40, 0))
    assert row["kid"] == {"value": None, "std": None}
    assert row["copy_rate"] is row["fid"] is row["precision"] is row["tell_auc"] is None
    assert "the 40 images of generated are all alike" in row["reasons"]["kid"]
    assert row["collapsed"].startswith("generated images differ by 0.00 gray levels")
    assert "not measured" in told(row, beside)
    json.dumps(row, allow_nan=False)

    row, beside = measured(case, pool, one)
    assert row["reasons"]["kid"].startswith("generated is one image alone")
    json.dumps(row, allow_nan=False)

    row, beside = measured(case, pool, one[:0])
    assert (row["kid"]["value"], row["reasons"]) == (None, {"all": "the GAN diverged"})
    assert beside["held_out"]["coverage"] > 0.8
    assert told(row, beside) == "trial 0, clean, NORMAL: not measured: the GAN diverged."


def kids(**values: float) -> dict[str, dict]:
    """Rows by kind, with KIDs at the same size; the floor's deviation is 0.1, or there is none."""
    deviation = values.pop("deviation", None)
    made = {kind: {"same_size": {"kid": {"value": value, "std": deviation}}} for kind, value in values.items()}
    return {kind: {**row, "kid": {"value": 0.0}, "collapsed": None, "copy_rate": None} for kind, row in made.items()}


def test_the_verdict_agrees_with_its_numbers_below_the_floor_and_without_a_deviation():
    real = {"held_out": 0.3, "other_class": 1.0, "noise": 9.0}
    row, beside = (kids(row=0.1, deviation=0.1)["row"], kids(**real, deviation=0.1))
    assert told(row, beside) == (
        "trial 0, clean, NORMAL: as near to real images as those of other patients are to one another "
        "(KID at the same size 0.100, 2 of the floor's deviations below it; noise has 9.000)."
    )
    for kid, verdict in ((0.3, "as near to real images as"), (0.4, "further from real images than")):
        text = told(kids(row=kid)["row"], kids(**real))
        assert text.startswith(f"trial 0, clean, NORMAL: {verdict}")
        assert "deviations" not in text


def test_where_nobody_is_left_to_compare_with_or_real_images_are_too_small_it_is_null_with_the_reason(case, pool):
    row, beside = measured(case._replace(held_out=case.held_out[:1]), pool, pool.small[case.floor])
    assert row["kid"] == {"value": None, "std": None}
    assert row["reasons"]["all"].startswith("held_out: the GAN saw images of all patients but 1")
    assert beside["other_class"] == row
    tiny = pool._replace(images=pool.images._replace(sides=(12,) * 480))
    row, _ = measured(case, tiny, pool.small[case.floor])
    assert row["coverage"] is None
    assert row["reasons"]["all"] == "86 of 86 real images have fewer than the GAN's 16 pixels"


def test_a_gan_that_saw_one_image_or_that_nobody_asked_for_images_is_null_with_the_reason(case, pool):
    row, beside = measured(case._replace(training=case.training[:1]), pool, pool.small[case.floor])
    assert (row["kid"]["value"], row["reasons"]) == (None, {"all": "training: the GAN saw one image alone"})
    alike = np.repeat(case.floor[:1], 3)
    row, beside = measured(case._replace(floor=alike), pool, pool.small[case.floor])
    assert row["reasons"] == {"all": "floor: the 3 images are all alike"}
    assert told(row, beside) == "trial 0, clean, NORMAL: not measured: floor: the 3 images are all alike."
    idle = case._replace(absent="no arm asked for its images")
    row, beside = measured(idle, pool, pool.small[:0])
    assert told(row, beside) == "trial 0, clean, NORMAL: not measured: no arm asked for its images."


@pytest.fixture(scope="module")
def chosen(tmp_path_factory, tiny_flags):
    """A whole run whose GANs were measured while they trained; images are of the state nearest to an inner part."""
    flags = ["--config.trials=(0,)", "--config.protocols=('clean',)", "--config.quality.every=2"]
    flags += ["--config.quality.inner=0.25", "--config.quality.images=8", "--config.quality.features=alexnet"]
    return finish([*tiny_flags, *flags], tmp_path_factory.mktemp("chosen") / "run")


def test_images_are_drawn_from_the_state_that_is_nearest_to_patients_kept_from_the_gan(chosen):
    done = run.load(chosen)
    entry = done.splits["trials"][0]["clean"]
    assert {name.split("/")[0] for name in entry["gan_inner"]} == {"NORMAL", "PNEUMONIA"}
    assert set(entry["gan_inner"]) < set(entry["train"])
    patient = dict(zip(done.predictions["name"], done.predictions["patient"], strict=True))
    known = [name for name in entry["train"] if name in patient]
    assert not known  # nobody whom a classifier or GAN has seen is tested
    for name in ("normal", "pneumonia"):
        stage = Stage(0, "clean", gan=name)
        curve = done.curves[stage, "kid"]
        assert list(curve) == [2, 4, 6]
        best = min(curve, key=curve.get)
        assert done.results["gan"]["drawn_from"] == done.results["gan"]["drawn_from"] | {stage.name: best}
        made = checkpoint.read_arrays(chosen / "checkpoints" / f"{stage.name}.npz")["images"]
        [source] = sample.load(done, "trial0/clean", 0, name.upper())
        order = source.order._replace(seed=seed_of(done.config.seed, stage.name), wanted={source.label: len(made)})
        drawn = drawing.generate(sample.recipe_of(done), order, source.state)
        np.testing.assert_array_equal(drawn[source.label], made)


def test_the_page_has_the_kid_as_a_curve_and_says_which_state_was_chosen(chosen):
    page, done = (chosen / "report.html").read_text(), run.load(chosen)
    assert "KID at the same size of what the GANs make to images of patients kept from them, alexnet" in page
    assert done.results["gan"]["drawn_from"]
    for stage, step in done.results["gan"]["drawn_from"].items():
        assert f"{stage}, step {step}" in page


def test_the_command_writes_what_the_contract_says(chosen, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(chosen, workdir)
    code, errors = call(evaluate.main, f"--workdir={workdir}", "--images=12", "--features=alexnet")
    assert code == 0, errors
    found = json.loads((workdir / "gan_quality.json").read_text())
    results = json.loads((workdir / "results.json").read_text())
    assert results["gan"].pop("quality") == found
    assert results == json.loads((chosen / "results.json").read_text())  # nothing else has changed
    assert found["features"] == "alexnet (random, seed 0)"
    assert [(row["trial"], row["protocol"], row["class"], row["seed"]) for row in found["gans"]] == [
        (0, "clean", "NORMAL", 0),
        (0, "clean", "PNEUMONIA", 0),
    ]
    assert found["references"].keys() >= {"held_out", "through_gan_size", "training_copies", "other_class"}
    for row in [*found["gans"], *(one for kind in found["references"].values() for one in kind["by_gan"])]:
        assert row.keys() >= ROW
        assert row["kid"].keys() == {"value", "std"}
        assert all(row[name] is not None or row["reasons"] for name in ROW)
    for kind in found["references"].values():
        assert kind.keys() >= {"kid", "fid", "coverage", "copy_rate", "tell_auc"}
    page = (workdir / "report.html").read_text()
    assert "Quality of the generated images" in page
    assert page.count("nearest pairs: ") >= 2
    assert sorted(path.name for path in (workdir / "samples").glob("nearest-*")) == [
        "nearest-trial0-clean-gan_normal-class0.png",
        "nearest-trial0-clean-gan_pneumonia-class1.png",
    ]


def test_bad_input_is_one_line(chosen, tmp_path):
    def line(*arguments):
        return error_of(call(evaluate.main, *arguments), 2)[0]

    assert line(f"--workdir={tmp_path / 'nothing'}").startswith(f"{tmp_path / 'nothing'}")
    assert line(f"--workdir={chosen}", "--images=1").startswith("--images=1: give 2 or more")
    assert line(f"--workdir={chosen}", "--features=nobody").startswith("--features='nobody' is not known here")
    workdir = tmp_path / "run"
    shutil.copytree(chosen, workdir)
    for file in (workdir / "checkpoints/trial0/clean").glob("gan_*.npz"):
        file.unlink()
    assert "gan_normal.npz is not there, the images that the GAN made; bring it back" in line(f"--workdir={workdir}")
