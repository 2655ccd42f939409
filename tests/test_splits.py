"""Splits hold for any files and any number of classes: nothing on both sides, counts exact, the same for any order."""

import hashlib
import json
import random
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from configs import default
from pneumojax import arms, offers, plan, protocols
from pneumojax.data import CLASSES, Images, phantom, splits
from pneumojax.errors import BadInput
from pneumojax.protocols import Collection, clean, generated_names, official, paper, patient_kfold, wanted

KINDS = ("NORMAL", "VIRUS", "BACTERIA")  # labels 0, 1, 2, which is not the order of the names
COUNTS = (12, 20, 16)
TESTED = (2, 4, 3)  # a fifth of these, rounded


class Files(NamedTuple):
    """What a data module tells of its images, in the order of their names, and their groups."""

    names: tuple[str, ...]
    labels: np.ndarray
    patients: tuple[str, ...]
    digests: tuple[str, ...]
    groups: np.ndarray
    classes: tuple[str, ...]

    @property
    def counts(self):
        return COUNTS[: len(self.classes)]

    @property
    def rows(self):
        return np.arange(len(self.names))

    def subsets(self, trials, seed=0, counts=None):
        return splits.draw_subsets(self.labels, self.groups, counts or self.counts, self.classes, trials, seed)

    def collection(self, subsets):
        parts = tuple(name.split("/")[0] for name in self.names)
        return Collection(self.names, self.labels, self.groups, parts, subsets, len(self.names))

    def groups_of(self, rows):
        return set(self.groups[rows].tolist())

    def count(self, rows):
        return splits.count(rows, self.labels, self.classes).tolist()


def files_of(rows, classes=CLASSES) -> Files:
    """Rows (name, label, patient, digest) as a data module brings them: sorted."""
    names, labels, patients, digests = zip(*sorted(rows), strict=True)
    return Files(names, np.array(labels, np.int32), patients, digests, splits.group(patients, digests), classes)


def singles(names, classes=CLASSES) -> Files:
    """Each image a patient of its own; a name tells its class by its folder."""
    return files_of([(name, classes.index(name.split("/")[0]), name, name) for name in names], classes)


@st.composite
def collections(draw, alone=12):
    """(rows, classes), two or three; patients of one to six images, some files with equal pixels."""
    classes, rows = KINDS[: draw(st.integers(2, 3))], []
    for label, least in enumerate((60, 90, 70)[: len(classes)]):
        patient = 0
        while sum(row[1] == label for row in rows) < least:
            size = 1 if patient < alone else draw(st.integers(1, 6))
            names = [f"{classes[label]}/p{patient:03d}-{k}" for k in range(size)]
            rows += [(name, label, f"{label}-{patient}", name) for name in names]
            patient += 1
    for _ in range(draw(st.integers(0, 5))):
        a, b = draw(st.tuples(*[st.integers(0, len(rows) - 1)] * 2))
        if rows[a][1] == rows[b][1]:
            rows[a] = (*rows[a][:3], rows[b][3])
    return rows, classes


def nearest(sizes, aim: int) -> int:
    """How near to `aim` the sum of some of the sizes can come."""
    sums = {0}
    for size in sizes:
        sums |= {total + size for total in sums}
    return min(abs(total - aim) for total in sums)


def config(classes=CLASSES, enlarge=3.0):
    c = default.get_config()
    c.data.classes = classes
    c.data.subset = COUNTS[: len(classes)]
    c.enlarge = enlarge
    return c


def arms_of(drawn, protocol, c):
    equal_steps = protocol.__name__ in protocols.REAL_TEST
    offer = arms.Offer(drawn.plain, drawn.pooled, equal_steps, 0, c.classifier)
    return offers.arms_of(offer, protocol.__name__, c, {})


def joined(*parts) -> list[int]:
    return sorted(np.concatenate(parts).tolist())


def as_lists(value):
    """Tuples, arrays and dicts of these as what == can compare."""
    if isinstance(value, dict):
        return {key: as_lists(one) for key, one in value.items()}
    if isinstance(value, tuple):
        return [as_lists(one) for one in value]
    return value.tolist() if isinstance(value, np.ndarray) else value


