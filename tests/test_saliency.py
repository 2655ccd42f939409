"""Saliency: maps that are what their definitions say, for every network, and the check whether they tell anything."""

import csv
import io
import json
import pkgutil
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image
from runs import call, error_of
from scipy.stats import spearmanr
from test_predict import PROBE, written

from configs import default
from pneumojax import classify, models, overlays, predict, report, run, saliency, sharding, systems
from pneumojax import config as configs
from pneumojax.classify import Recipe
from pneumojax.data import pixels
from pneumojax.gan import pictures
from pneumojax.models.layers import convolution
from pneumojax.report import maps
from pneumojax.saliency import Cut
from pneumojax.systems import Opened
from pneumojax.tuning import Tuning

CONFIG = configs.frozen(default.get_config()).classifier
SIZES = {"inception_v3": 80, "inception_resnet_v2": 80, "alexnet": 64, "stephen2019": 64}
DEEP = ("densenet121", "densenet201", "inception_resnet_v2", "inception_v3", "xception", "liang2019", "googlenet")
NAMES = [
    pytest.param(one.name, marks=[pytest.mark.slow] * (one.name in DEEP))
    for one in pkgutil.iter_modules(models.__path__)
    if one.name not in ("layers", "plain")
]


def opened_of(model: nn.Module, size: int, key: int = 0, begin: int = 0) -> Opened:
    """A network with random weights, whose stages before number `begin` are frozen."""
    variables = classify.init(jax.random.key(key), model, size)
    recipe = Recipe(model, CONFIG, Tuning(begin, (), ()))
    return Opened(recipe, variables, len(model.STAGES) - 1, classify.onward)


class Small(nn.Module):
    """A convolution, its picture flattened or not, and a linear head."""

    num_classes: int = 2
    flat: bool = False

    STAGES = ("picture", "head")

    @nn.compact
    def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
        def picture(x):
            x = nn.relu(convolution(5, (3, 3), (2, 2), padding=1, name="conv")(x))
            return x.transpose(0, 3, 1, 2).reshape(len(x), -1) if self.flat else x

        def head(x):
            return nn.Dense(self.num_classes, name="fc")(x if self.flat else jnp.mean(x, (1, 2)))

        for stage in (picture, head)[begin:end]:
            x = stage(x)
        return x


def images_of(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size)).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_every_network_has_a_picture_inside_and_a_map_of_it(name):
    """By shapes alone: nothing is computed."""
    size, model = SIZES.get(name, 64), models.load(name)(num_classes=2)
    recipe = Recipe(model, CONFIG, Tuning(0, (), ()))
    shapes = jax.eval_shape(lambda: classify.fresh_variables(jax.random.key(0), model, size))
    cut = saliency.cut_of(Opened(recipe, shapes, len(model.STAGES) - 1, classify.onward), size)
    height, width, channels = cut.shape
    assert height == width > 1
    assert channels >= 32
    given = (jax.ShapeDtypeStruct((3, size, size), jnp.uint8), jax.ShapeDtypeStruct((3,), jnp.int32))
    made = jax.eval_shape(
        lambda v, x, y: saliency.grad_cam(v, x, y, recipe=recipe, onward=classify.onward, cut=cut), shapes, *given
    )
    assert made.shape == (3, height, width)


def test_where_networks_are_cut():
    def cut(name: str, size: int) -> Cut:
        model = models.load(name)(num_classes=2)
        recipe = Recipe(model, CONFIG, Tuning(0, (), ()))
        return saliency.cut_of(Opened(recipe, {}, len(model.STAGES) - 1, None), size)

    assert cut("resnet18", 224) == Cut(5, (7, 7, 512), False)
    assert cut("squeezenet", 224) == Cut(9, (13, 13, 512), False)
    assert cut("alexnet", 224) == Cut(5, (6, 6, 256), True)
    assert cut("stephen2019", 200) == Cut(1, (10, 10, 128), True)


@pytest.mark.parametrize("flat", [False, True])
def test_a_head_that_looks_at_one_channel_has_that_channel_for_a_map(flat):
    """And none of what speaks against the class: of the other class the map is empty."""
    opened = opened_of(Small(flat=flat), 12)
    params = opened.variables["params"]
    kernel = np.zeros(params["fc"]["kernel"].shape, np.float32)
    (kernel.reshape(5, -1, 2)[3] if flat else kernel[3])[..., 1] = 1.0
    params = params | {"fc": params["fc"] | {"kernel": jnp.asarray(kernel)}}
    variables, images = opened.variables | {"params": params}, images_of(2, 12)
    cut = saliency.cut_of(opened, 12)
    assert cut == Cut(1, (6, 6, 5), flat)
    static = {"recipe": opened.recipe, "onward": opened.onward, "cut": cut}
    made = np.asarray(saliency.grad_cam(variables, images, np.array([1, 0], np.int32), **static))
    channel = Small().apply(variables, pixels.normalise(images), end=1)[..., 3]
    scale = 1.0 if flat else 1 / 36  # of a mean over 36 pixels
    np.testing.assert_allclose(made[0], scale * channel[0], rtol=1e-4, atol=1e-6)
    assert channel[0].max() > 0.1
    assert not made[1].any()


