"""What is black and what is white where files do not say it: decided by the set, once, at every size and place."""

import errno
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from pictures import RAMP, dicom, encoded, lut, png16, xray
from PIL import Image
from runs import call, finish

from configs import default
from pneumojax import config as configs
from pneumojax import data, predict
from pneumojax import run as runs
from pneumojax.data import audit, decode, files, folder, given, levels, prepare, stream
from pneumojax.data.levels import Levels, Range
from pneumojax.errors import BadInput

pytest.importorskip("pydicom")

DARK = xray(64, 64).astype(np.uint16)  # 8 bits
FOURTEEN = np.linspace(0, 16383, 4096).astype(np.uint16).reshape(64, 64)


def ramp(bits: int) -> np.ndarray:
    """uint16 [64, 64] from 0 to the largest value of so many bits."""
    return np.linspace(0, 2**bits - 1, 4096).round().astype(np.uint16).reshape(64, 64)


@pytest.fixture
def written(tmp_path):
    """Writes files, given by name, as a set of one class; `config.data` for it, whose cache is empty."""

    def write(contents: dict[str, bytes], where: str = "set", **fields):
        c = default.get_config().data
        c.dir, c.cache = str(tmp_path / where), str(tmp_path / f"cache of {where}")
        for folder_ in (c.dir, c.cache):
            shutil.rmtree(folder_, ignore_errors=True)
        (tmp_path / where / "NORMAL").mkdir(parents=True)
        for name, content in contents.items():
            (tmp_path / where / "NORMAL" / name).write_bytes(content)
        c.update(fields)
        return c

    return write


@pytest.fixture
def load(written):
    """Loads such a set at 64 pixels: the gray pixels of each by its name, and the whole of it."""

    def load(contents: dict[str, bytes], **fields):
        images = data.load(written(contents, **fields), 64)
        return by_name(images), images

    return load


def by_name(images) -> dict[str, np.ndarray]:
    return {name.removeprefix("NORMAL/"): one for name, one in zip(images.names, images.pixels, strict=True)}


def shown(stored: np.ndarray, black: float, white: float) -> np.ndarray:
    """The reference: stored values from black to white, in 0…255, unrounded."""
    return np.clip((stored.astype(float) - black) / (white - black), 0, 1) * 255


def assert_shown(pixels: dict, expected: dict) -> None:
    assert pixels.keys() == expected.keys()
    for name, one in expected.items():
        np.testing.assert_allclose(pixels[name], one, atol=0.51, err_msg=name)


def test_the_fewest_bits_that_hold_the_values():
    for least, largest, most, signed, black, white in (
        (0, 4095, 16, False, 0, 4095),
        (0, 4096, 16, False, 0, 8191),
        (0, 3, 16, False, 0, 255),
        (0, 3, 6, False, 0, 63),
        (0, 65535, 16, False, 0, 65535),
        (-5, 127, 16, True, -128, 127),
        (-5, 128, 16, True, -256, 255),
        (-129, 0, 16, True, -256, 255),
        (-2048, 2047, 12, True, -2048, 2047),
        (3, 9, 12, True, -128, 127),
        (-1, -1, 4, True, -8, 7),
    ):
        assert levels.of_bits("x", least, largest, most, signed) == ("x", black, white)


