"""Scores against the paper's own tables and scikit-learn, intervals and tests against what theory says of them."""

import json

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from pneumojax import evaluate, paper
from pneumojax.errors import BadInput
from pneumojax.evaluate import Prediction, intervals
from pneumojax.evaluate.contrasts import contrast, sign_flip
from pneumojax.evaluate.scores import auc

CLASSES = ("NORMAL", "PNEUMONIA")
THREE = ("NORMAL", "BACTERIA", "VIRUS")
AGAINST = {("clean", "without_gan"): None} | dict.fromkeys(
    [("clean", "with_gan"), ("clean", "with_gan_epochs")], "without_gan"
)
DECLARED = ("clean", "unseen", "with_gan")


def prediction(labels, margins, patients=None, **kwargs) -> Prediction:
    """Of two classes by margins [n], or of K by logits [n, K]."""
    labels = np.asarray(labels, np.int32)
    logits = np.asarray(margins, np.float32)
    if logits.ndim == 1:
        logits = np.stack([np.zeros_like(logits), logits], 1)
    names = [f"image{i}" for i in range(len(labels))]
    unknown = [""] * len(labels)
    fields = {"protocol": "clean", "arm": "with_gan", "trial": 0, "part": "test", "names": names} | kwargs
    return Prediction(
        **({"parts": unknown, "subtypes": unknown, "patients": list(patients or names)} | fields),
        labels=labels,
        logits=logits,
    )


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
    assert evaluate.score_part(rows[4], CLASSES, 10, 0)["confusion_matrix"] == [[0, 0], [1, 1]]
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
    result = evaluate.score_part(noisy, CLASSES, 20, 0)
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
        "auc": metrics.roc_auc_score(noisy.labels, noisy.margins[1]),
    }
    assert result["scores"] == pytest.approx(expected, abs=1e-12)
    assert result["confusion_matrix"] == metrics.confusion_matrix(noisy.labels, predicted).tolist()
    assert result["images"] == 60


def test_weighted_auc_is_scikit_learns(noisy):
    weights = np.random.default_rng(2).integers(0, 4, (3, 60)).astype(float)
    expected = [metrics.roc_auc_score(noisy.labels, noisy.margins[1], sample_weight=w) for w in weights]
    of = auc(noisy.margins[1], noisy.labels == 1, np.arange(60))
    np.testing.assert_allclose(of(weights), expected, atol=1e-12)


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


def test_a_matrix_of_other_classes_is_refused():
    with pytest.raises(BadInput, match=r"shape \(3, 3\); give classes=\('NORMAL', 'PNEUMONIA'\)"):
        evaluate.scores(np.eye(3))


def test_three_classes_are_scikit_learns(three):
    predicted = np.argmax(three.logits, 1)
    result = evaluate.score_part(three, THREE, 20, 0)
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
        "auc": metrics.roc_auc_score(three.labels, softmax, multi_class="ovr"),
        **dict(zip(("auc_normal", "auc_bacteria", "auc_virus"), each, strict=True)),
    }
    assert result["scores"] == pytest.approx(expected, abs=1e-12)
    assert list(result["scores"]) == list(result["interval"]) == list(expected)
    assert result["confusion_matrix"] == metrics.confusion_matrix(three.labels, predicted).tolist()
    low, high = result["interval"]["auc_virus"]
    assert low < each[2] < high


def test_scores_of_a_class_without_images_are_null():
    """Two images of PNEUMONIA, one found: recall 1/2, of NORMAL nothing can be said though one is taken for it."""
    part = evaluate.score_part(prediction([1, 1], [1.0, -2.0]), CLASSES, 10, 0)
    known = {"accuracy": 0.5, "precision_pneumonia": 1.0, "recall_pneumonia": 0.5}
    names = [*evaluate.scores(np.eye(2)), "auc"]
    assert part["scores"] == dict.fromkeys(names) | known
    assert [name for name in names if part["interval"][name] is not None] == [*known]
    assert part["interval"]["accuracy"] == [0.0, 1.0]


