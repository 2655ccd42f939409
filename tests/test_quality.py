"""Metrics of generated images against the packages that others measure with, closed forms, and GANs that cheat."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import linalg, stats
from scipy.spatial.distance import cdist
from skimage.metrics import structural_similarity

from pneumojax.data import phantom
from pneumojax.errors import BadInput
from pneumojax.gan import quality
from pneumojax.gan.quality import distances
from pneumojax.gan.quality.neighbours import Nearest

HONEST = 0.05  # copy rate of images that copy nothing


def normal(seed: int, n: int, d: int, shift: float = 0.0) -> np.ndarray:
    """Features that are correlated, not centred, and 1 in scale."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(d).normal(size=(d, d)) / np.sqrt(d)
    return rng.normal(size=(n, d)) @ mixing + 0.3 + shift


def clustered(seed: int, patients: int, d: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """One to four images a patient, whose features lie about the patient's own; and whose each is."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    return rng.normal(size=(patients, d))[owner] + 0.5 * rng.normal(size=(len(owner), d)), owner


@pytest.fixture(scope="module")
def others(torchvision_models):
    """The packages that need torchvision, which has to be imported first."""
    import prdc
    from torch_fidelity import metric_fid, metric_kid
    from torchmetrics.image import kid

    return SimpleNamespace(fid=metric_fid, kid=metric_kid, poly_mmd=kid.poly_mmd, prdc=prdc.compute_prdc)


@pytest.fixture(scope="module")
def pictures():
    """Phantoms of one class at 32 pixels: three parts of other patients each."""
    images = phantom.load(SimpleNamespace(classes=("NORMAL",), phantom_images=(600,)), 32)
    patients = np.unique(images.patients, return_inverse=True)[1]
    return [images.pixels[patients % 3 == part] for part in range(3)]


# Distances of two sets


@pytest.mark.parametrize(("n", "d"), [(60, 12), (40, 100), (1100, 5)])
def test_kernel_distance_is_that_of_torch_fidelity_and_torchmetrics(others, n, d):
    """1100 images are more than one block of rows."""
    real, generated = normal(0, n, d), normal(1, n, d, 0.2)
    theirs = others.kid.kid_features_to_metric(
        torch.tensor(real), torch.tensor(generated), kid_subsets=1, kid_subset_size=n, verbose=False
    )
    own = quality.kid(real, generated)
    assert own == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    assert own == pytest.approx(float(others.poly_mmd(torch.tensor(real), torch.tensor(generated))), rel=1e-6)


def test_kernel_distance_of_unequal_counts_is_the_mean_over_pairs():
    real, generated = normal(0, 9, 4), normal(1, 14, 4)

    def mean(left, right, same):
        pairs = [(i, j) for i in range(len(left)) for j in range(len(right)) if not (same and i == j)]
        return np.mean([(left[i] @ right[j] / 4 + 1) ** 3 for i, j in pairs])

    wanted = mean(real, real, True) + mean(generated, generated, True) - 2 * mean(real, generated, False)
    assert quality.kid(real, generated) == pytest.approx(wanted, rel=1e-12)


def test_kernel_distance_of_one_distribution_is_nought_on_average():
    """Biased estimators are above it in every draw; this one is below it about as often as not."""
    values = [quality.kid(normal(2 * i, 50, 8), normal(2 * i + 1, 30, 8)) for i in range(200)]
    assert abs(np.mean(values)) < 2 * np.std(values) / np.sqrt(200)
    assert 80 < np.sum(np.less(values, 0)) < 150


def test_features_are_scaled_to_a_mean_squared_norm_of_their_count():
    train, other = 200 * normal(0, 50, 12), 200 * normal(1, 50, 12, 0.2)
    scale = quality.scale_of(train)
    assert np.square(scale * train).sum(1).mean() == pytest.approx(12, rel=1e-12)
    assert quality.scale_of(scale * train) == pytest.approx(1, rel=1e-12)
    assert quality.kid(train, other) > 1e9 * quality.kid(scale * train, scale * other)


def test_bootstrap_leaves_out_pairs_across_the_copies_of_a_patient():
    """Each draw written out image by image: 10 patients, 12 generated images, 5 draws."""
    (real, owner), generated = clustered(0, 10, 4), normal(1, 12, 4)
    rng = np.random.default_rng(3)
    draws = [rng.multinomial(k, np.full(k, 1 / k), 5) for k in (10, 12)]

    def within(features, owner, counts):
        copies = [(i, copy) for i in range(len(features)) for copy in range(counts[owner[i]])]
        kernels = [
            (features[i] @ features[j] / 4 + 1) ** 3
            for i, a in copies
            for j, b in copies
            if owner[i] != owner[j] or (a == b and i != j)
        ]
        return np.mean(kernels)

    values = []
    for of_patients, of_generated in zip(*draws, strict=True):
        x, y = np.repeat(real, of_patients[owner], 0), np.repeat(generated, of_generated, 0)
        across = ((x @ y.T / 4 + 1) ** 3).mean()
        values.append(within(real, owner, of_patients) + within(generated, np.arange(12), of_generated) - 2 * across)
    deviation = quality.kid_deviation(real, generated, [f"person{o}" for o in owner], 5, seed=3)
    assert deviation == pytest.approx(np.std(values, ddof=1), rel=1e-9)
    assert deviation == quality.kid_deviation(real, generated, owner, 5, seed=3)
    assert deviation != quality.kid_deviation(real, generated, owner, 5, seed=4)


def test_bootstrap_finds_the_deviation_over_new_patients():
    """Of sets that differ, as GANs' do. By image and not by patient it finds too little."""
    sets = [(*clustered(i, 40), 1.1 * normal(1000 + i, 400, 16, 0.4)) for i in range(120)]
    true = np.std([quality.kid(real, generated) for real, _, generated in sets], ddof=1)
    by_patient = np.mean([quality.kid_deviation(r, g, owner, 100, 0) for r, owner, g in sets[:25]])
    by_image = np.mean([quality.kid_deviation(r, g, np.arange(len(r)), 100, 0) for r, _, g in sets[:25]])
    assert by_patient == pytest.approx(true, rel=0.15)
    assert by_image < 0.85 * by_patient


def test_bootstrap_draws_other_patients_together_where_both_sets_are_real():
    (real, owner), (held_out, other) = clustered(0, 40), clustered(1, 40)
    alone = quality.kid_deviation(real, held_out, owner, 500, 0)
    assert quality.kid_deviation(real, held_out, owner, 500, 0, generated_patients=other) > 1.05 * alone


@pytest.mark.parametrize(("n", "m", "d"), [(80, 80, 12), (200, 90, 30), (90, 200, 30)])
def test_frechet_distance_is_that_of_torch_fidelity(others, n, m, d):
    sets = normal(0, n, d), 1.3 * normal(1, m, d, 0.2)
    theirs = others.fid.fid_statistics_to_metric(
        *(others.fid.fid_features_to_statistics(torch.tensor(x)) for x in sets), verbose=False
    )
    assert quality.frechet(*sets) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


@pytest.mark.parametrize("d", [6, 12, 25, 70])
def test_frechet_distance_is_right_whatever_the_rank(d):
    """Features of rank 6 turned into more dimensions: as many images as features and fewer, both or one set."""
    real, generated = normal(0, 50, 6), normal(1, 20, 6, 0.5)
    covariances = [np.cov(x, rowvar=False) for x in (real, generated)]
    root = linalg.sqrtm(covariances[0] @ covariances[1])
    wanted = np.square(real.mean(0) - generated.mean(0)).sum() + np.trace(sum(covariances) - 2 * root.real)
    turn = stats.ortho_group(d, seed=0).rvs()[:6]
    assert quality.frechet(real @ turn, generated @ turn) == pytest.approx(wanted, rel=1e-9)


def test_frechet_distance_of_features_that_are_dead_or_double():
    real, generated = normal(0, 60, 6), normal(1, 50, 6, 0.5)
    dead = [np.concatenate([x, np.zeros_like(x), x], 1) for x in (real, generated)]
    assert quality.frechet(*dead) == pytest.approx(2 * quality.frechet(real, generated), rel=1e-9)
    assert [distances.factor(x)[1] for x in (real, dead[0])] == [True, False]


def test_frechet_distance_of_a_set_to_itself_and_to_itself_moved():
    for real in (normal(0, 60, 6), normal(0, 20, 30)):
        assert 0 <= quality.frechet(real, real) < 1e-10
        assert quality.frechet(real, real + 2) == pytest.approx(4 * real.shape[1], rel=1e-9)


def test_frechet_distance_of_few_images_comes_with_a_caveat():
    assert quality.frechet_caveat(1024, 512) is None
    assert quality.frechet_caveat(1023, 512).startswith("1023 images for 512 features, fewer than twice as many: it is")
    assert "not full rank" in quality.frechet_caveat(512, 512)


# Neighbours


@pytest.mark.parametrize(("n", "m", "k"), [(80, 80, 5), (120, 70, 3), (70, 120, 5), (7, 9, 5)])
def test_precision_recall_density_and_coverage_are_those_of_prdc(others, n, m, k):
    real, generated = normal(0, n, 12), 0.8 * normal(1, m, 12, 0.2)
    assert quality.prdc(real, generated, k) == pytest.approx(others.prdc(real, generated, k), abs=1e-12)


def test_features_far_from_nought_have_the_same_neighbours():
    real, generated = normal(0, 80, 64), normal(1, 80, 64, 0.1)
    wanted, found = quality.prdc(real, generated), quality.nearest(generated, real)
    for far in (1e5, 1e7):
        assert quality.prdc(real + far, generated + far) == wanted
        np.testing.assert_array_equal(quality.nearest(generated + far, real + far).index, found.index)


def test_blocks_of_distances_give_the_same(monkeypatch):
    real, generated = normal(0, 90, 12), normal(1, 80, 12, 0.1)
    whole = quality.prdc(real, generated)
    monkeypatch.setattr("pneumojax.gan.quality.neighbours.MEGABYTES", 80 * 8 * 7 / 2**20)  # 7 rows
    assert quality.prdc(real, generated) == whole


@pytest.mark.parametrize("offset", [0, 1000])
def test_copies_of_the_real_images_have_a_density_of_1(offset):
    """It lies in its own ball, on average in those of k - 1 others, and on the edge of the k-th, however it rounds."""
    real = normal(0, 300, 40) + offset
    copies = real[np.random.default_rng(0).permutation(300)]
    assert quality.prdc(real, copies) == {"precision": 1.0, "recall": 1.0, "density": 1.0, "coverage": 1.0}


def test_coverage_of_one_distribution_is_what_theory_says():
    for m, coverage in ((200, 1 - 2**-5), (80, 1 - (200 / 280) ** 5)):
        rows = [quality.prdc(normal(2 * i, 200, 10), normal(2 * i + 1, m, 10)) for i in range(20)]
        assert np.mean([row["coverage"] for row in rows]) == pytest.approx(coverage, abs=0.01)
        assert np.mean([row["density"] for row in rows]) == pytest.approx(1, abs=0.05)


def test_nearest_images_are_found_mirrored_or_not():
    training, queries, mirrored = normal(0, 40, 8), normal(1, 30, 8), normal(2, 30, 8)
    queries[3], mirrored[7] = training[11], training[12]
    plain, both = quality.nearest(queries, training), quality.nearest(queries, training, mirrored)
    tables = np.stack([cdist(way, training) for way in (queries, mirrored)])
    np.testing.assert_allclose(plain.distance, tables[0].min(1), rtol=1e-9, atol=0)
    np.testing.assert_array_equal(plain.index, tables[0].argmin(1))
    np.testing.assert_allclose(both.distance, tables.min((0, 2)), rtol=1e-9, atol=0)
    np.testing.assert_array_equal(both.index, np.concatenate(list(tables), 1).argmin(1) % 40)
    np.testing.assert_array_equal(both.mirrored, tables.min(2).argmin(0))
    pairs = quality.closest(both, 5)
    assert pairs[0] == {"query": 3, "reference": 11, "distance": 0.0, "mirrored": False}
    assert pairs[1] == {"query": 7, "reference": 12, "distance": 0.0, "mirrored": True}
    assert [pair["distance"] for pair in pairs] == sorted(both.distance)[:5]
    json.dumps(pairs)


# Memorisation


def test_copy_rate_counts_below_the_quantile_and_knows_its_interval():
    held_out = np.arange(1, 100)  # 5% quantile: the 5th of 99
    generated = np.concatenate([[0.5, 4.9, 5.0], np.full(17, 50.0)])
    rate = quality.copy_rate(generated, held_out)
    assert (rate.value, rate.threshold) == (0.1, 5.0)
    clopper_pearson = stats.beta.ppf(0.025, 2, 19), stats.beta.ppf(0.975, 3, 18)
    assert rate.interval == pytest.approx(clopper_pearson, rel=1e-9)
    assert quality.copy_rate(generated + 50, held_out).interval[0] == 0


def test_copy_rate_of_what_copies_nothing_is_5_percent_for_few_held_out_images_as_for_many():
    """And 95% of such rates lie where `honest` says; intervals, for a threshold that is drawn, miss 5% more often."""
    rng = np.random.default_rng(0)
    for held_out, missed in ((40, 0.2), (187, 0.1)):
        rates = [quality.copy_rate(rng.gamma(9, size=500), rng.gamma(9, size=held_out)) for _ in range(200)]
        assert np.mean([rate.value for rate in rates]) == pytest.approx(HONEST, abs=0.005)
        assert np.mean([rate.honest[0] <= rate.value <= rate.honest[1] for rate in rates]) > 0.93
        assert np.mean([rate.interval[0] > HONEST for rate in rates]) > missed


def test_copy_rate_of_patients_with_several_images_is_not_taken_for_surer_than_it_is():
    """Twenty patients whose ten images lie alike: by image 95% would be 60%."""
    rng = np.random.default_rng(0)
    owner, inside = np.repeat(np.arange(20), 10), []
    for _ in range(150):
        generated, held_out = rng.gamma(9, size=300), rng.gamma(9, size=20)[owner]
        rates = [quality.copy_rate(generated, held_out, patients) for patients in (None, owner)]
        assert rates[0][:2] == rates[1][:2]
        inside.append([rate.honest[0] <= rate.value <= rate.honest[1] for rate in rates])
    by_image, by_patient = np.mean(inside, 0)
    assert by_image < 0.7
    assert by_patient > 0.93


def test_c_t_is_the_share_of_pairs_in_units_of_its_deviation():
    rng = np.random.default_rng(0)
    generated, held_out = rng.integers(0, 30, 80), rng.integers(5, 35, 50)  # many ties
    wins = np.mean(np.sign(generated[:, None] - held_out[None]) / 2)
    assert quality.c_t(generated, held_out) == pytest.approx(wins * 4000 / np.sqrt(4000 * 131 / 12), rel=1e-9)
    null = [quality.c_t(rng.random(60), rng.random(40)) for _ in range(500)]
    assert (np.mean(null), np.std(null)) == pytest.approx((0, 1), abs=0.08)


def test_authenticity_is_that_of_its_authors():
    training, generated = normal(0, 40, 8), normal(1, 60, 8)
    within, across = (torch.cdist(torch.tensor(training), torch.tensor(x)) for x in (training, generated))
    within.fill_diagonal_(torch.inf)
    nearest, index = across.min(0)
    wanted = 100 * (within.min(0).values[index] < nearest).double().mean().item()
    found = quality.nearest(generated, training)
    assert 0 < wanted < 100
    assert quality.authpct(found, training) == pytest.approx(wanted, abs=1e-9)
    assert quality.authpct(quality.nearest(training, training), training) == 0


def test_a_gan_of_30_percent_noisy_training_images_is_caught_and_real_patients_are_not():
    """In features of patients; its own 70% are as good as real ones."""
    covered = []
    for seed in range(10):
        training, *rest = (clustered(10 * seed + part, 200) for part in range(4))
        training, (held_out, fresh, other) = (
            training[0],
            [x[np.unique(owner, return_index=True)[1]] for x, owner in rest],
        )
        rng = np.random.default_rng(seed)
        cheat = np.concatenate([training[rng.choice(len(training), 60)] + 0.1 * rng.normal(size=(60, 16)), fresh[60:]])
        near = [quality.nearest(x, training) for x in (held_out, other, cheat)]
        distances = [found.distance for found in near]
        honest, caught = (quality.copy_rate(own, distances[0]) for own in distances[1:])
        covered.append(honest.interval[0] <= HONEST <= honest.interval[1])
        assert honest.honest[0] <= honest.value <= honest.honest[1]
        assert caught.interval[0] > 0.2
        assert caught.value > caught.honest[1]
        z = [quality.c_t(own, distances[0]) for own in distances[1:]]
        assert abs(z[0]) < 3
        assert z[1] < -3.5
        percent = [quality.authpct(found, training) for found in near[1:]]
        assert percent[0] - percent[1] > 10
        assert all(pair["query"] < 60 for pair in quality.closest(near[2], 50))
    assert sum(covered) >= 8


def test_mirrored_copies_are_caught_in_pixels_only_where_mirror_images_are_looked_at(pictures):
    training, held_out, fresh = (part.astype(float) for part in pictures)
    rng = np.random.default_rng(0)
    cheat = fresh.copy()
    rows = rng.choice(len(training), int(0.3 * len(cheat)), replace=False)
    cheat[: len(rows)] = training[rows, :, ::-1] + rng.normal(0, 3, (len(rows), 32, 32))

    def rate(images, mirrors: bool):
        def flat(x):
            return x.reshape(len(x), -1)

        near = [
            quality.nearest(flat(x), flat(training), flat(x[:, :, ::-1]) if mirrors else None).distance
            for x in (images, held_out)
        ]
        return quality.copy_rate(*near)

    assert rate(cheat, True).interval[0] > 0.2
    assert rate(cheat, False).interval[0] <= HONEST
    for mirrors in (True, False):
        honest = rate(fresh, mirrors)
        assert honest.interval[0] <= HONEST <= honest.interval[1]


# Diversity


def test_structural_similarity_is_that_of_scikit_image(pictures):
    one, other = pictures[0][:80], np.concatenate([pictures[1][:79], np.zeros((1, 32, 32), np.uint8)])
    own = np.concatenate([quality.ssim(one, other), quality.ssim(one[:, :7, :7], other[:, :7, :7])])
    wanted = [structural_similarity(a[:s, :s], b[:s, :s]) for s in (32, 7) for a, b in zip(one, other, strict=True)]
    np.testing.assert_allclose(own, wanted, atol=1e-9)
    np.testing.assert_array_equal(quality.ssim(one, one), 1)


def test_pairs_for_similarity_are_of_two_images_and_drawn_by_seed(pictures):
    two = pictures[0][[0, 40]]
    real = pictures[1][:40]
    similar = quality.ssim_diversity(real, two, pairs=1000)
    assert similar["generated"] == pytest.approx(quality.ssim(two[:1], two[1:])[0], rel=1e-12)
    assert similar == quality.ssim_diversity(real, two, pairs=1000)
    assert similar["real"] != quality.ssim_diversity(real, two, pairs=1000, seed=1)["real"]
    left, right = np.triu_indices(40, 1)
    assert similar["real"] == pytest.approx(quality.ssim(real[left], real[right]).mean(), abs=0.005)


def test_thumbnails_are_means_over_equal_areas():
    images = np.random.default_rng(0).integers(0, 256, (3, 24, 24), np.uint8)
    wanted = images.reshape(3, 8, 3, 8, 3).mean((2, 4)).reshape(3, 64)
    np.testing.assert_allclose(quality.thumbnails(images), wanted, rtol=1e-12)
    small = images[:, ::2, ::2]  # 12 pixels: one and a half an area
    np.testing.assert_allclose(
        quality.thumbnails(small), quality.thumbnails(small.repeat(2, 1).repeat(2, 2)), rtol=1e-12
    )


def test_collapse_is_seen_and_said(pictures):
    real, rng = pictures[0], np.random.default_rng(0)
    assert quality.collapsed(real, pictures[1]) is None
    assert quality.collapsed(real, pictures[1][rng.integers(0, 2, 64)]) is None  # two pictures are for recall to see
    one = np.clip(real[5] + rng.normal(0, 5, (64, 32, 32)), 0, 255).astype(np.uint8)
    assert quality.spread(one) < 0.1 * quality.spread(real)
    assert quality.collapsed(real, one).startswith("generated images differ by 1.")
    assert quality.spread(one[:1]) == 0
    black = np.concatenate([pictures[1][:62], np.zeros((2, 32, 32), np.uint8)])
    assert quality.collapsed(real, black) == "all pixels are alike in 2 of 64 generated images"


# Who can tell


def test_a_classifier_tells_what_differs_and_nothing_else():
    values = []
    for seed in range(4):
        (real, owner), same = clustered(seed, 60), 1.12 * np.random.default_rng(seed + 9).normal(size=(150, 16))
        values.append(quality.tell_auc(real, same, owner, seed))
        assert quality.tell_auc(real, same + 3, owner, seed) == 1.0
    assert np.mean(values) == pytest.approx(0.5, abs=0.06)
    assert values[-1] == quality.tell_auc(real, same, [f"person{o:04d}" for o in owner], seed)
    ordered = quality.tell_auc(real[:, :1], np.linspace(-3, 3, 100)[:, None] + 1, owner, 0)
    assert 0.6 < ordered < 0.95


def test_a_patient_who_is_in_a_fold_is_not_in_the_others():
    """Twenty patients of ten pictures each: by image a classifier knows them again, by patient it can tell nothing."""
    rng = np.random.default_rng(0)
    real = np.repeat(rng.normal(size=(20, 40)), 10, 0) + 0.1 * rng.normal(size=(200, 40))
    generated = rng.normal(size=(200, 40))
    assert quality.tell_auc(real, generated, np.repeat(np.arange(20), 10), 0) < 0.65
    assert quality.tell_auc(real, generated, np.arange(200), 0) > 0.75


def test_patients_of_either_set_are_in_one_fold():
    """Two sets of such patients, whom nothing but their being themselves tells apart."""
    rng, patients = np.random.default_rng(0), np.repeat(np.arange(20), 10)
    one, other = (np.repeat(rng.normal(size=(20, 40)), 10, 0) + 0.1 * rng.normal(size=(200, 40)) for _ in range(2))
    assert quality.tell_accuracy(one, other, 0) > 0.95
    assert quality.tell_accuracy(one, other, 0, (patients, patients)) < 0.65


def test_a_generators_fingerprint_is_told_on_thumbnails(pictures):
    """Four gray levels more in every other area. Halves of one set have none. Counts may differ."""
    board = (np.indices((32, 32)) // 4).sum(0) % 2
    marked = np.clip(pictures[1].astype(int) + 4 * board, 0, 255).astype(np.uint8)
    thumbnails = [quality.thumbnails(x) for x in (pictures[0], marked[:120], pictures[1][:120])]
    assert quality.tell_accuracy(thumbnails[0], thumbnails[1], 0) > 0.97
    assert quality.tell_accuracy(thumbnails[0], thumbnails[2], 0) == pytest.approx(0.5, abs=0.1)


# Bad input

FEATURES, IMAGES = normal(0, 30, 4), np.random.default_rng(0).integers(0, 256, (20, 16, 16), np.uint8)
NAN = FEATURES.copy()
NAN[3, 1] = np.nan
PAIRED = {
    "kid": quality.kid,
    "frechet": quality.frechet,
    "prdc": quality.prdc,
    "kid_deviation": lambda real, generated: quality.kid_deviation(real, generated, np.arange(len(real)), 10, 0),
    "tell_auc": lambda real, generated: quality.tell_auc(real, generated, np.arange(len(real)), 0),
    "tell_accuracy": lambda real, generated: quality.tell_accuracy(real, generated, 0),
    "nearest": quality.nearest,
}


@pytest.mark.parametrize("name", PAIRED)
@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (FEATURES[:, :3], "3 features an image and"),
        (FEATURES[:, 0], r"is of shape \[30\]; give floats \[images, features\]"),
        (FEATURES[:0], r"is of shape \[0, 4\]"),
        (FEATURES[:, :0], r"is of shape \[30, 0\]"),
        (NAN, r"\[3, 1\] is nan; give features of images of a GAN that has not diverged"),
        (np.where(np.isnan(NAN), np.inf, NAN), r"\[3, 1\] is inf"),
        ([[1.0], [1.0, 2.0]], "is no array of numbers"),
        (FEATURES + 1j, "is complex128; give floats"),
        (torch.ones(30, 4, requires_grad=True), r"is no array of numbers \(Can't call numpy"),
    ],
)
def test_features_that_cannot_be_used_are_one_line(name, wrong, why):
    for sets in ((FEATURES, wrong), (wrong, FEATURES)):
        with pytest.raises(BadInput, match=why.replace("3 features", "[34] features")) as error:
            quality.measured(PAIRED[name], *sets)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", PAIRED)