@settings(max_examples=40, deadline=None)
@given(collections(), st.integers(0, 5))
def test_subsets_are_exact_disjoint_and_complete(collection, seed):
    files = files_of(*collection)
    touched = []
    for subset in files.subsets((0, 1, 2), seed).values():
        assert files.count(subset.chosen) == list(files.counts)
        assert not set(subset.chosen) & set(subset.excluded)
        inside = files.groups_of(subset.chosen)
        outside = files.groups_of(np.setdiff1d(files.rows, joined(subset.chosen, subset.excluded)))
        assert not inside & outside
        assert files.groups_of(subset.excluded) <= inside
        touched.append(inside)
        assert subset.disjoint
    assert not touched[0] & touched[1]
    assert not (touched[0] | touched[1]) & touched[2]


@settings(max_examples=40, deadline=None)
@given(collections(), st.integers(0, 5), st.randoms())
def test_any_order_of_the_files_gives_the_same(collection, seed, shuffler):
    """A data module sorts by name; how patients and digests are written changes nothing either."""

    def drawn(rows):
        files = files_of(rows, collection[1])
        everything = files.collection(files.subsets((1,), seed))
        return as_lists(tuple(of(everything, config(files.classes), 1) for of in (clean, paper, patient_kfold)))

    rows = list(collection[0])
    keys = sorted({row[2] for row in rows}), sorted({row[3] for row in rows})
    others = [dict(zip(own, shuffler.sample(range(len(own)), len(own)), strict=True)) for own in keys]
    shuffled = [(n, label, f"{others[0][patient]}", f"{others[1][digest]}") for n, label, patient, digest in rows]
    shuffler.shuffle(shuffled)
    try:
        expected = drawn(rows)
    except BadInput:  # large patients alone: one side would have no image of a class
        reject()
    assert drawn(shuffled) == expected


def test_a_data_module_sorts_by_name_whatever_the_order_of_the_classes():
    c = default.get_config().data
    c.classes, c.phantom_images = KINDS, (5, 6, 7)
    images = phantom.load(c, 8)
    assert list(images.names) == sorted(images.names)
    assert [KINDS[label] for label in images.labels] == [name.split("/")[0] for name in images.names]


@settings(max_examples=40, deadline=None)
@given(collections(), st.integers(0, 2))
def test_clean_shares_nothing(collection, trial):
    files = files_of(*collection)
    subset = files.subsets((0, 1, 2))[trial]
    sizes = [
        Counter(files.groups[subset.chosen[files.labels[subset.chosen] == k]]).values()
        for k in range(len(files.classes))
    ]
    for of_class, tested in zip(sizes, TESTED, strict=False):
        assume(nearest(of_class, tested) < tested)  # else one side would have no image of the class
    c = config(files.classes)
    drawn = clean(files.collection({trial: subset}), c, trial)
    record = drawn.record
    sides = [record["train"], record["test"], record["unseen"]]
    for key in (files.groups, np.array(files.patients), np.array(files.digests)):
        values = [set(key[side].tolist()) for side in sides]
        assert not values[0] & values[1]
        assert not values[0] & values[2]
        assert not values[1] & values[2]
    assert joined(record["train"], record["test"]) == record["subset"].tolist()
    assert joined(record["subset"], record["unseen"], record["excluded"]) == files.rows.tolist()
    for found, of_class, tested in zip(files.count(record["test"]), sizes, TESTED, strict=False):
        assert abs(found - tested) == nearest(of_class, tested)
    assert drawn.seen_by_gan.tolist() == record["train"].tolist()
    assert drawn.generated.tolist() == [2 * n for n in files.count(record["train"])]
    made = len(files.names) + np.arange(drawn.generated.sum())
    arms = arms_of(drawn, clean, c)
    assert list(arms) == ["without_gan", "with_gan", "with_gan_epochs"]
    for arm in arms.values():
        assert set(arm.train) <= set(record["train"]) | set(made)
        assert all(row < len(files.names) for part in arm.tests.values() for row in part)