def test_evidence_is_the_margin_of_the_statistics():
    logits = np.array([[1.0, 3.0, 2.0], [0.5, 0.0, -1.0]], np.float32)
    expected = [3 - np.log(np.exp(1) + np.exp(2)), 0.5 - np.log(np.exp(0) + np.exp(-1))]
    np.testing.assert_allclose(saliency.evidence(logits, np.array([1, 0])), expected, rtol=1e-6)
    np.testing.assert_allclose(saliency.evidence(logits[:, :2], np.array([1, 0])), [2.0, 0.5], rtol=1e-6)


def test_integrated_gradients_sum_to_what_the_evidence_gains():
    opened, images = opened_of(models.load("resnet18")(num_classes=2, width=4), 48), images_of(8, 48)
    classes = np.arange(8, dtype=np.int32) % 2
    made = list(saliency.explain(opened, images, classes))
    black = np.zeros_like(images)

    def evidence_of(images):
        logits = opened.recipe.model.apply(opened.variables, pixels.normalise(images))
        return np.asarray(saliency.evidence(logits, classes))

    gain = evidence_of(images) - evidence_of(black)
    np.testing.assert_allclose([one.gain for one in made], gain, atol=1e-4)
    gaps = [saliency.checked(one)["gap"] for one in made]
    np.testing.assert_allclose([one.integrated.values.sum() for one in made], gain - gaps, atol=1e-3)
    assert np.abs(gaps).max() < 0.05 * np.abs(gain).max()
    assert {one.integrated.values.shape for one in made} == {(48, 48)}
    assert {one.grad_cam.values.shape for one in made} == {(2, 2)}


def test_maps_are_made_as_they_are_asked_for_by_one_program(monkeypatch):
    """Of each what it has alone. A network and those drawn anew share what is compiled."""
    opened, images = opened_of(Small(), 12), images_of(11, 12)
    opened = opened._replace(variables=sharding.replicate(opened.variables))  # as a checkpoint is read
    classes, calls = np.arange(11, dtype=np.int32) % 2, []
    along = saliency.along
    monkeypatch.setattr(saliency, "along", lambda *given, **static: calls.append(1) or along(*given, **static))
    before = along._cache_size()
    made = saliency.explain(opened, images, classes)
    first = next(made)
    assert len(calls) == 3 * (saliency.STEPS + 2)
    found = [first, *made]
    assert (len(found), along._cache_size() - before) == (11, 1)
    [alone] = saliency.explain(opened, images[10:], classes[10:])
    np.testing.assert_allclose(found[10].integrated.values, alone.integrated.values, atol=1e-6)
    assert found[10].integrated.correlations == pytest.approx(alone.integrated.correlations, abs=1e-3)
    for which in saliency.DRAWN:
        drawn = saliency.randomised(opened, 12, which)
        other, _ = saliency.integrated_gradients(drawn, images[10:], classes[10:], opened.recipe, opened.onward)
        expected = spearmanr(alone.integrated.values.ravel(), other[0].ravel()).statistic
        assert alone.integrated.correlations[which] == pytest.approx(expected, abs=1e-3)


def test_a_map_of_the_image_alone_does_not_change_with_the_parameters_and_a_learnt_one_does():
    """A network whose evidence is the image itself, whatever its parameters, against one that they decide."""

    class Blind(Small):
        @nn.compact
        def __call__(self, x, train: bool = False, begin: int = 0, end: int | None = None):
            def head(x):
                unused = nn.Dense(1, name="fc")(jnp.mean(x, (1, 2)))
                mean = jnp.mean(x, (1, 2, 3)) + 0.0 * unused[:, 0]
                return jnp.stack([jnp.zeros_like(mean), mean], 1)

            for stage in (lambda x: x, head)[begin:end]:
                x = stage(x)
            return x

    images, classes = images_of(3, 12), np.ones(3, np.int32)
    blind = saliency.explain(opened_of(Blind(), 12), images, classes)
    for one in blind:
        assert one.integrated.correlations == pytest.approx(dict.fromkeys(saliency.DRAWN, 1.0), abs=1e-6)
    seeing = saliency.explain(opened_of(Small(), 12), images, classes)
    assert max(abs(one.integrated.correlations["all"]) for one in seeing) < 0.9


