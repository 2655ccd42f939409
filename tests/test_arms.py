"""An arm of one's own is one function and one word in a config: it is trained, scored, contrasted and on the page."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from runs import printed

from configs import default
from experiments import compare
from pneumojax import config as configs
from pneumojax import gan, plan, predict, results, study
from pneumojax import run as runs
from pneumojax.data import phantom
from pneumojax.errors import BadInput
from pneumojax.evaluate import Prediction

ROOT = Path(__file__).parents[1]
KINDS = ("NORMAL", "VIRUS", "BACTERIA")
LOGITS = ("logit_normal", "logit_pneumonia")
OTHERS = """
from pneumojax.arms import Arm

def mixed(offer):
    return Arm("real, tested as the pool is", "without_gan", offer.pooled.real, 3, offer.pooled.tests)

def adam(offer):
    return other(offer, overrides={"optimizer": "adam"})

def other(offer, **fields):
    arm = Arm("another", "without_gan", offer.plain.real, 3, offer.plain.tests)
    return arm._replace(**fields)

def better(offer):
    return other(offer, against="with_gan")

def misspelt(offer):
    return other(offer, overrides={"learning_rat": 0.1})

def negative(offer):
    return other(offer, overrides={"learning_rate": -0.1})

def large(offer):
    return other(offer, overrides={"batch_size": 33})

def longer(offer):
    return other(offer, overrides={"epochs": 7})

def halved(offer):
    return other(offer, steps=2.5)

def none_at_all(offer):
    return other(offer, steps=0)

def masked(offer):
    return other(offer, train=offer.plain.real > 3)

def listed(offer):
    return other(offer, train=offer.plain.real.tolist())

def raises(offer):
    return offer.synthetic

def rows(offer):
    return offer.plain.real

def without_gan(offer):
    return other(offer, against=None)