@settings(max_examples=20, deadline=None)
@given(collections(), st.integers(0, 2))
def test_paper_splits_the_pool_and_is_decomposed(collection, trial):
    files = files_of(*collection)
    subset = files.subsets((trial,))[trial]
    c = config(files.classes, enlarge=10.0)
    drawn = paper(files.collection({trial: subset}), c, trial)
    kinds = len(files.classes)
    assert drawn.seen_by_gan.tolist() == subset.chosen.tolist()
    assert drawn.generated.tolist() == [9 * n for n in files.counts]
    made = len(files.names) + np.arange(drawn.generated.sum())
    names = np.array([*files.names, *generated_names(drawn.generated, files.classes)])
    labels = np.array([files.classes.index(name.removeprefix("generated/").split("/")[0]) for name in names])
    assert labels[: len(files.names)].tolist() == files.labels.tolist()
    arms = arms_of(drawn, paper, c)
    with_gan, without = arms["with_gan"], arms["without_gan"]
    assert joined(with_gan.train, with_gan.tests["test"]) == joined(subset.chosen, made)
    assert np.bincount(labels[with_gan.tests["test"]]).tolist() == [24, 40, 32][:kinds]
    assert np.bincount(labels[without.tests["test"]]).tolist() == list(TESTED[:kinds])
    assert joined(without.train, without.tests["test"]) == subset.chosen.tolist()
    assert joined(with_gan.tests["test_real"], with_gan.tests["test_generated"]) == sorted(with_gan.tests["test"])
    assert set(with_gan.tests["test_generated"]) <= set(made)
    assert set(with_gan.tests["test_real"]) <= set(subset.chosen)
    assert not set(with_gan.train) & set(with_gan.tests["test"])
    for side in drawn.record["with_gan"].values():
        assert names[side].tolist() == sorted(names[side])


@settings(max_examples=20, deadline=None)
@given(collections(), st.integers(2, 6))
def test_folds_hold_every_image_once(collection, folds):
    files = files_of(*collection)
    c = config(files.classes)
    c.data.folds = folds
    tested = []
    for trial in range(folds):
        record = patient_kfold(files.collection({}), c, trial).record
        assert joined(record["train"], record["test"]) == record["subset"].tolist() == files.rows.tolist()
        assert not files.groups_of(record["train"]) & files.groups_of(record["test"])
        assert all(files.count(record["test"]))
        tested.append(record["test"])
    assert joined(*tested) == files.rows.tolist()
    with pytest.raises(BadInput, match=rf"the folds of patient_kfold are 0 to {folds - 1}"):
        patient_kfold(files.collection({}), c, folds)


@settings(max_examples=20, deadline=None)
@given(collections(), st.integers(0, 3))
def test_a_fraction_takes_patients_of_the_training_part(collection, trial):
    files = files_of(*collection)
    everything = files.collection(files.subsets((trial,)))
    before: set[int] = set()
    try:
        whole = clean(everything, config(files.classes), trial).record
    except BadInput:  # large patients alone: one side would have no image of a class
        reject()
    for fraction in (0.01, 0.1, 0.4, 0.7, 1.0):
        c = config(files.classes)
        c.data.fraction = fraction
        drawn = clean(everything, c, trial)
        train, test = (set(drawn.record[side].tolist()) for side in ("train", "test"))
        assert before <= train <= set(whole["train"].tolist())
        assert test == set(whole["test"].tolist())
        not_used = set(drawn.record.get("not_used", np.zeros(0, int)).tolist())
        assert sorted(train | test | not_used) == drawn.record["subset"].tolist()
        for label in range(len(files.classes)):
            rows = [drawn.record["train"], whole["train"]]
            kept, of = (files.groups_of(part[files.labels[part] == label]) for part in rows)
            assert len(kept) == max(1, round(fraction * len(of)))
        left = np.setdiff1d(whole["train"], drawn.record["train"])
        assert not files.groups_of(drawn.record["train"]) & files.groups_of(left)
        assert drawn.seen_by_gan.tolist() == drawn.record["train"].tolist()
        before = train


