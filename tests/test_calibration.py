"""Calibration, thresholds and decision curves against scikit-learn, grids and counts by hand."""

import numpy as np
import pytest
from answers import CLASSES, prediction
from scipy import stats
from scipy.special import expit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from pneumojax import evaluate
from pneumojax.evaluate.calibration import NO_INNER, calibration, intercept_of, reliability, slope_of, temperature
from pneumojax.evaluate.operating import decision_curve, operating


def drawn(seed=0, images=300, sharp=2.5, trial=0, **fields):
    """Two classes; margins `sharp` times too far from 0, and shifted."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0.3, 1.5, images)
    labels = rng.random(images) < expit(truth)
    return prediction(labels, sharp * truth + 0.5, [f"p{i // 2}" for i in range(images)], trial=trial, **fields)


def plain(p):
    return p.margins[1].astype(float), p.labels


def test_the_slope_is_scikit_learns_and_the_intercept_makes_as_many_expected_as_there_are():
    margin, labels = plain(drawn())
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(margin[:, None], labels)
    assert slope_of(margin, labels)[0] == pytest.approx(model.coef_[0, 0], rel=1e-5)
    added = intercept_of(margin, labels)[0]
    assert expit(margin + added).sum() == pytest.approx(labels.sum())
    near = [log_loss(labels, expit(margin + a)) for a in (added - 0.01, added, added + 0.01)]
    assert near[1] == min(near)


@pytest.mark.parametrize("fit", [slope_of, intercept_of])
def test_influence_on_a_fit_is_what_an_image_once_more_does(fit):
    margin, labels = plain(drawn(images=2000))
    value, influence = fit(margin, labels)
    for row in (0, 5, 77):
        again = fit(np.append(margin, margin[row]), np.append(labels, labels[row]))[0] - value
        assert again == pytest.approx(influence[row], rel=0.05, abs=2e-6)


def test_a_slope_that_cannot_be_is_null():
    for margins in ([-2.0, -1.0, 1.0, 2.0], [2.0, 1.0, -1.0, -2.0], [0.5] * 4):  # without error, all wrong, all alike
        found = calibration([prediction([0, 0, 1, 1], margins)], [None])["before"]
        assert found["slope"] is found["interval"]["slope"] is None
        assert found["intercept"] is not None


def test_chances_of_0_and_1_alone_have_no_intercept():
    """Logits in the thousands, some wrong."""
    far = 4000.0 * np.repeat([-1, 1], 20) * np.where(np.arange(40) % 10 == 3, -1, 1)
    found = calibration([prediction(np.repeat([0, 1], 20), far)], [None])["before"]
    assert found["intercept"] is found["interval"]["intercept"] is None
    assert found["slope"] * 4000 == pytest.approx(np.log(9), rel=1e-6)  # nine of ten are right
    assert found["ece"] == pytest.approx(0.1)


def test_reliability_is_scikit_learns_of_equal_mass():
    margin, labels = plain(drawn())
    observed, predicted = calibration_curve(labels, expit(margin), n_bins=15, strategy="quantile")
    found = np.array(reliability(expit(margin), labels))
    np.testing.assert_allclose(found, np.stack([predicted, observed, np.full(15, 20)], 1), atol=1e-12)
    error = calibration([drawn()], [None])["before"]["ece"]
    assert error == pytest.approx(np.abs(predicted - observed).mean())


def test_equal_chances_share_a_bin():
    assert reliability(np.full(40, 0.25), np.arange(40) % 2) == [[0.25, 0.5, 40]]
    few = reliability(np.array([0.1, 0.9, 0.9]), np.array([0, 1, 0]))
    np.testing.assert_allclose(few, [[0.1, 0.0, 1], [0.9, 0.5, 2]])


def test_the_temperature_is_that_of_a_grid():
    margin, labels = plain(drawn())
    grid = np.exp(np.linspace(np.log(0.5), np.log(20), 4001))
    signed = np.where(labels == 1, margin, -margin)
    losses = np.logaddexp(0, -signed / grid[:, None]).mean(1)
    value, why = temperature(margin, labels)
    assert (value, why) == (pytest.approx(grid[np.argmin(losses)], rel=2e-3), "")


@pytest.mark.parametrize(
    ("margins", "labels", "why"),
    [
        ([-1.0, 1.0], [1, 1], "the inner part lacks a class"),
        ([-1.0, -2.0, 1.0], [0, 0, 1], "on the inner part no answer is wrong: no temperature is cold enough"),
        ([1.0, 2.0, -1.0], [0, 0, 1], "on the inner part the logits tell nothing"),
        ([0.0, 0.0], [0, 1], "on the inner part the logits tell nothing"),
    ],
)
def test_why_there_is_no_temperature(margins, labels, why):
    value, said = temperature(np.array(margins), np.array(labels))
    assert (np.isnan(value), said) == (True, why)
    found = calibration([drawn()], [prediction(labels, margins)])
    assert (found["after"], found["why"]) == (None, why)


def test_a_temperature_of_the_inner_part_is_applied_to_the_others():
    """It divides margins, so the slope grows by it; each network has its own."""
    networks = [drawn(seed, trial=seed, sharp=2.0 + seed) for seed in range(3)]
    inner = [drawn(10 + seed, trial=seed, sharp=2.0 + seed) for seed in range(3)]
    found = calibration(networks, inner)
    values = [temperature(*plain(p))[0] for p in inner]
    slopes = [slope_of(*plain(p))[0] for p in networks]
    assert found["after"]["temperature"] == pytest.approx(np.mean(values))
    assert found["before"]["slope"] == pytest.approx(np.mean(slopes))
    assert found["after"]["slope"] == pytest.approx(np.mean(np.multiply(slopes, values)), rel=1e-6)
    assert found["after"]["ece"] < found["before"]["ece"]
    assert found["after"]["slope"] == pytest.approx(1, abs=0.2)
    assert len(found["before"]["reliability"]) == 15
    assert calibration(networks, [*inner[:2], None])["why"] == NO_INNER


def test_an_interval_of_the_slope_is_the_sandwich_by_patients():
    p = drawn()
    margin, labels = plain(p)
    (value, _), patients = slope_of(margin, labels), np.arange(300) // 2
    model = LogisticRegression(C=np.inf, tol=1e-12, max_iter=5000).fit(margin[:, None], labels)
    design, chance = np.column_stack([np.ones(300), margin]), model.predict_proba(margin[:, None])[:, 1]
    bread = np.linalg.inv((design * (chance * (1 - chance))[:, None]).T @ design)
    pulls = np.array([(design * (labels - chance)[:, None])[patients == k].sum(0) for k in range(150)])
    sandwich = bread @ pulls.T @ pulls @ bread
    sizes = [np.bincount(patients[labels == k], minlength=150) for k in (0, 1)]
    count = min(own.sum() ** 2 / (own**2).sum() for own in sizes)
    half = stats.t.ppf(0.975, count - 1) * np.sqrt(count / (count - 1) * sandwich[1, 1])
    found = calibration([p], [None])["before"]["interval"]["slope"]
    assert found == pytest.approx([value - half, value + half], rel=1e-4)


def test_thresholds_of_the_inner_part_are_the_strictest_that_keep_enough():
    inner, network = drawn(1, 101, part="inner"), drawn(2, 400)
    margin, labels = plain(inner)
    found = operating([network], [inner], CLASSES)
    assert found["why"] == {}
    for point, label, least in (("sens90", 1, 0.9), ("sens95", 1, 0.95), ("spec90", 0, 0.9), ("spec95", 0, 0.95)):
        kept = []
        for cut in np.sort(margin):  # class 1 is said from it on, or above it
            said = margin >= cut if label == 1 else margin > cut
            if (said == label)[labels == label].mean() >= least:
                kept.append(cut)
        cut = max(kept) if label == 1 else min(kept)
        tested, truth = plain(network)
        said = tested >= cut if label == 1 else tested > cut
        own = found[point]
        assert own["threshold"] == pytest.approx(expit(cut))
        assert own["recall_pneumonia"] == pytest.approx(said[truth == 1].mean())
        assert own["recall_normal"] == pytest.approx(1 - said[truth == 0].mean())
        moved = prediction(truth, np.where(said, 1.0, -1.0), network.patients)
        intervals = evaluate.score_part(moved, CLASSES)["interval"]
        assert own["interval"] == {name: intervals[name] for name in ("recall_normal", "recall_pneumonia")}


def test_why_there_is_no_threshold():
    network = drawn()
    none = operating([network], [None], CLASSES)
    assert none == dict.fromkeys(("sens90", "sens95", "spec90", "spec95")) | {
        "why": dict.fromkeys(("sens90", "sens95", "spec90", "spec95"), NO_INNER)
    }
    healthy = operating([network], [prediction([0, 0], [1.0, 2.0])], CLASSES)
    assert healthy["why"] == dict.fromkeys(("sens90", "sens95"), "the inner part has no image of PNEUMONIA")
    assert healthy["spec90"]["threshold"] == pytest.approx(expit(2.0))
    dead = operating([network], [prediction([0, 1], [1.0, 1.0])], CLASSES)
    assert set(dead["why"].values()) == {"on the inner part the logits are all alike"}


def test_net_benefit_is_counted_by_hand():
    networks = [drawn(seed, trial=seed) for seed in range(2)]
    found = decision_curve(networks)
    assert len(found["threshold"]) == 49
    for i, t in enumerate(found["threshold"]):
        values = []
        for margin, labels in map(plain, networks):
            said = expit(margin) > t
            values.append(((said & (labels == 1)).sum() - t / (1 - t) * (said & (labels == 0)).sum()) / len(labels))
        assert found["model"][i] == pytest.approx(np.mean(values), abs=1e-6)
        share = np.mean([p.labels.mean() for p in networks])
        assert found["treat_all"][i] == pytest.approx(share - t / (1 - t) * (1 - share), abs=1e-6)


def test_a_half_is_not_above_a_half_as_the_argmax_has_it():
    """Votes of few trees are often even."""
    found = decision_curve([prediction([0, 1, 1, 0], [0.0, 0.0, 2.0, -2.0])])
    assert found["model"][found["threshold"].index(0.5)] == 1 / 4


def test_of_three_classes_or_one_there_is_none():
    rng = np.random.default_rng(0)
    three, one = prediction([0, 1, 2], rng.normal(size=(3, 3))), prediction([1, 1], [1.0, 2.0])
    assert calibration([three], [None]) is decision_curve([three]) is None
    assert operating([three], [None], ("a", "b", "c")) is None
    assert calibration([one], [None]) is decision_curve([one]) is None


def test_an_arm_has_them_of_test_unseen_and_external_images_by_its_own_inner_part():
    rows = [
        drawn(seed + 10 * t, trial=t, part=part)
        for t in range(2)
        for seed, part in enumerate(("test", "unseen", "external/nih", "test_real", "inner"))
    ]
    arm = evaluate.score_arm(rows, CLASSES)
    inner = {p.trial: p for p in rows if p.part == "inner"}
    for part, summary in (("test", arm), ("unseen", arm["unseen"]), ("external/nih", arm["external/nih"])):
        own = [p for p in rows if p.part == part]
        assert summary["calibration"] == calibration(own, [inner[p.trial] for p in own])
        assert summary["operating"]["sens95"] == operating(own, [inner[p.trial] for p in own], CLASSES)["sens95"]
    assert "calibration" not in arm["test_real"]
    assert "calibration" not in arm["inner"]
