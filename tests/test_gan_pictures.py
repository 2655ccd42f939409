"""Sheets, animations and pairs: every tile is where it belongs, to the pixel, and what is written above fits."""

import io

import numpy as np
import pytest
from PIL import Image

from pneumojax.errors import BadInput
from pneumojax.gan import pictures
from pneumojax.stage import Stage


def noise(count: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, size, size), np.uint8)


def at(picture: np.ndarray, top: int, left: int, size: int, scale: int) -> np.ndarray:
    """One tile as the image that it was; each of its pixels must be a block of equal ones."""
    tile = picture[top : top + size * scale, left : left + size * scale]
    np.testing.assert_array_equal(tile, np.kron(tile[::scale, ::scale], np.ones((scale, scale), np.uint8)))
    return tile[::scale, ::scale]


@pytest.mark.parametrize(("size", "scale"), [(8, 8), (28, 3), (32, 2), (64, 1), (128, 1)])
def test_tiles_are_enlarged_by_whole_factors_and_stand_apart(size, scale):
    images, side = noise(7, size), size * scale + 2
    picture = pictures.tiled(images, 3)
    assert picture.shape == (3 * side + 2, 3 * side + 2)
    for index, image in enumerate(images):
        row, column = divmod(index, 3)
        np.testing.assert_array_equal(at(picture, 2 + row * side, 2 + column * side, size, scale), image)
    black = pictures.tiled(np.zeros_like(images), 3)
    assert set(np.unique(black)) == {0, 128}
    assert (black[[0, 1, side, side + 1, -2, -1]] == 128).all()
    assert (black[:, [0, 1, side, side + 1, -2, -1]] == 128).all()
    assert (black[2 * side + 2 :, side + 2 :] == 128).all()  # two tiles are lacking


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        (8, (48, 16, 16)),
        (32, (48, 16, 16)),
        (64, (48, 16, 16)),
        (100, (32, 8, 10)),
        (128, (24, 8, 8)),
        (256, (12, 4, 4)),
    ],
)
def test_a_sheet_is_as_wide_as_a_page_whatever_the_images_size(size, counts):
    assert pictures.counts(size) == counts
    generated, real, between = (noise(count, size, seed) for seed, count in enumerate(counts))
    sheet = pictures.sheet("NORMAL", 400, generated, real, between)
    assert 1000 < sheet.shape[1] <= 1100
    scale, columns = max(1, 64 // size), counts[2]
    side, of_samples = size * scale + 2, counts[0] // 4
    beside, below = of_samples * side + 2 + 14, 20 + 4 * side + 2 + 14 + 20
    for images, top, left, width in (
        (generated, 20, 0, of_samples),
        (real, 20, beside, columns - of_samples),
        (between, below, 0, columns),
    ):
        for index, image in enumerate(images):
            row, column = divmod(index, width)
            found = at(sheet, top + 2 + row * side, left + 2 + column * side, size, scale)
            np.testing.assert_array_equal(found, image)


def test_fewer_real_images_than_places_leave_gaps():
    sheet = pictures.sheet("NORMAL", 1, noise(48, 64), noise(3, 64), noise(16, 64))
    assert (sheet[20 + 68 : 286, 794 + 14 :] == 128).all()
    assert sheet.shape == (388, 1074)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("NORMAL: synthetic", "NORMAL: synthetic"),
        ("Brönchie", r"Br\xf6nchie"),
        ("肺炎\n", r"\u80ba\u708e\n"),
        ("\udcff\x1b[31m", r"\udcff\x1b[31m"),
        ("a\u202eb", r"a\u202eb"),
    ],
)
def test_what_the_font_may_lack_is_escaped(text, shown):
    assert pictures.ascii_of(text) == shown
    picture = np.zeros((4, 400), np.uint8)
    np.testing.assert_array_equal(pictures.captioned(picture, text), pictures.captioned(picture, shown))


def test_a_caption_is_never_wider_than_its_picture():
    """The first text that fits stands there, else the start of the last; its letters are black on white."""
    picture = np.zeros((4, 100), np.uint8)
    short, long = pictures.captioned(picture, "short"), pictures.captioned(picture, 30 * "long", "short")
    np.testing.assert_array_equal(short, long)
    assert short.shape == (20 + 4, 100)
    assert (short[:20].min(), short[0].min()) == (0, 255)
    cut = pictures.captioned(picture, 300 * "W")
    assert (cut[:20, -3:] == 255).all()
    assert (cut[:20, :80] < 100).any(0).sum() > 30
    np.testing.assert_array_equal(cut, pictures.captioned(picture, 30 * "W"))
    narrow = pictures.captioned(np.zeros((4, 6), np.uint8), "W")
    assert (narrow[:20] == 255).all()  # where nothing fits


