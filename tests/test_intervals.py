"""Influences against scikit-learn's weighted scores, variances against DeLong and Obuchowski, intervals by hand."""

import numpy as np
import pytest
from answers import CLASSES, prediction
from scipy import stats
from scipy.special import expit, logit, softmax
from sklearn import metrics

from pneumojax import evaluate
from pneumojax.evaluate import Design
from pneumojax.evaluate.influence import difference_of, effective, mean_of, part_of
from pneumojax.evaluate.intervals import of_patients, of_procedure

THREE = ("NORMAL", "BACTERIA", "VIRUS")


def noisy(seed, images=60, each=3, **fields):
    """Images of several patients, some margins equal."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, images)
    return prediction(
        labels, np.round(rng.normal(labels - 0.4, 1.0), 1), [f"p{i // each}" for i in range(images)], **fields
    )


def weighted(p, weights) -> dict[str, float]:
    """Scikit-learn's scores of two classes or three, with weights of images."""
    predicted, chances = np.argmax(p.logits, 1), softmax(p.logits.astype(float), axis=1)
    own = {"sample_weight": weights}
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(p.labels, predicted, **own)
    size = chances.shape[1]
    ranks = [(p.labels == k, p.margins[k]) for k in ([1] if size == 2 else range(size))]
    return {
        "accuracy": metrics.accuracy_score(p.labels, predicted, **own),
        "precision_macro": precision.mean(),
        "recall_macro": recall.mean(),
        "f1_macro": f1.mean(),
        "f1_paper": 2 / (1 / precision.mean() + 1 / recall.mean()),
        **{f"precision_{name.lower()}": v for name, v in zip(CLASSES if size == 2 else THREE, precision, strict=True)},
        **{f"recall_{name.lower()}": v for name, v in zip(CLASSES if size == 2 else THREE, recall, strict=True)},
        "balanced_accuracy": metrics.balanced_accuracy_score(p.labels, predicted, **own),
        "mcc": metrics.matthews_corrcoef(p.labels, predicted, **own),
        "auc": np.mean([metrics.roc_auc_score(*one, **own) for one in ranks]),
        "auprc": np.mean([metrics.average_precision_score(*one, **own) for one in ranks]),
        "brier": (weights * ((chances - np.eye(size)[p.labels]) ** 2).sum(1)).sum() / weights.sum() / 2,
    }


