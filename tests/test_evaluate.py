"""Scores against the paper's own tables and scikit-learn, intervals and tests against what theory says of them."""

import numpy as np
import pytest
from sklearn import metrics

from pneumojax import evaluate, paper
from pneumojax.evaluate import Prediction


def prediction(labels, margins, patients=None, **kwargs) -> Prediction:
    labels = np.asarray(labels, np.int32)
    logits = np.stack([np.zeros(len(labels)), np.asarray(margins, float)], 1).astype(np.float32)
    names = [f"image{i}" for i in range(len(labels))]
    fields = {"protocol": "clean", "arm": "with_gan", "trial": 0, "part": "test"} | kwargs
    return Prediction(
        names=names, patients=list(patients or names), labels=labels, logits=logits, train_images=1, **fields
    )


@pytest.fixture
def noisy():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 60)
    margins = np.round(rng.normal(labels - 0.4, 1.0), 1)  # rounded: some are equal
    return prediction(labels, margins, [f"patient{i // 3}" for i in range(60)])


def test_parts_by_folder_and_subtype():
    """What one trial lacks, `val`, is left out; generated images belong to no folder."""
    names = [
        *("train/PNEUMONIA/person1_bacteria_1.jpeg", "test/PNEUMONIA/person2_virus_3.jpeg", "test/NORMAL/IM-1-1.jpeg"),
        *("train/PNEUMONIA/VIRUS-5-0001.jpeg", "train/NORMAL/IM-2-1.jpeg", "val/PNEUMONIA/BACTERIA-9-0001.jpeg"),
    ]
    first = prediction([1, 1, 0, 1, 0, 1], [1, -1, -1, 2, 1, 3])._replace(names=names)
    second = prediction([1, 1, 0, 1, 0], [1, 1, 1, 2, 1], trial=1)._replace(names=names[:5])
    generated = [p._replace(part="test_generated") for p in (first, second)]
    rows = evaluate.broken_down([first, second, *generated])[4:]
    assert [(p.part, p.trial, len(p.names)) for p in rows] == [
        *(("test/train", 0, 3), ("test/train", 1, 3), ("test/test", 0, 2), ("test/test", 1, 2)),
        *(("test/bacteria", 0, 2), ("test/bacteria", 1, 1), ("test/virus", 0, 2), ("test/virus", 1, 2)),
    ]
    virus = rows[6]
    assert virus.names == [names[1], names[3]]
    assert virus.patients == ["image1", "image3"]
    assert evaluate.score_part(virus, 10, 0)["confusion_matrix"] == [[0, 0], [1, 1]]
    assert evaluate.broken_down([second._replace(names=["a"] * 5)])[1:] == []


def percent(value: float, digits: int) -> str:
    return f"{100 * value:.{digits}f}"


def test_figure_7a_without_gan():
    assert percent(evaluate.scores(paper.MATRICES_WITHOUT_GAN["alexnet"])["accuracy"], 1) == "88.8"


@pytest.mark.parametrize("model", paper.MATRICES_WITH_GAN)
def test_the_papers_tables_to_the_printed_digit(model):
    scores = evaluate.scores(paper.MATRICES_WITH_GAN[model])
    for columns, table, digits in (
        (paper.TABLE_1_COLUMNS, paper.TABLE_1, 1),
        (paper.TABLE_2_COLUMNS, paper.TABLE_2, 2),
    ):
        for column, printed in zip(columns, table[model], strict=True):
            assert percent(scores[column], digits) == paper.MISPRINTS.get((model, column), printed)


def test_misprints_are_these_three():
    assert paper.MISPRINTS == {
        ("squeezenet", "accuracy"): "94.7",
        ("googlenet", "accuracy"): "98.6",
        ("squeezenet", "recall_macro"): "93.08",
    }
    printed = {
        (model, column): value
        for columns, table in ((paper.TABLE_1_COLUMNS, paper.TABLE_1), (paper.TABLE_2_COLUMNS, paper.TABLE_2))
        for model, row in table.items()
        for column, value in zip(columns, row, strict=True)
    }
    assert all(printed[place] != value for place, value in paper.MISPRINTS.items())


def test_the_papers_precision_is_macro_recall_so_no_transposed_matrix_passes():
    matrix = np.array(paper.MATRICES_WITH_GAN["alexnet"])
    assert percent(evaluate.scores(matrix)["recall_macro"], 2) == paper.TABLE_2["alexnet"][0]
    assert percent(evaluate.scores(matrix.T)["recall_macro"], 2) != paper.TABLE_2["alexnet"][0]
    assert matrix.sum(1).tolist() == [468, 780]  # rows are the true classes: a fifth of ten times 234 and 390


def test_scores_are_scikit_learns(noisy):
    predicted = np.argmax(noisy.logits, 1)
    result = evaluate.score_part(noisy, 20, 0)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(noisy.labels, predicted)
    expected = {
        "accuracy": metrics.accuracy_score(noisy.labels, predicted),
        "precision_macro": precision.mean(),
        "recall_macro": recall.mean(),
        "f1_macro": f1.mean(),
        "f1_paper": 2 / (1 / precision.mean() + 1 / recall.mean()),
        "precision_normal": precision[0],
        "precision_pneumonia": precision[1],
        "recall_normal": recall[0],
        "recall_pneumonia": recall[1],
        "auc": metrics.roc_auc_score(noisy.labels, noisy.margin),
    }
    assert result["scores"] == pytest.approx(expected, abs=1e-12)
    assert result["confusion_matrix"] == metrics.confusion_matrix(noisy.labels, predicted).tolist()
    assert result["images"] == 60