def test_a_third_class_without_images_leaves_the_others_scores():
    logits = [[2, 1, 0], [0, 2, 1], [1, 0, 2], [0, 2, 1]]  # the third image is taken for the class that has none
    part = evaluate.score_part(prediction([0, 1, 1, 1], logits), THREE, 50, 0)
    known = {
        "accuracy": 0.75,
        "precision_normal": 1.0,
        "precision_bacteria": 1.0,
        "recall_normal": 1.0,
        "recall_bacteria": pytest.approx(2 / 3),
        "auc_normal": 1.0,
        "auc_bacteria": pytest.approx(2 / 3),
    }
    names = part["scores"]
    assert part["scores"] == dict.fromkeys(names) | known
    assert [name for name in names if part["interval"][name] is not None] == [*known]


def test_a_precision_with_nothing_predicted_stays_zero():
    part = evaluate.score_part(prediction([0, 1, 1], [1.0, 2.0, 3.0]), CLASSES, 50, 0)
    assert part["scores"]["precision_normal"] == part["scores"]["recall_normal"] == 0.0
    assert part["scores"]["precision_macro"] == pytest.approx(1 / 3)
    assert part["scores"]["auc"] == 1.0
    assert part["interval"]["precision_normal"] == [0.0, 0.0]


def test_resamples_without_a_class_are_left_out_of_its_intervals():
    """One NORMAL image of four, always right: where it is drawn at all, its recall is 1."""
    part = evaluate.score_part(prediction([0, 1, 1, 1], [-1.0, 1.0, 1.0, -1.0]), CLASSES, 4000, 0)
    assert part["interval"]["recall_normal"] == [1.0, 1.0]
    assert part["interval"]["accuracy"][0] == 0.25
    assert part["interval"]["recall_macro"][0] == 0.5  # (1 + 0) / 2


def test_an_undefined_score_of_one_trial_is_null_over_trials():
    trials = [prediction([0, 1], [-1.0, 1.0]), prediction([1, 1], [1.0, -1.0], trial=1)]
    arm = evaluate.score_arm(trials, CLASSES, 20, 0)
    for summary in (arm["mean"], arm["std"], arm["interval"]):
        assert [name for name, value in summary.items() if value is not None] == [
            *("accuracy", "precision_pneumonia", "recall_pneumonia")
        ]
    assert arm["mean"]["accuracy"] == 0.75
    assert arm["trials"][0]["scores"]["auc"] == 1.0
    assert json.loads(json.dumps(arm, allow_nan=False)) == arm


def test_parts_without_images_are_absent():
    labels = {"test": [0, 1], "unseen": [], "external/nih": [1]}
    rows = [prediction(own, [1.0] * len(own), part=part) for part, own in labels.items()]
    later = [p._replace(trial=1) for p in (rows[0], prediction([0], [1.0], part="unseen"))]
    arm = evaluate.score_arm(rows, CLASSES, 20, 0)
    assert [*arm] == ["trials", "mean", "std", "interval", "external/nih"]
    assert [*arm["trials"][0]] == ["trial", "test", "confusion_matrix", "scores", "interval", "external/nih"]
    both = evaluate.score_arm(rows + later, CLASSES, 20, 0)
    assert [("unseen" in trial, "external/nih" in trial) for trial in both["trials"]] == [(False, True), (True, False)]
    assert both["unseen"]["mean"]["accuracy"] == 0.0
    empty = evaluate.score_arm([prediction([], [])], CLASSES, 20, 0)["trials"][0]
    assert empty["test"] == 0
    assert set(empty["scores"].values()) == set(empty["interval"].values()) == {None}


