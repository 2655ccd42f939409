"""Folders as people have them, unreadable files, the cache, and the phantoms."""

import errno
import os
import shutil
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from configs import default
from pneumojax import data
from pneumojax.data import archive, files, folder, layout, phantom, pixels, splits
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
    assert layout.tell(name).subtype == kind


TWO, THREE = ("NORMAL", "PNEUMONIA"), ("NORMAL", "BACTERIA", "VIRUS")
NAMED = ("train/NORMAL/IM-1.png", "test/PNEUMONIA/person1_bacteria_1.jpeg", "val/PNEUMONIA/VIRUS-5-0001.jpeg")
LAYOUTS = {  # classes, and what each name tells
    "as published": (
        TWO,
        {NAMED[0]: ("train", 0, ""), NAMED[1]: ("test", 1, "bacteria"), NAMED[2]: ("val", 1, "virus")},
    ),
    "subtypes": (THREE, {NAMED[0]: ("train", 0, ""), NAMED[1]: ("test", 1, "bacteria"), NAMED[2]: ("val", 2, "virus")}),
    "class folders alone": (TWO, {"NORMAL/1.png": ("", 0, ""), "PNEUMONIA/2.dcm": ("", 1, "")}),
    "sub-folders": (
        TWO,
        {
            "train/NORMAL/patient 7/day 2/1.png": ("train", 0, ""),
            "train/PNEUMONIA/bacteria/2.png": ("train", 1, "bacteria"),
            "train/PNEUMONIA/virus/3.png": ("train", 1, "virus"),
            "train/PNEUMONIA/4.png": ("train", 1, ""),
        },
    ),
    "subtypes in sub-folders": (
        THREE,
        {
            "PNEUMONIA/Bacteria/2.png": ("", 1, "bacteria"),
            "PNEUMONIA/VIRUS/3.png": ("", 2, "virus"),
            "NORMAL/4.png": ("", 0, ""),
        },
    ),
    "subtypes alone": (THREE, {"normal/1.png": ("", 0, ""), "bacteria/1.png": ("", 1, "bacteria")}),
    "other spellings": (
        TWO,
        {
            "Test/normal/1.JPG": ("test", 0, ""),
            "TRAIN/Pneumonia/person1_VIRUS_2.PNG": ("train", 1, "virus"),
            "train/NORMAL/1.jpg": ("train", 0, ""),
            "valid/NORMAL/1.jpeg": ("val", 0, ""),
            "validation/Normal/2.jpeg": ("val", 0, ""),
        },
    ),
    "the innermost counts": (
        TWO,
        {
            "NORMAL/test/1.png": ("test", 0, ""),
            "PNEUMONIA/NORMAL/1.png": ("", 0, ""),
            "normal/x/PNEUMONIA/y/1.png": ("", 1, ""),
            "test/train/NORMAL/1.png": ("train", 0, ""),
        },
    ),
    "other classes": (
        ("No Finding", "Covid-19", "pneumonia", "TB"),
        {"COVID-19/images/1.png": ("", 1, ""), "TB/1.png": ("", 3, ""), "no finding/1.png": ("", 0, "")},
    ),
}  # fmt: skip


def written(root: Path, names) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def zipped(path: Path, names) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "")
    return path


@pytest.mark.parametrize(("classes", "told"), LAYOUTS.values(), ids=LAYOUTS)
def test_layouts_in_folders_and_zips(tmp_path, classes, told):
    hidden = ["__MACOSX/train/NORMAL/._1.png", ".cache/NORMAL/1.png", "NORMAL/.1.png", "NORMAL/@eaDir/1.png/small.png"]
    in_folder = folder.source(written(tmp_path / "set", [*told, *hidden]), classes)
    assert in_folder.told == dict(sorted(told.items()))
    assert in_folder.names == tuple(sorted(told))
    assert in_folder.left_out == {"hidden or a system's own": len(hidden)}
    for number, prefix in enumerate(("", "chest_xray/", "./a//b/")):
        names = [prefix + name for name in (*told, *hidden)]
        for way in (names, [name.replace("/", "\\") for name in names]):
            in_zip = archive.source(zipped(tmp_path / f"{number}.zip", way), classes)
            assert in_zip.told == in_folder.told
            assert in_zip.left_out == in_folder.left_out
            assert all(in_zip.read(name) == b"" for name in in_zip.names)


