"""What of a folder of images is counted: folders, features, duplicates, patients."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pneumojax.data import duplicates
from pneumojax.data.audit.seen import Seen, by, folder_of, kind_and_id, part_of, tally
from pneumojax.data.trivial import FEATURES

SUBSET = 624  # images of a trial of the paper
TRAINED_ON = 0.8  # of a split
READINGS = {"by_kind_and_id": kind_and_id, "by_id": lambda one: one.patient}


def describe_folders(seen: Sequence[Seen]) -> dict:
    """Counts, subtypes, modes and features of each folder, and each part's share of PNEUMONIA."""
    folders = by(lambda one: folder_of(one.name), seen)
    return {
        "folders": {where: len(own) for where, own in folders.items()},
        "subtypes": {where: tally(own, lambda one: one.told.subtype) for where, own in folders.items()},
        "modes": {where: tally(own, lambda one: one.mode) for where, own in folders.items()},
        "sizes": len({one.features[:2] for one in seen}),
        "features": {where: describe_features(own) for where, own in folders.items()},
        "share_of_pneumonia": {
            part: float(np.mean([one.told.label for one in own])) for part, own in by(part_of, seen).items()
        },
    }


def describe_features(seen: Sequence[Seen]) -> dict[str, dict[str, float]]:
    """Range, median and mean of FEATURES."""
    values = np.array([one.features for one in seen], float)
    statistics = {"min": values.min(0), "median": np.median(values, 0), "mean": values.mean(0), "max": values.max(0)}
    return {
        name: {statistic: float(column[row]) for statistic, column in statistics.items()}
        for row, name in enumerate(FEATURES)
    }


def find_duplicates(seen: Sequence[Seen]) -> dict:
    """Groups of images with equal pixels, and groups that are nearly equal; one of each exact group is compared."""
    same = list(by(lambda one: one.digest, seen).values())
    exact = [group for group in same if len(group) > 1]
    pairs, beyond = duplicates.compare(np.array([group[0].bits for group in same]))
    near = [sum(groups, []) for groups in duplicates.connected(pairs, same)]
    pictures = [group[0].name for group in same]
    return {
        "exact_duplicates": named(exact),
        "exact_duplicates_across": across(exact),
        "near_duplicates": named(near),
        "near_duplicates_across": across(near),
        "near_threshold": {
            "hash": "imagehash.phash",
            "bits": duplicates.HASH_SIDE**2,
            "differing_at_most": duplicates.NEAR,
        },
        "nearest_beyond": [{"differing": d, "images": [pictures[i], pictures[j]]} for d, i, j in beyond],
    }


def named(groups: Sequence[Sequence[Seen]]) -> list[list[str]]:
    """Groups by the names of their images, sorted."""
    return sorted(sorted(one.name for one in group) for group in groups)


def across(groups: Sequence[Sequence[Seen]]) -> dict[str, int]:
    """Groups with more than one part, class, patient."""
    keys = {"parts": part_of, "classes": lambda one: one.told.label, "patients": lambda one: one.patient}
    return {what: sum(len(set(map(key, group))) > 1 for group in groups) for what, key in keys.items()}


def count_patients(seen: Sequence[Seen]) -> dict:
    """Patients under both readings of the ID, on both sides of the published split, and what a random split does."""
    sides = by(part_of, seen)
    shared = {
        reading: sorted(set(map(key, sides.get("train", ()))) & set(map(key, sides.get("test", ()))))
        for reading, key in READINGS.items()
    }
    both_kinds = {}
    for part, own in sides.items():
        kinds = Counter(patient for patient, kind in {(one.patient, one.told.subtype) for one in own} if kind)
        both_kinds[part] = sum(count > 1 for count in kinds.values())
    drawn = {part or "all": (own, len(own)) for part, own in sides.items()}
    if len(seen) > SUBSET:
        drawn[f"a random {SUBSET} of all"] = (seen, SUBSET)
    return {
        "patients": len({one.patient for one in seen}),
        "patients_by_kind_and_id": len(set(map(kind_and_id, seen))),
        "patients_unknown": sum(one.patient == one.name for one in seen),
        "patients_on_both_sides": {reading: len(keys) for reading, keys in shared.items()},
        "who_is_on_both_sides": shared,
        "ids_of_both_kinds": both_kinds,
        "most_images_of_a_patient": {reading: max(tally(seen, key).values()) for reading, key in READINGS.items()},
        "leak_of_a_random_split": {
            what: {reading: random_leak(list(map(key, own)), count) for reading, key in READINGS.items()}
            for what, (own, count) in drawn.items()
        },
    }


def random_leak(patients: Sequence[str], drawn: int) -> float:
    """Expected share of test images whose patient is trained on too, if images are split at random.

    Args:
      patients: of the images to draw from.
      drawn: images drawn; TRAINED_ON of them are trained on, the rest is the test part.
    """
    counts = Counter(patients)
    others = len(patients) - 1
    trained_on = round(TRAINED_ON * drawn)
    # chance that none of the first k other images of a patient is trained on, k = 0, 1, …
    steps = np.arange(max(counts.values()) - 1)
    none = np.concatenate(
        [[1.0], np.cumprod(np.maximum(others - trained_on - steps, 0) / np.maximum(others - steps, 1))]
    )
    return float(1 - np.mean([none[counts[patient] - 1] for patient in patients]))