def test_each_pair_of_seeds_is_an_entry():
    rows = [
        prediction([1, 1], [1.0, 1.0 - 2 * g], gan_seed=g, part=part) for g in (0, 1) for part in ("test", "unseen")
    ]
    arm = evaluate.score_arm(rows, CLASSES, 20, 0)
    assert [(e["trial"], e["gan_seed"], e["classifier_seed"]) for e in arm["trials"]] == [(0, 0, 0), (0, 1, 0)]
    assert [e["unseen"]["scores"]["accuracy"] for e in arm["trials"]] == [1.0, 0.5]
    assert arm["mean"]["accuracy"] == 0.75
    assert "gan_seed" not in evaluate.score_arm(rows[:2], CLASSES, 20, 0)["trials"][0]


def test_scores_are_kept_by_protocol_and_arm(noisy):
    rows = [noisy, noisy._replace(arm="without_gan"), noisy._replace(protocol="official")]
    result = evaluate.score_all(rows, CLASSES, 20, 0)
    assert {protocol: [*arms] for protocol, arms in result.items()} == {
        "clean": ["with_gan", "without_gan"],
        "official": ["with_gan"],
    }
    assert result["official"]["with_gan"] == evaluate.score_arm(rows[2:], CLASSES, 20, 0)


def test_blocks_of_resamples_change_no_bit(three, monkeypatch):
    rows = [three, three._replace(trial=1, logits=three.logits[::-1])]
    control = [p._replace(arm="without_gan", logits=np.roll(p.logits, 7, 0)) for p in rows]
    found = []
    for block in (intervals.BLOCK, 1000, 1):  # all, eleven, one resample at a time
        monkeypatch.setattr(intervals, "BLOCK", block)
        found.append((evaluate.summarise(rows, THREE, 50, 0), contrast(rows, control, 50, 0)))
    assert found[0] == found[1] == found[2]


def test_intervals_widen_when_images_share_a_patient():
    rng = np.random.default_rng(3)
    right = np.repeat(rng.random(40) < 0.7, 5)  # a patient's five images are all right or all wrong
    margins = np.where(right, 1.0, -1.0)
    by_image = evaluate.score_part(prediction([1] * 200, margins), CLASSES, 4000, 0)["interval"]["accuracy"]
    by_patient = evaluate.score_part(
        prediction([1] * 200, margins, [f"p{i // 5}" for i in range(200)]), CLASSES, 4000, 0
    )["interval"]["accuracy"]
    ratio = (by_patient[1] - by_patient[0]) / (by_image[1] - by_image[0])
    assert ratio == pytest.approx(5**0.5, rel=0.1)  # forty independent units instead of two hundred


def test_identical_trials_are_not_taken_for_independent():
    rng = np.random.default_rng(4)
    margins = rng.normal(0.5, 1, 100)
    trials = [prediction([1] * 100, margins, trial=t) for t in range(3)]
    parts = [evaluate.score_part(p, CLASSES, 2000, 0) for p in trials]
    summary = evaluate.summarise(trials, CLASSES, 2000, 0)
    assert summary["interval"]["accuracy"] == pytest.approx(parts[0]["interval"]["accuracy"], abs=1e-12)
    assert summary["std"]["accuracy"] == 0.0


def test_mean_and_standard_deviation_over_trials():
    trials = [prediction([1] * 4, [1.0] * k + [-1.0] * (4 - k), trial=k) for k in (1, 2, 4)]
    arm = evaluate.score_arm(trials, CLASSES, 50, 0)
    assert arm["mean"]["accuracy"] == pytest.approx(7 / 12)
    assert arm["std"]["accuracy"] == pytest.approx(np.std([0.25, 0.5, 1.0], ddof=1))
    assert [t["trial"] for t in arm["trials"]] == [1, 2, 4]


def test_sign_flips_match_enumeration():
    differences = np.array([1.0, 1.0, 1.0, 1.0, -1.0, 0.0])
    # |sum| >= 3 in 2 * (1 + 5) of the 32 sign patterns of the five that count
    assert sign_flip(differences, 20_000, 0) == pytest.approx(12 / 32, abs=0.01)
    assert sign_flip(np.zeros(5), 100, 0) == 1.0