def nowhere(offer):
    return None
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A folder of one's own on Python's path: the README's arm in `mylab_arms`, others in `others_arms`."""
    folder = tmp_path_factory.mktemp("lab")
    arm, config = printed("An arm of your own")
    for name, text in (("mylab_arms", arm), ("mylab_config", config), ("others_arms", OTHERS)):
        (folder / f"{name}.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder
    for name in ("mylab_arms", "others_arms"):
        sys.modules.pop(name, None)


def drawn(words, protocols=("clean",), enlarge=2.0, trials=(0,), classes=KINDS[:2], **classifier):
    """The plans of a study of phantoms, and its images."""
    c = default.get_config()
    c.update({"arms": words, "protocols": protocols, "enlarge": enlarge, "trials": trials})
    c.data.update({"classes": classes, "phantom_images": (60, 60, 60)[: len(classes)]})
    c.data.subset = (20, 20, 20)[: len(classes)]
    c.gan.batch_size = 4
    c.classifier.update({"batch_size": 4, "steps": 6, **classifier})
    images = phantom.load(c.data, 8)
    plans, _ = plan.draw(images, {}, len(images.names), configs.frozen(c))
    plan.check_batches(plans, plan.labels_for_gans(images, c), gan.load("dcgan"), c)
    return plans, images, c


def by_name(one) -> dict:
    """The arms of a plan, of the first GANs."""
    return {stage.arm: arm for stage, arm in one.arms.items() if not stage.gan_seed}


@pytest.mark.parametrize("classes", [KINDS[:2], KINDS])
def test_the_readmes_arm_has_half_of_the_real_images_under_every_protocol(lab, classes):
    protocols = ("clean", "paper", "patient_kfold")
    words = ("without_gan", "mylab_arms.half")
    plans, _, _ = drawn(words, protocols, trials=(0, 1), classes=classes)
    again, _, _ = drawn(words, protocols, trials=(1,), classes=classes)
    for key, one in plans.items():
        half, whole = (by_name(one)[name] for name in ("half", "without_gan"))
        assert len(half.train) == len(whole.train) // 2
        assert len(set(half.train)) == len(half.train)
        assert set(half.train) <= set(whole.train)
        assert half.steps == whole.steps == 6
        assert {part: rows.tolist() for part, rows in half.tests.items()} == {
            part: rows.tolist() for part, rows in whole.tests.items()
        }
        assert (half.title, half.against) == ("half of the real images, flipped", "without_gan")
        if key in again:
            assert half.train.tolist() == by_name(again[key])["half"].train.tolist()
    first, second = (by_name(plans[trial, "patient_kfold"])["half"].train.tolist() for trial in (0, 1))
    assert first != second


def test_arms_stand_in_the_order_of_the_config(lab):
    for words in (("without_gan", "with_gan", "mylab_arms.half"), ("mylab_arms.half", "with_gan", "without_gan")):
        plans, images, c = drawn(words, ("clean", "paper"))
        names = [word.removeprefix("mylab_arms.") for word in words]
        known = results.arms_of(plans, {}, c)
        assert [list(by_name(plans[0, protocol])) for protocol in known] == [names, names]
        assert [list(arms) for arms in known.values()] == [names, names]


def test_an_arm_with_gan_counts_against_the_one_without_but_under_paper():
    plans, _, _ = drawn(("without_gan", "with_gan", "with_gan_epochs"), ("clean", "paper", "patient_kfold"))
    against = {
        protocol: {name: arm.against for name, arm in by_name(one).items()} for (_, protocol), one in plans.items()
    }
    both = {"without_gan": None, "with_gan": "without_gan", "with_gan_epochs": "without_gan"}
    assert against == {
        "clean": both,
        "paper": {"without_gan": None, "with_gan": None},
        "patient_kfold": both,
    }


def test_an_arm_with_no_place_is_left_out(lab):
    plans, _, _ = drawn(("without_gan", "others_arms.nowhere", "with_gan"), enlarge=1.0)
    assert list(by_name(plans[0, "clean"])) == ["without_gan"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (
            ("mylab_arms.half",),
            "config.arms=('mylab_arms.half',): half counts against without_gan, which is not among ",
        ),
        (
            ("with_gan", "with_gan_epochs"),
            "config.arms=('with_gan', 'with_gan_epochs'): with_gan counts against without",
        ),
        (("others_arms.nowhere",), "config.arms=('others_arms.nowhere',): none has a place under the protocol clean; "),
        (
            ("without",),
            "config.arms='without' is not known here; pneumojax.arms has classical, duplicated, generated, ",
        ),
        (("Arm",), "config.arms='Arm' is not known here"),
        (("mylab_arms.third",), "config.arms='mylab_arms.third' is not known here; mylab_arms has half"),
        (("mylab.half",), "config.arms='mylab.half': there is no module mylab here; give package.module.function"),
        (
            ("others_arms.raises",),
            "config.arms: others_arms.raises: AttributeError: 'Offer' object has no attribute 'sy",
        ),
        (("others_arms.rows",), "config.arms: others_arms.rows: it gives ndarray; let it give pneumojax.arms.Arm, or "),
        (
            ("others_arms.misspelt",),
            "config.arms: others_arms.misspelt: config.classifier.learning_rat is not a field; ",
        ),
        (
            ("others_arms.negative",),
            "config.arms: others_arms.negative: config.classifier.learning_rate=-0.1: give a n",
        ),
        (
            ("others_arms.longer",),
            "config.arms: others_arms.longer: its `overrides` hold epochs, which nothing reads; ",
        ),
        (
            ("others_arms.halved",),
            "config.arms: others_arms.halved: its `steps` are 2.5; give a whole number above 0",
        ),
        (("others_arms.none_at_all",), "config.arms: others_arms.none_at_all: its `steps` are 0; give a whole number"),
        (("others_arms.masked",), "config.arms: others_arms.masked: its `train` is no int array; give rows, as offer."),
        (("others_arms.listed",), "config.arms: others_arms.listed: its `train` is no int array; give rows, as offer."),
        (
            ("without_gan", "others_arms.large"),
            "config.classifier.batch_size=33 of large: more than the 32 images there",
        ),
    ],
)
def test_an_arm_that_cannot_be_is_one_line_before_anything_is_trained(lab, words, line):
    with pytest.raises(BadInput) as raised:
        drawn(words)
    assert str(raised.value).startswith(line)
    assert "\n" not in str(raised.value)


def test_an_arm_that_counts_against_one_with_no_place_is_told_so(lab):
    words = ("without_gan", "with_gan", "others_arms.better")
    assert by_name(drawn(words)[0][0, "clean"])["better"].against == "with_gan"
    with pytest.raises(
        BadInput, match=r"better counts against with_gan, which has no place under clean with config.enl"
    ):
        drawn(words, enlarge=1.0)


def test_two_arms_of_the_same_last_name_are_refused(lab):
    flags = ["--config.arms=('without_gan', 'others_arms.without_gan')"]
    with pytest.raises(BadInput, match=r"^config.arms=.* whose last names are all different"):
        configs.load(str(lab / "mylab_config.py"), flags)


def test_an_arm_with_a_batch_of_its_own_needs_images_for_that_one_alone(lab):
    plans, _, _ = drawn(("without_gan", "others_arms.large"), enlarge=1.0, protocols=("patient_kfold",))
    assert len(by_name(plans[0, "patient_kfold"])["large"].train) > 33
    with pytest.raises(BadInput, match=r"^config.classifier.batch_size=34: more than the 32 images there"):
        drawn(("without_gan", "others_arms.large"), batch_size=34)


