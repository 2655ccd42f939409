"""Scores against the paper's own tables and scikit-learn, and what results.json has of parts and arms."""

import json

import numpy as np
import pytest
from answers import CLASSES, prediction
from scipy import stats
from sklearn import metrics

from configs import default
from pneumojax import evaluate, paper, results
from pneumojax.errors import BadInput

THREE = ("NORMAL", "BACTERIA", "VIRUS")


@pytest.fixture
def noisy():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 60)
    margins = np.round(rng.normal(labels - 0.4, 1.0), 1)  # rounded: some are equal
    return prediction(labels, margins, [f"patient{i // 3}" for i in range(60)])


@pytest.fixture
def three():
    """Three classes, three images a patient."""
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 3, 90)
    logits = rng.normal(np.eye(3)[labels], 1.0)
    logits[:20] = logits[-20:]  # some are equal
    return prediction(labels, logits, [f"patient{i // 3}" for i in range(90)])


def test_parts_by_folder_and_subtype():
    """Folders in the published order, kinds by name; what one trial lacks, `val`, and one kind alone are left out."""
    folders = ["train", "test", "test", "train", "train", "val"]
    subtypes = ["virus", "bacteria", "", "bacteria", "", "virus"]
    first = prediction([1, 1, 0, 1, 0, 1], [1, -1, -1, 2, 1, 3], parts=folders, subtypes=subtypes)
    second = prediction([1, 1, 0, 1, 0], [1, 1, 1, 2, 1], trial=1, parts=folders[:5], subtypes=subtypes[:5])
    generated = [p._replace(part="test_generated") for p in (first, second)]
    rows = evaluate.broken_down([first, second, *generated])[4:]
    assert [(p.part, p.trial, len(p.names)) for p in rows] == [
        *(("test/train", 0, 3), ("test/train", 1, 3), ("test/test", 0, 2), ("test/test", 1, 2)),
        *(("test/bacteria", 0, 2), ("test/bacteria", 1, 2), ("test/virus", 0, 2), ("test/virus", 1, 1)),
    ]
    virus = rows[6]
    assert (virus.names, virus.patients, virus.parts) == (["image0", "image5"], ["image0", "image5"], ["train", "val"])
    assert evaluate.score_part(rows[4], CLASSES)["confusion_matrix"] == [[0, 0], [1, 1]]
    assert [p.part for p in evaluate.broken_down([first])[1:]][:3] == ["test/train", "test/val", "test/test"]
    assert evaluate.broken_down([prediction([1] * 5, [1] * 5, subtypes=["virus"] * 5)])[1:] == []


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
    result = evaluate.score_part(noisy, CLASSES)
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
        "balanced_accuracy": metrics.balanced_accuracy_score(noisy.labels, predicted),
        "mcc": metrics.matthews_corrcoef(noisy.labels, predicted),
        "auc": metrics.roc_auc_score(noisy.labels, noisy.margins[1]),
        "auprc": metrics.average_precision_score(noisy.labels, noisy.margins[1]),
        "brier": metrics.brier_score_loss(noisy.labels, 1 / (1 + np.exp(-noisy.margins[1].astype(float)))),
    }
    assert result["scores"] == pytest.approx(expected, abs=1e-12)
    assert result["confusion_matrix"] == metrics.confusion_matrix(noisy.labels, predicted).tolist()
    assert result["images"] == 60


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
            "balanced_accuracy": 0.5,
            "mcc": 0.0,
        }
    )


def test_a_matrix_of_other_classes_is_refused():
    with pytest.raises(BadInput, match=r"shape \(3, 3\); give classes=\('NORMAL', 'PNEUMONIA'\)"):
        evaluate.scores(np.eye(3))


def test_three_classes_are_scikit_learns(three):
    predicted = np.argmax(three.logits, 1)
    result = evaluate.score_part(three, THREE)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(three.labels, predicted)
    logits = three.logits.astype(float)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    each = [metrics.roc_auc_score(three.labels == k, softmax[:, k]) for k in range(3)]
    expected = {
        "accuracy": metrics.accuracy_score(three.labels, predicted),
        "precision_macro": precision.mean(),
        "recall_macro": recall.mean(),
        "f1_macro": f1.mean(),
        "f1_paper": 2 / (1 / precision.mean() + 1 / recall.mean()),
        **dict(zip(("precision_normal", "precision_bacteria", "precision_virus"), precision, strict=True)),
        **dict(zip(("recall_normal", "recall_bacteria", "recall_virus"), recall, strict=True)),
        "balanced_accuracy": metrics.balanced_accuracy_score(three.labels, predicted),
        "mcc": metrics.matthews_corrcoef(three.labels, predicted),
        "auc": metrics.roc_auc_score(three.labels, softmax, multi_class="ovr"),
        "auprc": metrics.average_precision_score(three.labels, softmax),
        **dict(zip(("auc_normal", "auc_bacteria", "auc_virus"), each, strict=True)),
        "brier": metrics.brier_score_loss(three.labels, softmax, scale_by_half=True),
    }
    assert result["scores"] == pytest.approx(expected, abs=1e-12)
    assert list(result["scores"]) == list(result["interval"]) == list(expected)
    assert result["confusion_matrix"] == metrics.confusion_matrix(three.labels, predicted).tolist()
    low, high = result["interval"]["auc_virus"]
    assert low < each[2] < high