def test_contrast_counts_a_patient_once_over_trials():
    control = [prediction([1] * 10, [-1.0] * 10, trial=t, arm="without_gan") for t in range(3)]
    treated = [prediction([1] * 10, [1.0] * 8 + [-1.0] * 2, trial=t) for t in range(3)]
    one, three = (contrast(treated[:n], control[:n], 5000, 0) for n in (1, 3))
    assert one["difference"] == pytest.approx(0.8)
    assert three["difference"] == pytest.approx(one["difference"], abs=1e-9)
    for field in ("interval", "p_value"):  # three trials of the same images prove no more than one
        assert three["patients"][field] == pytest.approx(one["patients"][field], abs=1e-9)


def test_a_contrast_flips_signs_at_least_9999_times():
    right, wrong = prediction([1] * 40, [1.0] * 40), prediction([1] * 40, [-1.0] * 40, arm="without_gan")
    assert contrast([right], [wrong], 10, 0)["patients"]["p_value"] == pytest.approx(1 / 10_000)


def gaining(differences, images=20_000, **kwargs) -> tuple[list[Prediction], list[Prediction]]:
    """Arms that differ in a trial by so large a share of the images, each the only one of its patient."""
    margins = [np.where(np.arange(images) < (0.5 + d) * images, 1.0, -1.0) for d in (0.0, *differences)]
    control = [
        prediction([1] * images, margins[0], trial=t, arm="without_gan", **kwargs) for t in range(len(differences))
    ]
    return [
        p._replace(arm="with_gan", logits=prediction(p.labels, m).logits)
        for p, m in zip(control, margins[1:], strict=True)
    ], control


def test_the_procedures_interval_is_students_t_of_the_trials():
    differences = [0.10, 0.02, 0.25, -0.05]
    result = contrast(*gaining(differences), 200, 0)
    expected = stats.ttest_1samp(differences, 0)
    assert result["difference"] == pytest.approx(np.mean(differences))
    assert result["procedure"]["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert result["procedure"]["interval"] == pytest.approx([*expected.confidence_interval(0.95)], rel=1e-9)
    assert result["procedure"]["replicates"] == 4


def test_the_procedures_error_is_no_less_than_that_of_the_patients():
    """Three trials that agree to the image: t of them has no error, but on 50 patients 0.2 is 0.2 +- 0.057."""
    result = contrast(*gaining([0.2] * 3, images=50), 20_000, 0)
    error = np.sqrt(0.2 * 0.8 / 50)
    assert result["procedure"]["p_value"] == pytest.approx(2 * stats.t.sf(0.2 / error, 2), rel=0.02)
    low, high = result["procedure"]["interval"]
    assert (low + high) / 2 == pytest.approx(0.2)
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 2) * error, rel=0.02)


def test_without_any_error_the_procedures_p_is_the_limit():
    none, all_of_them = (contrast(*gaining([d] * 3, images=50), 50, 0)["procedure"] for d in (0.0, 0.5))
    assert none == {"interval": [0.0, 0.0], "p_value": 1.0, "replicates": 3}
    control = [prediction([1] * 4, [-1.0] * 4, trial=t, arm="without_gan") for t in range(3)]
    treated = [prediction([1] * 4, [1.0] * 4, trial=t) for t in range(3)]
    assert contrast(treated, control, 50, 0)["procedure"] == {"interval": [1.0, 1.0], "p_value": 0.0, "replicates": 3}
    assert 0 < all_of_them["p_value"] < 0.05


def test_fewer_than_three_trials_say_nothing_of_the_procedure():
    treated, control = gaining([0.1, 0.2], images=50)
    assert contrast(treated, control, 50, 0)["procedure"] is None