def test_what_is_drawn_anew_is_the_head_or_all():
    opened = opened_of(models.load("resnet18")(num_classes=2, width=4), 48, key=5)
    before = flatten_dict(opened.variables["params"])
    changed = {}
    for which in saliency.DRAWN:
        after = flatten_dict(saliency.randomised(opened, 48, which)["params"])
        changed[which] = {path[0] for path in before if not np.array_equal(before[path], after[path])}
    assert changed["head"] == {"fc"}
    assert changed["all"] >= {"fc", "conv1", "layer4_1"}
    assert unflatten_dict(before).keys() == opened.variables["params"].keys()


def test_the_rank_correlation_is_scipys_and_a_flat_map_has_none():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 16)).round(1)
    assert saliency.correlation(one, other) == pytest.approx(spearmanr(one, other).statistic)
    assert saliency.correlation(np.zeros(9), rng.normal(size=9)) is None
    assert saliency.correlation(np.full(9, np.nan), rng.normal(size=9)) is None


def test_a_network_in_pieces_is_the_network_with_a_scaling_between_them():
    """Whichever stage it is cut at, before, at and behind the first that is trained."""
    model = models.load("resnet18")(num_classes=2, width=4)
    opened = opened_of(model, 48, begin=4)
    scaling = {"mean": jnp.full(16, 0.3), "deviation": jnp.full(16, 2.0)}
    variables, images = opened.variables | {"scaling": scaling}, images_of(2, 48)
    x = pixels.normalise(images)
    seen = model.apply(opened.variables, x, end=4)
    expected = model.apply(opened.variables, (seen - 0.3) / 2.0, begin=4)
    for end in (0, 2, 4, 5):
        part = classify.until(opened.recipe, variables, x, end) if end else x
        np.testing.assert_allclose(classify.onward(opened.recipe, variables, part, end), expected, atol=1e-5)


# Pictures


def test_overlays_show_heat_where_the_map_is_high_and_colours_by_sign():
    image = np.full((8, 8), 100, np.uint8)
    hot = overlays.heat(image, np.array([[0.0, 0.0], [0.0, 3.0]]))
    assert hot[0, 0].tolist() == [100, 100, 100]
    assert hot[7, 7, 0] > 180 > hot[7, 7, 2]
    assert (overlays.heat(image, np.zeros((2, 2))) == 100).all()
    values = np.zeros((8, 8))
    values[1, 1], values[2, 2] = 4.0, -4.0
    shown = overlays.signed(image, values)
    assert shown[1, 1].tolist() == [220, 30, 30]
    assert shown[2, 2].tolist() == [30, 90, 220]
    assert (overlays.signed(image, np.zeros((8, 8))) == 100).all()


# A finished run


def test_the_page_shows_the_worst_errors_and_right_answers_of_one_network(whole, tmp_path):
    done = run.load(whole)
    stage, part, shown = maps.chosen(done)
    assert (stage.name, part) == ("trial0/clean/with_gan", "unseen")
    [own] = [p for p in run.predictions_of(done) if (p.trial, p.protocol, p.arm, p.part) == (0, *stage[1:3], part)]
    label_of = dict(zip(own.names, own.labels.tolist(), strict=True))
    assert all(label_of[one.name] == one.label for one in shown)
    wrong = [one for one in shown if one.said != one.label]
    assert len(wrong) == min(maps.ERRORS, int((own.chances.argmax(1) != own.labels).sum()))
    assert {one.said for one in shown if one.said == one.label} == set(own.chances.argmax(1)[own.cells % 3 == 0])
    path = maps.sheet_path(whole, stage)
    told = json.loads(pictures.texts_of(path)["Maps"])
    assert [one["name"] for one in told["images"]] == [one.name for one in shown]
    assert pictures.texts_of(path)["Description"] == "They were drawn by a program."
    section = maps.section(done)
    table = section["blocks"][-1]["table"]
    assert table["heads"][5:] == [
        *("Grad-CAM, head anew", "Grad-CAM, all anew", "integrated gradients, head anew"),
        "integrated gradients, all anew",
    ]
    for row, one in zip(table["rows"], told["images"], strict=True):
        assert row["cells"][3][0] == overlays.plain(one["integrated"]["head"])
        assert [cell == ("–",) for cell in row["cells"][1:3]] == [value is None for value in one["grad_cam"].values()]
        assert {*one["integrated"]} == {*one["grad_cam"]} == {*saliency.DRAWN}
    report.write(done, tmp_path)
    assert "Where a network looks" in (tmp_path / "report.html").read_text()