def test_arms_that_were_tested_on_other_images_are_not_contrasted(lab):
    """Under paper the pool's test holds generated images; unseen images are the same for both."""
    plans, images, c = drawn(("without_gan", "others_arms.mixed", "others_arms.adam"), ("clean", "paper"))
    world, rng = plan.world(images, plans, c.data.classes), np.random.default_rng(0)
    predictions = []
    for (trial, protocol), one in plans.items():
        for name, arm in by_name(one).items():
            for part, rows in arm.tests.items():
                columns = ([column[row] for row in rows] for column in (world.names, world.patients))
                rest = ([column[row] for row in rows] for column in (world.parts, world.subtypes))
                logits = rng.normal(size=(len(rows), 2)).astype(np.float32)
                predictions.append(Prediction(protocol, name, trial, part, *columns, world.labels[rows], logits, *rest))
    found = results.scored(results.arms_of(plans, {}, c), predictions, c)
    made = {(row["protocol"], row["part"], row["arms"][0]) for row in found["contrasts"]}
    both = {(protocol, "unseen", name) for protocol in ("clean", "paper") for name in ("mixed", "adam")}
    assert made == both | {("clean", "test", "mixed"), ("clean", "test", "adam"), ("paper", "test", "adam")}
    assert "test_generated" in found["protocols"]["paper"]["mixed"]


@pytest.fixture(scope="module")
def done(lab, tiny_flags):
    """The README's config as a study, made small: one trial, one protocol, no GAN."""
    flags = [*tiny_flags[1:], "--config.trials=(0,)", "--config.protocols=('clean',)"]
    config = configs.load(str(lab / "mylab_config.py"), flags)
    study.run(config, lab / "run")
    return runs.load(lab / "run")


def test_an_arm_of_ones_own_is_in_results_predictions_and_contrasts(done):
    arms = json.loads((done.workdir / "results.json").read_text())["protocols"]["clean"]
    assert list(arms) == ["without_gan", "half"]
    made = [path.name for path in (done.workdir / "samples").iterdir()]
    assert not any("generated" in name for name in made)  # no arm has generated images, so no GAN is trained
    half = arms["half"]
    assert (half["title"], half["against"]) == ("half of the real images, flipped", "without_gan")
    assert half["overrides"] == {"flip": True, "optimizer": "adam", "learning_rate": 1e-3}
    assert arms["without_gan"]["overrides"] == {}
    assert [arm["trials"][0]["train"] for arm in arms.values()] == [26, 13]
    assert [arm["trials"][0]["test"] for arm in arms.values()] == [6, 6]
    assert 0 <= half["mean"]["accuracy"] <= 1
    assert [(row["part"], row["arms"]) for row in done.results["contrasts"]] == [
        (part, ["half", "without_gan"])
        for part in ("unseen", "unseen", "test", "test")  # accuracy and AUC
    ]
    assert not any(row["declared"] for row in done.results["contrasts"])
    assert {*done.predictions["arm"]} == {"without_gan", "half"}
    steps = {stage.arm: sorted(curve)[-1] for (stage, metric), curve in done.curves.items() if metric == "loss"}
    assert steps == {"without_gan": 6, "half": 6}


def test_it_is_on_the_page_and_in_compare(done, capsys):
    page = (done.workdir / "report.html").read_text()
    assert "half of the real images, flipped against without GAN" in page
    compare.main([str(done.workdir)])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    assert {(row["arm"], row["scored on"]) for row in rows} >= {("half", "test"), ("half", "unseen")}


def test_an_optimizer_of_its_own_trains_and_predicts(done):
    """From the workdir alone a classifier gives the logits that were scored, exactly, by the fields of its arm."""
    images, found = phantom.load(done.config.data, done.config.model.image_size), {}
    rows_of = {name: row for row, name in enumerate(images.names)}
    for name, moment in (("without_gan", "'trace'"), ("half", "'nu'")):
        state = done.workdir / "checkpoints/trial0/clean" / name / "6/state/_METADATA"
        assert [word for word in ("'trace'", "'nu'") if word in state.read_text()] == [moment]  # of sgd, of adam
        lines = zip(*(done.predictions[column] for column in ("arm", "part", "name", *LOGITS)), strict=True)
        own = {image: logits for arm, part, image, *logits in lines if (arm, part) == (name, "test")}
        found[name] = predict.load(done, f"trial0/clean/{name}")(images.pixels[[rows_of[image] for image in own]])
        assert found[name].tolist() == np.array(list(own.values()), np.float32).tolist()
    assert np.abs(found["half"] - found["without_gan"]).max() > 1e-3