def test_one_image_alone_and_images_all_alike_have_no_value_but_a_reason(name):
    for few, why in ((FEATURES[:1], "is one image alone"), (FEATURES[[2] * 9], "the 9 images of .* are all alike")):
        for sets in ((FEATURES, few), (few, FEATURES)):
            value, reason = quality.measured(PAIRED[name], *sets)
            assert value is None
            pytest.raises(quality.Undefined, PAIRED[name], *sets).match(why)
            assert json.loads(json.dumps([value, reason])) == [None, reason]


def test_one_generated_image_alone_has_not_collapsed_unless_it_shows_nothing():
    assert quality.collapsed(IMAGES, IMAGES[:1]) is None
    assert "all pixels are alike in 1 of 1" in quality.collapsed(IMAGES, 0 * IMAGES[:1])


def test_what_is_defined_has_no_reason():
    assert quality.measured(quality.kid, FEATURES, FEATURES + 1) == (quality.kid(FEATURES, FEATURES + 1), None)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: quality.prdc(FEATURES, FEATURES[:5]), "generated has 5 images; k=5 neighbours beside each take 6"),
        (
            lambda: quality.kid_deviation(FEATURES, FEATURES, [0, 1] * 15, 9, 0),
            "real has 2 patients; a bootstrap takes 10 or more",
        ),
        (lambda: quality.tell_auc(FEATURES, FEATURES, [0, 1] * 15, 0), "2 patients; 5 folds take 5 or more"),
        (lambda: quality.tell_auc(FEATURES, FEATURES[:4], range(30), 0), "4 images; 5 folds take 5 or more"),
        (lambda: quality.copy_rate(np.ones(9), np.ones(18)), "18 held-out images have no 5% quantile"),
        (
            lambda: quality.copy_rate(np.ones(9), np.arange(20) // 2),
            "2 of 20 held-out images are the same as a training",
        ),
        (lambda: quality.ssim_diversity(IMAGES, IMAGES[:1]), "generated is one image alone"),
        (lambda: quality.ssim_diversity(IMAGES[[0, 0]], IMAGES), "the 2 images of real are all alike"),
        (lambda: quality.ssim_diversity(*[IMAGES[:, :4, :4]] * 2), "images of 4 pixels a side are smaller"),
        (lambda: quality.scale_of(1e-200 * FEATURES), "all features of real_training are 0, or nearly so"),
    ],
)
def test_what_is_undefined_says_why(call, why):
    value, reason = quality.measured(call)
    assert value is None
    assert why in reason


