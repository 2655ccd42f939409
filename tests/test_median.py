"""The adaptive median filter, against one that is written pixel by pixel."""

import numpy as np
import pytest

from pneumojax.data import median


def by_pixel(image: np.ndarray, largest: int) -> np.ndarray:
    """Hwang and Haddad's two levels as they are told, for one pixel after the other."""
    height, width = image.shape

    def mirrored(place: int, length: int) -> int:
        place %= 2 * length
        return place if place < length else 2 * length - 1 - place

    def answer(row: int, column: int) -> int:
        pixel = int(image[row, column])
        for reach in range(1, largest // 2 + 1):
            around = sorted(
                int(image[mirrored(row + down, height), mirrored(column + right, width)])
                for down in range(-reach, reach + 1)
                for right in range(-reach, reach + 1)
            )
            middle = around[len(around) // 2]
            if around[0] < middle < around[-1]:
                return pixel if around[0] < pixel < around[-1] else middle
        return middle

    return np.array([[answer(row, column) for column in range(width)] for row in range(height)], np.uint8)


def pictures() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    salted = np.where(rng.random((14, 17)) < 0.4, rng.choice([0, 255], (14, 17)), 100 + np.arange(17))
    return {
        "noise": rng.integers(0, 256, (13, 16)),
        "few levels": rng.integers(0, 3, (16, 13)),
        "salt and pepper": salted,
        "flat": np.full((9, 9), 7),
        "smaller than the window": rng.integers(0, 256, (2, 3)),
    }


@pytest.mark.parametrize("largest", [3, 5, 9])
@pytest.mark.parametrize("name", pictures())
def test_it_is_the_filter_pixel_by_pixel(name, largest):
    image = pictures()[name].astype(np.uint8)
    ours = median.filtered(image[None], largest)
    assert (ours.dtype, ours.shape) == (np.uint8, (1, *image.shape))
    np.testing.assert_array_equal(ours[0], by_pixel(image, largest))


def test_salt_and_pepper_go_and_what_is_below_stays():
    """Where a plain median of the same window would blur: on a slope with an edge in it."""
    clean = (40 + 2 * np.add.outer(np.arange(40), np.arange(40))).astype(np.uint8)
    clean[:, 20:] -= 30
    noisy, rng = clean.copy(), np.random.default_rng(1)
    hit = rng.random(clean.shape) < 0.1
    noisy[hit] = rng.choice([0, 255], hit.sum())
    left = np.abs(median.filtered(noisy[None], 7)[0].astype(int) - clean)
    assert np.abs(noisy.astype(int) - clean).mean() > 8
    assert left.mean() < 0.7
    assert (left[~hit] == 0).mean() > 0.85


def test_images_are_filtered_one_by_one():
    images = np.random.default_rng(2).integers(0, 256, (3, 8, 8), np.uint8)
    apart = np.concatenate([median.filtered(images[i : i + 1], 5) for i in range(3)])
    np.testing.assert_array_equal(median.filtered(images, 5), apart)
    assert median.filtered(images[:0], 5).shape == (0, 8, 8)