def test_a_frame_is_the_first_samples_of_each_class():
    size, side = 32, 66
    generated = [noise(48, size, seed) for seed in (1, 2, 3)]
    sheets = [
        pictures.sheet(name, 7, own, noise(16, size), noise(16, size))
        for name, own in zip("ABC", generated, strict=True)
    ]
    frame = pictures.frame(pictures.below(sheets), size, 3)
    height = 20 + 2 * side + 2
    assert frame.shape == (3 * height + 2 * 14, 8 * side + 2)
    for label, own in enumerate(generated):
        top = label * (height + 14)
        np.testing.assert_array_equal(frame[top : top + 20], sheets[label][:20, : 8 * side + 2])
        for row, column in np.ndindex(2, 8):
            found = at(frame, top + 22 + row * side, 2 + column * side, size, 2)
            np.testing.assert_array_equal(found, own[12 * row + column])


@pytest.mark.parametrize(("size", "columns"), [(8, 7), (64, 7), (128, 3), (600, 1)])
def test_nearest_pairs_stand_side_by_side_with_their_distance(size, columns):
    count, scale = columns + 2, max(1, 64 // size)
    generated, training = noise(count, size, 1), noise(count, size, 2)
    distances = np.linspace(0.0123, 45, count)
    picture = pictures.nearest_pairs(generated, training, distances)
    side = size * scale + 2
    pitch = 20 + side + 2 + 14, 2 * side + 2 + 14
    for index, distance in enumerate(distances):
        top, left = (place * step for place, step in zip(divmod(index, columns), pitch, strict=True))
        found = [at(picture, top + 42, left + 2 + place * side, size, scale) for place in (0, 1)]
        np.testing.assert_array_equal(found, [generated[index], training[index]])
        strip = pictures.captioned(np.zeros((1, 2 * side + 2), np.uint8), f"distance {distance:.3g}")[:20]
        np.testing.assert_array_equal(picture[top + 20 : top + 40, left : left + 2 * side + 2], strip)


def test_a_png_says_what_it_is_of():
    picture = noise(1, 16)[0]
    content = pictures.png(picture, {"Description": "synthetic", "Class": "肺炎"})
    with Image.open(io.BytesIO(content)) as found:
        assert found.text == {"Description": "synthetic", "Class": r"\u80ba\u708e"}
        np.testing.assert_array_equal(np.asarray(found), picture)
    assert content == pictures.png(picture, {"Description": "synthetic", "Class": "肺炎"})


def frames_of(content: bytes) -> tuple[list[np.ndarray], list[int]]:
    with Image.open(io.BytesIO(content)) as found:
        frames, durations = [], []
        for index in range(found.n_frames):
            found.seek(index)
            frames.append(np.asarray(found.convert("L")))
            durations.append(found.info["duration"])
    return frames, durations


@pytest.mark.parametrize(("count", "shown"), [(2, [0, 1]), (12, range(12)), (23, range(0, 23, 2))])
def test_an_animation_has_twelve_frames_at_most_the_first_and_the_last_among_them(count, shown):
    levels = np.linspace(10, 250, count).astype(np.uint8)
    made = [np.full((48, 64), level, np.uint8) for level in levels]
    frames, durations = frames_of(pictures.webp(made, quality=80))
    means = [frame.mean() for frame in frames]
    np.testing.assert_allclose(means, levels[list(shown)], atol=2)
    assert durations == [600] * (len(frames) - 1) + [1800]
    assert pictures.webp(made, quality=80) == pictures.webp(made, quality=80)


def test_one_picture_for_a_page_is_a_third_of_its_png_and_looks_the_same():
    y, x = np.mgrid[:256, :256] / 256
    smooth = 128 + 90 * np.sin(9 * x + 5 * y) * np.cos(7 * y)
    picture = np.clip(smooth + np.random.default_rng(0).normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    content = pictures.webp([picture], quality=85)
    with Image.open(io.BytesIO(content)) as found:
        assert np.abs(np.asarray(found.convert("L"), int) - picture).mean() < 4
        assert getattr(found, "n_frames", 1) == 1
    assert len(content) < len(pictures.png(picture)) / 3


def test_a_picture_that_is_damaged_is_told(tmp_path):
    content = pictures.png(noise(1, 64)[0])
    for number, damaged in enumerate((b"", b"no picture", content[:40], content[: len(content) // 2])):
        path = tmp_path / f"{number}.png"
        path.write_bytes(damaged)
        with pytest.raises(BadInput, match=rf"{number}.png cannot be read \(.+\); bring it back or remove it"):
            pictures.read(path)
    (tmp_path / "whole.png").write_bytes(content)
    np.testing.assert_array_equal(pictures.read(tmp_path / "whole.png"), noise(1, 64)[0])


def test_an_animation_lies_beside_its_sheets():
    assert pictures.progress_name(Stage(2, "clean", gan="normal")) == "progress-trial2-clean-gan_normal.webp"