@pytest.mark.parametrize("size", [2, 3])
def test_influence_is_the_derivative_by_a_patients_weight(size):
    rng = np.random.default_rng(size)
    labels, classes = rng.integers(0, size, 40), CLASSES if size == 2 else THREE
    logits = np.round(rng.normal(np.eye(size)[labels], 1.0), 1)
    p = prediction(labels, logits, [f"p{i // 2}" for i in range(40)])
    part = part_of(p, classes)
    found = dict(zip(part.names, part.values, strict=True))
    plain = weighted(p, np.ones(40))
    assert {name: found[name] for name in plain} == pytest.approx(plain, abs=1e-12)
    np.testing.assert_allclose(part.influence.sum(0), 0, atol=1e-9)
    for patient in (0, 7, 19):
        step = 1e-4 * np.isin(np.arange(40) // 2, patient)
        up, down = (weighted(p, 1 + sign * step) for sign in (1, -1))
        own = dict(zip(part.names, part.influence[patient], strict=True))
        slopes = {name: (up[name] - down[name]) / 2e-4 for name in up}
        assert {name: own[name] for name in slopes} == pytest.approx(slopes, abs=2e-8)


def test_variance_of_the_auc_is_delongs():
    """By images: s10 / m + s01 / n of the placements, but for the corrections of few (1 / m for 1 / (m - 1))."""
    p = noisy(3, 80, 1)
    wins, losses = p.margins[1][p.labels == 1], p.margins[1][p.labels == 0]
    pairs = (wins[:, None] > losses) + 0.5 * (wins[:, None] == losses)
    expected = pairs.mean(1).var() / len(wins) + pairs.mean(0).var() / len(losses)
    part = part_of(p, CLASSES)
    assert (part.influence[:, part.names.index("auc")] ** 2).sum() == pytest.approx(expected, rel=1e-12)


def test_variance_of_the_auc_is_obuchowskis_where_patients_have_images_of_both_classes():
    """Her S10, S01 and S11 of sums of placements by patient, but for the corrections of few."""
    p = noisy(4, 90, 3)
    margin, ill, patient = p.margins[1], p.labels == 1, np.arange(90) // 3
    wins, losses = margin[ill], margin[~ill]
    pairs = (wins[:, None] > losses) + 0.5 * (wins[:, None] == losses)
    area, m, n = pairs.mean(), ill.sum(), (~ill).sum()
    both = np.array(
        [
            [(pairs.mean(1) - area)[patient[ill] == k].sum(), (pairs.mean(0) - area)[patient[~ill] == k].sum()]
            for k in range(30)
        ]
    )
    s10, s01, s11 = (both[:, 0] ** 2).sum(), (both[:, 1] ** 2).sum(), (both[:, 0] * both[:, 1]).sum()
    expected = s10 / m**2 + s01 / n**2 + 2 * s11 / (m * n)
    part = part_of(p, CLASSES)
    assert (part.influence[:, part.names.index("auc")] ** 2).sum() == pytest.approx(expected, rel=1e-12)


def test_variance_of_two_curves_of_the_same_images_is_delongs_with_their_covariance():
    first = noisy(5, 80, 1)
    second = first._replace(logits=first.logits + np.random.default_rng(0).normal(0, 0.5, (80, 2)).astype(np.float32))
    placed = []
    for p in (first, second):
        wins, losses = p.margins[1][p.labels == 1], p.margins[1][p.labels == 0]
        pairs = (wins[:, None] > losses) + 0.5 * (wins[:, None] == losses)
        placed.append((pairs.mean(1), pairs.mean(0)))
    s10, s01 = (np.cov(*own, ddof=0) for own in zip(*placed, strict=True))
    s = s10 / (first.labels == 1).sum() + s01 / (first.labels == 0).sum()
    parts = [part_of(p, CLASSES) for p in (first, second)]
    whole = difference_of(parts[:1], parts[1:], ([0], [0]), CLASSES)
    found = (whole.influence[:, whole.names.index("auc")] ** 2).sum()
    assert found == pytest.approx(s[0, 0] + s[1, 1] - 2 * s[0, 1], rel=1e-9)


def test_an_accuracys_interval_is_that_of_a_ratio_by_patients_on_the_logit_scale():
    rng = np.random.default_rng(6)
    sizes = rng.integers(1, 6, 40)
    patients = np.repeat(np.arange(40), sizes)
    right = rng.random(len(patients)) < 0.9
    p = prediction([1] * len(right), np.where(right, 1.0, -1.0), [f"p{i}" for i in patients])
    share, n = right.mean(), len(right)
    residuals = np.bincount(patients, right) - share * sizes
    count = n**2 / (sizes**2).sum()  # Kish
    error = np.sqrt(count / (count - 1) * (residuals**2).sum()) / n
    half = stats.t.ppf(0.975, count - 1) * error / (share * (1 - share))
    expected = [expit(logit(share) - half), expit(logit(share) + half)]
    assert evaluate.score_part(p, CLASSES)["interval"]["accuracy"] == pytest.approx(expected, rel=1e-7)


def test_a_correlations_interval_is_fishers_z():
    p = noisy(7)
    part = mean_of([part_of(p, CLASSES)], [0], CLASSES)
    i = part.names.index("mcc")
    half = stats.t.ppf(0.975, part.patients[i] - 1) * np.sqrt(part.variance[i]) / (1 - part.value[i] ** 2)
    expected = np.tanh(np.arctanh(part.value[i]) + np.array([-half, half]))
    assert of_patients(part)["mcc"] == pytest.approx(expected, rel=1e-9)


def test_without_an_error_the_interval_is_one_sided_by_patients():
    """Thirty patients of two images each: 0.05^(1/30), as Clopper and Pearson have it one-sided; of 0 the mirror."""
    labels, patients = np.repeat([0, 1], [20, 40]), [f"p{i // 2}" for i in range(60)]
    whole = evaluate.score_part(prediction(labels, 2.0 * labels - 1, patients), CLASSES)["interval"]
    exact = stats.binomtest(30, 30, alternative="greater").proportion_ci(0.95, "exact").low
    assert whole["accuracy"] == pytest.approx([exact, 1.0])
    assert exact == pytest.approx(1 - 3 / 30, abs=0.01)  # the rule of three
    assert whole["recall_normal"] == whole["precision_normal"] == pytest.approx([0.05 ** (1 / 10), 1.0])
    assert whole["recall_pneumonia"] == pytest.approx([0.05 ** (1 / 20), 1.0])
    for name in ("auc", "auprc", "recall_macro", "f1_paper"):  # as many as the class with fewer has
        assert whole[name] == whole["recall_normal"]
    assert whole["mcc"] == pytest.approx([2 * 0.05 ** (1 / 10) - 1, 1.0])
    wrong = evaluate.score_part(prediction(labels, 1 - 2.0 * labels, patients), CLASSES)["interval"]
    assert wrong["accuracy"] == pytest.approx([0.0, 1 - exact])
    assert wrong["mcc"] == pytest.approx([-1.0, 1 - 2 * 0.05 ** (1 / 10)])


def test_one_patient_and_patients_all_alike_have_no_interval():
    one = evaluate.score_part(prediction([0, 1, 1], [-1.0, 1.0, -1.0], ["a"] * 3), CLASSES)
    assert set(one["interval"].values()) == {None}
    assert one["scores"]["accuracy"] == pytest.approx(2 / 3)
    alike = prediction([0, 1] * 10, [1.0] * 20, [f"p{i // 2}" for i in range(20)])  # each has one right, one wrong
    found = evaluate.score_part(alike, CLASSES)["interval"]
    assert found["accuracy"] is found["auc"] is found["mcc"] is found["brier"] is None
    assert found["recall_pneumonia"] == pytest.approx([0.05 ** (1 / 10), 1.0])


def test_effective_patients_are_kishs():
    sizes = np.array([[30.0], *[[1.0]] * 95])
    assert effective(sizes) == pytest.approx(125**2 / (900 + 95))
    assert effective(np.ones((7, 1))) == pytest.approx(7)
    assert effective(np.zeros((7, 1))) == 0


def test_intervals_widen_when_images_share_a_patient():
    right = np.repeat(np.random.default_rng(3).random(40) < 0.7, 5)  # a patient's five are all right or all wrong
    margins = np.where(right, 1.0, -1.0)
    widths = []
    for patients in (None, [f"p{i // 5}" for i in range(200)]):
        low, high = evaluate.score_part(prediction([1] * 200, margins, patients), CLASSES)["interval"]["accuracy"]
        widths.append(logit(high) - logit(low))
    # forty independent units instead of two hundred, with n - 1 and t's quantiles
    assert widths[1] / widths[0] == pytest.approx(
        np.sqrt(199 / 39) * stats.t.ppf(0.975, 39) / stats.t.ppf(0.975, 199), rel=1e-6
    )


def test_identical_trials_are_not_taken_for_independent():
    trials = [noisy(8, trial=t) for t in range(3)]
    arm = evaluate.score_arm(trials, CLASSES)
    single = evaluate.score_part(trials[0], CLASSES)["interval"]
    assert {name: own and pytest.approx(own, rel=1e-9) for name, own in single.items()} == arm["interval"]
    assert arm["std"]["accuracy"] == 0.0


def test_trials_of_other_patients_are_independent():
    trials = [noisy(8, trial=t) for t in range(3)]
    trials = [p._replace(patients=[f"{p.trial}{name}" for name in p.patients]) for p in trials]
    once, thrice = (
        mean_of([part_of(p, CLASSES) for p in own], range(len(own)), CLASSES) for own in (trials[:1], trials)
    )
    i = once.names.index("accuracy")
    assert thrice.patients[i] == pytest.approx(3 * once.patients[i])
    assert thrice.variance[i] / once.variance[i] == pytest.approx((60 / 59) / (20 / 19) / 3)


def arm_of(shares, images=20_000, **fields):
    """Trials in which so large a share of the images is right, each the only one of its patient."""
    return [
        prediction([1] * images, np.where(np.arange(images) < s * images, 1.0, -1.0), trial=t, **fields)
        for t, s in enumerate(shares)
    ]


def test_the_procedures_interval_of_a_mean_is_students_t_over_trials():
    shares = [0.80, 0.72, 0.90, 0.85]
    found = evaluate.score_arm(arm_of(shares), CLASSES)
    error, mean = np.std(shares, ddof=1) / 2, np.mean(shares)
    half = stats.t.ppf(0.975, 3) * error / (mean * (1 - mean))
    expected = [expit(logit(mean) - half), expit(logit(mean) + half)]
    assert found["procedure"]["accuracy"] == {"interval": pytest.approx(expected), "replicates": 4, "few": True}
    assert found["procedure_why"] is None
    assert not evaluate.score_arm(arm_of(shares + shares), CLASSES)["procedure"]["accuracy"]["few"]


def test_the_procedures_error_is_no_less_than_that_of_the_patients():
    found = evaluate.score_arm(arm_of([0.8] * 3, 50), CLASSES)
    error = np.sqrt(0.8 * 0.2 / 49)
    half = stats.t.ppf(0.975, 2) * error / 0.16
    expected = [expit(logit(0.8) - half), expit(logit(0.8) + half)]
    assert found["procedure"]["accuracy"]["interval"] == pytest.approx(expected, rel=1e-6)


def test_overlapping_folds_are_corrected_and_shared_training_images_tell_nothing():
    """Nadeau and Bengio: (1/T + test/train) times the variance; five folds have 1/4."""
    shares = [0.80, 0.72, 0.90, 0.85, 0.78]
    mean = mean_of([part_of(p, CLASSES) for p in arm_of(shares)], range(5), CLASSES)
    found = of_procedure(mean, Design(overlap=1 / 4))["procedure"]["accuracy"]["interval"]
    middle = np.mean(shares)
    half = stats.t.ppf(0.975, 4) * np.sqrt((1 / 5 + 1 / 4) * np.var(shares, ddof=1)) / (middle * (1 - middle))
    assert found == pytest.approx([expit(logit(middle) - half), expit(logit(middle) + half)])
    why = {"procedure": None, "procedure_why": "trials share their training images"}
    assert of_procedure(mean, Design(why="trials share their training images")) == why
    few = evaluate.score_arm(arm_of(shares[:2], 50), CLASSES)
    assert (few["procedure"], few["procedure_why"]) == (None, "fewer than 3 trials")


def test_without_an_error_in_any_trial_the_procedure_is_one_sided_as_well():
    found = evaluate.score_arm(arm_of([1.0] * 3, 50), CLASSES)
    assert found["procedure"]["accuracy"]["interval"] == found["interval"]["accuracy"] == pytest.approx([0.05**0.02, 1])
