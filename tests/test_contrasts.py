"""Arms against each other: both estimands, the A/A contrast, equivalence, Holm; by hand and by scipy."""

import json

import numpy as np
import pytest
from answers import CLASSES, prediction
from scipy import stats

from pneumojax import evaluate
from pneumojax.evaluate import Design, Prediction, Terms
from pneumojax.evaluate.contrasts import sign_flip

AGAINST = dict.fromkeys([("clean", "with_gan"), ("clean", "with_gan_epochs")], ("without_gan",))
TERMS = Terms(("clean", "unseen", "with_gan"), "accuracy", 0.01, True, 0)
COLUMNS = [
    *("protocol", "part", "score", "arms", "difference", "patients", "procedure", "procedure_why"),
    *("equivalent", "same_procedure", "declared", "p_holm"),
]


def contrast(treated, control, score="accuracy", **terms) -> dict:
    rows = evaluate.contrasts([*treated, *control], AGAINST, CLASSES, TERMS._replace(**terms))
    return next(row for row in rows if row["score"] == score)


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


def both_classes(shift, seed=0, images=200, **fields) -> Prediction:
    """Images of two classes, two a patient; margins that tell them, with an error of their own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    margins = rng.normal(2.0 * labels - 1 + shift * labels, 1.0)
    return prediction(labels, margins, [f"p{i // 2}" for i in range(images)], **fields)


def test_sign_flips_match_enumeration():
    differences = np.array([1.0, 1.0, 1.0, 1.0, -1.0, 0.0])
    # |sum| >= 3 in 2 * (1 + 5) of the 32 sign patterns of the five that count
    assert sign_flip(differences, 20_000, 0) == pytest.approx(12 / 32, abs=0.01)
    assert sign_flip(np.zeros(5), 100, 0) == 1.0


def test_sign_flips_of_many_patients_are_a_normal_test():
    differences = np.random.default_rng(0).normal(0.05, 1.0, 1003)  # not a multiple of eight
    z = differences.sum() / np.sqrt((differences**2).sum())
    assert sign_flip(differences, 40_000, 0) == pytest.approx(2 * stats.norm.sf(abs(z)), abs=0.01)


def test_a_contrast_counts_a_patient_once_over_trials():
    control = [prediction([1] * 10, [-1.0] * 10, trial=t, arm="without_gan") for t in range(3)]
    treated = [prediction([1] * 10, [1.0] * 8 + [-1.0] * 2, trial=t) for t in range(3)]
    one, three = (contrast(treated[:n], control[:n]) for n in (1, 3))
    assert one["difference"] == pytest.approx(0.8)
    assert three["difference"] == pytest.approx(one["difference"], abs=1e-9)
    for field in ("interval", "p_value"):  # three trials of the same images prove no more than one
        assert three["patients"][field] == pytest.approx(one["patients"][field], abs=1e-9)
    half = stats.t.ppf(0.975, 9) * np.sqrt(0.8 * 0.2 / 9)
    assert one["patients"]["interval"] == pytest.approx([0.8 - half, 0.8 + half], rel=1e-6)


def test_signs_are_flipped_9999_times():
    right, wrong = prediction([1] * 40, [1.0] * 40), prediction([1] * 40, [-1.0] * 40, arm="without_gan")
    found = contrast([right], [wrong])
    assert found["patients"]["p_value"] == pytest.approx(1 / 10_000)
    assert found["patients"]["interval"] is None  # all patients are alike: nothing is known of their variance


def test_the_patients_p_of_the_auc_is_that_of_delongs_z():
    """By flips of influences, close to the normal test of the paired difference; the interval by t."""
    control = both_classes(0.0, 1, arm="without_gan", part="unseen")
    noise = np.random.default_rng(9).normal(0.15 * control.labels, 0.5).astype(np.float32)
    treated = control._replace(arm="with_gan", logits=control.logits + np.stack([0 * noise, noise], 1))
    found = contrast([treated], [control], "auc")
    placed = []
    for p in (treated, control):
        wins, losses = p.margins[1][p.labels == 1], p.margins[1][p.labels == 0]
        pairs = wins[:, None] > losses
        placed.append((pairs.mean(1) - pairs.mean(), pairs.mean(0) - pairs.mean(), pairs.mean()))
    by_patient = sum((a - b) / 100 for a, b in zip(placed[0][:2], placed[1][:2], strict=True))  # one of each class
    error = np.sqrt(100 / 99 * (by_patient**2).sum())
    difference = placed[0][2] - placed[1][2]
    half = stats.t.ppf(0.975, 99) * error
    assert found["difference"] == pytest.approx(difference)
    assert found["patients"]["interval"] == pytest.approx([difference - half, difference + half])
    assert found["patients"]["p_value"] == pytest.approx(2 * stats.norm.sf(abs(difference) / error), abs=0.02)


def test_the_procedures_interval_is_students_t_of_the_trials():
    differences = [0.10, 0.02, 0.25, -0.05]
    result = contrast(*gaining(differences))
    expected = stats.ttest_1samp(differences, 0)
    assert result["difference"] == pytest.approx(np.mean(differences))
    assert result["procedure"]["p_value"] == pytest.approx(expected.pvalue, rel=1e-9)
    assert result["procedure"]["interval"] == pytest.approx([*expected.confidence_interval(0.95)], rel=1e-9)
    assert (result["procedure"]["replicates"], result["procedure"]["few"]) == (4, True)
    assert result["procedure_why"] is None


def test_the_procedures_error_is_no_less_than_that_of_the_patients():
    """Three trials that agree to the image: t of them has no error, but on 50 patients 0.2 is 0.2 +- 0.057."""
    result = contrast(*gaining([0.2] * 3, images=50))
    error = np.sqrt(0.2 * 0.8 / 49)
    assert result["procedure"]["p_value"] == pytest.approx(2 * stats.t.sf(0.2 / error, 2))
    half = stats.t.ppf(0.975, 2) * error
    assert result["procedure"]["interval"] == pytest.approx([0.2 - half, 0.2 + half])


def test_arms_that_differ_nowhere_have_no_interval():
    """Nothing is known of a variance, whatever t would say of three equal trials."""
    found = contrast(*gaining([0.0] * 3, images=50))
    assert (found["difference"], found["patients"]) == (0.0, {"interval": None, "p_value": 1.0})
    assert found["procedure"] == {"interval": None, "p_value": None, "replicates": 3, "few": True}
    assert found["procedure_why"] == "all patients and trials are alike: no variance can be told"
    assert found["equivalent"] is None


@pytest.mark.parametrize(("score", "patients"), [("accuracy", ["a"] * 8), ("auc", ["a"] * 8), ("auc", [*"abababab"])])
def test_one_patient_tells_nothing_and_is_said(score, patients):
    """By the flips of one sign every p would be 1; one of each class is as little for the AUC."""
    margins = np.random.default_rng(3).normal(size=(2, 3, 8))
    sides = [
        [prediction([0, 1] * 4, own, patients, trial=t, arm=arm) for t, own in enumerate(side)]
        for arm, side in zip(("with_gan", "without_gan"), margins, strict=True)
    ]
    found = contrast(*sides, score)
    assert found["difference"] is not None
    assert found["patients"] == {"interval": None, "p_value": None}
    assert (found["procedure"]["interval"], found["procedure"]["p_value"]) == (None, None)
    assert found["procedure_why"] == "there is but one patient, or one of a class: no variance can be told"
    assert found["p_holm"] is None


def test_fewer_than_three_trials_say_nothing_of_the_procedure():
    found = contrast(*gaining([0.1, 0.2], images=50))
    assert (found["procedure"], found["procedure_why"]) == (None, "fewer than 3 trials")


def test_designs_of_protocols_are_heeded():
    differences = [0.10, 0.02, 0.25, -0.05]
    folds, shared = (
        contrast(*gaining(differences), designs={"clean": design})
        for design in (Design(overlap=1 / 4), Design(why="trials share their training images"))
    )
    error = np.sqrt((1 / 4 + 1 / 4) * np.var(differences, ddof=1))
    assert folds["procedure"]["p_value"] == pytest.approx(2 * stats.t.sf(np.mean(differences) / error, 3))
    assert (shared["procedure"], shared["procedure_why"]) == (None, "trials share their training images")
    assert shared["patients"] == folds["patients"]


def test_seeds_are_averaged_within_a_trial():
    """A trial of two GAN seeds, 0.1 and 0.3 better than the one control, is a difference of 0.2 and one replicate."""
    treated, control = gaining([0.1, 0.3, 0.0, 0.1], images=100)
    seeds = [treated[0], treated[1]._replace(trial=0, gan_seed=1), *treated[2:]]
    result = contrast(seeds, [control[0], *control[2:]])
    assert result["difference"] == pytest.approx((0.2 + 0.0 + 0.1) / 3)
    assert result["procedure"]["replicates"] == 3


def test_trials_that_one_arm_lacks_are_left_out():
    treated, control = gaining([0.1, 0.2, 0.0, 0.3], images=50, part="unseen")
    row = contrast(treated[1:], control[:3])
    assert row == contrast(treated[1:3], control[1:3])
    assert row["difference"] == pytest.approx(0.1)
    assert evaluate.contrasts([*treated[2:], *control[:2]], AGAINST, CLASSES, TERMS) == []


def test_arms_of_different_images_are_not_compared():
    treated, control = gaining([0.1, 0.2], images=50)
    other = control[1]._replace(names=[f"other{name}" for name in control[1].names])
    assert evaluate.contrasts([*treated, control[0], other], AGAINST, CLASSES, TERMS) == []
    assert evaluate.contrasts([*treated, *control], {("clean", "with_gan"): ()}, CLASSES, TERMS) == []
    backwards = [p._replace(names=p.names[::-1], patients=p.patients[::-1], logits=p.logits[::-1]) for p in control]
    found = [contrast(treated, side) for side in (control, backwards)]
    assert found[0]["patients"]["interval"] == pytest.approx(found[1]["patients"]["interval"])
    assert all(found[0][field] == found[1][field] for field in ("difference", "procedure", "p_holm"))


def test_what_a_class_lacks_is_null_and_stands_in_its_row():
    found = contrast(*gaining([0.1, 0.2, 0.3], images=50), "auc")
    assert found["difference"] is found["patients"]["interval"] is found["patients"]["p_value"] is None
    assert (found["procedure"], found["procedure_why"]) == (None, "a class has no image there")
    assert found["p_holm"] is None


def test_declared_contrast_is_told_and_holm_corrects_the_rest():
    arms = {"without_gan": (0.0, 0), "with_gan": (0.3, 1), "with_gan_epochs": (1.0, 2)}
    predictions = [both_classes(*how, arm=arm, part=part) for part in ("test", "unseen") for arm, how in arms.items()]
    rows = evaluate.contrasts(predictions, AGAINST, CLASSES, TERMS._replace(score="auc"))
    assert [(row["part"], row["arms"][0], row["score"]) for row in rows] == [
        (part, arm, score)
        for part in ("unseen", "test")
        for arm in ("with_gan", "with_gan_epochs")
        for score in ("accuracy", "auc")
    ]
    assert [row["declared"] for row in rows] == [False, True, *[False] * 6]
    assert rows[1]["p_holm"] is None
    others = sorted((row for row in rows if not row["declared"]), key=lambda row: row["patients"]["p_value"])
    assert others[0]["p_holm"] == pytest.approx(min(1, 7 * others[0]["patients"]["p_value"]))
    assert [row["p_holm"] for row in others] == sorted(row["p_holm"] for row in others)
    assert all([*row] == COLUMNS for row in rows)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_holm_corrects_the_p_of_the_procedure():
    """Against a control that is `plain`; three arms, none declared: the least p times 3, the next times 2."""
    arms = {"a": [0.10, 0.12, 0.11], "b": [0.10, 0.20, 0.0], "c": [0.20, 0.0, -0.10]}
    predictions = [p._replace(arm=arm) for arm, d in arms.items() for p in gaining(d, images=2000)[0]]
    predictions += [p._replace(arm="plain") for p in gaining(arms["a"], images=2000)[1]]
    terms = TERMS._replace(declared=None)
    rows = evaluate.contrasts(predictions, {("clean", arm): ("plain",) for arm in arms}, CLASSES, terms)
    rows = [row for row in rows if row["score"] == "accuracy"]
    p = [row["procedure"]["p_value"] for row in rows]
    assert [row["arms"] for row in rows] == [["a", "plain"], ["b", "plain"], ["c", "plain"]]
    assert p == sorted(p)
    assert [row["p_holm"] for row in rows] == pytest.approx([3 * p[0], 2 * p[1], p[2]])


@pytest.mark.parametrize(
    ("differences", "margin", "expected"),
    [
        ([0.001, -0.002, 0.003, 0.0], 0.01, True),
        ([0.001, -0.002, 0.003, 0.0], 0.002, False),
        ([0.1, 0.1, 0.12], 0.1, False),
    ],
)
def test_equivalence_is_two_one_sided_tests(differences, margin, expected):
    found = contrast(*gaining(differences, part="unseen"), margin=margin)
    tests = [
        stats.ttest_1samp(differences, bound, alternative=side).pvalue
        for bound, side in ((-margin, "greater"), (margin, "less"))
    ]
    assert found["equivalent"] is expected is bool(max(tests) < 0.05)
    assert contrast(*gaining(differences), margin=margin)["equivalent"] is None  # on test nothing was declared


def test_another_seed_of_the_control_stands_beside_each_contrast():
    """Seed 1 less seed 0, of classifiers where there are two, else of GANs; the same statistics as of two arms."""
    treated, control = gaining([0.10, 0.02, 0.25], images=2000)
    again = [p._replace(classifier_seed=1) for p in gaining([0.01, -0.03, 0.05], images=2000)[0]]
    again = [p._replace(arm="without_gan") for p in again]
    found = contrast(treated, [*control, *again])
    own = stats.ttest_1samp([0.01, -0.03, 0.05], 0)
    same = found["same_procedure"]
    assert [*same] == ["seeds", "difference", "patients", "procedure", "procedure_why"]
    assert (same["seeds"], same["difference"]) == ("classifier_seed", pytest.approx(0.01))
    assert same["procedure"]["p_value"] == pytest.approx(own.pvalue)
    assert found["difference"] == pytest.approx(np.mean([0.10, 0.02, 0.25]) - 0.005)  # seeds averaged
    of_gans = [p._replace(classifier_seed=0, gan_seed=1) for p in again]
    assert contrast(treated, [*control, *of_gans])["same_procedure"]["seeds"] == "gan_seed"
    assert contrast(treated, control)["same_procedure"] is None


def test_no_p_is_given_where_none_was_asked_for():
    treated, control = gaining([0.10, 0.02, 0.25], images=500, part="unseen")
    again = [p._replace(classifier_seed=1) for p in control]
    tested, untested = (contrast(treated, [*control, *again], tested=own) for own in (True, False))
    for row in (untested, untested["same_procedure"]):
        assert row["patients"]["p_value"] is row["procedure"]["p_value"] is None
    assert untested["p_holm"] is untested["equivalent"] is None
    assert tested["equivalent"] is False
    assert untested["procedure"]["interval"] == tested["procedure"]["interval"]