def test_members_of_a_zip_with_one_path_are_counted_and_the_last_is_read(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("NORMAL/a.png", "NORMAL/b.png", "./NORMAL/a.png"):
            file.writestr(name, name)
    found = archive.source(path)
    assert found.names == ("NORMAL/a.png", "NORMAL/b.png")
    assert found.read("NORMAL/a.png") == b"./NORMAL/a.png"
    assert found.left_out == {"behind another of the same path": 1}


def test_what_is_left_out_is_counted_by_reason(tmp_path):
    names = [*NAMED, *(f"train/COVID19/{n}.png" for n in range(6)), "figure.png", "readme.txt", "train/NORMAL/a.tiff"]
    names += [f"other/{n}/x.png" for n in range(9)]
    expected = {
        "no class: train/COVID19": 6,
        "no class: its top": 1,
        **{f"no class: other/{n}": 1 for n in range(3)},
        "no class: other folders": 6,
        "no image by its name": 1,
    }
    in_folder, in_zip = folder.source(written(tmp_path / "set", names)), archive.source(zipped(tmp_path / "zip", names))
    assert in_folder.told == in_zip.told
    assert in_folder.left_out == in_zip.left_out == expected
    two = folder.source(written(tmp_path / "two", NAMED), ("NORMAL", "VIRUS"))
    assert (len(two.told), two.left_out) == (2, {"no class: test/PNEUMONIA": 1})


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_folders_with_accents_are_classes_in_either_form_of_unicode(tmp_path, forms):
    on_disk, given = (unicodedata.normalize(form, "Lésion") for form in forms)
    root = written(tmp_path / "set", [f"x/train/{on_disk}/1.png", "x/train/NORMAL/2.png", f"x/{on_disk}/3.png"])
    archived = zipped(tmp_path / "set.zip", [f"{on_disk}/1.png", f"{on_disk.upper()}/{on_disk}/2.png"])
    labels = {name: told.label for name, told in folder.source(root / "x", ("NORMAL", given)).told.items()}
    assert labels == {f"train/{on_disk}/1.png": 1, "train/NORMAL/2.png": 0, f"{on_disk}/3.png": 1}
    assert [told.label for told in archive.source(archived, ("NORMAL", given)).told.values()] == [1, 1]


def test_every_file_below_a_folder_that_is_not_used_is_counted(tmp_path):
    """Hidden images, and a class of files without a suffix; no readme beside the set, nor what systems leave."""
    names = ["NORMAL/a.png", "PNEUMONIA/b.png", "NORMAL/.h1.png", ".backup/NORMAL/a.png", "@eaDir/NORMAL/b.png"]
    names += ["COVID19/00001", "COVID19/00002", "COVID19/scan.tif", "NORMAL/c.bmp", "TB/deep/d.bmp"]
    silent = ["readme.txt", ".DS_Store", "NORMAL/.DS_Store", ".git/config", "@eaDir/a.txt"]
    expected = {"hidden or a system's own": 3, "no image by its name": 5}
    assert folder.source(written(tmp_path / "set", [*names, *silent])).left_out == expected
    for number, prefix in enumerate(("", "chest_xray/")):
        members = [prefix + name for name in (*names, *silent)]
        assert archive.source(zipped(tmp_path / f"{number}.zip", members)).left_out == expected


def test_hidden_folders_that_cannot_be_looked_into_are_passed_over(tmp_path, monkeypatch):
    root = written(tmp_path, ["NORMAL/a.png", "lost+found/b.png"])
    listed = os.listdir

    def forbid(path):
        if os.path.basename(path) == "lost+found":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "listdir", forbid)
    source = folder.source(root)
    assert (source.names, source.left_out) == (("NORMAL/a.png",), {})


