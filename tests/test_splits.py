"""Splits hold for any files: nothing on both sides, counts exact, the same for any order."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from configs import default
from pneumojax.data import splits
from pneumojax.errors import BadInput
from pneumojax.protocols import Collection, clean, official, paper, patient_kfold

COUNTS = (12, 20)


@st.composite
def collections(draw, singles=12):
    """Names, labels, patients and digests: patients of one to six images, some files with equal pixels."""
    rows = []
    for label, wanted in enumerate((60, 90)):
        patient = 0
        while sum(row[1] == label for row in rows) < wanted:
            size = 1 if patient < singles else draw(st.integers(1, 6))
            rows += [(f"c{label}/p{patient:03d}-{k}", label, f"{label}-{patient}") for k in range(size)]
            patient += 1
    digests = [row[0] for row in rows]
    for _ in range(draw(st.integers(0, 5))):
        a, b = draw(st.tuples(*[st.integers(0, len(rows) - 1)] * 2))
        if rows[a][1] == rows[b][1]:
            digests[a] = digests[b]
    names, labels, patients = zip(*rows, strict=True)
    return names, dict(zip(names, labels, strict=True)), patients, digests


def nearest(sizes, wanted: int) -> int:
    """How near to `wanted` the sum of some of the sizes can come."""
    sums = {0}
    for size in sizes:
        sums |= {total + size for total in sums}
    return min(abs(total - wanted) for total in sums)


def config(enlarge=3.0):
    c = default.get_config()
    c.data.subset = COUNTS
    c.enlarge = enlarge
    return c


@settings(max_examples=40, deadline=None)
@given(collections(), st.integers(0, 5))
def test_subsets_are_exact_disjoint_and_complete(collection, seed):
    names, labels, patients, digests = collection
    groups = splits.group(names, patients, digests)
    subsets = splits.draw_subsets(labels, groups, COUNTS, (0, 1, 2), seed)
    touched = []
    for subset in subsets.values():
        assert splits.count(subset.chosen, labels).tolist() == list(COUNTS)
        assert not set(subset.chosen) & set(subset.excluded)
        inside = {groups[name] for name in subset.chosen}
        outside = {groups[n] for n in names if n not in subset.chosen and n not in subset.excluded}
        assert not inside & outside
        assert {groups[name] for name in subset.excluded} <= inside
        touched.append(inside)
        assert subset.disjoint
    assert not touched[0] & touched[1]
    assert not (touched[0] | touched[1]) & touched[2]


@settings(max_examples=40, deadline=None)
@given(collections(), st.integers(0, 5), st.randoms())
def test_any_order_of_the_files_gives_the_same(collection, seed, shuffler):
    def plans(order):
        names, labels, patients, digests = collection
        labels = {names[i]: labels[names[i]] for i in order}
        groups = splits.group(list(labels), [patients[i] for i in order], [digests[i] for i in order])
        subset = splits.draw_subsets(labels, groups, COUNTS, (1,), seed)[1]
        return [
            protocol(Collection(labels, groups, {1: subset}), config(), 1) for protocol in (clean, paper, patient_kfold)
        ]

    order = list(range(len(collection[0])))
    shuffled = order.copy()
    shuffler.shuffle(shuffled)
    try:
        expected = plans(order)
    except BadInput:  # large patients alone: one side would have no image of a class
        reject()
    assert plans(shuffled) == expected


@settings(max_examples=40, deadline=None)
@given(collections(), st.integers(0, 2))
def test_clean_shares_nothing(collection, trial):
    names, labels, patients, digests = collection
    groups = splits.group(names, patients, digests)
    subset = splits.draw_subsets(labels, groups, COUNTS, (0, 1, 2), 0)[trial]
    for label, wanted in enumerate((2, 4)):
        sizes = Counter(groups[name] for name in subset.chosen if labels[name] == label).values()
        assume(nearest(sizes, wanted) < wanted)  # else one side would have no image of the class
    plan = clean(Collection(labels, groups, {trial: subset}), config(), trial)
    record = plan.record
    sides = [record["train"], record["test"], record["unseen"]]
    keys = (groups, dict(zip(names, patients, strict=True)), dict(zip(names, digests, strict=True)))
    for key in keys:
        values = [{key[name] for name in side} for side in sides]
        assert not values[0] & values[1]
        assert not values[0] & values[2]
        assert not values[1] & values[2]
    assert sorted(record["train"] + record["test"]) == record["subset"]
    assert sorted(record["subset"] + record["unseen"] + record["excluded"]) == sorted(names)
    for label, wanted in enumerate((2, 4)):  # a fifth of 12 and 20, rounded
        sizes = Counter(groups[name] for name in record["subset"] if labels[name] == label).values()
        assert abs(splits.count(record["test"], labels)[label] - wanted) == nearest(sizes, wanted)
    assert plan.seen_by_gan == record["train"]
    for arm in plan.arms.values():
        assert set(arm.train) <= set(record["train"]) | set(plan.generated)
        assert all(name in labels for part in arm.parts.values() for name in part)


@settings(max_examples=20, deadline=None)
@given(collections(), st.integers(0, 2))
def test_paper_splits_the_pool_and_is_decomposed(collection, trial):
    names, labels, patients, digests = collection
    groups = splits.group(names, patients, digests)
    subset = splits.draw_subsets(labels, groups, COUNTS, (trial,), 0)[trial]
    plan = paper(Collection(labels, groups, {trial: subset}), config(enlarge=10.0), trial)
    pool = labels | splits.labels_of_generated(plan.generated)
    with_gan, without = plan.arms["with_gan"], plan.arms["without_gan"]
    assert plan.seen_by_gan == subset.chosen
    assert sorted(with_gan.train + with_gan.parts["test"]) == sorted(subset.chosen + plan.generated)
    assert splits.count(with_gan.parts["test"], pool).tolist() == [24, 40]
    assert splits.count(without.parts["test"], pool).tolist() == [2, 4]
    assert sorted(without.train + without.parts["test"]) == subset.chosen
    assert sorted(with_gan.parts["test_real"] + with_gan.parts["test_generated"]) == with_gan.parts["test"]
    assert not set(with_gan.train) & set(with_gan.parts["test"])


@settings(max_examples=20, deadline=None)
@given(collections(), st.integers(2, 6))
def test_folds_hold_every_image_once(collection, folds):
    names, labels, patients, digests = collection
    groups = splits.group(names, patients, digests)
    c = config()
    c.data.folds = folds
    tested = []
    for trial in range(folds):
        record = patient_kfold(Collection(labels, groups, {}), c, trial).record
        assert sorted(record["train"] + record["test"]) == record["subset"] == sorted(names)
        assert not {groups[name] for name in record["train"]} & {groups[name] for name in record["test"]}
        tested += record["test"]
    assert sorted(tested) == sorted(names)
    with pytest.raises(BadInput, match=rf"the folds of patient_kfold are 0 to {folds - 1}"):
        patient_kfold(Collection(labels, groups, {}), c, folds)


@settings(max_examples=20, deadline=None)
@given(collections(), st.integers(0, 3))
def test_a_fraction_takes_patients_of_the_training_part(collection, trial):
    names, labels, patients, digests = collection
    groups = splits.group(names, patients, digests)
    subset = splits.draw_subsets(labels, groups, COUNTS, (trial,), 0)[trial]
    before: set[str] = set()
    try:
        whole = clean(Collection(labels, groups, {trial: subset}), config(), trial)
    except BadInput:  # large patients alone: one side would have no image of a class
        reject()
    for fraction in (0.01, 0.1, 0.4, 0.7, 1.0):
        c = config()
        c.data.fraction = fraction
        plan = clean(Collection(labels, groups, {trial: subset}), c, trial)
        train, test = (set(plan.record[side]) for side in ("train", "test"))
        assert before <= train <= set(whole.record["train"])
        assert test == set(whole.record["test"])
        assert sorted(train | test | set(plan.record.get("not_used", ()))) == plan.record["subset"]
        kept = [{groups[n] for n in part if labels[n] == 0} for part in (train, whole.record["train"])]
        assert len(kept[0]) == max(1, round(fraction * len(kept[1])))
        assert not {groups[n] for n in train} & {groups[n] for n in whole.record["train"] if n not in train}
        assert plan.seen_by_gan == plan.record["train"]
        before = train


def test_official_takes_the_published_folders():
    names = [f"{part}/{label}/{i}" for part in ("train", "val", "test") for label in ("N", "P") for i in range(5)]
    labels = {name: int("/P/" in name) for name in names}
    groups = splits.group(names, [f"p{i % 7}" for i in range(30)], names)
    plan = official(Collection(labels, groups, {}), config(), 0)
    assert plan.record["train"] == names[:10]
    assert plan.record["test"] == names[20:]
    assert plan.record["excluded"] == sorted(names[10:20])
    assert plan.record["unseen"] == []
    assert plan.record["groups_on_both_sides"] == 7
    with pytest.raises(BadInput, match="leave out 'official'"):
        official(Collection({n: v for n, v in labels.items() if "test" not in n}, groups, {}), config(), 0)


def test_the_papers_own_counts():
    """234 + 390 images give its 47 + 78 and, enlarged tenfold, its 468 + 780."""
    assert splits.held_out(np.array([234, 390]), 0.2).tolist() == [47, 78]
    assert splits.held_out(np.array([2340, 3900]), 0.2).tolist() == [468, 780]
    assert len(splits.generated_names(np.array([234, 390]), 10.0)) == 6240 - 624


def test_arms_of_clean_take_equal_steps_and_paper_keeps_epochs():
    names = [f"c{label}/{i:03d}" for label in (0, 1) for i in range(60)]
    labels = {name: int(name[1]) for name in names}
    groups = splits.group(names, names, names)
    subset = splits.draw_subsets(labels, groups, (20, 30), (0,), 0)[0]
    c = config(enlarge=10.0)
    c.data.subset = (20, 30)
    c.classifier.update({"batch_size": 4, "epochs": 6, "steps": 0})
    collection = Collection(labels, groups, {0: subset})
    arms = clean(collection, c, 0).arms
    assert [arms[a].steps for a in ("without_gan", "with_gan", "with_gan_epochs")] == [60, 60, 600]
    assert [len(arms[a].train) for a in ("without_gan", "with_gan")] == [40, 400]
    assert [arm.steps for arm in paper(collection, c, 0).arms.values()] == [60, 600]
    c.classifier.steps = 7
    assert [arm.steps for arm in clean(collection, c, 0).arms.values()] == [7, 7, 70]


def test_no_arm_is_with_a_gan_that_makes_nothing():
    names = [f"c{label}/{i:03d}" for label in (0, 1) for i in range(60)]
    labels = {name: int(name[1]) for name in names}
    groups = splits.group(names, names, names)
    collection = Collection(labels, groups, splits.draw_subsets(labels, groups, COUNTS, (0,), 0))
    for protocol in (clean, paper, patient_kfold):
        assert list(protocol(collection, config(enlarge=1.0), 0).arms) == ["without_gan"]
        assert len(protocol(collection, config(enlarge=2.0), 0).arms) > 1


def test_groups_are_transitive():
    names = ["a", "b", "c", "d", "e"]
    groups = splits.group(names, ["1", "1", "2", "3", "4"], ["x", "y", "y", "z", "z"])
    assert groups == {"a": "a", "b": "a", "c": "a", "d": "d", "e": "d"}


def test_a_cut_group_goes_to_excluded():
    names = [f"NORMAL/p{i // 3}-{i}" for i in range(9)] + [f"PNEUMONIA/{i}" for i in range(9)]
    labels = {name: int(name.startswith("P")) for name in names}
    groups = splits.group(names, [name.split("-")[0] for name in names], names)
    subset = splits.draw_subsets(labels, groups, (4, 4), (0,), 0)[0]
    assert len(subset.excluded) == 2  # the second patient drawn gives one of three
    assert len({groups[name] for name in subset.excluded}) == 1


def test_trials_that_must_overlap_say_so_and_avoid_it_where_they_can():
    names = [f"NORMAL/{i}" for i in range(10)] + [f"PNEUMONIA/{i}" for i in range(50)]
    labels = {name: int(name.startswith("P")) for name in names}
    groups = splits.group(names, names, names)
    subsets = splits.draw_subsets(labels, groups, (6, 6), (0, 1, 2), 0)
    assert [subset.disjoint for subset in subsets.values()] == [True, False, False]
    shared = set(subsets[0].chosen) & set(subsets[1].chosen)
    assert len(shared) == 2  # four fresh NORMAL images were left, and PNEUMONIA need not repeat
    assert all(name.startswith("NORMAL") for name in shared)


def test_a_trials_subset_does_not_depend_on_the_others_asked_for():
    names = [f"{'NORMAL' if i % 2 else 'PNEUMONIA'}/{i}" for i in range(200)]
    labels = {name: int(name.startswith("P")) for name in names}
    groups = splits.group(names, names, names)
    together = splits.draw_subsets(labels, groups, (9, 9), (0, 1, 2), 3)
    assert splits.draw_subsets(labels, groups, (9, 9), (2,), 3)[2] == together[2]
    assert splits.draw_subsets(labels, groups, (9, 9), (0,), 4)[0] != together[0]


def test_patients_of_two_classes_stay_whole():
    random.seed(0)
    names = [f"x{i}" for i in range(120)]
    labels = {name: random.randint(0, 1) for name in names}
    patients = [f"p{i // 2}" for i in range(120)]
    groups = splits.group(names, patients, names)
    subset = splits.draw_subsets(labels, groups, (15, 15), (0,), 0)[0]
    split = splits.hold_out_groups(subset.chosen, labels, groups, 0.2, 0)
    assert splits.count(split.test, labels).tolist() == [3, 3]
    assert not {groups[n] for n in split.train} & {groups[n] for n in split.test}


def test_too_few_images():
    names = [f"NORMAL/{i}" for i in range(10)] + [f"PNEUMONIA/{i}" for i in range(50)]
    labels = {name: int(name.startswith("P")) for name in names}
    groups = splits.group(names, names, names)
    with pytest.raises(BadInput, match=r"asks for 11 NORMAL images, the data hold 10"):
        splits.draw_subsets(labels, groups, (11, 6), (0,), 0)


def test_one_patient_cannot_be_split():
    names = [f"{i}" for i in range(20)]
    labels = {name: int(name) % 2 for name in names}
    groups = splits.group(names, ["one"] * 20, names)
    with pytest.raises(BadInput, match="no NORMAL image: no patient is split"):
        splits.hold_out_groups(names, labels, groups, 0.2, 0)
