"""Who is trained on and who is tested: groups, subsets, splits and folds, of which the protocols are made.

All functions are pure functions of names, labels, keys and a seed. The order in which files are given changes
nothing: everything is drawn from sorted names.
"""

from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pneumojax.data import CLASSES
from pneumojax.errors import BadInput

ATTEMPTS = 200  # shuffles among which the hold-out of whole groups nearest to the wanted counts is taken


class Subset(NamedTuple):
    """The images of one trial, as sorted names."""

    chosen: list[str]  # exactly the wanted number of each class
    excluded: list[str]  # what remains of groups that were cut to reach it
    disjoint: bool  # whether no group is shared with an earlier trial's subset


class Split(NamedTuple):
    """Names to train on and names to test on, each sorted."""

    train: list[str]
    test: list[str]


def group(names, patients, digests) -> dict[str, str]:
    """Groups images that share a patient or their pixels, transitively: name → the first name of its group."""
    keys: dict[tuple[str, str], int] = {}
    image, key = [], []
    for index, pair in enumerate(zip(patients, digests, strict=True)):
        for kind, value in zip(("patient", "pixels"), pair, strict=True):
            image.append(index)
            key.append(len(names) + keys.setdefault((kind, value), len(keys)))
    nodes = len(names) + len(keys)
    graph = coo_array((np.ones(len(image)), (image, key)), shape=(nodes, nodes))
    component = connected_components(graph, directed=False)[1][: len(names)]
    first: dict[int, str] = {}
    for name, label in sorted(zip(names, component.tolist(), strict=True)):
        first.setdefault(label, name)
    return {name: first[label] for name, label in zip(names, component.tolist(), strict=True)}


def members(groups: dict[str, str]) -> dict[str, list[str]]:
    """Group → its names, both sorted."""
    result: dict[str, list[str]] = {}
    for name in sorted(groups):
        result.setdefault(groups[name], []).append(name)
    return result


def count(names, labels: dict[str, int]) -> np.ndarray:
    """Images of each class, int [classes]."""
    return np.bincount([labels[name] for name in names], minlength=len(CLASSES))


def draw_subsets(
    labels: dict[str, int], groups: dict[str, str], counts: tuple[int, ...], trials, seed: int
) -> dict[int, Subset]:
    """Draws each trial's subset by whole groups, `counts` images of each class.

    Trials draw one after the other, 0 to the largest asked for, from groups that none has had; where those run
    out, from the groups of earlier trials. So a trial's subset does not depend on which others are asked for.

    Errors: BadInput where there are fewer images of a class than `counts` asks for.
    """
    for name, have, wanted in zip(CLASSES, count(labels, labels), counts, strict=True):
        if have < wanted:
            raise BadInput(
                f"config.data.subset asks for {wanted} {name} images, the data hold {have}; "
                f"lower config.data.subset or add images"
            )
    by_group = members(groups)
    used: set[str] = set()
    subsets = {}
    for trial in range(max(trials) + 1):
        rng = np.random.default_rng([seed, trial, 0])
        fresh = rng.permutation([g for g in by_group if g not in used]).tolist()
        again = rng.permutation([g for g in by_group if g in used]).tolist()
        need = np.array(counts)
        chosen, excluded, drawn = [], [], set()
        for g in fresh + again:
            if not any(need[labels[name]] for name in by_group[g]):
                continue
            drawn.add(g)
            for name in rng.permutation(by_group[g]).tolist():
                if need[labels[name]]:
                    need[labels[name]] -= 1
                    chosen.append(name)
                else:
                    excluded.append(name)
        subsets[trial] = Subset(sorted(chosen), sorted(excluded), not drawn & used)
        used |= drawn
    return {trial: subsets[trial] for trial in trials}