def test_a_data_directory_one_folder_too_high_and_sites_side_by_side(tmp_path):
    high = written(tmp_path / "high", [f"xray/chest/{name}" for name in NAMED])
    with pytest.raises(BadInput, match=rf"the images in {high} lie in {high}/xray/chest \(3\): give that folder$"):
        folder.source(high)
    sites = [f"{site}/{name}" for site, own in (("a", NAMED), ("b", NAMED[1:])) for name in own]
    for source, place in ((folder, written(tmp_path / "ab", sites)), (archive, zipped(tmp_path / "ab.zip", sites))):
        with pytest.raises(BadInput, match=r"holds data sets side by side, a \(3\), b \(2\): give one of these"):
            source.source(place)
    nothing = (
        r"no images in .* of NORMAL, VIRUS; it needs .*a folder for each class .*; left out: no class: COVID19 \(1\)"
    )
    for source, place in (
        (folder, written(tmp_path / "no", ["COVID19/1.png"])),
        (archive, zipped(tmp_path / "no.zip", ["COVID19/1.png"])),
    ):
        with pytest.raises(BadInput, match=nothing):
            source.source(place, ("NORMAL", "VIRUS"))


def test_of_copies_the_whole_one_counts_or_the_uppermost(tmp_path):
    below = [f"chest/{name}" for name in NAMED]
    for above, root, reason in ((NAMED, "", "chest"), (NAMED[:1], "chest/", "its top")):
        own = [*below, *above]
        in_zip = archive.source(zipped(tmp_path / "set.zip", own))
        assert in_zip.names == tuple(sorted(NAMED))
        assert in_zip.left_out == {f"another data set: {reason}": len(above)}
        place = written(tmp_path / f"set{len(above)}", own)
        if root:
            with pytest.raises(BadInput, match=r"/chest \(3\): .* beside them: another data set: its top \(1\)"):
                folder.source(place)
        else:
            assert folder.source(place).left_out == in_zip.left_out


def test_links_to_folders_are_followed_and_loops_end(tmp_path):
    root = written(tmp_path / "set", NAMED)
    elsewhere = written(tmp_path / "elsewhere", ["b/1.png", "b/2.png"])
    (root / "test/NORMAL").symlink_to(elsewhere / "b")
    (root / "train/PNEUMONIA").symlink_to(elsewhere)
    (root / "train/NORMAL/again").symlink_to(root / "train")
    (elsewhere / "b/up").symlink_to("..")
    (root / "train/NORMAL/gone").symlink_to("nowhere")
    own = ["test/NORMAL/1.png", "test/NORMAL/2.png", "train/PNEUMONIA/b/1.png", "train/PNEUMONIA/b/2.png"]
    source = folder.source(root)
    assert {*own, *NAMED} <= set(source.names)
    assert len(source.names) < 20
    assert source.left_out == {"no image by its name": 1}


def test_one_line_says_what_is_used_and_what_is_left_out(config, damaged, xray_folder, caplog):
    config.on_bad = "skip"
    (xray_folder / "test" / "NORMAL").rename(xray_folder / "test" / "normal")
    shutil.copytree(xray_folder / "val" / "PNEUMONIA", xray_folder / "valid" / "COVID19")
    shutil.copy(xray_folder / "val" / "PNEUMONIA" / "person4_virus_4.jpeg", xray_folder / "valid" / "NORMAL.jpeg")
    with caplog.at_level("INFO", logger="absl"):
        images = data.load(config, 16)
    counts = "test/NORMAL 7, train/NORMAL 15, train/PNEUMONIA 16, val/PNEUMONIA 10"
    left_out = "10 no class: valid/COVID19, 1 no class: valid, 3 unreadable"
    assert images.left_out == {"no class: valid/COVID19": 10, "no class: valid": 1, "unreadable": 3}
    assert [line for line in caplog.messages if "are used" in line] == [
        f"{xray_folder}: 48 images are used: {counts}; left out: {left_out}"
    ]
    assert f"{xray_folder}: these folders are taken for one: NORMAL, normal" in caplog.messages