def test_weighted_auc_is_scikit_learns(noisy):
    weights = np.random.default_rng(2).integers(0, 4, (3, 60)).astype(float)
    expected = [metrics.roc_auc_score(noisy.labels, noisy.margin, sample_weight=w) for w in weights]
    np.testing.assert_allclose(evaluate.auc(noisy.margin, noisy.labels, weights), expected, atol=1e-12)


def test_zero_over_zero_is_zero():
    assert evaluate.scores([[0, 0], [0, 5]]) == pytest.approx(
        {
            "accuracy": 1.0,
            "precision_macro": 0.5,
            "recall_macro": 0.5,
            "f1_macro": 0.5,
            "f1_paper": 0.5,
            "precision_normal": 0.0,
            "precision_pneumonia": 1.0,
            "recall_normal": 0.0,
            "recall_pneumonia": 1.0,
        }
    )
    assert evaluate.score_part(prediction([1, 1], [1.0, 2.0]), 10, 0)["scores"]["auc"] == 0.0
    empty = evaluate.score_part(prediction([], []), 10, 0)
    assert set(empty["scores"].values()) == {0.0}


def test_intervals_widen_when_images_share_a_patient():
    rng = np.random.default_rng(3)
    right = np.repeat(rng.random(40) < 0.7, 5)  # a patient's five images are all right or all wrong
    margins = np.where(right, 1.0, -1.0)
    by_image = evaluate.score_part(prediction([1] * 200, margins), 4000, 0)["interval"]["accuracy"]
    by_patient = evaluate.score_part(prediction([1] * 200, margins, [f"p{i // 5}" for i in range(200)]), 4000, 0)[
        "interval"
    ]["accuracy"]
    ratio = (by_patient[1] - by_patient[0]) / (by_image[1] - by_image[0])
    assert ratio == pytest.approx(5**0.5, rel=0.1)  # forty independent units instead of two hundred


def test_identical_trials_are_not_taken_for_independent():
    rng = np.random.default_rng(4)
    margins = rng.normal(0.5, 1, 100)
    trials = [prediction([1] * 100, margins, trial=t) for t in range(3)]
    parts = [evaluate.score_part(p, 2000, 0) for p in trials]
    summary = evaluate.summarise(trials, parts, 2000, 0)
    assert summary["interval"]["accuracy"] == pytest.approx(parts[0]["interval"]["accuracy"], abs=1e-12)
    assert summary["std"]["accuracy"] == 0.0


def test_mean_and_standard_deviation_over_trials():
    trials = [prediction([1] * 4, [1.0] * k + [-1.0] * (4 - k), trial=k) for k in (1, 2, 4)]
    arm = evaluate.score_arm(trials, 50, 0)
    assert arm["mean"]["accuracy"] == pytest.approx(7 / 12)
    assert arm["std"]["accuracy"] == pytest.approx(np.std([0.25, 0.5, 1.0], ddof=1))
    assert [t["trial"] for t in arm["trials"]] == [1, 2, 4]


def test_sign_flips_match_enumeration():
    differences = np.array([1.0, 1.0, 1.0, 1.0, -1.0, 0.0])
    # |sum| >= 3 in 2 * (1 + 5) of the 32 sign patterns of the five that count
    assert evaluate.sign_flip(differences, 20_000, 0) == pytest.approx(12 / 32, abs=0.01)
    assert evaluate.sign_flip(np.zeros(5), 100, 0) == 1.0


def test_contrast_counts_a_patient_once_over_trials():
    control = [prediction([1] * 10, [-1.0] * 10, trial=t, arm="without_gan") for t in range(3)]
    treated = [prediction([1] * 10, [1.0] * 8 + [-1.0] * 2, trial=t) for t in range(3)]
    one, three = (evaluate.contrast(treated[:n], control[:n], 5000, 0) for n in (1, 3))
    assert one["difference"] == pytest.approx(0.8)
    for field in ("difference", "interval", "p_value"):  # three trials of the same images prove no more than one
        assert three[field] == pytest.approx(one[field], abs=1e-9)


def test_declared_contrast_comes_first_and_holm_corrects_the_rest():
    rng = np.random.default_rng(5)
    predictions = [
        prediction(np.ones(50), rng.normal(shift, 1, 50), arm=arm, part=part)
        for part in ("test", "unseen")
        for arm, shift in (("without_gan", 0.0), ("with_gan", 0.3), ("with_gan_epochs", 1.0))
    ]
    first, *others = evaluate.contrasts(predictions, 2000, 0)
    assert (first["arms"], first["part"], first["declared"]) == (["with_gan", "without_gan"], "unseen", True)
    ordered = sorted(others, key=lambda row: row["p_value"])
    assert ordered[0]["p_holm"] == pytest.approx(min(1, 3 * ordered[0]["p_value"]))
    assert [row["p_holm"] for row in ordered] == sorted(row["p_holm"] for row in ordered)
    assert "p_holm" not in first