def test_seeds_are_averaged_within_a_trial():
    """A trial of two GAN seeds, 0.1 and 0.3 better than the one control, is a difference of 0.2 and one replicate."""
    treated, control = gaining([0.1, 0.3, 0.0, 0.1], images=100)
    seeds = [treated[0], treated[1]._replace(trial=0, gan_seed=1), *treated[2:]]
    result = contrast(seeds, [control[0], *control[2:]], 50, 0)
    assert result["difference"] == pytest.approx((0.2 + 0.0 + 0.1) / 3)
    assert result["procedure"]["replicates"] == 3


def test_trials_that_one_arm_lacks_are_left_out():
    treated, control = gaining([0.1, 0.2, 0.0, 0.3], images=50, part="unseen")
    (row,) = evaluate.contrasts([*treated[1:], *control[:3]], AGAINST, DECLARED, 50, 0)
    assert row == evaluate.contrasts([*treated[1:3], *control[1:3]], AGAINST, DECLARED, 50, 0)[0]
    assert row["difference"] == pytest.approx(0.1)
    assert evaluate.contrasts([*treated[2:], *control[:2]], AGAINST, DECLARED, 50, 0) == []


def test_arms_of_different_images_are_not_compared():
    treated, control = gaining([0.1, 0.2], images=50)
    other = control[1]._replace(names=[f"other{name}" for name in control[1].names])
    assert evaluate.contrasts([*treated, control[0], other], AGAINST, DECLARED, 50, 0) == []
    assert evaluate.contrasts([*treated, *control], {("clean", "with_gan"): None}, DECLARED, 50, 0) == []
    backwards = [p._replace(names=p.names[::-1], patients=p.patients[::-1], logits=p.logits[::-1]) for p in control]
    assert evaluate.contrasts([*treated, *backwards], AGAINST, DECLARED, 50, 0) == evaluate.contrasts(
        [*treated, *control], AGAINST, DECLARED, 50, 0
    )


def test_declared_contrast_comes_first_and_holm_corrects_the_rest():
    rng = np.random.default_rng(5)
    predictions = [
        prediction(np.ones(50), rng.normal(shift, 1, 50), arm=arm, part=part)
        for part in ("test", "unseen")
        for arm, shift in (("without_gan", 0.0), ("with_gan", 0.3), ("with_gan_epochs", 1.0))
    ]
    first, *others = evaluate.contrasts(predictions, AGAINST, DECLARED, 2000, 0)
    assert (first["arms"], first["part"], first["declared"]) == (["with_gan", "without_gan"], "unseen", True)
    assert [(row["part"], row["arms"][0], row["declared"]) for row in others] == [
        *(("unseen", "with_gan_epochs", False), ("test", "with_gan", False), ("test", "with_gan_epochs", False)),
    ]
    ordered = sorted(others, key=lambda row: row["patients"]["p_value"])
    assert ordered[0]["p_holm"] == pytest.approx(min(1, 3 * ordered[0]["patients"]["p_value"]))
    assert [row["p_holm"] for row in ordered] == sorted(row["p_holm"] for row in ordered)
    assert first["p_holm"] is None
    assert [*first] == [
        *("protocol", "part", "score", "arms", "difference", "patients", "procedure", "declared", "p_holm"),
    ]


def test_holm_corrects_the_p_of_the_procedure():
    """Against a control that is `plain`; three arms, none declared: the least p times 3, the next times 2."""
    arms = {"a": [0.10, 0.12, 0.11], "b": [0.10, 0.20, 0.0], "c": [0.20, 0.0, -0.10]}
    predictions = [p._replace(arm=arm) for arm, d in arms.items() for p in gaining(d, images=2000)[0]]
    predictions += [p._replace(arm="plain") for p in gaining(arms["a"], images=2000)[1]]
    rows = evaluate.contrasts(predictions, {("clean", arm): "plain" for arm in arms}, None, 100, 0)
    p = [row["procedure"]["p_value"] for row in rows]
    assert [row["arms"] for row in rows] == [["a", "plain"], ["b", "plain"], ["c", "plain"]]
    assert p == sorted(p)
    assert [row["p_holm"] for row in rows] == pytest.approx([3 * p[0], 2 * p[1], p[2]])