def test_scores_of_a_class_without_images_are_null():
    """Two images of PNEUMONIA, one found: recall 1/2, of NORMAL nothing can be said though one is taken for it."""
    part = evaluate.score_part(prediction([1, 1], [1.0, -2.0]), CLASSES)
    brier = ((1 - 1 / (1 + np.exp(-1))) ** 2 + (1 - 1 / (1 + np.exp(2))) ** 2) / 2
    known = {"accuracy": 0.5, "precision_pneumonia": 1.0, "recall_pneumonia": 0.5, "brier": pytest.approx(brier)}
    names = [*evaluate.scores(np.eye(2)), "auc", "auprc", "brier"]
    assert part["scores"] == dict.fromkeys(names) | known
    told = ["accuracy", "recall_pneumonia", "brier"]  # a precision of one patient has no interval
    assert [name for name in names if part["interval"][name] is not None] == told


def test_a_third_class_without_images_leaves_the_others_scores():
    logits = [[2, 1, 0], [0, 2, 1], [1, 0, 2], [0, 2, 1]]  # the third image is taken for the class that has none
    part = evaluate.score_part(prediction([0, 1, 1, 1], logits), THREE)
    known = {
        "accuracy": 0.75,
        "precision_normal": 1.0,
        "precision_bacteria": 1.0,
        "recall_normal": 1.0,
        "recall_bacteria": pytest.approx(2 / 3),
        "auc_normal": 1.0,
        "auc_bacteria": pytest.approx(2 / 3),
        "brier": pytest.approx((3 * 0.09005 + 0.66518) / 4, abs=1e-4),  # chances of 0.665, 0.245, 0.090
    }
    names = part["scores"]
    assert part["scores"] == dict.fromkeys(names) | known
    told = ["accuracy", "precision_bacteria", "recall_bacteria", "brier"]  # the others are of one patient
    assert [name for name in names if part["interval"][name] is not None] == told


def test_a_precision_with_nothing_predicted_stays_zero():
    part = evaluate.score_part(prediction([0, 1, 1], [1.0, 2.0, 3.0]), CLASSES)
    assert part["scores"]["precision_normal"] == part["scores"]["recall_normal"] == 0.0
    assert part["scores"]["precision_macro"] == pytest.approx(1 / 3)
    assert part["scores"]["auc"] == 1.0
    assert part["interval"]["precision_normal"] is None  # it is of no patient


def test_an_undefined_score_of_one_trial_is_null_over_trials():
    trials = [prediction([0, 1], [-1.0, 1.0]), prediction([1, 1], [1.0, -1.0], trial=1)]
    arm = evaluate.score_arm(trials, CLASSES)
    for summary in (arm["mean"], arm["std"], arm["interval"]):
        assert [name for name, value in summary.items() if value is not None] == [
            *("accuracy", "precision_pneumonia", "recall_pneumonia", "brier")
        ]
    assert arm["mean"]["accuracy"] == 0.75
    assert arm["trials"][0]["scores"]["auc"] == 1.0
    assert json.loads(json.dumps(arm, allow_nan=False)) == arm


def test_parts_without_images_are_absent():
    labels = {"test": [0, 1], "unseen": [], "external/nih": [1]}
    rows = [prediction(own, [1.0] * len(own), part=part) for part, own in labels.items()]
    later = [p._replace(trial=1) for p in (rows[0], prediction([0], [1.0], part="unseen"))]
    arm = evaluate.score_arm(rows, CLASSES)
    summary = ["mean", "std", "interval", "procedure", "procedure_why", "calibration", "operating", "decision_curve"]
    assert [*arm] == ["trials", *summary, "collapsed", "subgroups", "external/nih"]
    assert [*arm["external/nih"]] == summary
    assert [*arm["trials"][0]] == ["trial", "test", "confusion_matrix", "scores", "interval", "external/nih"]
    both = evaluate.score_arm(rows + later, CLASSES)
    assert [("unseen" in trial, "external/nih" in trial) for trial in both["trials"]] == [(False, True), (True, False)]
    assert both["unseen"]["mean"]["accuracy"] == 0.0
    empty = evaluate.score_arm([prediction([], [])], CLASSES)["trials"][0]
    assert empty["test"] == 0
    assert set(empty["scores"].values()) == set(empty["interval"].values()) == {None}


