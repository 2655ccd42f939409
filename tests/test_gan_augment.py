"""What a discriminator sees: DiffAugment and ADA against NumPy and SciPy, their own statistics and a loop by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from pneumojax.errors import BadInput
from pneumojax.gan.parts import augment

QUICK = {"xla_backend_optimization_level": 0}
MANY = 2000


def images_of(count: int, size: int = 16) -> jax.Array:
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (count, size, size, 1)), jnp.float32)


def shifted(image: np.ndarray, down: int, right: int) -> np.ndarray:
    """By whole pixels; black moves in."""
    size = len(image)
    framed = np.pad(image, size, constant_values=-1)
    return framed[size - down : 2 * size - down, size - right : 2 * size - right]


def test_a_translation_moves_pixels_as_they_are_and_black_in():
    images = images_of(300)
    moved = np.asarray(augment.translation(jax.random.key(0), images))[..., 0]
    found = []
    for before, after in zip(np.asarray(images)[..., 0], moved, strict=True):
        shifts = [(y, x) for y in range(-2, 3) for x in range(-2, 3) if np.array_equal(shifted(before, y, x), after)]
        assert len(shifts) == 1
        found += shifts
    assert len(set(found)) == 25  # an eighth of 16 each way, all of them
    assert abs(np.mean(found)) < 4 * np.sqrt(2 / 600)


def test_pixels_between_pixels_are_scipys():
    rng, images = np.random.default_rng(1), images_of(4, 9)
    rows, columns = rng.uniform(-3, 11, (2, 4, 9)).astype(np.float32)
    found = augment.resampled(images, jnp.asarray(rows), jnp.asarray(columns))
    for image, one, row, column in zip(np.asarray(images), found, rows, columns, strict=True):
        expected = ndimage.map_coordinates(
            image[..., 0], np.meshgrid(row, column, indexing="ij"), order=1, mode="grid-constant", cval=-1
        )
        np.testing.assert_allclose(one[..., 0], expected, atol=1e-5)


def test_brightness_and_contrast_are_drawn_evenly_for_each_image():
    images = images_of(MANY, 8)
    offsets = np.asarray(augment.brightness(jax.random.key(0), images) - images)
    assert np.ptp(offsets, axis=(1, 2, 3)).max() < 1e-6
    changed = np.asarray(augment.contrast(jax.random.key(0), images))
    np.testing.assert_allclose(changed.mean((1, 2, 3)), images.mean((1, 2, 3)), atol=1e-6)
    factors = changed.std((1, 2, 3)) / np.asarray(images).std((1, 2, 3))
    for drawn, low in ((offsets[:, 0, 0, 0], -0.5), (factors, 0.5)):
        assert low - 1e-5 < drawn.min() < low + 0.01
        assert low + 0.99 < drawn.max() < low + 1 + 1e-5
        assert abs(drawn.mean() - (low + 0.5)) < 4 / np.sqrt(12 * MANY)


def test_a_cutout_is_a_black_square_of_half_the_size_that_may_stand_out_of_the_image():
    size = 16
    cut = np.asarray(augment.cutout(jax.random.key(0), jnp.ones((MANY, size, size, 1))))[..., 0]
    assert set(np.unique(cut)) == {-1, 1}
    rows, columns = (cut == -1).any(2), (cut == -1).any(1)
    np.testing.assert_array_equal(cut == -1, rows[:, :, None] & columns[:, None])
    centres = np.arange(size + 1)
    sides = np.minimum(centres + 4, size) - np.maximum(centres - 4, 0)
    for side in (rows.sum(1), columns.sum(1)):
        assert (side.min(), side.max()) == (4, 8)
        assert abs(side.mean() - sides.mean()) < 4 * sides.std() / np.sqrt(MANY)


def test_policies_can_be_left_out():
    images = images_of(50)
    darker = np.asarray(augment.diffaugment(("brightness",))(images, jax.random.key(0), ()) - images)
    assert np.ptp(darker, axis=(1, 2, 3)).max() < 1e-6
    nothing = augment.diffaugment(())(images, jax.random.key(0), ())
    np.testing.assert_array_equal(nothing, images)
    with pytest.raises(
        BadInput, match=r"config.gan.policies=\('flip',\): give some of brightness, contrast, translation"
    ):
        augment.diffaugment(("flip",))


AUGMENTATIONS = {
    "diffaugment": lambda images, key: augment.diffaugment()(images, key, ()),
    "ada": lambda images, key: augment.adaptive()["augmentation"](images, key, {"ada_p": jnp.float32(0.7)}),
}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_gradients_go_through_an_augmentation(name):
    """It is affine in the images, so that differences are exact at any distance; and no gradient is a scatter-add."""
    key = jax.random.key(5)

    def one(images):
        return AUGMENTATIONS[name](images, key)

    images, others = images_of(8), images_of(16)[8:]
    weights = jax.random.normal(jax.random.key(1), (8, 16, 16, 1))
    gradient = jax.jit(jax.grad(lambda x: (weights * one(x)).sum()), compiler_options=QUICK)
    slope = float((gradient(images) * (others - images)).sum())
    both = jax.jit(lambda *batches: [one(images) for images in batches], compiler_options=QUICK)(images, others)
    difference = float((weights * (both[1] - both[0])).sum())
    assert abs(difference) > 1
    assert slope == pytest.approx(difference, rel=1e-4)
    assert "scatter" not in gradient.lower(images).as_text()


def ada(images, p: float, key: int = 0):
    function = jax.jit(augment.adaptive()["augmentation"], compiler_options=QUICK)
    return np.asarray(function(images, jax.random.key(key), {"ada_p": jnp.float32(p)}))


def test_adas_probability_is_that_of_each_change():
    """At 0 all bits stay, of a negative zero too; the same key draws the same."""
    images = images_of(MANY, 8).at[:, 0].set(-0.0)
    np.testing.assert_array_equal(ada(images, 0).view(np.int32), np.asarray(images).view(np.int32))
    np.testing.assert_array_equal(ada(images, 0.2), ada(images, 0.2))
    changed = (ada(images, 0.2) != np.asarray(images)).any((1, 2, 3)).mean()
    expected = 1 - 0.8**7  # translation, scale, stretch, brightness, contrast, noise, cutout
    assert abs(changed - expected) < 4 * np.sqrt(expected * (1 - expected) / MANY)
    assert (ada(images, 1) != np.asarray(images)).any((1, 2, 3)).all()


def test_adas_strengths_are_the_papers():
    """Read off a ramp: its slope tells the scale, its height in the middle the shift."""
    size, middle = 32, 15.5
    ramp = jnp.linspace(-1, 1, size)
    by_row, by_column = (jnp.broadcast_to(x, (MANY, size, size))[..., None] for x in (ramp[:, None], ramp))

    def sources(images, along):
        seen = np.asarray(augment.geometry(jax.random.key(0), images, 1.0))[..., 0]
        lines = seen[:, :, 16] if along == 0 else seen[:, 16]
        return (lines[:, 15:17] + 1) / 2 * (size - 1)

    found = np.stack([sources(by_row, 0), sources(by_column, 1)])
    inside = ((found > 0.5) & (found < size - 1.5)).all((0, 2)) & (np.diff(found) > 0.2).all((0, 2))  # none is black
    assert inside.mean() > 0.99
    first, second = found[:, inside].transpose(2, 0, 1)
    scales = 1 / (second - first)
    shifts = (middle - (first + second) / 2) * scales
    powers = np.log2(scales)
    few = 4 / np.sqrt(2 * MANY)
    for drawn, deviation in ((powers.sum(0) / 2, 0.2), ((powers[0] - powers[1]) / 2, 0.2), (shifts, size / 8)):
        assert drawn.std() == pytest.approx(deviation, rel=few)
        assert abs(drawn.mean()) < 4 * deviation / np.sqrt(MANY)

    gray = np.full((MANY, 2, 2, 1), 0.5, np.float32)
    gray[:, 0] = -0.5
    levels = np.asarray(augment.gray_levels(jax.random.key(0), jnp.asarray(gray), 1.0))[:, :, 0, 0]
    contrasts = levels[:, 1] - levels[:, 0]
    assert np.log2(contrasts).std() == pytest.approx(0.5, rel=few)
    assert (levels.mean(1) / contrasts).std() == pytest.approx(0.2, rel=few)
    deviations = np.asarray(augment.noise(jax.random.key(0), jnp.zeros((MANY, 16, 16, 1)), 1.0)).std((1, 2, 3))
    assert deviations.mean() == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=few)


def test_adas_probability_follows_the_signs_of_real_logits():
    """Against a loop by hand, up to where it rests at 0 and 1."""
    part, rng, batch = (
        augment.adaptive(target=0.6, images=200, interval=3),
        np.random.default_rng(0),
        21,
    )  # signs whose mean is never 0.6
    extra, remember = part["extra"], jax.jit(part["remember"])
    p, signs = 0.0, []
    for update in range(60):
        surely = 0.7 + 0.6 * np.sin(update / 8)
        logits = rng.normal(2 * surely - 0.8, 1, batch).astype(np.float32)
        signs.append(np.sign(logits).sum() / batch)
        if len(signs) == 3:
            p = min(1.0, max(0.0, p + np.sign(np.mean(signs) - 0.6) * batch * 3 / 200))
            signs = []
        extra = remember(extra, jnp.asarray(logits), jnp.zeros(batch))
        assert float(extra["ada_p"]) == pytest.approx(p, abs=1e-5)
    assert int(extra["ada_updates"]) == 60
