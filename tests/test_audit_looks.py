"""What a set looks like to a network: windows, inversion, orientation, bars and marks that were planted are seen."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import stats
from sklearn.metrics import roc_auc_score

from pneumojax.data import CLASSES, audit, phantom, picture
from pneumojax.data.audit import grays, look, orientation, outliers, questions

COUNT = 40  # images of each class
SIDE = 112


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    """Name → phantom, uint8 [SIDE, SIDE]."""
    images = phantom.load(SimpleNamespace(classes=CLASSES, phantom_images=(COUNT, COUNT)), SIDE)
    return dict(zip(images.names, images.pixels, strict=True))


def run(root: Path, pictures: dict[str, np.ndarray]) -> tuple[dict, str]:
    """Writes PNGs and runs the command: (audit.json, audit.html)."""
    for name, pixels in pictures.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    audit.main([str(root), f"--out={root / 'out'}"])
    return json.loads((root / "out/audit.json").read_text()), (root / "out/audit.html").read_text(encoding="utf-8")


def banners(page: str) -> str:
    """What stands at the top of the page."""
    return page.split("</style>")[1].split("<h2>")[0]


def is_sick(name: str) -> bool:
    return name.startswith("PNEUMONIA")


@pytest.fixture(scope="module")
def plain(tmp_path_factory, pictures):
    """The audit of phantoms of which none is turned, inverted, framed or marked."""
    return run(tmp_path_factory.mktemp("phantoms"), pictures)


def test_phantoms_have_no_groups_no_bars_no_marks_and_all_lie_alike(plain):
    found, page = plain
    assert "found groups" not in found["gray_levels"]["sources"]
    assert found["signs"] == {}
    assert found["orientation"]["turned"] == found["orientation"]["inverted"] == []
    assert found["orientation"]["mirrored_to_each_other"] == []
    assert found["orientation"]["shapes"] == {"square": 2 * COUNT}
    assert found["orientation"]["common_layout"] > orientation.ALIKE
    assert found["marks"] == found["widest_bars"] == {}
    assert "none here" in page
    assert "http" not in page  # self-contained
    for word in ("groups, as of scanners", "lie otherwise", "black for white"):
        assert word not in banners(page)


def test_histograms_are_means_of_images(plain, pictures):
    found, _ = plain
    for label in CLASSES:
        own = [
            np.bincount(pixels.ravel(), minlength=256) / SIDE**2 for name, pixels in pictures.items() if label in name
        ]
        assert found["gray_levels"]["by_class"][label] == pytest.approx(np.mean(own, 0), abs=1e-6)
        blacks = [np.sort(pixels.ravel())[int(0.005 * SIDE**2)] for name, pixels in pictures.items() if label in name]
        counts = found["gray_levels"]["points"]["black point"][label]
        assert counts == np.histogram(blacks, 64, (0, 256))[0].tolist()


def test_two_scanners_with_other_windows_are_found_without_being_told(tmp_path, pictures):
    changed = dict(pictures)
    other = list(pictures)[::2]
    for name in other:
        changed[name] = np.round(40 + pictures[name] * (100 / 255)).astype(np.uint8)
    found, page = run(tmp_path, changed)
    source = found["gray_levels"]["sources"]["found groups"]
    assert sorted(group["images"] for group in source["values"].values()) == [COUNT, COUNT]
    assert all(
        group["by_class"] == {"NORMAL": COUNT // 2, "PNEUMONIA": COUNT // 2} for group in source["values"].values()
    )
    windowed = min(source["values"].values(), key=lambda group: group["points"]["white point"])
    blacks = [np.sort(changed[name].ravel())[int(0.005 * SIDE**2)] for name in other]
    assert windowed["points"]["black point"] == pytest.approx(np.mean(blacks), abs=1e-6)
    assert source["tell"]["PNEUMONIA from NORMAL"] == {"auc": 0.5, "p": 1.0}
    assert "There are 2 groups, as of scanners with other windows" in banners(page)


def test_a_scanner_for_each_class_is_called_high(tmp_path, pictures):
    changed = {name: pixels // 3 if is_sick(name) else pixels for name, pixels in pictures.items()}
    found, page = run(tmp_path, changed)
    answer = found["gray_levels"]["tell"]["PNEUMONIA from NORMAL"]
    assert answer["auc"] > 0.95
    assert answer["statement"].startswith(
        "Gray levels, wherever they lie in a picture, tell PNEUMONIA from NORMAL with AUC"
    )
    assert answer["statement"] in banners(page)
    groups = found["gray_levels"]["sources"]["found groups"]
    assert groups["tell"]["PNEUMONIA from NORMAL"]["auc"] > 0.95
    assert groups["statement"] in banners(page)


def test_sources_are_parts_own_folders_modes_and_sizes(tmp_path, pictures):
    for number, (name, pixels) in enumerate(pictures.items()):
        folder, file = name.split("/")
        place = tmp_path / ("test" if number % 5 == 0 else "train") / folder / f"site{number % 2}" / file
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number % 2 * 10 :]).convert("RGB" if is_sick(name) else "L").save(place)
    found, page = run(tmp_path, {})
    values = {kind: set(source["values"]) for kind, source in found["gray_levels"]["sources"].items()}
    assert values == {
        "part": {"train", "test"},
        "folder": {"site0", "site1"},
        "mode": {"gray", "RGB"},
        "size": {"112 x 112", "112 x 102"},
    }
    assert found["gray_levels"]["sources"]["mode"]["statement"].startswith(
        "The mode tells PNEUMONIA from NORMAL with AUC 1.00"
    )
    assert "The mode tells PNEUMONIA from NORMAL with AUC 1.00" in banners(page)
    assert "The folder tells" not in banners(page)


def test_the_scanner_of_a_dicom_is_a_source(tmp_path, pictures):
    pydicom = pytest.importorskip("pydicom")
    for number, (name, pixels) in enumerate(pictures.items()):
        header = pydicom.Dataset()
        header.file_meta = pydicom.dataset.FileMetaDataset()
        header.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        header.Manufacturer, header.ManufacturerModelName = ("A", "One") if is_sick(name) else ("B", None)
        header.PatientID = header.SOPInstanceUID = str(number + 1)
        header.SOPClassUID = pydicom.uid.ComputedRadiographyImageStorage
        header.Rows, header.Columns, header.SamplesPerPixel = SIDE, SIDE, 1
        header.PhotometricInterpretation, header.PixelRepresentation = "MONOCHROME2", 0
        header.BitsAllocated, header.BitsStored, header.HighBit = 8, 8, 7
        header.PixelData = pixels.tobytes()
        place = (tmp_path / name).with_suffix(".dcm")
        place.parent.mkdir(exist_ok=True)
        header.save_as(place, enforce_file_format=True)
    found, _ = run(tmp_path, {})
    scanners = found["gray_levels"]["sources"]["scanner"]["values"]
    assert {name: value["by_class"] for name, value in scanners.items()} == {
        "A One": {"NORMAL": 0, "PNEUMONIA": COUNT},
        "B": {"NORMAL": COUNT, "PNEUMONIA": 0},
    }
    assert look.read_header((tmp_path / next(iter(pictures))).with_suffix(".dcm").read_bytes()) == ("B", "8 bits")


def test_gray_values_are_those_of_the_set(tmp_path, pictures):
    """12 bits in 16: the brightest of all images says what is white, in the audit as in training."""
    for number, (name, pixels) in enumerate(pictures.items()):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        stored = pixels.astype(np.uint16) * (16 if number == 0 else 4)
        Image.fromarray(stored).save(tmp_path / name)
    found, page = run(tmp_path, {})
    assert [group["bits"] for group in found["gray_values"]["groups"].values()] == [12]
    dark = [pixels for number, (name, pixels) in enumerate(pictures.items()) if number and is_sick(name)]
    white = np.mean([np.sort(np.round(own * (4 * 255 / 4095)).ravel())[int(0.995 * SIDE**2)] for own in dark])
    groups = found["gray_levels"]["points"]["white point"]["PNEUMONIA"]
    assert np.average(np.arange(64) * 4 + 2, weights=groups) == pytest.approx(white, abs=3)
    assert "4095 white (12 bits)" in page


def test_inverted_images_are_named(tmp_path, pictures):
    inverted = [name for number, name in enumerate(pictures) if number % 10 == 3]
    found, page = run(tmp_path, pictures | {name: 255 - pictures[name] for name in inverted})
    assert found["orientation"]["inverted"] == inverted
    assert found["orientation"]["turned"] == []
    assert found["signs"]["black for white"]["by_class"] == {"NORMAL": [4, COUNT], "PNEUMONIA": [4, COUNT]}
    assert "8 images are probably black for white" in banners(page)
    assert {one["file"] for one in found["outliers"]} >= set(inverted)


@pytest.mark.parametrize(
    ("way", "planted"),
    [
        ("on its side, top to the right", lambda pixels: np.rot90(pixels, -1)),
        ("on its side, top to the left", lambda pixels: np.rot90(pixels)),
        ("upside down", lambda pixels: np.rot90(pixels, 2)),
    ],
)
def test_a_class_that_lies_otherwise_is_named_and_told(tmp_path, pictures, way, planted):
    turned = [name for name in pictures if is_sick(name)][: COUNT - 4]
    found, page = run(tmp_path, pictures | {name: planted(pictures[name]) for name in turned})
    assert found["orientation"]["turned"] == [{"file": name, "how": way} for name in turned]
    sign = found["signs"]["another orientation than most"]
    assert sign["by_class"] == {"NORMAL": [0, COUNT], "PNEUMONIA": [COUNT - 4, COUNT]}
    assert sign["tell"]["PNEUMONIA from NORMAL"]["auc"] == pytest.approx(0.95)
    assert f"{COUNT - 4} images probably lie otherwise than most: {COUNT - 4} {way}." in banners(page)
    assert sign["statement"] in banners(page)


def test_classes_that_are_mirror_images_of_each_other_are_told(tmp_path, pictures):
    found, page = run(tmp_path, {name: np.fliplr(own) if is_sick(name) else own for name, own in pictures.items()})
    assert found["orientation"]["mirrored_to_each_other"] == [["NORMAL", "PNEUMONIA"]]
    assert "NORMAL and PNEUMONIA are mirror images of each other, in the mean." in banners(page)


def test_exif_orientations_are_counted(tmp_path, pictures):
    for number, (name, pixels) in enumerate(pictures.items()):
        exif = Image.Exif()
        exif[picture.ORIENTATION] = {0: 6, 1: 1}.get(number % 8, 9)  # 9 is none
        place = (tmp_path / name).with_suffix(".jpeg" if number % 2 else ".png")
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels[:, 1:]).save(place, **({} if number % 8 > 1 else {"exif": exif}))
    found, page = run(tmp_path, {})
    assert found["orientation"]["exif"] == {"6": 2 * COUNT // 8}
    assert "EXIF orientation: 6 (10)." in page


@pytest.mark.parametrize("content", [b"\xff\xd8\xff\xe1\0\x10Exif\0\0II*\0\xff\xff", b"", b"\x89PNG\r\n\x1a\neXIf"])
def test_a_damaged_exif_block_tells_nothing(content):
    assert look.exif_orientation(content) == 1


def test_bars_are_measured_and_told(tmp_path, pictures):
    changed = {name: pixels.copy() for name, pixels in pictures.items()}
    sick = [name for name in pictures if is_sick(name)]
    for name in sick:
        changed[name][:, :14], changed[name][:, -7:] = 0, 0
        ImageDraw.Draw(image := Image.fromarray(changed[name])).text((2, 2), "L", 255)  # a letter does not end a bar
        changed[name] = np.asarray(image).copy()
    framed = [name for name in pictures if not is_sick(name)][:2]
    for name in framed:
        changed[name][[0, -1]], changed[name][:, [0, -1]] = 255, 255
    found, page = run(tmp_path, changed)
    assert found["borders"]["PNEUMONIA"] == pytest.approx(
        {"images": COUNT, "top": 0, "bottom": 0, "left": 14 / SIDE, "right": 7 / SIDE}, abs=1.01 / SIDE
    )
    assert found["signs"]["a black bar"]["by_class"] == {"NORMAL": [0, COUNT], "PNEUMONIA": [COUNT, COUNT]}
    assert found["signs"]["a frame"]["by_class"] == {"NORMAL": [2, COUNT], "PNEUMONIA": [0, COUNT]}
    assert "A black bar: NORMAL 0 of 40 (0.0%), PNEUMONIA 40 of 40 (100.0%). It tells" in banners(page)
    assert set(found["widest_bars"]) <= set(sick)


def test_letters_near_the_edge_are_marks_and_their_boxes_hold_them(tmp_path, pictures):
    changed, marked = dict(pictures), [name for number, name in enumerate(pictures) if is_sick(name) and number % 2]
    for name in marked:
        image = Image.fromarray(pictures[name])
        ImageDraw.Draw(image).rectangle((88, 6, 106, 26), 20)
        ImageDraw.Draw(image).line([(94, 10), (94, 20), (100, 20)], 255, 2)
        changed[name] = np.asarray(image)
    found, page = run(tmp_path, changed)
    assert list(found["marks"]) == marked
    for boxes in found["marks"].values():
        left, top, right, bottom = np.multiply(boxes[0], SIDE)
        assert (left, top) <= (94, 10)
        assert left > 90
        assert top > 6
        assert right >= 100
        assert bottom >= 20
    assert found["signs"]["a mark"]["by_class"] == {"NORMAL": [0, COUNT], "PNEUMONIA": [len(marked), COUNT]}
    assert f"{len(marked)} images may bear letters or markers" in page


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 1), (2, 2), (160, 161), (1500, 1200)])
def test_pictures_of_any_shape_are_looked_at(shape):
    seen = look.look(np.random.default_rng(0).integers(0, 256, shape, np.uint8), b"")
    assert seen.histogram.sum() == pytest.approx(1)
    assert seen.thumbnail.shape == (look.THUMBNAIL, look.THUMBNAIL)
    assert all(0 <= bar.share <= 1 for bar in seen.bars)


def test_outliers_are_named_with_their_reason(tmp_path, pictures):
    dark, bright, noise = list(pictures)[5:50:20]
    changed = dict(pictures)
    changed[dark] = pictures[dark] // 4
    changed[bright] = 255 - (255 - pictures[bright]) // 5
    changed[noise] = np.random.default_rng(0).permutation(pictures[noise].ravel()).reshape(SIDE, SIDE)
    found, page = run(tmp_path, changed)
    why = {one["file"]: one["why"] for one in found["outliers"]}
    assert why[dark].startswith("darker than most, by ")
    assert why[bright].startswith("brighter than most, by ")
    assert why[noise].startswith("correlation with the mean picture")
    assert len(found["outliers"]) <= outliers.SHOWN
    assert why[dark] in page


@pytest.mark.parametrize("draw", ["normal", "uniform", "exponential", "laplace"])
def test_one_heap_is_not_cut(draw):
    for seed in range(20):
        values = getattr(np.random.default_rng(seed), draw)(size=300) * 60
        assert grays.cut_of(values, 6) is None


def test_two_heaps_are_cut_between_them():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(60, 10, 200), rng.normal(160, 10, 100)])
    explained, cut = grays.cut_of(values, 6)
    assert values[:200].max() < cut < values[200:].min()
    assert explained > 0.9
    assert grays.cut_of(values / 10, 6) is None  # the same, of less than DISTANCE


def test_association_is_the_auc_of_shares_and_fishers_test_of_patients():
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1], 60)
    has = rng.random(120) < np.where(targets == 1, 0.7, 0.2)
    auc, p = questions.associated(has, targets, np.arange(120))
    assert auc == pytest.approx(roc_auc_score(targets, has))
    table = [
        [np.sum(~has & (targets == side)) for side in (0, 1)],
        [np.sum(has & (targets == side)) for side in (0, 1)],
    ]
    assert p == pytest.approx(stats.fisher_exact(table)[1])
    # the same images, each twice: as many patients, so no less likely by luck
    twice = questions.associated(np.tile(has, 2), np.tile(targets, 2), np.tile(np.arange(120), 2))
    assert twice == pytest.approx((auc, p))
    several = np.array(["a", "b", "c"])[rng.integers(0, 3, 120)]
    shares = {value: targets[several == value].mean() for value in "abc"}
    auc, p = questions.associated(several, targets, np.arange(120))
    assert auc == pytest.approx(roc_auc_score(targets, [shares[value] for value in several]))
    counts = [[np.sum((several == value) & (targets == side)) for side in (0, 1)] for value in "abc"]
    assert p == pytest.approx(stats.chi2_contingency(counts)[1])


def test_quarter_turns_and_mirror_images_are_told_apart():
    """An F, blurred and lifted by noise, in all eight ways among upright ones."""
    rng = np.random.default_rng(0)
    letter = np.zeros((32, 32))
    letter[4:28, 8:12], letter[4:8, 8:24], letter[14:18, 8:20] = 200, 200, 200
    upright = np.clip(letter + rng.normal(30, 20, (60, 32, 32)), 0, 255).astype(np.uint8)
    planted = {
        0: (lambda a: a, "upright"),
        1: (np.fliplr, "mirrored"),
        2: (lambda a: np.rot90(a, -1), "on its side, top to the right"),
        3: (lambda a: np.rot90(np.fliplr(a), -1), "on its side, top to the right, mirrored"),
        4: (lambda a: np.rot90(a, 2), "upside down"),
        5: (np.flipud, "upside down, mirrored"),
        6: (np.rot90, "on its side, top to the left"),
        7: (lambda a: np.rot90(np.fliplr(a)), "on its side, top to the left, mirrored"),
    }
    lying = [planted[i if i < len(planted) else 0][0](picture) for i, picture in enumerate(upright)]
    lie = orientation.compare(np.stack(lying))
    assert lie.how == [way for _, way in planted.values()] + ["upright"] * (60 - len(planted))
    assert not lie.inverted.any()


def test_pictures_without_a_common_layout_are_not_judged():
    noise = np.random.default_rng(0).integers(0, 255, (50, 32, 32), np.uint8)
    lie = orientation.compare(noise)
    assert lie.common is None
    assert lie.how == ["upright"] * 50
