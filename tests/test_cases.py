"""Inputs that once failed in silence or with a traceback, by the commands themselves: an answer, or one `error:` line.

That the gray values are right is tested in test_dicom.py, test_levels.py and test_decode.py, layouts in test_data.py,
paths and names in test_paths.py and test_names.py, weights in test_state_dict.py.
"""

import zipfile
from collections import OrderedDict

import numpy as np
import pydicom
import pytest
import torch
from pictures import RAMP, chunk, dicom, encoded, lut, png16, xray
from PIL import Image
from runs import call, error_of

from pneumojax import main, predict
from pneumojax.data import prepare

TWELVE = {"BitsStored": 12}
ALIGNED = (RAMP << 4).astype(np.uint16)


def report_without_a_picture() -> bytes:
    header = pydicom.dcmread(pydicom.filebase.DicomBytesIO(dicom(RAMP, **TWELVE)))
    del header.PixelData
    header.SOPClassUID = pydicom.uid.BasicTextSRStorage
    content = pydicom.filebase.DicomBytesIO()
    pydicom.dcmwrite(content, header, enforce_file_format=True)
    return content.getvalue()


def lying() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(xray(60, 40), exif=exif)


ANSWERED = {  # one image each
    "slope.dcm": lambda: dicom(RAMP, **TWELVE, RescaleSlope="-1", RescaleIntercept="4095"),
    "intercept alone.dcm": lambda: dicom(RAMP, **TWELVE, RescaleIntercept="-1024"),
    "left aligned.dcm": lambda: dicom(ALIGNED, BitsStored=12, HighBit=15),
    "twelve of sixteen bits.dcm": lambda: dicom(RAMP),
    "modality table of twelve bits.dcm": lambda: dicom(
        RAMP, **TWELVE, ModalityLUTSequence=lut(range(4095, -1, -1), 0, 12)
    ),
    "empty elements.dcm": lambda: dicom(
        RAMP, **TWELVE, RescaleSlope=None, NumberOfFrames=None, VOILUTFunction=None, WindowWidth=None
    ),
    "width 0.dcm": lambda: dicom(RAMP, **TWELVE, WindowCenter="100", WindowWidth="0"),
    "wide table.dcm": lambda: dicom(RAMP, **TWELVE, VOILUTSequence=lut(range(0, 4096, 16), 0, 16)),
    "fourteen bits.png": lambda: png16((RAMP * 4).astype(np.uint16)),
    "said bits.png": lambda: png16(RAMP, sBIT=b"\x0c"),
    "lying.jpg": lying,
}
REFUSED = {  # the same, and what is said of it
    "report.dcm": (report_without_a_picture, "a DICOM without a picture (Basic Text SR Storage): leave it out"),
    "slope 0.dcm": (lambda: dicom(RAMP, **TWELVE, RescaleSlope="0"), "RescaleSlope 0"),
    "alike.png": (lambda: encoded(np.full((40, 40), 7, np.uint8), "PNG"), "all pixels are alike"),
    "alike.jpg": (lambda: encoded(np.full((40, 40), 7, np.uint8)), "all pixels are alike"),
    "empty.png": (lambda: b"", "an empty file"),
    "cut.jpg": (lambda: encoded(xray(60, 40))[:400], "fetch it again"),
}


@pytest.mark.parametrize("name", ANSWERED)
def test_an_image_that_can_be_read_is_answered(name, whole, tmp_path, capsys):
    (tmp_path / name).write_bytes(ANSWERED[name]())
    assert call(predict.main, f"--workdir={whole}", tmp_path / name)[0] == 0
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{tmp_path / name}\t")


@pytest.mark.parametrize("name", REFUSED)
def test_an_image_that_cannot_is_told_with_the_reason(name, whole, tmp_path):
    content, reason = REFUSED[name]
    (tmp_path / name).write_bytes(content())
    line, listed = error_of(call(predict.main, f"--workdir={whole}", tmp_path / name), 2)
    assert line.startswith("1 of 1 images cannot be read")
    assert listed.startswith(f"{tmp_path / name}: ")
    assert reason in listed


def xrays(root, *folders: str) -> None:
    for seed, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / f"IM-{seed}-1.png").write_bytes(encoded(xray(40, 40, seed), "PNG"))


def archive(path, *members: str) -> str:
    with zipfile.ZipFile(path, "w") as file:
        for seed, member in enumerate(members):
            file.writestr(member, encoded(xray(40, 40, seed), "PNG"))
    return str(path)


