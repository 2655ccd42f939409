"""Folders as people have them, unreadable files, the cache, and the phantoms."""

import os
import shutil
from collections import Counter
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import default
from pneumojax import data
from pneumojax.data import files, phantom, pixels, splits
from pneumojax.errors import BadInput


@pytest.fixture
def config(xray_folder, tmp_path):
    c = default.get_config().data
    c.dir, c.cache = str(xray_folder), str(tmp_path / "cache")
    return c


def test_a_published_folder(config, xray_folder):
    images = data.load(config, 32)
    assert images.pixels.shape == (50, 32, 32)
    assert images.pixels.dtype == np.uint8
    assert images.names == tuple(sorted(images.names))
    assert np.bincount(images.labels).tolist() == [24, 26]
    row = images.names.index("train/PNEUMONIA/person3_bacteria_4.jpeg")
    assert (images.labels[row], images.patients[row]) == (1, "person3")
    with Image.open(xray_folder / images.names[row]) as file:
        expected = np.asarray(file.convert("L").resize((32, 32), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(images.pixels[row], expected)


def test_two_class_folders_alone(config, xray_folder, tmp_path):
    flat = tmp_path / "flat"
    shutil.copytree(xray_folder / "train", flat)
    (flat / "NORMAL" / "notes.txt").write_text("no image")
    (flat / "NORMAL" / "._IM-0001-0001.jpeg").write_bytes(b"left by an archiver")
    config.dir = str(flat)
    images = data.load(config, 16)
    assert images.names[0] == "NORMAL/IM-0000-0001.jpeg"
    assert len(images.names) == 32


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("train/PNEUMONIA/person7_bacteria_24.jpeg", "person7"),
        ("test/PNEUMONIA/person7_virus_11.jpeg", "person7"),
        ("train/PNEUMONIA/person447_virus_921_1.jpeg", "person447"),
        ("train/NORMAL/IM-0115-0001.jpeg", "IM-0115"),
        ("test/NORMAL/IM-0011-0001-0002.jpeg", "IM-0011"),
        ("test/NORMAL/NORMAL2-IM-0011-0001.jpeg", "NORMAL2-IM-0011"),
        ("train/PNEUMONIA/BACTERIA-1008087-0001.jpeg", "-1008087"),
        ("train/NORMAL/NORMAL-1008087-0002.jpeg", "-1008087"),
        ("train/NORMAL/scan12.png", ""),
    ],
)
def test_patient_keys(name, key):
    assert files.patient_key(name, default.get_config().data.patient_pattern) == key


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("train/PNEUMONIA/person7_bacteria_24.jpeg", "bacteria"),
        ("train/PNEUMONIA/person447_virus_921_1.jpeg", "virus"),
        ("train/PNEUMONIA/BACTERIA-1008087-0001.jpeg", "bacteria"),
        ("test/PNEUMONIA/VIRUS-24-0001.jpeg", "virus"),
        ("train/NORMAL/NORMAL-1008087-0002.jpeg", ""),
        ("train/PNEUMONIA/my_virus_1.png", ""),
    ],
)
def test_subtypes(name, kind):
    assert files.subtype(name) == kind


def test_an_image_of_no_known_patient_is_a_patient_of_its_own(config, xray_folder):
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(xray_folder / "train/NORMAL/scan12.png")
    images = data.load(config, 16)
    assert images.patients[images.names.index("train/NORMAL/scan12.png")] == "train/NORMAL/scan12.png"


def test_the_cache_is_used_and_sees_changed_content(config, xray_folder, monkeypatch):
    first = data.load(config, 24)
    monkeypatch.setattr(files, "decode", lambda *_: pytest.fail("decoded again"))
    second = data.load(config, 24)
    assert data.fingerprint(first) == data.fingerprint(second)
    monkeypatch.undo()
    name = first.names[0]
    Image.fromarray(np.full((50, 50), 77, np.uint8)).save(xray_folder / name)
    assert data.load(config, 24).pixels[0].mean() == pytest.approx(77, abs=1)