def test_an_image_of_no_known_patient_is_a_patient_of_its_own(config, xray_folder):
    Image.fromarray(np.eye(20, dtype=np.uint8)).save(xray_folder / "train/NORMAL/scan12.png")
    images = data.load(config, 16)
    assert images.patients[images.names.index("train/NORMAL/scan12.png")] == "train/NORMAL/scan12.png"


def test_the_cache_is_used_and_sees_changed_content(config, xray_folder, monkeypatch):
    first = data.load(config, 24)
    monkeypatch.setattr(files, "decode", lambda *_: pytest.fail("decoded again"))
    second = data.load(config, 24)
    assert data.fingerprint(first) == data.fingerprint(second)
    monkeypatch.undo()
    name = first.names[0]
    Image.fromarray(np.array([[77, 79]] * 2, np.uint8)).save(xray_folder / name, quality=95)
    assert data.load(config, 24).pixels[0].mean() == pytest.approx(78, abs=1)


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
    found = "no readable image of class NORMAL: found train/PNEUMONIA, val/PNEUMONIA; bring some, or .*classes"
    with pytest.raises(BadInput, match=found):
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
    small = np.asarray(pixels.resized(images, 64))
    assert small.shape == (70, 64, 64)
    assert small.dtype == np.uint8
    pillow = np.stack([np.asarray(Image.fromarray(i).resize((64, 64), Image.Resampling.BILINEAR)) for i in images])
    assert np.abs(small.astype(int) - pillow).max() <= 1
    np.testing.assert_array_equal(pixels.resized(small, 64), small)


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
    groups = splits.group(images.patients, images.digests)
    assert len(set(groups.tolist())) < len(set(images.patients))  # one picture under two IDs
    subsets = splits.draw_subsets(images.labels, groups, (234, 390), data.CLASSES, (0, 1, 2), 0)
    assert all(subset.disjoint for subset in subsets.values())
    for trial, subset in subsets.items():
        split = splits.hold_out_groups(subset.chosen, images.labels, groups, data.CLASSES, 0.2, (0, trial, 1))
        assert splits.count(split.test, images.labels, data.CLASSES).tolist() == [47, 78]


@pytest.mark.parametrize(("pattern", "key"), [(r"person\d+", "person3"), (r"(person)(\d)|x", "person/3"), ("", "")])
def test_without_groups_all_of_the_pattern_is_the_patient(config, pattern, key):
    config.patient_pattern = pattern
    images = data.load(config, 16)
    name = "train/PNEUMONIA/person3_bacteria_4.jpeg"
    patients = dict(zip(images.names, images.patients, strict=True))
    assert patients[name] == (key or name)
    assert patients["train/NORMAL/IM-0001-0001.jpeg"] == "train/NORMAL/IM-0001-0001.jpeg"


def test_groups_of_a_pattern_do_not_run_into_each_other():
    pattern = r"p(\d+)_(\d+)"
    assert [files.patient_key(f"NORMAL/{name}.png", pattern) for name in ("p1_23", "p12_3")] == ["1/23", "12/3"]