def test_one_image_of_more_bits_decides_for_its_group_and_no_other(load):
    """Not each picture by itself: one pixel of 4096 must not darken one image by 16 and leave the others."""
    bright = ramp(12)
    bright[3, 3] = 4096
    contents = {
        "a.png": png16(ramp(12)),
        "b.png": png16(bright),
        "c.png": png16(ramp(10), sBIT=b"\x0c"),
        "d.png": png16(DARK, sBIT=b"\x0c"),
        "e.png": encoded(DARK.astype(np.uint8), "PNG"),
        "f.dcm": dicom(ramp(12), BitsStored=16),
        "g.dcm": dicom(ramp(14), BitsStored=16, RescaleSlope=-1),
        "h.dcm": dicom(ramp(10), BitsStored=12),
        "i.dcm": dicom(ramp(9).astype(np.int16) - 300, BitsStored=16),
        "j.dcm": dicom(ramp(16), BitsStored=16, WindowCenter=30000, WindowWidth=20001),
        "k.jpg": encoded(DARK.astype(np.uint8)),
        "l.dcm": dicom(ramp(12), "MONOCHROME1", BitsStored=16),
    }
    pixels, images = load(contents)
    assert_shown(
        pixels,
        {
            "a.png": shown(ramp(12), 0, 8191),
            "b.png": shown(bright, 0, 8191),
            "c.png": shown(ramp(10), 0, 4095),
            "d.png": shown(DARK, 0, 4095),
            "e.png": DARK,
            "f.dcm": shown(ramp(12), 0, 16383),
            "g.dcm": 255 - shown(ramp(14), 0, 16383),
            "h.dcm": shown(ramp(10), 0, 1023),
            "i.dcm": shown(ramp(9).astype(int) - 300, -512, 511),
            "j.dcm": shown(ramp(16), 19999.5, 39999.5),
            "k.jpg": decode.read(contents["k.jpg"], "k.jpg").gray,
            "l.dcm": 255 - shown(ramp(12), 0, 16383),
        },
    )
    assert images.gray == {
        "window": "as viewer",
        "groups": {
            "DICOM of 12 bits": {"black": 0, "white": 1023, "bits": 10},
            "DICOM of 16 bits": {"black": 0, "white": 16383, "bits": 14},
            "DICOM of 16 bits, signed": {"black": -512, "white": 511, "bits": 10},
            "PNG of 16 bits": {"black": 0, "white": 8191, "bits": 13},
            "PNG of 16 bits, sBIT 12": {"black": 0, "white": 4095, "bits": 12},
        },
        "turned": 0,
    }
    assert levels.of_facts(json.loads(json.dumps(images.gray))) == Levels(
        ranges=tuple(Range(group, one["black"], one["white"]) for group, one in images.gray["groups"].items())
    )


@pytest.mark.parametrize(
    ("sbit", "largest", "white"),
    [
        (b"\x0c", 4095, 4095),
        (b"\x0c", 4096, 8191),
        (b"\x0c", 65535, 65535),  # as the specification has it, scaled up to 16 bits
        (b"\x0e", 255, 16383),
        (b"\x06", 63, 63),
        (b"\x06", 64, 255),
        (b"\x10", 255, 65535),
        (b"\x00", 255, 255),  # nothing possible, so none
        (b"\x11", 255, 255),
        (b"\x0c\x0c\x0c", 255, 255),
    ],
)
def test_what_an_sbit_chunk_says_counts_where_all_of_its_group_fit(load, sbit, largest, white):
    bright, dim = np.full((64, 64), largest, np.uint16), np.full((64, 64), min(largest, 255), np.uint16)
    bright[:32] = dim[:32] = 1
    pixels, images = load({"a.png": png16(bright, sBIT=sbit), "b.png": png16(dim, sBIT=sbit)})
    assert_shown(pixels, {"a.png": shown(bright, 0, white), "b.png": shown(dim, 0, white)})
    assert [one["white"] for one in images.gray["groups"].values()] == [white]


def test_colour_and_alpha_of_16_bits_are_of_the_same_groups(load):
    gray = ramp(10)
    colour, alpha = np.stack([gray] * 3, 2), np.stack([ramp(12), np.full((64, 64), 65535, np.uint16)], 2)
    pixels, images = load({"a.png": png16(colour), "b.png": png16(alpha), "c.png": png16(gray)})
    assert_shown(pixels, {name: shown(ramp(12 if name == "b.png" else 10), 0, 4095) for name in pixels})
    assert list(images.gray["groups"]) == ["PNG of 16 bits"]