@pytest.mark.parametrize("classes", [CLASSES, KINDS])
def test_official_takes_the_published_folders(classes):
    names = [f"{part}/{label}/{i}" for part in ("train", "val", "test") for label in classes for i in range(5)]
    rows = [(name, classes.index(name.split("/")[1]), f"p{i % 7}", name) for i, name in enumerate(names)]
    files = files_of(rows, classes)
    drawn = official(files.collection({}), config(classes), 0)
    named = {key: [files.names[row] for row in rows] for key, rows in drawn.record.items() if key[0] != "g"}
    assert named["train"] == sorted(name for name in names if name.startswith("train/"))
    assert named["test"] == sorted(name for name in names if name.startswith("test/"))
    assert named["excluded"] == sorted(name for name in names if name.startswith("val/"))
    assert named["unseen"] == []
    assert files.count(drawn.record["train"]) == [5] * len(classes)
    assert drawn.record["groups_on_both_sides"] == 7
    without = files_of([row for row in rows if not row[0].startswith("test")], classes)
    with pytest.raises(BadInput, match="leave out 'official'"):
        official(without.collection({}), config(classes), 0)


def test_a_class_that_official_lacks_on_one_side_is_named():
    names = [f"{part}/{kind}/{i}" for part in ("train", "test") for kind in KINDS for i in range(3)]
    rows = [(name, KINDS.index(name.split("/")[1]), name, name) for name in names if name[:10] != "test/VIRUS"]
    with pytest.raises(BadInput, match=r"the test part of a split has no VIRUS image"):
        official(files_of(rows, KINDS).collection({}), config(KINDS), 0)


def test_the_papers_own_counts():
    """234 + 390 images give its 47 + 78 and, enlarged tenfold, its 468 + 780."""
    assert splits.held_out(np.array([234, 390]), 0.2).tolist() == [47, 78]
    assert splits.held_out(np.array([2340, 3900]), 0.2).tolist() == [468, 780]
    files = singles([f"{CLASSES[i >= 234]}/{i}" for i in range(624)])
    counts, rows = wanted(files.rows, files.collection({}), config(enlarge=10.0))
    assert counts.tolist() == [2106, 3510]
    assert rows.tolist() == list(range(624, 6240))
    names = generated_names(counts, CLASSES)
    assert len(set(names)) == 6240 - 624
    assert (names[0], names[2106], names[-1]) == (
        "generated/NORMAL/0",
        "generated/PNEUMONIA/0",
        "generated/PNEUMONIA/3509",
    )


def test_arms_of_clean_take_equal_steps_and_paper_keeps_epochs():
    files = singles([f"{label}/{i:03d}" for label in CLASSES for i in range(60)])
    c = config(enlarge=10.0)
    c.data.subset = (20, 30)
    c.classifier.update({"batch_size": 4, "epochs": 6, "steps": 0})
    everything = files.collection(files.subsets((0,), counts=(20, 30)))

    def arms(protocol):
        return arms_of(protocol(everything, c, 0), protocol, c)

    assert {name: arm.steps for name, arm in arms(clean).items()} == {
        "without_gan": 60,
        "with_gan": 60,
        "with_gan_epochs": 600,
    }
    assert [len(arms(clean)[a].train) for a in ("without_gan", "with_gan")] == [40, 400]
    assert [arm.steps for arm in arms(paper).values()] == [60, 600]
    c.classifier.steps = 7
    assert [arm.steps for arm in arms(clean).values()] == [7, 7, 70]


@pytest.mark.parametrize("classes", [CLASSES, KINDS])
def test_no_arm_is_with_a_gan_that_makes_nothing(classes):
    files = singles([f"{label}/{i:03d}" for label in classes for i in range(60)], classes)
    everything = files.collection(files.subsets((0,)))
    for protocol in (clean, paper, patient_kfold):
        nothing, something = (config(classes, enlarge) for enlarge in (1.0, 2.0))
        assert list(arms_of(protocol(everything, nothing, 0), protocol, nothing)) == ["without_gan"]
        assert len(arms_of(protocol(everything, something, 0), protocol, something)) > 1