def test_how_many_patients_are_told_is_said_and_a_pattern_that_tells_none(config, caplog):
    def said(pattern: str) -> tuple[str, list[str]]:
        config.patient_pattern = pattern
        caplog.clear()
        with caplog.at_level("INFO", logger="absl"):
            images = data.load(config, 16)
        assert ("by neither 50" in caplog.text) == (images.patients == images.names)
        counts = next(line.split(": ")[2] for line in caplog.messages if "whose patient is told" in line)
        return counts.split(";")[0], [one.message for one in caplog.records if "patient_pattern=" in one.message]

    assert said(data.PATIENT_PATTERN) == ("by header 0, by pattern 50, by neither 0", [])
    assert said("person") == ("by header 0, by pattern 26, by neither 24", [])
    assert said("") == ("by header 0, by pattern 0, by neither 50", [])
    for pattern in ("patient", "x*"):
        counts, [warned] = said(pattern)
        assert counts == "by header 0, by pattern 0, by neither 50"
        assert f"patient_pattern='{pattern}' tells no patient of any image: 50 are patients of their own" in warned


def test_an_empty_pattern_of_an_external_set_is_none(config, xray_folder, tmp_path):
    (tmp_path / "nih" / "NORMAL").mkdir(parents=True)
    for number in (1, 2):
        picture = Image.fromarray(np.eye(20, dtype=np.uint8) + np.uint8(30 * number))
        picture.save(tmp_path / f"nih/NORMAL/person1_virus_{number}.png")
    own = data.load(config, 16)
    for pattern, count in (("", 2), (None, 1)):
        config.external = (("nih", str(tmp_path / "nih"), pattern),)
        images, _ = data.with_external(own, config, 16)
        assert len(set(images.patients[len(own.names) :])) == count


@pytest.mark.parametrize("pattern", ["(", "[", "(?P<1>x)", "x{99999999999999}"])
def test_a_pattern_that_does_not_compile(config, xray_folder, pattern):
    entry = ("nih", str(xray_folder), pattern)
    whole = data.load(config, 16)
    config.external = (entry,)
    with pytest.raises(BadInput, match="data.external: patient_pattern of nih='.*' is no regular expression .*mend"):
        data.with_external(whole, config, 16)
    config.patient_pattern = pattern
    with pytest.raises(BadInput, match="config.data.patient_pattern='.*' is no regular expression .*mend"):
        data.load(config, 16)


def test_external_sets_have_patterns_of_their_own(config, xray_folder, tmp_path):
    names = [f"PNEUMONIA/{n // 2:08d}_{n:03d}.png" for n in range(6)] + ["test/Normal/person1_virus_1.png"]
    for number, name in enumerate(names):
        path = tmp_path / "nih" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.eye(20, dtype=np.uint8) + np.uint8(30 * number)).save(path)
    shutil.copy(xray_folder / "train/NORMAL/IM-0001-0001.jpeg", tmp_path / "nih/PNEUMONIA/copy.jpeg")
    (tmp_path / "nih/COVID19").mkdir()
    (tmp_path / "nih/COVID19/1.png").touch()
    own = data.load(config, 16)
    directory = str(tmp_path / "nih")
    config.external = (("a", directory, r"\d{8}_"), ("b", directory), ("c", directory, None))
    images, sets = data.with_external(own, config, 16)
    assert sets == {"a": [f"external/a/{name}" for name in names], "b": [], "c": []}
    assert images.names == (*own.names, *sets["a"])
    new = slice(len(own.names), None)
    assert images.patients[new] == (
        *(f"external/a/{n // 2:08d}_" for n in range(6)),
        "external/a/test/Normal/person1_virus_1.png",
    )
    assert images.labels[new].tolist() == [1] * 6 + [0]
    assert images.parts[new] == ("",) * 7
    assert images.subtypes[new] == ("",) * 6 + ("virus",)
    assert images.left_out["external/a/no class: COVID19"] == 1
    assert images.left_out["external/a/in the study too"] == 1
    assert images.left_out["external/b/in the study too"] == 8
    assert len({len(column) for column in images[:7]}) == 1


