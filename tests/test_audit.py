"""The data audit: what was planted in a folder of real JPEGs and PNGs is found, and nothing else."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from pneumojax.data import audit, duplicates
from pneumojax.data.audit import counts

CONTRACT = {
    *("images", "folders", "exact_duplicates", "near_duplicates", "patients", "patients_on_both_sides", "unreadable"),
}
PER_PART = {"train": 40, "test": 12}  # images of each class


def draw(rng: np.random.Generator, size: tuple[int, int] = (80, 72)) -> Image.Image:
    """A smooth random picture, like no other."""
    coarse = Image.fromarray(rng.integers(0, 255, (14, 14), np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **({"quality": 95} if path.suffix == ".jpeg" else {}))


def write_folder(root: Path, pneumonia_size=(80, 72)) -> Path:
    """Every image of a patient of its own, whatever the reading; sizes tell the class where they differ."""
    rng = np.random.default_rng(0)
    for part, count in PER_PART.items():
        for i in range(count):
            number = i + (0 if part == "train" else 500)
            mode = "RGB" if i % 2 else "L"  # of both classes: it shows in the file size
            save(draw(rng).convert(mode), root / part / "NORMAL" / f"IM-{number:04d}-0001.jpeg")
            sick = draw(rng, pneumonia_size).convert(mode)
            save(sick, root / part / "PNEUMONIA" / f"person{number}_{'bacteria' if i % 3 else 'virus'}_{i}.jpeg")
    return root


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The audit of a folder in which nothing is wrong, and its page."""
    return run(write_folder(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The audit of a folder with one of each fault, and its page."""
    root = write_folder(tmp_path_factory.mktemp("planted"), pneumonia_size=(110, 90))
    train, test = root / "train", root / "test"
    # the same picture in train and test, and a third time under the other class
    shutil.copy(train / "NORMAL/IM-0003-0001.jpeg", test / "NORMAL/IM-0900-0001.jpeg")
    shutil.copy(train / "NORMAL/IM-0003-0001.jpeg", train / "PNEUMONIA/person900_virus_1.jpeg")
    with Image.open(train / "PNEUMONIA/person7_bacteria_7.jpeg") as image:
        small = image.resize((70, 60), Image.Resampling.BILINEAR)
        save(ImageEnhance.Brightness(small).enhance(0.8), test / "PNEUMONIA/person901_bacteria_1.png")
    # person5 is a patient with bacteria in train, and here one with a virus
    save(draw(np.random.default_rng(9), (110, 90)), test / "PNEUMONIA/person5_virus_1.jpeg")
    (test / "NORMAL/IM-0902-0001.jpeg").write_bytes((test / "NORMAL/IM-0501-0001.jpeg").read_bytes()[:400])
    (test / "NORMAL" / os.fsdecode(b"IM-0903-\xff.png")).write_bytes(b"")
    with Image.open(train / "NORMAL/IM-0004-0001.jpeg") as image:
        image.save(train / "NORMAL" / os.fsdecode(b"IM-0004-\xfe.jpeg"), "JPEG", quality=40)
    return run(root)


def run(root: Path) -> tuple[dict, str]:
    """Runs the command: (audit.json, audit.html)."""
    out = root / "out"
    audit.main([str(root), f"--out={out}"])
    assert sorted(path.name for path in out.iterdir()) == ["audit.html", "audit.json"]
    return json.loads((out / "audit.json").read_text()), (out / "audit.html").read_text(encoding="utf-8")


def test_nothing_is_found_where_nothing_is_wrong(plain):
    found, page = plain
    assert set(found) >= CONTRACT
    assert found["images"] == 104
    assert found["folders"] == {"test/NORMAL": 12, "test/PNEUMONIA": 12, "train/NORMAL": 40, "train/PNEUMONIA": 40}
    assert found["subtypes"]["train/PNEUMONIA"] == {"virus": 14, "bacteria": 26}
    assert found["modes"]["test/NORMAL"] == {"gray": 6, "RGB": 6}
    assert found["exact_duplicates"] == found["near_duplicates"] == found["unreadable"] == []
    assert found["patients"] == found["patients_by_kind_and_id"] == 104
    assert found["patients_on_both_sides"] == {"by_kind_and_id": 0, "by_id": 0}
    assert found["share_of_pneumonia"] == {"test": 0.5, "train": 0.5}
    assert found["leak_of_a_random_split"]["train"] == {"by_kind_and_id": 0.0, "by_id": 0.0}
    assert "banner" not in page.split("</style>")[1]
    assert "http" not in page  # self-contained


def test_a_folder_without_leak_is_not_called_leaky(plain):
    found, page = plain
    answer = found["trivial_features"]["PNEUMONIA from NORMAL"]
    assert answer["images"] == answer["patients"] == 104
    assert answer["auc"] < answer["chance_up_to"] < 0.7
    assert "no better than chance" in answer["statement"]
    assert "that is high" not in page


def test_a_leak_of_the_class_through_the_size_is_called_high(planted):
    found, page = planted
    answer = found["trivial_features"]["PNEUMONIA from NORMAL"]
    assert answer["auc"] > 0.95
    assert answer["single"]["width"] > 0.95
    assert "that is high" in answer["statement"]
    assert answer["statement"] in page
    assert "that is high" not in found["trivial_features"]["test from train"]["statement"]


def test_planted_duplicates(planted):
    found, page = planted
    names = [
        "test/NORMAL/IM-0900-0001.jpeg",
        "train/NORMAL/IM-0003-0001.jpeg",
        "train/PNEUMONIA/person900_virus_1.jpeg",
    ]
    assert found["exact_duplicates"] == [names]
    assert found["exact_duplicates_across"] == {"parts": 1, "classes": 1, "patients": 1}
    assert found["near_duplicates"] == [
        ["test/PNEUMONIA/person901_bacteria_1.png", "train/PNEUMONIA/person7_bacteria_7.jpeg"],
        ["train/NORMAL/IM-0004-0001.jpeg", "train/NORMAL/IM-0004-\udcfe.jpeg"],
    ]
    assert found["near_duplicates_across"] == {"parts": 1, "classes": 0, "patients": 1}
    assert found["near_threshold"]["differing_at_most"] == duplicates.NEAR
    assert f"differ in at most <b>{duplicates.NEAR}</b> bits" in page
    assert all(pair["differing"] > duplicates.NEAR for pair in found["nearest_beyond"])
    assert "1 groups of exact and 1 of near duplicates have images in more than one of train, val and test" in page
    assert r"IM-0004-\udcfe.jpeg" in page


def test_near_groups_name_the_exact_copies_too(tmp_path):
    root = write_folder(tmp_path)
    own = root / "train/NORMAL"
    shutil.copy(own / "IM-0001-0001.jpeg", own / "IM-0001-0002.jpeg")
    with Image.open(own / "IM-0001-0001.jpeg") as image:
        image.save(own / "IM-0001-0003.jpeg", quality=30)
    found, _ = audit.audit(root)
    assert found["exact_duplicates"] == [[f"train/NORMAL/IM-0001-000{k}.jpeg" for k in (1, 2)]]
    assert found["near_duplicates"] == [[f"train/NORMAL/IM-0001-000{k}.jpeg" for k in (1, 2, 3)]]


def test_patients_on_both_sides_under_one_reading(planted):
    found, page = planted
    assert found["patients_on_both_sides"] == {"by_kind_and_id": 0, "by_id": 1}
    assert found["who_is_on_both_sides"]["by_id"] == ["person5"]
    assert found["patients"] == 104 + 3  # person900, person901, IM-0900; person5 and IM-0004 were there
    assert found["patients_by_kind_and_id"] == 104 + 4
    assert "1 patients are in train and in test if bacteria and virus are numbered together, 0 if apart" in page


def test_unreadable_files_are_listed(planted):
    found, page = planted
    assert found["images"] == sum(found["folders"].values()) == 104 + 5
    assert [bad["file"] for bad in found["unreadable"]] == [
        "test/NORMAL/IM-0902-0001.jpeg",
        "test/NORMAL/IM-0903-\udcff.png",
    ]
    assert "damaged" in found["unreadable"][0]["why"]
    assert "an empty file" in found["unreadable"][1]["why"]
    assert "<td>test/NORMAL/IM-0902-0001.jpeg</td>" in page


def test_what_is_left_out_is_said(tmp_path, capsys):
    root = write_folder(tmp_path)
    (root / "test/NORMAL").rename(root / "test/normal")
    (root / "train/PNEUMONIA/bacteria").mkdir()
    for path in list((root / "train/PNEUMONIA").glob("*_bacteria_*")):
        path.rename(root / "train/PNEUMONIA/bacteria" / path.name.replace("_bacteria_", "_"))
    for name in ("train/COVID19/1.png", "train/COVID19/2.png", "train/NORMAL/notes.txt"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    found, page = run(root)
    assert found["images"] == 104
    assert found["left_out"] == {"no class: train/COVID19": 2, "no image by its name": 1}
    assert found["folders"]["test/normal"] == 12
    assert found["folders"]["train/PNEUMONIA/bacteria"] == 26
    assert found["subtypes"]["train/PNEUMONIA/bacteria"] == {"bacteria": 26}
    assert found["share_of_pneumonia"] == {"test": 0.5, "train": 0.5}
    assert "<b>3 files are left out</b>: no class: train/COVID19 (2), no image by its name (1)." in page
    assert "3 files left out" in capsys.readouterr().out


def test_class_folders_alone_and_unknown_patients(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        save(draw(rng), tmp_path / f"NORMAL/{i}.png")
        save(draw(rng), tmp_path / f"PNEUMONIA/{i}.png")
    found, page = run(tmp_path)
    assert found["folders"] == {"NORMAL": 3, "PNEUMONIA": 3}
    assert found["patients_unknown"] == found["patients"] == 6
    assert found["patients_on_both_sides"] == {"by_kind_and_id": 0, "by_id": 0}
    assert "no published split to audit" in page
    assert "Too few patients to ask for PNEUMONIA from NORMAL" in page
    assert "The patient of 6 images is unknown" in page


def test_random_leak():
    # two patients of two images: whichever is the one test image, its patient is trained on
    assert counts.random_leak(["a", "a", "b", "b"], 4) == pytest.approx(1.0)
    assert counts.random_leak(["a", "b", "c", "d"], 4) == 0.0
    # 4 of 9 others are trained on, one of them is the same patient's
    assert counts.random_leak([str(i // 2) for i in range(10)], 5) == pytest.approx(4 / 9)
    patients = [str(i // 4) for i in range(40)]
    rng, shared = np.random.default_rng(0), []
    for _ in range(400):
        order = rng.permutation(patients)[:20]
        shared += [patient in order[:16] for patient in order[16:]]
    assert counts.random_leak(patients, 20) == pytest.approx(np.mean(shared), abs=0.03)


@pytest.mark.parametrize("content", ["nothing", "no images", "all unreadable"])
def test_bad_folders_end_with_one_line(tmp_path, capsys, content):
    root = tmp_path / "data"
    if content != "nothing":
        (root / "NORMAL").mkdir(parents=True)
    if content == "all unreadable":
        (root / "NORMAL/1.png").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as ended:
        audit.main([str(root), f"--out={tmp_path / 'out'}"])
    assert ended.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("error:") for line in lines) == 1
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_told(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for label in ("NORMAL", "PNEUMONIA"):
        save(draw(np.random.default_rng(0)), tmp_path / label / "1.png")
    with pytest.raises(SystemExit) as ended:
        audit.main([str(tmp_path), f"--out={tmp_path / 'file'}"])
    assert ended.value.code == 4
    assert "another --out" in capsys.readouterr().err


REAL = Path(__file__).parents[2] / "shared" / "data" / "chest_xray"


@pytest.mark.skipif(not REAL.is_dir(), reason="the real images are not here")
def test_the_real_images():
    """The facts that are known of the published folders."""
    found, names = audit.audit(REAL)
    assert found["images"] == len(names) == 5840
    assert found["folders"] == {
        "test/NORMAL": 234,
        "test/PNEUMONIA": 390,
        "train/NORMAL": 1341,
        "train/PNEUMONIA": 3875,
    }
    assert found["subtypes"]["train/PNEUMONIA"] == {"bacteria": 2530, "virus": 1345}
    assert found["subtypes"]["test/PNEUMONIA"] == {"bacteria": 242, "virus": 148}
    assert (found["sizes"], found["features"]["train/NORMAL"]["width"]["max"]) == (1, 224.0)
    exact = found["exact_duplicates"]
    assert [sum(group[0].startswith(part) for group in exact) for part in ("train", "test")] == [24, 6]
    assert found["exact_duplicates_across"] == {"parts": 0, "classes": 0, "patients": 1}
    two_ids = [group for group in exact if any("NORMAL2-IM-0095" in name for name in group)]
    assert any("NORMAL2-IM-0096" in name for name in two_ids[0])
    assert found["near_duplicates"] == []
    assert found["patients_on_both_sides"] == {"by_kind_and_id": 0, "by_id": 170}
    assert all(patient.startswith("person") for patient in found["who_is_on_both_sides"]["by_id"])
    assert found["ids_of_both_kinds"]["train"] == 808
    assert found["most_images_of_a_patient"]["by_kind_and_id"] == 30
    assert found["leak_of_a_random_split"]["test"]["by_id"] == pytest.approx(0.42, abs=0.01)
    assert 0.09 < found["leak_of_a_random_split"]["a random 624 of all"]["by_kind_and_id"] < 0.14
    assert found["share_of_pneumonia"] == pytest.approx({"test": 0.625, "train": 0.743}, abs=0.001)
    assert found["trivial_features"]["PNEUMONIA from NORMAL"]["auc"] == pytest.approx(0.90, abs=0.02)
    assert found["gray_levels"]["tell"]["PNEUMONIA from NORMAL"]["auc"] == pytest.approx(0.93, abs=0.02)
    assert set(found["gray_levels"]["sources"]) == {"part", "subtype"}
    assert found["orientation"]["inverted"] == found["orientation"]["mirrored_to_each_other"] == []
    assert len(found["orientation"]["turned"]) < 0.01 * 5840
    assert not any("on its side" in one["how"] for one in found["orientation"]["turned"])
    black = found["signs"]["a black bar"]["by_class"]
    assert {label: round(n / of, 2) for label, (n, of) in black.items()} == {"NORMAL": 0.34, "PNEUMONIA": 0.08}
    assert found["unreadable"] == []