def test_each_size_and_fit_has_a_cache_of_its_own(config):
    def load(size, fit):
        config.fit = fit
        return data.load(config, size).pixels

    [loaded, again] = [[load(size, fit) for size in (16, 24) for fit in ("stretch", "pad")] for _ in range(2)]
    for one, other in zip(loaded, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(list(Path(config.cache).iterdir())) == 4
    assert not np.array_equal(loaded[0], loaded[1])


def test_a_damaged_cache_is_made_anew(config):
    first = data.load(config, 16)
    [cache] = Path(config.cache).iterdir()
    for content in (cache.read_bytes()[:5000], b"", bytes(9999)):
        cache.write_bytes(content)
        assert data.fingerprint(data.load(config, 16)) == data.fingerprint(first)


def test_a_cache_that_cannot_be_written_is_no_error(config):
    config.cache = "/proc/nowhere"
    assert len(data.load(config, 16).names) == 50


@pytest.fixture
def damaged(xray_folder):
    victims = ["train/NORMAL/IM-0001-0001.jpeg", "test/NORMAL/NORMAL2-IM-0002-0001.jpeg"]
    os.truncate(xray_folder / victims[0], 400)
    os.truncate(xray_folder / victims[1], 0)
    for_print = "train/PNEUMONIA/person0_bacteria_9.jpeg"
    Image.new("CMYK", (20, 20)).save(xray_folder / for_print)
    return [*victims, for_print]


def test_unreadable_files_are_listed(config, damaged):
    with pytest.raises(BadInput, match="3 of 51 images .*on_bad=skip") as caught:
        data.load(config, 16)
    assert sorted(line.split(":")[0] for line in caught.value.details) == sorted(damaged)


def test_unreadable_files_are_skipped_and_counted(config, damaged, caplog):
    config.on_bad = "skip"
    images = data.load(config, 16)
    assert len(images.skipped) == 3
    assert "3 of 51 images" in caplog.text
    assert not set(images.names) & set(damaged)
    assert len(images.names) == len(images.labels) == len(images.pixels) == len(images.digests) == 48


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: shutil.rmtree(root), "is not a directory"),
        (lambda root: [shutil.rmtree(root / part) for part in ("train", "test", "val")], "no images in"),
    ],
)
def test_folders_that_cannot_be_used(config, xray_folder, change, message):
    change(xray_folder)
    with pytest.raises(BadInput, match=message):
        data.load(config, 16)


def test_a_class_without_images(config, xray_folder):
    for path in xray_folder.glob("*/NORMAL"):
        shutil.rmtree(path)
    images = data.load(config, 16)
    assert set(images.labels.tolist()) == {1}
    with pytest.raises(BadInput, match="no readable image of class NORMAL"):
        data.check_classes(images, config)


def test_files_that_are_no_images_are_told(config, xray_folder, caplog):
    (xray_folder / "train/NORMAL/IM-0001-0001.tiff").touch()
    (xray_folder / "test/NORMAL/Thumbs.db").touch()
    (xray_folder / "test/NORMAL/.DS_Store").touch()
    assert len(data.load(config, 16).names) == 50
    assert "2 files in" in caplog.text
    assert "test/NORMAL/Thumbs.db, train/NORMAL/IM-0001-0001.tiff" in caplog.text


def test_unknown_data_set(config):
    config.name = "imagenet"
    with pytest.raises(
        BadInput, match=r"config.data.name='imagenet' is not known here; use one of folder, kermany, phantom"
    ):
        data.load(config, 16)


def test_equal_pictures_have_equal_digests(config, xray_folder):
    source = xray_folder / "train/NORMAL/IM-0000-0001.jpeg"
    shutil.copy(source, xray_folder / "test/NORMAL/IM-0999-0001.jpeg")
    images = data.load(config, 16)
    digest = dict(zip(images.names, images.digests, strict=True))
    assert digest["train/NORMAL/IM-0000-0001.jpeg"] == digest["test/NORMAL/IM-0999-0001.jpeg"]
    assert len(set(images.digests)) == 50