def test_modality_tables_without_a_window_are_shown_from_the_least_to_the_largest_of_all(load):
    codes = (RAMP // 16).astype(np.uint8)
    low, high = (lut([start + 4 * v for v in range(256)], 0, 12) for start in (100, 2000))
    contents = {"a.dcm": dicom(codes, ModalityLUTSequence=low), "b.dcm": dicom(codes, ModalityLUTSequence=high)}
    pixels, images = load(contents)
    black, white = 100, 2000 + 4 * 255
    expected = {name: shown(start + 4.0 * codes, black, white) for name, start in (("a.dcm", 100), ("b.dcm", 2000))}
    assert_shown(pixels, expected)
    assert images.gray["groups"] == {"DICOM with a modality LUT": {"black": black, "white": white}}


def test_what_cannot_be_read_has_no_say(load):
    """A picture of 16 bits that is all white is none of the set, and neither is one of two alike values."""
    contents = {
        "a.png": png16(ramp(10)),
        "b.png": png16(np.full((9, 9), 65535, np.uint16)),
        "c.png": png16(ramp(16))[:-30],
        "d.dcm": dicom(ramp(10)),
        "e.dcm": dicom(np.full((9, 9), 65535, np.uint16)),
        "f.dcm": dicom(ramp(16), RescaleSlope=0),
    }
    pixels, images = load(contents, on_bad="skip")
    assert_shown(pixels, {"a.png": shown(ramp(10), 0, 1023), "d.dcm": shown(ramp(10), 0, 1023)})
    assert images.left_out == {"unreadable": 4}
    assert [line for line in images.skipped if "alike" in line] == [
        f"NORMAL/{name}: all pixels are alike: leave it out, or fetch it again" for name in ("b.png", "e.dcm")
    ] + ["NORMAL/f.dcm: RescaleSlope 0 makes all pixels alike: mend the header, or leave it out"]
    with pytest.raises(BadInput, match="4 of 6 images"):
        load(contents)


def test_the_audit_counts_a_picture_whose_pixels_are_all_alike_as_unreadable(written):
    c = written({"a.png": png16(ramp(10)), "b.jpg": encoded(np.full((50, 40), 9, np.uint8))})
    found, names = audit.audit(Path(c.dir))
    assert names == ["NORMAL/a.png"]
    why = "all pixels are alike: leave it out, or fetch it again"
    assert found["unreadable"] == [{"file": "NORMAL/b.jpg", "why": why}]


def test_a_picture_that_the_set_leaves_all_black_is_named(load):
    faint = np.array([[0, 1], [2, 3]], np.uint16)
    _, images = load({"a.png": png16(ramp(16)), "b.png": png16(faint)}, on_bad="skip")
    assert images.skipped == ("NORMAL/b.png: all pixels are alike: leave it out, or fetch it again",)
    assert images.gray["groups"]["PNG of 16 bits"]["bits"] == 16


def test_the_same_numbers_at_every_size_from_the_cache_and_from_disk(written, monkeypatch):
    c = written(
        {"a.png": png16(ramp(12)), "b.png": png16(ramp(14)), "c.dcm": dicom(ramp(10)), "d.dcm": dicom(ramp(11))}
    )
    large, small = data.load(c, 64), data.load(c, 16)
    assert small.gray == large.gray
    resized = Image.fromarray(large.pixels[0]).resize((16, 16), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(small.pixels[0], np.asarray(resized))
    c.residence = "stream"
    listed = data.load(c, 64)
    assert data.fingerprint(listed) == data.fingerprint(large)
    assert listed.gray == large.gray
    np.testing.assert_array_equal(stream.Streamed(listed.pixels, 64, "stretch").read(np.arange(4)), large.pixels)
    monkeypatch.setattr(files, "decode", lambda *_: pytest.fail("decoded again"))
    for c.residence in ("device", "stream"):
        again = data.load(c, 64)
        assert again.gray == large.gray
        assert data.fingerprint(again) == data.fingerprint(large)


def test_only_what_the_set_shows_otherwise_is_decoded_twice(written, monkeypatch):
    made = {"a.jpg": encoded(xray(64, 64)), "b.png": encoded(xray(64, 64), "PNG"), "c.png": png16(ramp(12))}
    made |= {"d.png": png16(ramp(14)), "e.png": png16(ramp(14)), "f.dcm": dicom(RAMP, WindowCenter=9, WindowWidth=9)}
    c, opened, read = written(made), [], folder.read
    monkeypatch.setattr(folder, "read", lambda path: opened.append(path.name) or read(path))
    data.load(c, 64)
    assert sorted(opened) == sorted([*made, "c.png"])


def test_each_window_has_a_cache_of_its_own(written):
    c = written({"a.dcm": dicom(RAMP, BitsStored=12, WindowCenter=100, WindowWidth=51)})
    assert_shown(by_name(data.load(c, 64)), {"a.dcm": shown(RAMP, 74.5, 124.5)})
    c.window = "percentile"
    images = data.load(c, 64)
    assert_shown(by_name(images), {"a.dcm": shown(RAMP, *np.percentile(RAMP, (0.5, 99.5)))})
    assert images.gray == {"window": "percentile", "groups": {}, "turned": 0}
    with pytest.raises(BadInput, match=r"config.data.window='viewer': give one of as viewer, first window, percentile"):
        configs.load("configs/demo.py", ["--config.data.window=viewer"])


@pytest.mark.parametrize("residence", ["device", "stream"])
def test_a_file_that_comes_late_has_its_say(written, monkeypatch, residence):
    """As if it had been there from the start: those that are shown otherwise for it are decoded again, no others."""
    made = {"a.png": png16(ramp(12)), "b.png": png16(ramp(14)), "c.png": png16(ramp(10), sBIT=b"\x0c")}
    whole = data.load(written(made, "whole"), 64)
    c, opened, read = written(made, on_bad="skip", residence=residence), [], folder.read

    def stale(path):
        if path.name == "b.png":
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return read(path)

    monkeypatch.setattr(folder, "read", stale)
    first = data.load(c, 64)
    assert len(first.names) == 2
    assert first.gray["groups"]["PNG of 16 bits"]["bits"] == 12
    monkeypatch.setattr(folder, "read", lambda path: opened.append(path.name) or read(path))
    then = data.load(c, 64)
    assert opened == ["b.png", "a.png"]
    assert data.fingerprint(then) == data.fingerprint(whole)
    assert then.gray == whole.gray
    assert data.fingerprint(data.load(c, 64)) == data.fingerprint(whole)
    assert opened == ["b.png", "a.png"]


def test_an_external_set_has_numbers_of_its_own(written):
    c = written({"a.png": png16(RAMP), "b.dcm": dicom(RAMP[:, ::-1].copy())})
    other = written({"a.png": png16(ramp(15)[::-1]), "b.dcm": dicom(ramp(16).T.copy())}, "hospital")
    c.external = (("hospital", other.dir),)
    for c.residence in ("device", "stream"):
        images, _ = data.with_external(data.load(c, 64), c, 64)
        bits = {group: one["bits"] for group, one in images.gray["groups"].items()}
        assert bits == {"PNG of 16 bits": 12, "DICOM of 16 bits": 12}
        bits = {group: one["bits"] for group, one in images.gray["external"]["hospital"]["groups"].items()}
        assert bits == {"PNG of 16 bits": 15, "DICOM of 16 bits": 16}
        pixels = images.pixels
        if c.residence == "stream":
            pixels = stream.Streamed(images.pixels, 64, "stretch").read(np.arange(4))
        theirs = [shown(ramp(15)[::-1], 0, 32767), shown(ramp(16).T, 0, 65535)]
        np.testing.assert_allclose(pixels, [shown(RAMP, 0, 4095), shown(RAMP[:, ::-1], 0, 4095), *theirs], atol=0.51)


def test_a_prepared_set_is_shown_as_its_folder_is(written, tmp_path):
    c = written({"a.png": png16(ramp(12)), "b.png": png16(ramp(14))})
    for part in ("train", "test"):
        shutil.copytree(tmp_path / "set" / "NORMAL", tmp_path / "set" / part / "NORMAL")
    shutil.rmtree(tmp_path / "set" / "NORMAL")
    from_folder = data.load(c, 32)
    prepare.prepare(folder.source(tmp_path / "set"), tmp_path / "prepared", {})
    c.name, c.dir = "kermany", str(tmp_path / "prepared")
    prepared = data.load(c, 32)
    assert prepared.gray == from_folder.gray
    assert data.fingerprint(prepared) == data.fingerprint(from_folder)


def test_the_log_says_what_the_set_came_to(written, caplog):
    exif = Image.Exif()
    exif[0x0112] = 6
    made = {f"{n}.jpg": encoded(xray(40, 60, n), exif=exif) for n in range(3)} | {"a.png": png16(ramp(12))}
    with caplog.at_level("INFO", logger="absl"):
        c = written(made)
        images = data.load(c, 64)
    assert images.gray["turned"] == 3
    assert [line for line in caplog.messages if "gray values" in line] == [
        f"{c.dir}: gray values: PNG of 16 bits: 0 is black, 4095 white (12 bits); turned upright by EXIF: 3 images"
    ]


@pytest.mark.slow
def test_a_run_keeps_its_numbers_and_predict_uses_them(tiny_flags, tmp_path, caplog):
    """And says so where a new image holds more, or is of a kind that the run has not seen."""
    rng = np.random.default_rng(0)
    for label in ("NORMAL", "PNEUMONIA"):
        for number in range(30):
            path = tmp_path / "set" / label / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(png16(rng.integers(0, 4096, (20, 20)).astype(np.uint16)))
    fields = {"data.name": "folder", "data.dir": tmp_path / "set", "data.cache": tmp_path / "cache", "trials": "(0,)"}
    fields |= {"protocols": "('clean',)", "arms": "('without_gan',)", "data.subset": "(12, 20)"}
    flags = [*tiny_flags, *(f"--config.{name}={value}" for name, value in fields.items())]
    workdir = finish(flags, tmp_path / "run")
    run = json.loads((workdir / "results.json").read_text())
    groups = {"PNG of 16 bits": {"black": 0, "white": 4095, "bits": 12}}
    assert run["data"]["gray"] == {"window": "as viewer", "groups": groups, "turned": 0}
    assert "Gray values: PNG of 16 bits: 0 is black, 4095 white (12 bits)." in (workdir / "report.html").read_text()

    def answers(content: bytes, name: str) -> list:
        (tmp_path / name).write_bytes(content)
        done = runs.load(workdir)
        images, pixels, _ = predict.decoded(done, given.find([tmp_path / name]))
        asked = predict.members(done, ["trial0/clean/without_gan"])
        return predict.answers(done, asked, predict.restored(done, asked[0].stage), images, pixels).images

    dim = rng.integers(0, 300, (20, 20)).astype(np.uint16)
    by_the_run = encoded((dim / 4095 * 255).round().astype(np.uint8), "PNG")
    assert answers(png16(dim), "a.png")[0]["logits"] == answers(by_the_run, "b.png")[0]["logits"]
    bright = png16(rng.integers(0, 9000, (20, 20)).astype(np.uint16))
    for content, name, words in (
        (bright, "c.png", "c.png'): PNG of 16 bits with values beyond the run's 0 to 4095, which are clipped"),
        (dicom(RAMP), "d.dcm", "d.dcm'): the run has no DICOM of 16 bits: what is black and white is told by each"),
    ):
        (tmp_path / name).write_bytes(content)
        assert (
            call(predict.main, tmp_path / name, f"--workdir={workdir}", "--classifier=trial0/clean/without_gan")[0] == 0
        )
        assert caplog.text.count(words) == 1