@pytest.mark.parametrize("residence", ["device", "stream"])
def test_a_failure_that_passes_is_not_kept(config, monkeypatch, residence):
    config.residence = residence
    name, other = "train/NORMAL/IM-0001-0001.jpeg", "test/NORMAL/NORMAL2-IM-0002-0001.jpeg"
    os.truncate(Path(config.dir) / other, 400)
    open_file, opened = folder.read, []

    def stale(path):
        opened.append(path)
        if path.name == Path(name).name:
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return open_file(path)

    monkeypatch.setattr(folder, "read", stale)
    config.on_bad = "skip"
    for reads in (50, 1):  # the second time that one alone
        images = data.load(config, 16)
        assert len(opened) == reads
        opened.clear()
        assert len(images.names) == 48
        assert [line.split(":")[0] for line in images.skipped] == [other, name]
    monkeypatch.setattr(folder, "read", lambda path: opened.append(path) or open_file(path))
    for reads in (1, 0):  # what the content decides is kept
        images = data.load(config, 16)
        assert len(opened) == reads
        opened.clear()
        assert name in images.names
        assert [line.split(":")[0] for line in images.skipped] == [other]
    monkeypatch.undo()
    config.cache += " of another"
    whole = data.load(config, 16)
    assert whole.names == images.names
    assert data.fingerprint(whole) == data.fingerprint(images)
    if residence == "device":
        np.testing.assert_array_equal(whole.pixels, images.pixels)


def test_two_sizes_of_one_set_in_one_run(config):
    for name in ("folder", "phantom"):
        config.name, config.phantom_images = name, (5, 8)
        large, small = data.load(config, 48), data.load(config, 20)
        assert (large.pixels.shape[1], small.pixels.shape[1]) == (48, 20)
        assert large.names == small.names
        assert large.patients == small.patients
        np.testing.assert_array_equal(large.labels, small.labels)
        np.testing.assert_array_equal(large.pixels, data.load(config, 48).pixels)


def test_a_phantom_is_the_same_picture_at_every_size():
    c = default.get_config().data
    c.phantom_images = (12, 12)
    large, small = phantom.load(c, 128).pixels, phantom.load(c, 64).pixels
    difference = np.asarray(pixels.resized(large, 64)).astype(float) - small
    assert np.abs(difference.mean((1, 2))).max() < 1
    blocks = difference.reshape(24, 8, 8, 8, 8).mean((2, 4))  # the anatomy, less most of the noise
    assert blocks.std((1, 2)).max() < 2
    others = np.asarray(pixels.resized(large, 64)).astype(float)[::-1] - small
    assert others.reshape(24, 8, 8, 8, 8).mean((2, 4)).std((1, 2)).min() > 4


def test_phantoms_of_three_classes():
    """Each kind of opacity has a grain of its own; what the classes have in common stays as it is with two."""
    c = default.get_config().data
    c.classes, c.phantom_images = ("NORMAL", "BACTERIA", "VIRUS"), (40, 40, 40)
    images = phantom.load(c, 64)
    assert np.bincount(images.labels).tolist() == [40, 40, 40]
    assert list(images.names) == sorted(images.names)
    assert set(images.subtypes) == {"", "bacteria", "virus"}
    kinds = {patient: label for patient, label in zip(images.patients, images.labels.tolist(), strict=True)}
    assert all(kinds[p] == label for p, label in zip(images.patients, images.labels.tolist(), strict=True))
    c.classes, c.phantom_images = TWO, (40, 40)
    two = phantom.load(c, 64)
    for label in (0, 1):
        np.testing.assert_array_equal(images.pixels[images.labels == label], two.pixels[two.labels == label])
    lungs = images.pixels[:, 18:44, 12:24].astype(float)
    coarse = lungs[:, :24, :12].reshape(120, 6, 4, 3, 4).mean((2, 4))
    fine = (lungs[:, :24, :12] - coarse.repeat(4, 1).repeat(4, 2)).std((1, 2))
    level = lungs.mean((1, 2))
    levels, grains = ([values[images.labels == k].mean() for k in range(3)] for values in (level, fine))
    assert min(levels[1:]) > levels[0] + 15  # gray levels: both kinds brighten the lungs
    assert grains[2] > grains[1] + 5 > grains[0] + 5