def test_fingerprint_sees_everything():
    c = default.get_config().data
    c.phantom_images = (4, 4)
    images = phantom.load(c, 16)
    same = data.fingerprint(phantom.load(c, 16))
    others = [
        images._replace(digests=images.digests[::-1]),
        images._replace(labels=1 - images.labels),
        images._replace(patients=images.patients[::-1]),
        images._replace(names=images.names[::-1]),
    ]
    assert data.fingerprint(images) == same
    assert len({same, *map(data.fingerprint, others)}) == 5


def test_phantoms():
    c = default.get_config().data
    c.phantom_images = (30, 50)
    images = phantom.load(c, 40)
    assert images.pixels.shape == (80, 40, 40)
    assert images.pixels.dtype == np.uint8
    assert np.bincount(images.labels).tolist() == [30, 50]
    assert len(set(images.patients)) < 60  # several pictures a patient
    assert len(set(images.digests)) == 80
    assert list(images.names) == sorted(images.names)
    # Opacities brighten the lungs, on the average.
    lungs = images.pixels[:, 12:26, 8:14].mean((1, 2))
    assert lungs[images.labels == 1].mean() > lungs[images.labels == 0].mean() + 3


def test_resizing_keeps_means_and_brings_no_image_to_another():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (70, 96, 96), np.uint8)  # more than one chunk
    small = np.asarray(pixels.resize(images, 64))
    assert small.shape == (70, 64, 64)
    assert small.dtype == np.uint8
    pillow = np.stack([np.asarray(Image.fromarray(i).resize((64, 64), Image.Resampling.BILINEAR)) for i in images])
    assert np.abs(small.astype(int) - pillow).max() <= 1
    np.testing.assert_array_equal(pixels.resize(small, 64), small)


def test_ranges():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    unit = pixels.to_tanh_range(levels)
    assert (float(unit.min()), float(unit.max())) == (-1.0, 1.0)
    np.testing.assert_array_equal(pixels.from_tanh_range(unit), levels)
    normal = pixels.normalise(jnp.full((1, 1, 1), 255, jnp.uint8))[0, 0, 0]
    np.testing.assert_allclose(normal, [(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225], rtol=1e-6)


REAL = Path(__file__).parents[2] / "shared" / "data" / "chest_xray"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here")
def test_the_real_images(tmp_path):
    """Counts, patients and duplicates of the published folders, and disjoint trials of the paper's size."""
    c = default.get_config().data
    c.dir, c.cache = str(REAL), str(tmp_path)
    images = data.load(c, 32)
    folders = Counter(str(Path(name).parent) for name in images.names)
    assert folders == {"train/NORMAL": 1341, "train/PNEUMONIA": 3875, "test/NORMAL": 234, "test/PNEUMONIA": 390}
    copies = Counter(images.digests)
    assert sum(n > 1 for n in copies.values()) == 30
    assert not any(name == patient for name, patient in zip(images.names, images.patients, strict=True))
    sides: dict[str, set] = {"train": set(), "test": set()}
    for name, patient in zip(images.names, images.patients, strict=True):
        sides[name.split("/")[0]].add(patient)
    assert sum(patient.startswith("person") for patient in sides["train"] & sides["test"]) == 170
    groups = splits.group(images.names, images.patients, images.digests)
    assert len(set(groups.values())) < len(set(images.patients))  # one picture under two IDs
    labels = dict(zip(images.names, images.labels.tolist(), strict=True))
    subsets = splits.draw_subsets(labels, groups, (234, 390), (0, 1, 2), 0)
    assert all(subset.disjoint for subset in subsets.values())
    for trial, subset in subsets.items():
        split = splits.hold_out_groups(subset.chosen, labels, groups, 0.2, (0, trial, 1))
        assert splits.count(split.test, labels).tolist() == [47, 78]