def test_each_pair_of_seeds_is_an_entry():
    rows = [
        prediction([1, 1], [1.0, 1.0 - 2 * g], gan_seed=g, part=part) for g in (0, 1) for part in ("test", "unseen")
    ]
    arm = evaluate.score_arm(rows, CLASSES)
    assert [(e["trial"], e["gan_seed"], e["classifier_seed"]) for e in arm["trials"]] == [(0, 0, 0), (0, 1, 0)]
    assert [e["unseen"]["scores"]["accuracy"] for e in arm["trials"]] == [1.0, 0.5]
    assert arm["mean"]["accuracy"] == 0.75
    assert "gan_seed" not in evaluate.score_arm(rows[:2], CLASSES)["trials"][0]


def test_scores_are_kept_by_protocol_and_arm(noisy):
    rows = [noisy, noisy._replace(arm="without_gan"), noisy._replace(protocol="official")]
    result = evaluate.score_all(rows, CLASSES, {})
    assert {protocol: [*arms] for protocol, arms in result.items()} == {
        "clean": ["with_gan", "without_gan"],
        "official": ["with_gan"],
    }
    assert result["official"]["with_gan"] == evaluate.score_arm(rows[2:], CLASSES)


def test_mean_and_standard_deviation_over_trials():
    trials = [prediction([1] * 4, [1.0] * k + [-1.0] * (4 - k), trial=k) for k in (1, 2, 4)]
    arm = evaluate.score_arm(trials, CLASSES)
    assert arm["mean"]["accuracy"] == pytest.approx(7 / 12)
    assert arm["std"]["accuracy"] == pytest.approx(np.std([0.25, 0.5, 1.0], ddof=1))
    assert [t["trial"] for t in arm["trials"]] == [1, 2, 4]


def test_seeds_count_alike_within_a_trial_and_trials_among_each_other():
    """A trial of two seeds, 1.0 and 0.5, and one of one, 0.25: (0.75 + 0.25) / 2, and deviations of two trials."""
    margins = {(0, 0): [1, 1, 1, 1], (0, 1): [1, 1, -1, -1], (1, 0): [1, -1, -1, -1]}
    rows = [prediction([1] * 4, m, trial=t, classifier_seed=s) for (t, s), m in margins.items()]
    arm = evaluate.score_arm(rows, CLASSES)
    assert arm["mean"]["accuracy"] == pytest.approx(0.5)
    assert arm["std"]["accuracy"] == pytest.approx(np.std([0.75, 0.25], ddof=1))


def test_every_pair_of_seeds_is_a_row_of_the_results():
    c = default.get_config()
    rows = [prediction([0, 1], [-1.0, 1.0], trial=t, gan_seed=g) for t in (0, 1) for g in (0, 1)]
    known = {"title": "with GAN", "against": None, "also": [], "overrides": {}}
    keys = [(t, g, 0) for t in (0, 1) for g in (0, 1)] + [(2, 0, 0)]
    known["trials"] = {key: {"trial": key[0], "train": 40 + key[0]} for key in keys}
    found = results.scored({"clean": {"with_gan": known}}, rows, c)["protocols"]["clean"]["with_gan"]["trials"]
    told = [(row["trial"], row["train"], row.get("gan_seed"), row.get("test")) for row in found]
    assert told == [(0, 40, 0, 2), (0, 40, 1, 2), (1, 41, 0, 2), (1, 41, 1, 2), (2, 42, None, None)]


def test_trials_whose_training_patients_overlap_are_corrected_as_folds_are():
    """Nadeau and Bengio's ratio of test to training images, under every protocol that draws subsets."""
    c = default.get_config()
    assert set(results.designs(c, images=5840)) == {"official", "patient_kfold"}
    c.data.subset, c.evaluate.inner = (187, 312), 0.2
    found = {name: one.overlap for name, one in results.designs(c, 5840, overlapping=(3,)).items()}
    assert found["clean"] == pytest.approx(1 / 4 / 0.8)
    assert found["paper"] == pytest.approx(1 / 4)
    assert found["disjoint"] == pytest.approx(1168 / (499 * 0.8))
    rows = [noisy_trial(t, "clean") for t in range(3)]
    known = {"title": "with GAN", "against": None, "overrides": {}, "trials": {}}
    arms = {"clean": {"with_gan": known}}
    apart, shared = (results.scored(arms, rows, c, 5840, own)["protocols"]["clean"]["with_gan"] for own in ((), (1,)))
    widths = [np.diff(one["procedure"]["accuracy"]["interval"])[0] for one in (apart, shared)]
    assert widths[1] > widths[0]
    assert shared["interval"] == apart["interval"]