@pytest.mark.parametrize(
    ("call", "why"),
    [
        (lambda: quality.prdc(FEATURES, FEATURES, 0), "k=0; give a count of neighbours"),
        (lambda: quality.prdc(FEATURES, FEATURES, 2.5), "k=2.5"),
        (lambda: quality.kid(FEATURES, 1e50 * FEATURES), "generated[0, 0] is"),
        (lambda: quality.kid_deviation(FEATURES, FEATURES, range(29), 9, 0), "patients is of shape [29] for 30 images"),
        (
            lambda: quality.kid_deviation(FEATURES, FEATURES, range(30), 1, 0),
            "resamples=1; give a count of draws, 2 or more",
        ),
        (
            lambda: quality.kid_deviation(FEATURES, FEATURES, [*range(29), None], 9, 0),
            "patients[29] is None; give each image a label",
        ),
        (lambda: quality.tell_auc(FEATURES, FEATURES, [*range(29), np.nan], 0), "groups[29] is nan"),
        (lambda: quality.thumbnails(IMAGES, 0), "side=0; give a count of areas, 1 or more"),
        (lambda: quality.authpct(Nearest(*np.full((3, 2), 30)), FEATURES), "training has 30 images, not 31"),
        (lambda: quality.tell_auc(FEATURES, FEATURES, range(31), 0), "groups is of shape [31] for 30 images"),
        (lambda: quality.nearest(FEATURES, FEATURES, FEATURES[:9]), "mirrored is of shape [9] for 30 images"),
        (lambda: quality.copy_rate(FEATURES, np.ones(30)), "generated is of shape [30, 4]; give floats [images]"),
        (lambda: quality.c_t(np.ones(30), [np.nan]), "held_out[0] is nan"),
        (lambda: quality.ssim(IMAGES, IMAGES[:5]), "one is [20, 16, 16] and other [5, 16, 16]; give as many"),
        (lambda: quality.ssim(IMAGES[:, :6, :6], IMAGES[:, :6, :6]), "from 7 pixels a side"),
        (lambda: quality.ssim_diversity(IMAGES, IMAGES, pairs=0), "pairs=0; give a count of pairs, 1 or more"),
        (lambda: quality.ssim_diversity(IMAGES, IMAGES, pairs=2.5), "pairs=2.5"),
        (lambda: quality.ssim_diversity(IMAGES, IMAGES[:, :8, :8]), "images of 8 pixels a side and real of 16"),
        (lambda: quality.collapsed(IMAGES, IMAGES[:, :8, :8]), "send both through the GAN's size"),
        (lambda: quality.collapsed(IMAGES, IMAGES[:0]), "generated is uint8 [0, 16, 16]"),
        (lambda: quality.spread(IMAGES / 255), "images is float64 [20, 16, 16]; give gray images, uint8"),
        (lambda: quality.thumbnails(IMAGES[:, :8]), "images is uint8 [20, 8, 16]"),
        (lambda: quality.authpct(Nearest(*np.zeros((3, 2), int)), FEATURES[:, 0]), "training is of shape [30]"),
    ],
)
def test_what_was_called_wrongly_is_an_error_and_never_a_null(call, why):
    with pytest.raises(BadInput) as error:
        quality.measured(call)
    assert why in str(error.value)
    assert "\n" not in str(error.value)


def test_the_largest_features_allowed_have_a_value():
    largest = np.where(FEATURES > 0.3, 9e19, 0)
    values = [function(FEATURES, largest) for name, function in PAIRED.items() if name not in ("prdc", "nearest")]
    assert np.isfinite(values).all()
