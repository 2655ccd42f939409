"""Who is trained on and who is tested: groups, subsets, splits and folds, of which the protocols are made.

All are pure functions of rows, labels, groups and a seed. Rows are numbers of images in the order of their names, so
the order in which files are found changes nothing.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pneumojax.errors import BadInput

ATTEMPTS = 200  # shuffles among which the hold-out of whole groups nearest to the wanted counts is taken


class Subset(NamedTuple):
    """The images of one trial, as sorted rows."""

    chosen: np.ndarray  # exactly the wanted number of each class
    excluded: np.ndarray  # what remains of groups that were cut to reach it
    disjoint: bool  # whether no group is shared with an earlier trial's subset


class Split(NamedTuple):
    """Rows to train on and rows to test on."""

    train: np.ndarray
    test: np.ndarray


def group(patients, digests) -> np.ndarray:
    """Groups images that share a patient or their pixels, transitively: each image's group's first row, int [N]."""
    keys: dict[tuple[str, str], int] = {}
    image, key = [], []
    for index, pair in enumerate(zip(patients, digests, strict=True)):
        for kind, value in zip(("patient", "pixels"), pair, strict=True):
            image.append(index)
            key.append(len(patients) + keys.setdefault((kind, value), len(keys)))
    nodes = len(patients) + len(keys)
    graph = coo_array((np.ones(len(image)), (image, key)), shape=(nodes, nodes))
    component = connected_components(graph, directed=False)[1][: len(patients)]
    _, first, of = np.unique(component, return_index=True, return_inverse=True)
    return first[of]


def members(rows, groups: np.ndarray) -> dict[int, list[int]]:
    """Group → those of the rows that are in it, sorted; groups in the order of their first one."""
    result: dict[int, list[int]] = {}
    for row in np.sort(rows).tolist():
        result.setdefault(int(groups[row]), []).append(row)
    return result


def count(rows, labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Images of each class, int [classes]."""
    return np.bincount(labels[rows], minlength=len(classes))


def draw_subsets(
    labels: np.ndarray, groups: np.ndarray, counts: tuple[int, ...], classes: Sequence[str], trials, seed: int
) -> dict[int, Subset]:
    """Draws each trial's subset by whole groups, `counts` images of each class.

    Trials draw one after the other, 0 to the largest asked for, from groups that none has had; where those run
    out, from the groups of earlier trials. So a trial's subset does not depend on which others are asked for.

    Errors: BadInput where there are fewer images of a class than `counts` asks for.
    """
    everything = np.arange(len(labels))
    for name, have, wanted in zip(classes, count(everything, labels, classes), counts, strict=True):
        if have < wanted:
            raise BadInput(
                f"config.data.subset asks for {wanted} {name} images, there are {have} to draw from; "
                f"lower config.data.subset or add images"
            )
    by_group = members(everything, groups)
    used: set[int] = set()
    subsets = {}
    for trial in range(max(trials) + 1):
        rng = np.random.default_rng([seed, trial, 0])
        fresh = rng.permutation([g for g in by_group if g not in used]).tolist()
        again = rng.permutation([g for g in by_group if g in used]).tolist()
        need = np.array(counts)
        chosen, excluded, drawn = [], [], set()
        for g in fresh + again:
            if not any(need[labels[row]] for row in by_group[g]):
                continue
            drawn.add(g)
            for row in rng.permutation(by_group[g]).tolist():
                if need[labels[row]]:
                    need[labels[row]] -= 1
                    chosen.append(row)
                else:
                    excluded.append(row)
        subsets[trial] = Subset(np.sort(chosen), np.sort(np.array(excluded, int)), not drawn & used)
        used |= drawn
    return {trial: subsets[trial] for trial in trials}


def hold_out_groups(
    rows: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    classes: Sequence[str],
    fraction: float,
    rng_seed,
    why: str = "no patient is split; raise config.data.subset or bring images of more patients",
) -> Split:
    """Splits by whole groups, stratified: of each class round(fraction * n) images to test, or as near as groups allow.

    Errors: BadInput where a class would be missing on one side, with the reason and remedy `why`.
    """
    rng = np.random.default_rng(rng_seed)
    by_group = members(rows, groups)
    sizes = {g: count(by_group[g], labels, classes) for g in by_group}
    wanted = held_out(count(rows, labels, classes), fraction)
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
    test = np.sort(np.array([row for g in best for row in by_group[g]], int))
    split = Split(np.setdiff1d(rows, test), test)
    check_sides(split, labels, classes, why)
    return split


def fold_of_groups(
    labels: np.ndarray, groups: np.ndarray, classes: Sequence[str], folds: int, fold: int, seed: int
) -> Split:
    """All images, those of one of `folds` folds of whole groups, stratified, to test.

    Errors: BadInput where a class would be missing on one side.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second to import

    if min(len(set(groups.tolist())), *count(np.arange(len(labels)), labels, classes)) < folds:
        raise BadInput(f"config.data.folds={folds} is more than there are patients or images of a class; lower it")
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    split = Split(*list(splitter.split(labels, labels, groups))[fold])
    check_sides(split, labels, classes, "no patient is split; lower config.data.folds or bring images of more patients")
    return split


def part_of_groups(rows: np.ndarray, labels: np.ndarray, groups: np.ndarray, fraction: float, rng_seed) -> np.ndarray:
    """The images of a fraction of the groups of each class, at least one; a smaller fraction's are among a larger's."""
    by_group = members(rows, groups)
    of_class: dict[int, list[int]] = {}
    for g in np.random.default_rng(rng_seed).permutation(list(by_group)).tolist():
        of_class.setdefault(int(labels[by_group[g][0]]), []).append(g)
    kept = [g for own in of_class.values() for g in own[: max(1, round(fraction * len(own)))]]
    return np.sort([row for g in kept for row in by_group[g]])


def check_sides(split: Split, labels: np.ndarray, classes: Sequence[str], why: str) -> None:
    """Errors: BadInput where a class is missing on one side, with the reason and remedy `why`."""
    for side, part in (("test", split.test), ("training", split.train)):
        for label, images in zip(classes, count(part, labels, classes), strict=True):
            if images == 0:
                raise BadInput(f"the {side} part of a split has no {label} image: {why}")


def hold_out_images(rows: np.ndarray, labels: np.ndarray, classes: Sequence[str], fraction: float, rng_seed) -> Split:
    """Splits by image, stratified, whoever the patient is: what the paper does. Exactly round(fraction * n) a class.

    Both sides are in the order of `rows`.
    """
    rng = np.random.default_rng(rng_seed)
    wanted = held_out(count(rows, labels, classes), fraction)
    test = np.concatenate([rng.permutation(rows[labels[rows] == label])[:n] for label, n in enumerate(wanted)])
    is_test = np.isin(rows, test)
    return Split(rows[~is_test], rows[is_test])


def held_out(total: np.ndarray, fraction: float) -> np.ndarray:
    """Test images of each class: round(fraction * total), halves up."""
    return np.floor(total * fraction + 0.5).astype(int)


def first_ones(rows: np.ndarray, real: np.ndarray, labels: np.ndarray, ratio: float) -> np.ndarray | None:
    """Of each class the first ones of `rows`, `ratio` times as many as of `real`; None if they lack."""
    wanted = held_out(np.bincount(labels[real]), ratio)
    chosen = [rows[labels[rows] == label][:count] for label, count in enumerate(wanted)]
    return np.concatenate(chosen) if [*map(len, chosen)] == wanted.tolist() else None