def test_what_trials_share_is_known_by_protocol():
    c = default.get_config()
    c.data.folds, c.data.fraction = 5, 0.01  # which is drawn anew in each fold: they share less of so few, not more
    assert results.designs(c)["patient_kfold"].overlap == pytest.approx(1 / 4)  # a fifth to test, four to draw from
    c.evaluate.inner = 0.2
    assert results.designs(c)["patient_kfold"].overlap == pytest.approx(1 / 4 / 0.8)
    of_disjoint = results.designs(c, 5840, overlapping=(3,))["disjoint"].overlap
    c.data.fraction = 1.0
    assert results.designs(c, 5840, overlapping=(3,))["disjoint"].overlap == of_disjoint
    assert results.designs(c)["official"].why == "trials share their training images"
    rows = [noisy_trial(t, protocol) for protocol in ("official", "patient_kfold", "clean") for t in range(3)]
    known = {"title": "with GAN", "against": None, "overrides": {}, "trials": {}}
    protocols = results.scored({p.protocol: {"with_gan": known} for p in rows}, rows, c)["protocols"]
    official, folds, clean = (protocols[name]["with_gan"] for name in ("official", "patient_kfold", "clean"))
    assert (official["procedure"], official["procedure_why"]) == (None, "trials share their training images")
    assert folds["interval"] == clean["interval"]
    widths = [np.diff(one["procedure"]["accuracy"]["interval"])[0] for one in (folds, clean)]
    assert widths[0] > widths[1]


def noisy_trial(trial, protocol):
    rng = np.random.default_rng(trial)
    labels = np.arange(400) % 2
    return prediction(labels, rng.normal((1 + trial) * (labels - 0.5), 1.0), trial=trial, protocol=protocol)


def test_collapsed_networks_are_counted_and_stay_in_the_means():
    labels = [0, 1, 0, 1]
    kinds = {
        "well": [-1.0, 1.0, -1.0, 1.0],
        "one class": [1.0, 2.0, 3.0, 4.0],
        "dead": [0.0, 0.0, 0.0, 0.0],
        "all but alike": [-1e-4, 1e-4, -1e-4, 1e-4],
    }
    rows = [prediction(labels, margins, trial=t) for t, margins in enumerate(kinds.values())]
    arm = evaluate.score_arm(rows, CLASSES)
    assert arm["collapsed"] == 3
    assert arm["mean"]["accuracy"] == pytest.approx((1 + 0.5 + 0.5 + 1) / 4)
    assert evaluate.score_arm(rows[:1], CLASSES)["collapsed"] == 0
    of_one_class = prediction([1, 1], [1.0, 2.0])  # nothing else was to be said
    assert evaluate.score_arm([of_one_class], CLASSES)["collapsed"] == 0
    elsewhere = [rows[0], prediction(labels, [1.0] * 4, part="external/nih")]
    assert evaluate.score_arm(elsewhere, CLASSES)["collapsed"] == 0


def test_subgroups_are_compared_patient_by_patient():
    """Viruses: 3 of 4 found; bacteria: 1 of 4; a patient with one of each, both missed. Folders by accuracy and AUC."""
    subtypes = ["virus"] * 4 + ["bacteria"] * 4 + ["", ""]
    folders = ["train", "test"] * 5
    patients = [*"abcd", *"defg", *"hi"]
    margins = [1, 1, 1, -1, -1, 1, -1, -1, -1, 1]
    row = prediction([1] * 8 + [0, 0], margins, patients, part="unseen", parts=folders, subtypes=subtypes)
    test = row._replace(part="test", subtypes=[""] * 10, parts=[""] * 10)
    found = evaluate.score_arm(evaluate.broken_down([test, row]), CLASSES)["subgroups"]
    assert [(one["of"], one["score"]) for one in found] == [
        (["unseen/test", "unseen/train"], "accuracy"),
        (["unseen/test", "unseen/train"], "auc"),
        (["unseen/virus", "unseen/bacteria"], "recall_pneumonia"),
    ]
    kinds = found[2]
    assert kinds["difference"] == pytest.approx(0.5)
    # virus: a, b, c +1/16 each, d -3/16; bacteria: d, f, g -1/16 each, e +3/16, and the latter count negative
    influence = np.array([1, 1, 1, -3 + 1, -3, 1, 1]) / 16
    sizes = np.array([1, 1, 1, 2, 1, 1, 1])
    count = sizes.sum() ** 2 / (sizes**2).sum()
    half = stats.t.ppf(0.975, count - 1) * np.sqrt(count / (count - 1) * (influence**2).sum())
    assert kinds["interval"] == pytest.approx([0.5 - half, 0.5 + half], rel=1e-6)
    assert (kinds["procedure"], kinds["procedure_why"]) == (None, "fewer than 3 trials")