@pytest.mark.parametrize("classes", [CLASSES, KINDS])
def test_generated_images_lie_behind_all_others_each_once_and_in_its_class(classes):
    c = config(classes, enlarge=2.5)
    c.trials, c.protocols = (0, 2), ("clean", "paper", "patient_kfold")
    names = sorted(f"{label}/{i:03d}" for label in classes for i in range(60))
    names += [f"external/other/{classes[-1]}/{i}" for i in range(4)]  # behind the study's own
    of_name = [classes.index(name.split("/")[-2]) for name in names]
    both = images(names, of_name, names, names)
    own = images(names[:-4], of_name[:-4], names[:-4], names[:-4])
    plans, _ = plan.draw(own, {"external/other": np.arange(len(names) - 4, len(names))}, len(names), c)
    world = plan.world(both, plans, classes)
    made = [block.rows for one in plans.values() for block in one.blocks]
    assert np.concatenate(made).tolist() == list(range(len(names), len(world.names)))
    for one, rows in zip(plans.values(), made, strict=True):
        generated = np.bincount(one.blocks[0].labels)
        assert [world.names[row] for row in rows] == generated_names(generated, classes)
        assert [f"generated/{classes[world.labels[row]]}" for row in rows] == [
            world.names[row].rpartition("/")[0] for row in rows
        ]
        assert generated.tolist() == [int(1.5 * n + 0.5) for n in np.bincount(own.labels[one.seen_by_gan])]
        with_gan = next(arm for stage, arm in one.arms.items() if stage.arm == "with_gan")
        assert set(rows) <= {*with_gan.train, *(with_gan.tests["test"] if one.protocol == "paper" else ())}
        for arm in one.arms.values():
            assert arm.tests["external/other"].tolist() == list(range(len(names) - 4, len(names)))
            assert not set(arm.train) & set(arm.tests["external/other"])
    assert world.patients[len(names) :] == world.names[len(names) :]
    assert plan.record(plans, world.names)[1]["trial"] == 2


def images(names, labels, patients, digests) -> Images:
    pixels, labels = np.zeros((len(names), 1, 1), np.uint8), np.array(labels, np.int32)
    parts = tuple(name.split("/")[0] for name in names)
    return Images(pixels, labels, tuple(names), tuple(patients), tuple(digests), parts, ("",) * len(names))


def published():
    """Names as phantoms have them, below the published folders: 300 images, patients on both sides, equal pixels."""
    rows = []
    for label, prefix in enumerate(("IM", "person")):
        for patient in range(50 + 20 * label):
            for k in range(1 + patient * 7 % 4):
                part = ("train", "train", "train", "test", "val")[(patient + k * (patient % 10 == 0)) % 5]
                key = f"{prefix}-phantom{patient:04d}"
                rows.append((f"{part}/{CLASSES[label]}/{key}-{k}.png", label, key))
    names, labels, patients = zip(*sorted(rows), strict=True)
    digests = [names[i - 20] if i % 37 == 36 else name for i, name in enumerate(names)]
    return images(names, labels, patients, digests)


@pytest.mark.parametrize(
    ("protocols", "fraction", "enlarge", "of_splits", "of_arms"),
    [
        (("clean", "paper"), 1.0, 10.0, "c05969ebb80b4d56", "61c0ad982c7f8211"),
        (("official", "patient_kfold"), 1.0, 2.5, "27bca8dcdeb5a3c4", "9656eafbfc6b94ee"),
        (("clean", "patient_kfold", "official"), 0.4, 3.0, "0a5b3ab23cbaa626", "acaecbe98bfeb915"),
    ],
)
def test_two_classes_keep_their_splits(protocols, fraction, enlarge, of_splits, of_arms):
    """splits.json, and what arms are trained and tested on, as the first edition drew them from names."""
    c = default.get_config()
    c.update({"protocols": protocols, "enlarge": enlarge, "seed": 3})
    c.data.update({"fraction": fraction, "subset": (24, 40)})
    own = published()
    plans, overlapping = plan.draw(own, {}, len(own.names), c)
    names = np.array(plan.world(own, plans, c.data.classes).names)
    arms = {
        f"{stage.trial}/{stage.protocol}/{stage.arm}": [
            sorted(names[arm.train].tolist()),
            arm.steps,
            {part: names[rows].tolist() for part, rows in arm.tests.items()},
        ]
        for one in plans.values()
        for stage, arm in one.arms.items()
    }
    found = [json.dumps(plan.record(plans, names.tolist())), json.dumps(arms, sort_keys=True)]
    assert [hashlib.sha256(text.encode()).hexdigest()[:16] for text in found] == [of_splits, of_arms]
    assert overlapping == []