def test_a_folder_too_high_and_two_sites_are_named(tmp_path, tiny_flags):
    command = [*tiny_flags, "--config.data.name=folder", f"--workdir={tmp_path / 'run'}"]
    xrays(tmp_path / "high", "chest_xray/train/NORMAL", "chest_xray/train/PNEUMONIA")
    [line] = error_of(call(main.main, *command, f"--config.data.dir={tmp_path / 'high'}"), 2)
    assert f"lie in {tmp_path / 'high/chest_xray'} (2): give that folder" in line
    xrays(tmp_path / "sites", "a/NORMAL", "a/PNEUMONIA", "b/NORMAL", "b/PNEUMONIA")
    [line] = error_of(call(main.main, *command, f"--config.data.dir={tmp_path / 'sites'}"), 2)
    assert "holds data sets side by side, a (2), b (2): give one" in line
    file = archive(
        tmp_path / "two.zip", *(f"{site}/{label}/1.png" for site in "ab" for label in ("NORMAL", "PNEUMONIA"))
    )
    [line] = error_of(call(prepare.main, f"--from={file}", f"--out={tmp_path / 'out'}"), 2)
    assert "holds data sets side by side, a (2), b (2): give one" in line
    assert not (tmp_path / "run/config.json").exists()


class Module(torch.nn.Module):
    """What must not be unpickled."""


WEIGHTS = {
    "a module.pth": (lambda: torch.nn.Linear(2, 2), "more than plain tensors"),
    "two networks.pth": (
        lambda: {"g": {"a.weight": torch.ones(2)}, "d": {"b.weight": torch.ones(3)}},
        "two networks.pth",
    ),
    "numbers.pth": (lambda: {"a": 1, "b": 2.0}, "numbers.pth"),
    "another network.pth": (lambda: OrderedDict({"conv.weight": torch.ones(2, 2)}), "conv.weight"),
    "quantised.pth": (
        lambda: {"fc.weight": torch.quantize_per_tensor(torch.ones(3, 3), 0.1, 0, torch.qint8)},
        "quantised.pth",
    ),
    "sparse.pth": (lambda: {"fc.weight": torch.eye(3).to_sparse()}, "sparse.pth"),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_another_kind_are_one_line(name, tmp_path, tiny_flags):
    made, words = WEIGHTS[name]
    torch.save(made(), tmp_path / name)
    flags = [f"--config.model.weights={tmp_path / name}", "--config.model.width=64", f"--workdir={tmp_path / 'run'}"]
    command = [flag for flag in tiny_flags if "model.width" not in flag]
    assert words in " ".join(error_of(call(main.main, *command, *flags), 2))


CONFIG = {
    "--config.enlarge=inf": "config.enlarge=inf: ",
    "--config.gan.beta1=nan": "config.gan.beta1=nan: ",
    "--config.trials=(3000000000,)": "config.trials=(3000000000,): ",
    "--config.trials=(True,)": "config.trials=(True,): ",
    "--config.data.external=('DIR',)": "config.data.external=('DIR',): give ({'name': NAME, 'dir': DIR}, …)",
    "--config.data.patient_pattern=(": "config.data.patient_pattern='(': give a regular expression",
    "--config.data.window=bright": "config.data.window='bright': give one of as viewer, first window, percentile",
}


@pytest.mark.parametrize("flag", CONFIG)
def test_a_value_that_cannot_be_is_one_line(flag, tmp_path):
    [line] = error_of(call(main.main, "--config=configs/demo.py", flag, f"--workdir={tmp_path / 'run'}"), 2)
    assert line.startswith(CONFIG[flag])


@pytest.mark.parametrize("name", ["trial0/clean", "", ".", "trial0", "trial0/clean/gan_normal", "trial9/a/b"])
def test_a_classifier_that_is_none_answers_nothing(name, whole, tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(xray(40, 40), "PNG"))
    command = [f"--workdir={whole}", f"--classifier={name}", tmp_path / "a.png"]
    [line] = error_of(call(predict.main, *command), 2)
    assert f"has no classifier {name!r}; give one of trial0/clean/without_gan, " in line


def test_the_pictures_here_are_what_they_are_called():
    assert chunk(b"sBIT", b"\x0c") in ANSWERED["said bits.png"]()
    assert pydicom.dcmread(pydicom.filebase.DicomBytesIO(ANSWERED["left aligned.dcm"]())).HighBit == 15
