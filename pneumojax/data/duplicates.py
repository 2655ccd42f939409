"""Near duplicates: pictures whose perceptual hashes differ in few bits."""

from collections.abc import Sequence

import imagehash
import numpy as np
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_SIDE = 16  # the perceptual hash (pHash: low frequencies of a DCT) has HASH_SIDE ** 2 bits
# Near duplicates differ in at most so many bits. Chosen by looking at the published set (5,840 images, 224 pixels):
# its two nearest pictures that are not identical differ in 38 bits, and its 24 nearest pairs (38 to 48 bits) are
# different exposures, all but one under different IDs. Of 200 of its images, every copy that was resized, recompressed
# (JPEG quality 10) or changed in brightness by 20% or contrast by 30% stays within 26 bits; of copies turned by 1
# degree or cut by 1% a side 92% to 94% are within 28; cut by 5%, turned by 3 degrees or mirrored, none. The usual 64
# bits do not tell chests apart: there 11 pairs of different chests differ in 2 bits.
NEAR = 28
BLOCK = 1024  # hashes compared with all at once
BEYOND = 6  # nearest pairs beyond NEAR that are shown, so that it can be judged by eye


def perceptual_hash(gray: Image.Image) -> np.ndarray:
    """bool [HASH_SIDE ** 2] of a gray picture."""
    return imagehash.phash(gray, HASH_SIDE).hash.ravel()


def compare(bits: np.ndarray) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """Compares all rows of bool [N, bits] with one another.

    Returns: (int [pairs, 2], first < second, that differ in at most NEAR bits; the nearest (differing bits, first,
    second) beyond).
    """
    signs = bits.astype(np.float32) * 2 - 1
    pairs, beyond = [np.zeros((0, 2), int)], []
    for start in range(0, len(signs), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(signs)))
        differing = (signs.shape[1] - signs[rows] @ signs.T) / 2
        differing[rows[:, None] >= np.arange(len(signs))] = np.inf
        first, second = np.nonzero(differing <= NEAR)
        pairs.append(np.stack([rows[first], second], 1))
        differing[first, second] = np.inf
        nearest = np.argpartition(differing, min(BEYOND, differing.size - 1), axis=None)[:BEYOND]
        for row, other in zip(*np.unravel_index(nearest, differing.shape), strict=True):
            if np.isfinite(differing[row, other]):
                beyond.append((int(differing[row, other]), start + int(row), int(other)))
        beyond = sorted(beyond)[:BEYOND]
    return np.concatenate(pairs), beyond


def connected(pairs: np.ndarray, items: Sequence) -> list[list]:
    """Groups of two and more items that pairs of indices join, also by way of others."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(items), len(items)))
    groups: dict[int, list] = {}
    for item, component in zip(items, connected_components(graph, directed=False)[1].tolist(), strict=True):
        groups.setdefault(component, []).append(item)
    return [group for group in groups.values() if len(group) > 1]
