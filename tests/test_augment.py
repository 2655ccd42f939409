"""Classical augmentation: the affine map against scipy and torchvision, its limits, flips and shifts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import torch
from ml_collections import FrozenConfigDict

from configs import default
from pneumojax import augment, weights

NONE = {"flip": False, "shift": 0, "rotation": 0.0, "zoom": 0.0, "shear": 0.0}
ALL = {"flip": True, "shift": 5, "rotation": 20.0, "zoom": 0.2, "shear": 15.0}
MAPS = [  # rotation, scale, shear
    (0.0, 1.0, 0.0),
    (90.0, 1.0, 0.0),
    (17.0, 1.0, 0.0),
    (-8.5, 1.0, 0.0),
    (0.0, 1.3, 0.0),
    (0.0, 0.6, 0.0),
    (0.0, 1.0, 20.0),
    (0.0, 1.0, -33.0),
    (-25.0, 0.8, 12.0),
    (140.0, 1.2, -7.0),
]


def augmented(images, seed=0, **fields) -> np.ndarray:
    config = FrozenConfigDict({**default.get_config().classifier, **NONE, **fields})
    return np.asarray(jax.jit(augment.augment, static_argnums=2)(jnp.asarray(images), jax.random.key(seed), config))


def pictures(count: int, size: int) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (count, size, size), np.uint8)


def warped(image, rotation, scale, shear) -> np.ndarray:
    matrix = jax.jit(augment.affine, static_argnums=3)(rotation, scale, shear, len(image))
    return np.asarray(jax.jit(augment.warp)(image, matrix))


def moments(image) -> tuple[float, np.ndarray]:
    """Mass of a picture, and the second moments [2, 2] of (row, column) about its centre."""
    masses = image.ravel() / 255
    places = np.indices(image.shape).reshape(2, -1) - (len(image) - 1) / 2
    return masses.sum(), (places * masses) @ places.T / masses.sum()


@pytest.mark.parametrize("size", [48, 33])
@pytest.mark.parametrize("parameters", MAPS)
def test_the_map_is_scipys(parameters, size):
    image = pictures(1, size)[0]
    rotation, scale, shear = parameters
    angle, slope = np.deg2rad(rotation), np.tan(np.deg2rad(shear))
    cos, sin = np.cos(angle), np.sin(angle)
    # columns and rows as x and y: shear along x, then the turn, then the scale
    forward = scale * np.array([[cos, -sin], [sin, cos]]) @ np.array([[1, -slope], [0, 1]])
    back = np.linalg.inv(forward)[::-1, ::-1]  # rows first
    centre = (size - 1) / 2
    offset = centre - back @ [centre, centre]
    expected = scipy.ndimage.affine_transform(image.astype(float), back, offset, order=1, mode="grid-constant")
    np.testing.assert_allclose(warped(image, *parameters), expected, atol=0.5 + 0.05)
    np.testing.assert_allclose(augment.affine(*parameters, size), np.column_stack([back, offset]), atol=1e-5 * size)


@pytest.mark.parametrize("parameters", MAPS)
def test_directions_are_torchvisions(parameters):
    image = pictures(1, 48)[0]
    rotation, scale, shear = parameters
    transforms = weights.import_torchvision().transforms
    expected = transforms.functional.affine(
        torch.tensor(image)[None],
        angle=rotation,
        translate=[0, 0],
        scale=scale,
        shear=[shear, 0.0],
        interpolation=transforms.InterpolationMode.BILINEAR,
    )
    difference = warped(image, *parameters).astype(int) - expected[0].numpy().astype(int)
    assert np.abs(difference).max() <= 1


def test_a_quarter_turn_is_clockwise_and_exact():
    image = pictures(1, 32)[0]
    np.testing.assert_array_equal(warped(image, 0.0, 1.0, 0.0), image)
    difference = warped(image, 90.0, 1.0, 0.0).astype(int) - np.rot90(image, -1)
    assert np.abs(difference).max() <= 1


def test_without_a_field_nothing_changes_and_nothing_is_computed():
    images = pictures(3, 20)
    np.testing.assert_array_equal(augmented(images), images)
    config = FrozenConfigDict({**default.get_config().classifier, **NONE})
    text = jax.jit(augment.augment, static_argnums=2).lower(jnp.asarray(images), jax.random.key(0), config).as_text()
    assert "gather" not in text
    assert not augment.used(config)


@pytest.mark.parametrize("field", ALL)
def test_a_field_of_its_own_changes_images(field):
    images = pictures(8, 20)
    changed = augmented(images, **{field: ALL[field]})
    assert changed.dtype == np.uint8
    assert changed.shape == images.shape
    assert (changed != images).any()
    assert augment.used(FrozenConfigDict(NONE | {field: ALL[field]})) is True


def test_flips_and_shifts_move_pictures_and_leave_black():
    images = jnp.full((64, 16, 16), 200, jnp.uint8).at[:, :, :4].set(100)
    moved = augmented(images, flip=True, shift=3)
    assert set(np.unique(moved)) == {0, 100, 200}
    offsets = {(int((m[:, 8] == 0).sum()), int((m[8] == 0).sum())) for m in moved}
    assert {rows for rows, _ in offsets} == {0, 1, 2, 3}
    assert {columns for _, columns in offsets} == {0, 1, 2, 3}
    sides = {bool(np.flatnonzero(m[8] == 100).mean() < 8) for m in moved}
    assert sides == {True, False}


def line(count: int, size: int = 65) -> np.ndarray:
    """Upright lines through the centre, on black."""
    images = np.zeros((count, size, size), np.uint8)
    images[:, 12:-12, size // 2] = 255
    return images


def spread(values, limit, margin):
    """Holds that uniform draws within ±limit, measured to `margin`, reach both ends and none goes beyond."""
    assert np.abs(values).max() < limit + margin
    assert values.min() < -0.9 * limit
    assert values.max() > 0.9 * limit
    assert abs(np.mean(values)) < 4 * limit / np.sqrt(3 * len(values))
    assert np.std(values) == pytest.approx(limit / np.sqrt(3), rel=0.15)


def test_turns_reach_both_limits_and_none_goes_beyond():
    _, matrices = zip(*map(moments, augmented(line(200), rotation=25.0)), strict=True)
    angles = [np.rad2deg(np.arctan2(2 * m[0, 1], m[0, 0] - m[1, 1]) / 2) for m in matrices]
    spread(-np.array(angles), 25.0, 0.1)


def test_shears_reach_both_limits_and_leave_rows_where_they_are():
    sheared = augmented(line(200), shear=20.0)
    np.testing.assert_array_equal(sheared.sum(2, int) > 0, line(200).sum(2, int) > 0)
    angles = [np.rad2deg(np.arctan2(-m[0, 1], m[0, 0])) for _, m in map(moments, sheared)]
    spread(np.array(angles), 20.0, 0.1)


def test_zooms_reach_both_limits_and_none_goes_beyond():
    place = np.arange(65) - 32
    spot = np.rint(255 * np.exp(-(place**2 + place[:, None] ** 2) / 50)).astype(np.uint8)
    masses = np.array([moments(image)[0] for image in augmented(np.repeat(spot[None], 200, 0), zoom=0.3)])
    spread(np.sqrt(masses / moments(spot)[0]) - 1, 0.3, 0.001)


def test_what_moves_in_is_black():
    white = np.full((32, 40, 40), 255, np.uint8)
    turned = augmented(white, rotation=45.0)
    assert (turned[:, 10:-10, 10:-10] == 255).all()
    assert (turned[:, 0, 0] == 0).any()
    shrunk = augmented(white, zoom=0.5)
    assert any((m[0] == 0).all() and (m[-1] == 0).all() and (m[:, [0, -1]] == 0).all() for m in shrunk)
    assert any((m == 255).all() for m in shrunk)


def test_an_image_is_a_function_of_key_and_place_alone():
    images = pictures(6, 24)
    expected = augmented(images, **ALL)
    np.testing.assert_array_equal(augmented(images, **ALL), expected)
    others = pictures(6, 24)[::-1].copy()
    others[2] = images[2]
    np.testing.assert_array_equal(augmented(others, **ALL)[2], expected[2])
    same = augmented(np.repeat(images[:1], 6, 0), **ALL)
    assert len({image.tobytes() for image in same}) == 6
    assert (augmented(images, seed=1, **ALL) != expected).any(axis=(1, 2)).all()