def test_a_sheet_that_is_gone_or_of_another_network_is_not_shown(whole, monkeypatch):
    done = run.load(whole)
    monkeypatch.setattr(maps, "sheet_path", lambda workdir, _: workdir / "samples/none.png")
    assert maps.section(done) is None
    monkeypatch.setattr(maps, "sheet_path", lambda workdir, _: min(workdir.glob("samples/worst-*.png")))
    assert maps.section(done) is None


def test_the_page_of_a_system_without_a_gradient_says_so(whole, monkeypatch):
    done = run.load(whole)
    monkeypatch.setattr(systems.load("finetune"), "GRADIENT", False, raising=False)
    monkeypatch.setattr(saliency, "explain", lambda *_: pytest.fail("there is none"))
    maps.write(done, None)
    [block] = maps.section(done)["blocks"]
    assert block["note"] == "The system finetune has no gradient: there are no maps of what it looks at."
    assert not systems.load("forest").GRADIENT


def test_a_system_without_a_gradient_explains_nothing(probed, tmp_path, monkeypatch):
    system = systems.load("frozen_probe")
    done = run.load(probed)
    blind = system.classifier(done, *predict.chosen(done, [PROBE]))
    monkeypatch.setattr(system, "classifier", lambda *_: blind._replace(opened=blind.opened._replace(onward=None)))
    arguments = (f"--workdir={probed}", f"--classifier={PROBE}", f"--explain={tmp_path / 'maps'}")
    [line] = error_of(call(predict.main, *arguments, written(tmp_path / "set", "a.png")), 2)
    assert line == f"--explain: {probed}: {saliency.NO_GRADIENT}; leave it out"
    assert not (tmp_path / "maps").exists()


def test_a_probe_in_pieces_gives_its_logits(probed):
    done = run.load(probed)
    [stage] = predict.chosen(done, [PROBE])
    opened, images = systems.load("frozen_probe").classifier(done, stage).opened, images_of(4, 48)
    expected = predict.load(done, PROBE)(images)
    found = opened.onward(opened.recipe, opened.variables, pixels.normalise(images), 0)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_predict_writes_a_picture_an_image_whatever_its_name(probed, tmp_path, capsys):
    names = ("a.png", "=cmd().png", "../b.png", "<script>.png")
    folder = written(tmp_path / "set/inner", *names).parent
    out = tmp_path / "maps"
    arguments = (f"--workdir={probed}", f"--classifier={PROBE}", f"--explain={out}", folder)
    assert call(predict.main, *arguments, "--json")[0] == 0
    told = json.loads(capsys.readouterr().out)
    assert sorted(one["explanation"]["picture"] for one in told) == sorted(str(path) for path in out.iterdir())
    assert all(path.name.strip("abcdefghijklmnopqrstuvwxyz0123456789_-.") == "" for path in out.iterdir())
    for one in told:
        with Image.open(one["explanation"]["picture"]) as picture:
            assert picture.mode == "RGB"
            assert picture.size == (3 * (96 + 2) + 2, 96 + 4 + 3 * 20)
            assert "trained on phantoms" in picture.text["Description"]
        check = one["explanation"]["integrated"]["all"]
        assert -1 <= check <= 1
    [line] = error_of(call(predict.main, *arguments, "--csv"), 2)  # a folder is not mixed of two calls
    assert line == f"{out} holds files already; choose another --explain or empty it"
    for path in out.iterdir():
        path.unlink()
    assert call(predict.main, *arguments, "--csv")[0] == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(row["integrated_all_anew"]) for row in rows] == [
        one["explanation"]["integrated"]["all"] for one in told
    ]


def test_a_kill_while_maps_are_drawn_loses_no_answer(probed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(predict, "explained", lambda *_: sys.exit(9))
    folder = written(tmp_path / "set", "a.png", "b.png")
    arguments = (f"--workdir={probed}", f"--classifier={PROBE}", f"--explain={tmp_path / 'maps'}", folder)
    assert call(predict.main, *arguments)[0] == 9
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [
        str(folder / name) for name in ("a.png", "b.png")
    ]


def test_a_folder_that_cannot_be_written_is_4(probed, tmp_path):
    (tmp_path / "file").touch()
    arguments = (f"--workdir={probed}", f"--classifier={PROBE}", f"--explain={tmp_path / 'file/maps'}")
    [line] = error_of(call(predict.main, *arguments, written(tmp_path / "set", "a.png")), 4)
    assert "choose another --explain" in line