def hold_out_groups(
    names: list[str], labels: dict[str, int], groups: dict[str, str], fraction: float, rng_seed
) -> Split:
    """Splits by whole groups, stratified: of each class round(fraction * n) images to test, or as near as groups allow.

    Errors: BadInput where a class would be missing on one side.
    """
    rng = np.random.default_rng(rng_seed)
    by_group = members({name: groups[name] for name in names})
    sizes = {g: count(by_group[g], labels) for g in by_group}
    total = count(names, labels)
    wanted = held_out(total, fraction)
    best, best_gap = [], None
    for _ in range(ATTEMPTS):
        need, test = wanted.copy(), []
        for g in rng.permutation(list(by_group)).tolist():
            if np.abs(need - sizes[g]).sum() < np.abs(need).sum():
                need = need - sizes[g]
                test.append(g)
        gap = np.abs(need).sum()
        if best_gap is None or gap < best_gap:
            best, best_gap = test, gap
        if best_gap == 0:
            break
    test = sorted(name for g in best for name in by_group[g])
    split = Split(sorted(set(names) - set(test)), test)
    check_sides(split, labels, "no patient is split; raise config.data.subset or bring images of more patients")
    return split


def fold_of_groups(labels: dict[str, int], groups: dict[str, str], folds: int, fold: int, seed: int) -> Split:
    """All images, those of one of `folds` folds of whole groups, stratified, to test.

    Errors: BadInput where a class would be missing on one side.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second to import

    names = sorted(labels)
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    classes, keys = [labels[name] for name in names], [groups[name] for name in names]
    if min(len(set(keys)), *count(names, labels)) < folds:
        raise BadInput(f"config.data.folds={folds} is more than there are patients or images of a class; lower it")
    train, test = list(splitter.split(names, classes, keys))[fold]
    split = Split([names[i] for i in train], [names[i] for i in test])
    check_sides(split, labels, "no patient is split; lower config.data.folds or bring images of more patients")
    return split


def part_of_groups(
    names: list[str], labels: dict[str, int], groups: dict[str, str], fraction: float, rng_seed
) -> list[str]:
    """The images of a fraction of the groups of each class, at least one; a smaller fraction's are among a larger's."""
    by_group = members({name: groups[name] for name in names})
    of_class: dict[int, list[str]] = {}
    for g in np.random.default_rng(rng_seed).permutation(list(by_group)).tolist():
        of_class.setdefault(labels[by_group[g][0]], []).append(g)
    kept = [g for own in of_class.values() for g in own[: max(1, round(fraction * len(own)))]]
    return sorted(name for g in kept for name in by_group[g])


def check_sides(split: Split, labels: dict[str, int], why: str) -> None:
    """Errors: BadInput where a class is missing on one side, with the reason and remedy `why`."""
    for side, part in (("test", split.test), ("training", split.train)):
        for label, images in zip(CLASSES, count(part, labels), strict=True):
            if images == 0:
                raise BadInput(f"the {side} part of a split has no {label} image: {why}")


def hold_out_images(names: list[str], labels: dict[str, int], fraction: float, rng_seed) -> Split:
    """Splits by image, stratified, whoever the patient is: what the paper does. Exactly round(fraction * n) a class."""
    rng = np.random.default_rng(rng_seed)
    wanted = held_out(count(names, labels), fraction)
    test = [
        name
        for label in range(len(CLASSES))
        for name in rng.permutation([n for n in sorted(names) if labels[n] == label]).tolist()[: wanted[label]]
    ]
    return Split(sorted(set(names) - set(test)), sorted(test))


def held_out(total: np.ndarray, fraction: float) -> np.ndarray:
    """Test images of each class: round(fraction * total), halves up."""
    return np.floor(total * fraction + 0.5).astype(int)


def generated_names(total: np.ndarray, enlarge: float) -> list[str]:
    """Names of the generated images that bring each class from `total` real ones to `enlarge` times as many."""
    return [
        f"generated/{label}/{number}"
        for label, images in zip(CLASSES, total.tolist(), strict=True)
        for number in range(held_out(np.array(images), enlarge - 1))
    ]


def labels_of_generated(names: list[str]) -> dict[str, int]:
    """Labels of generated images, which their names tell."""
    return {name: CLASSES.index(name.split("/")[1]) for name in names}
