"""Classes are data: a study of three, from the images to predictions with their names."""

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image
from runs import call, finish, load
from sklearn.metrics import confusion_matrix, roc_auc_score

from pneumojax import data, evaluate, predict
from pneumojax import run as runs
from pneumojax.stage import Stage

pytestmark = pytest.mark.slow

CLASSES = ("NORMAL", "BACTERIA", "VIRUS")
LOGITS = ["logit_normal", "logit_bacteria", "logit_virus"]
OF_CLASSES = [f"{kind}_{name.lower()}" for kind in ("precision", "recall", "auc") for name in CLASSES]


@pytest.fixture(scope="module")
def three(tmp_path_factory, tiny_flags):
    """One trial of two protocols; that of `patient_kfold` is the first fold of all images."""
    flags = [
        *(*tiny_flags, f"--config.data.classes={CLASSES}", "--config.data.phantom_images=(30, 28, 26)"),
        *("--config.data.subset=(12, 10, 10)", "--config.trials=(0,)"),
        *("--config.protocols=('paper', 'patient_kfold')", "--config.arms=('without_gan', 'with_gan')"),
    ]
    return finish(flags, tmp_path_factory.mktemp("classes") / "run")


@pytest.fixture(scope="module")
def rows(three):
    with (three / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def parts_of(results):
    """(protocol, arm, part) → PART, of the one trial."""
    for protocol, arms in results["protocols"].items():
        for name, arm in arms.items():
            [trial] = arm["trials"]
            found = {key: value for key, value in trial.items() if isinstance(value, dict) and "images" in value}
            yield from (((protocol, name, part), one) for part, one in found.items())
            yield (protocol, name, "test"), trial


def test_results_of_three_classes_hold_together(three, rows):
    results = load(three)
    assert results["data"]["classes"] == list(CLASSES)
    assert results["data"]["class_counts"] == [30, 28, 26]
    assert list(results["protocols"]) == ["paper", "patient_kfold"]
    assert list(rows[0])[-3:] == LOGITS
    whole_parts = 0
    for (protocol, arm, part), found in parts_of(results):
        assert np.shape(found["confusion_matrix"]) == (3, 3)
        assert set(OF_CLASSES) <= found["scores"].keys()
        if "/" in part:
            continue
        whole_parts += 1
        own = [r for r in rows if (r["protocol"], r["arm"], r["part"]) == (protocol, arm, part)]
        labels = np.array([int(r["label"]) for r in own])
        logits = np.array([[r[column] for column in LOGITS] for r in own], float)
        matrix = confusion_matrix(labels, np.argmax(logits, 1), labels=[0, 1, 2])
        assert matrix.tolist() == found["confusion_matrix"]
        for score, value in evaluate.scores(matrix, CLASSES).items():
            assert found["scores"][score] == pytest.approx(value)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        shares /= shares.sum(1, keepdims=True)
        areas = [roc_auc_score(labels == k, shares[:, k]) for k in range(3)]
        assert [found["scores"][f"auc_{name.lower()}"] for name in CLASSES] == pytest.approx(areas, abs=1e-3)
        assert found["scores"]["auc"] == pytest.approx(np.mean(areas), abs=1e-3)
    assert whole_parts == (2 + 4) + 2
    assert {r["label"] for r in rows} == {"0", "1", "2"}


def test_what_is_undefined_is_null_and_a_part_without_images_is_absent(three):
    """The bacterial images of a part have one class alone: no specificity, no AUC. A fold has no unseen images."""
    results = load(three)
    for name, arm in results["protocols"]["patient_kfold"].items():
        assert "unseen" not in arm, name
        assert "unseen" not in arm["trials"][0]
        for summary, key in ((arm["test/bacteria"], "mean"), (arm["trials"][0]["test/bacteria"], "scores")):
            assert summary[key]["auc"] is summary[key]["recall_normal"] is summary[key]["recall_macro"] is None
            assert summary["interval"]["auc"] is summary["interval"]["precision_virus"] is None
            assert 0 <= summary[key]["recall_bacteria"] == summary[key]["accuracy"] <= 1
        assert arm["test/bacteria"]["std"]["auc"] is None
    page = re.sub('base64,[^"]*', "", (three / "report.html").read_text())
    assert not re.search(r"\b(nan|NaN|None)\b", page)
    assert "By published folder and by subtype" in page


def test_each_class_has_gans_of_its_own(three):
    run = runs.load(three)
    stages = [Stage(0, p, gan=c) for p in ("paper", "patient_kfold") for c in ("normal", "bacteria", "virus")]
    assert set(run.grids) == set(stages)
    paper = run.splits["trials"][0]["paper"]
    pooled = [name for side in paper["with_gan"].values() for name in side]
    for names in (paper["subset"], [name.removeprefix("generated/") for name in pooled if "generated/" in name]):
        folders = [name.partition("/")[0] for name in names]
        assert [folders.count(name) for name in CLASSES] == [12, 10, 10]  # the subset, and once more


def test_the_page_speaks_of_three_classes_and_not_of_the_papers_tables(three):
    page = (three / "report.html").read_text()
    assert "84 images (30 NORMAL, 28 BACTERIA, 26 VIRUS)" in page
    for name in ("NORMAL (specificity)", "BACTERIA", "VIRUS"):
        assert f"<th>recall {name}</th>" in page
    assert "as printed" not in page
    assert "PNEUMONIA" not in page.partition("Config, environment, time")[0]


def test_predict_names_the_classes(three, rows, tmp_path, capsys):
    config = runs.load(three).config
    images = data.load(config.data, config.model.image_size)
    paths = {}
    for row in (0, 40, 83):
        name = images.names[row]
        paths[name] = tmp_path / f"{row}.png"
        Image.fromarray(images.pixels[row]).save(paths[name])
    arguments = [f"--workdir={three}", "--classifier=trial0/patient_kfold/with_gan", "--json", *paths.values()]
    assert call(predict.main, *arguments)[0] == 0
    answers = json.loads(capsys.readouterr().out)
    assert [answer["file"] for answer in answers] == [str(path) for path in paths.values()]
    known = {r["name"]: r for r in rows if (r["protocol"], r["arm"]) == ("patient_kfold", "with_gan")}
    for answer, name in zip(answers, paths, strict=True):
        assert list(answer["logits"]) == list(CLASSES)
        assert answer["class"] == max(answer["logits"], key=answer["logits"].get)
        if name in known:
            logits = [float(known[name][column]) for column in LOGITS]
            np.testing.assert_allclose(list(answer["logits"].values()), logits, rtol=1e-4, atol=1e-5)