def test_groups_are_transitive():
    assert splits.group(["1", "1", "2", "3", "4"], ["x", "y", "y", "z", "z"]).tolist() == [0, 0, 0, 3, 3]


def test_a_cut_group_goes_to_excluded():
    rows = [(f"NORMAL/p{i // 3}-{i}", 0, f"p{i // 3}", f"{i}") for i in range(9)]
    rows += [(f"PNEUMONIA/{i}", 1, f"PNEUMONIA/{i}", f"p{i}") for i in range(9)]
    files = files_of(rows)
    subset = files.subsets((0,), counts=(4, 4))[0]
    assert len(subset.excluded) == 2  # the second patient drawn gives one of three
    assert len(files.groups_of(subset.excluded)) == 1


def test_trials_that_must_overlap_say_so_and_avoid_it_where_they_can():
    names = [f"{kind}/{i}" for kind, count in zip(KINDS, (10, 50, 50), strict=True) for i in range(count)]
    for files in (singles(names[:60], KINDS[:2]), singles(names, KINDS)):
        subsets = files.subsets((0, 1, 2), counts=(6,) * len(files.classes))
        assert [subset.disjoint for subset in subsets.values()] == [True, False, False]
        shared = set(subsets[0].chosen) & set(subsets[1].chosen)
        assert len(shared) == 2  # four fresh NORMAL images were left, and the others need not repeat
        assert all(files.names[row].startswith("NORMAL") for row in shared)


def test_a_trials_subset_does_not_depend_on_the_others_asked_for():
    files = singles([f"{CLASSES[i % 2]}/{i}" for i in range(200)])
    together, alone, other = (
        files.subsets((0, 1, 2), 3, (9, 9)),
        files.subsets((2,), 3, (9, 9)),
        files.subsets((0,), 4, (9, 9)),
    )
    assert as_lists(alone[2]) == as_lists(together[2])
    assert as_lists(other[0]) != as_lists(together[0])


@pytest.mark.parametrize("classes", [CLASSES, KINDS])
def test_patients_of_several_classes_stay_whole(classes):
    random.seed(0)
    rows = [(f"x{i}", random.randrange(len(classes)), f"p{i // 2}", f"{i}") for i in range(60 * len(classes))]
    files = files_of(rows, classes)
    subset = files.subsets((0,), counts=(15,) * len(classes))[0]
    split = splits.hold_out_groups(subset.chosen, files.labels, files.groups, classes, 0.2, 0)
    assert files.count(split.test) == [3] * len(classes)
    assert not files.groups_of(split.train) & files.groups_of(split.test)


def test_too_few_images():
    files = singles(
        [f"{kind}/{i}" for kind, count in zip(KINDS, (50, 50, 10), strict=True) for i in range(count)], KINDS
    )
    with pytest.raises(BadInput, match=r"asks for 11 BACTERIA images, there are 10 to draw from"):
        files.subsets((0,), counts=(6, 6, 11))
    with pytest.raises(BadInput, match=r"config.data.folds=11 is more than there are patients or images of a class"):
        splits.fold_of_groups(files.labels, files.groups, KINDS, 11, 0, 0)


def test_one_patient_cannot_be_split():
    files = files_of([(f"{i:02d}", i % 2, "one", f"{i}") for i in range(20)])
    with pytest.raises(BadInput, match="no NORMAL image: no patient is split"):
        splits.hold_out_groups(files.rows, files.labels, files.groups, CLASSES, 0.2, 0)


def test_a_part_that_a_gan_is_chosen_by_has_two_images_of_each_class():
    c, own = default.get_config(), published()
    c.update({"protocols": ("clean",), "data": {"subset": (24, 40)}, "quality": {"every": 10, "inner": 0.05}})
    with pytest.raises(BadInput, match=r"config\.quality\.inner=0\.05: it keeps one image of NORMAL, and a KID takes"):
        plan.draw(own, {}, len(own.names), c)
