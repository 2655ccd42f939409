"""DICOM to gray: stored values, tables, windows and headers of all kinds, against the standard's own formulas."""

import builtins
import io
import sys

import numpy as np
import pytest
from pictures import RAMP, WHOLE, dicom, difference, lut, xray

from configs import default
from pneumojax import data
from pneumojax.data import apart, decode, files
from pneumojax.data.levels import Levels

pydicom = pytest.importorskip("pydicom")

SIGNED = RAMP.astype(np.int16) - 2048
BYTES = (RAMP // 16).astype(np.uint8)
UID = pydicom.uid


def linear(values, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.2.1, its pseudocode."""
    inside = ((values - (center - 0.5)) / max(width - 1, 1e-9) + 0.5) * 255
    dark, bright = values <= center - 0.5 - (width - 1) / 2, values > center - 0.5 + (width - 1) / 2
    return np.where(dark, 0, np.where(bright, 255, inside))


def exact(values, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.3.2."""
    return np.clip((values - center) / width + 0.5, 0, 1) * 255


def sigmoid(values, center: float, width: float) -> np.ndarray:
    """PS3.3 C.11.2.1.3.1."""
    return 255 / (1 + np.exp(-4 * (values - center) / width))


def check(content: bytes, expected: np.ndarray, window: str = "as viewer") -> None:
    for name in ("a.dcm", "a.DICOM"):
        found = decode.read(content, name, 10, Levels(window))
        assert found.gray.dtype == np.uint8
        np.testing.assert_allclose(found.gray, expected, atol=0.51)


NARROW = {"WindowCenter": 2048, "WindowWidth": 1024}
STORED = {
    "12 bits": (dicom(RAMP, BitsStored=12), WHOLE),
    "8 bits": (dicom(BYTES), BYTES),
    "signed": (dicom(SIGNED, BitsStored=12), WHOLE),
    "signed, of 16 bits": (dicom(SIGNED * 16), RAMP * 16 / 65535 * 255),
    "at the left": (dicom(RAMP << 4, BitsStored=12, HighBit=15), WHOLE),
    "signed at the left": (dicom(SIGNED << 4, BitsStored=12, HighBit=15), WHOLE),
    "in the middle": (dicom(RAMP << 2 | 0xC003, BitsStored=12, HighBit=13), WHOLE),
    "overlays above": (dicom(RAMP | 0xA000, BitsStored=12), WHOLE),
    "signed, overlays above": (dicom((RAMP ^ 0x800 | 0x7000).astype(np.int16), BitsStored=12), WHOLE),
    "32 bits": (dicom(RAMP.astype(np.uint32) << 20), (RAMP * 2.0**20) / (2**32 - 1) * 255),
    "16 bits of which 12 are used": (dicom(RAMP), WHOLE),
    "signed, 16 bits of which 12 are used": (dicom(SIGNED), WHOLE),
    "16 bits of which 7 are used": (dicom(RAMP // 32), RAMP // 32),
    "4 bits": (dicom(BYTES // 16, BitsStored=4), BYTES // 16 * 17),
    "1 bit in 8": (dicom(BYTES // 128, BitsStored=1), BYTES // 128 * 255),
    "HighBit empty": (dicom(RAMP, BitsStored=12, HighBit=None), WHOLE),
    "inverted": (dicom(RAMP, "MONOCHROME1", BitsStored=12), 255 - WHOLE),
    "RLE": (dicom(RAMP, BitsStored=12, compress=UID.RLELossless), WHOLE),
    "implicit VR": (dicom(RAMP, BitsStored=12, syntax=UID.ImplicitVRLittleEndian), WHOLE),
    "big endian": (dicom(RAMP, BitsStored=12, syntax=UID.ExplicitVRBigEndian), WHOLE),
    "deflated": (dicom(RAMP, BitsStored=12, syntax=UID.DeflatedExplicitVRLittleEndian), WHOLE),
}


@pytest.mark.parametrize(("content", "expected"), STORED.values(), ids=STORED)
def test_stored_values_without_a_window_are_shown_by_the_bits_they_use(content, expected):
    check(content, expected)


GROUPS, TRANSFORM, FRAME = (pydicom.Dataset() for _ in range(3))
TRANSFORM.RescaleSlope, TRANSFORM.RescaleIntercept = -1, 4095
FRAME.WindowCenter, FRAME.WindowWidth = 2048, 1024
GROUPS.PixelValueTransformationSequence, GROUPS.FrameVOILUTSequence = [TRANSFORM], [FRAME]
RESCALED = {
    "both": ({"RescaleSlope": 2, "RescaleIntercept": -1000}, WHOLE),
    "a slope alone": ({"RescaleSlope": "0.25"}, WHOLE),
    "an intercept alone": ({"RescaleIntercept": -1024}, WHOLE),
    "an empty slope": ({"RescaleSlope": None, "RescaleIntercept": -1024}, WHOLE),
    "an empty intercept": ({"RescaleSlope": 3, "RescaleIntercept": None}, WHOLE),
    "a negative slope": ({"RescaleSlope": -1, "RescaleIntercept": 4095}, 255 - WHOLE),
    "a negative slope and a window": (
        {"RescaleSlope": -1, "RescaleIntercept": 4095, **NARROW},
        linear(4095.0 - RAMP, 2048, 1024),
    ),
    "a window in rescaled values": (
        {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 1000, "WindowWidth": 2001},
        linear(RAMP * 2.0 - 1000, 1000, 2001),
    ),
    "in functional groups": ({"SharedFunctionalGroupsSequence": [GROUPS]}, linear(4095.0 - RAMP, 2048, 1024)),
}


@pytest.mark.parametrize(("fields", "expected"), RESCALED.values(), ids=RESCALED)
def test_a_ramp_is_shown_as_its_rescaled_values_say(fields, expected):
    """With whatever part of the rescale is absent or empty at its default, for values and range alike."""
    check(dicom(RAMP, BitsStored=12, **fields), expected)
    check(dicom(RAMP, "MONOCHROME1", BitsStored=12, **fields), 255 - expected)


WINDOWS = {
    "linear": (NARROW, linear(RAMP, 2048, 1024)),
    "the first of two": ({"WindowCenter": [2048, 9], "WindowWidth": [1024, 9]}, linear(RAMP, 2048, 1024)),
    "no function, since it is empty": ({**NARROW, "VOILUTFunction": None}, linear(RAMP, 2048, 1024)),
    "said to be linear": ({**NARROW, "VOILUTFunction": "LINEAR"}, linear(RAMP, 2048, 1024)),
    "linear, exact": ({**NARROW, "VOILUTFunction": "LINEAR_EXACT"}, exact(RAMP, 2048.0, 1024)),
    "exact and narrow": (
        {"WindowCenter": 7.25, "WindowWidth": 0.5, "VOILUTFunction": "LINEAR_EXACT"},
        exact(RAMP, 7.25, 0.5),
    ),
    "sigmoid": ({**NARROW, "VOILUTFunction": "SIGMOID"}, sigmoid(RAMP, 2048.0, 1024)),
    "a threshold": ({"WindowCenter": 100, "WindowWidth": 1}, (RAMP >= 100) * 255),
    "of width 0": ({"WindowCenter": 100, "WindowWidth": 0}, WHOLE),
    "too narrow": ({"WindowCenter": 100, "WindowWidth": 0.5}, WHOLE),
    "negative": ({"WindowCenter": 100, "WindowWidth": -5, "VOILUTFunction": "SIGMOID"}, WHOLE),
    "without a width": ({"WindowCenter": 100}, WHOLE),
    "an empty width": ({"WindowCenter": 100, "WindowWidth": None}, WHOLE),
    "an empty center": ({"WindowCenter": None, "WindowWidth": 100}, WHOLE),
    "an empty sequence": ({"VOILUTSequence": [], "ModalityLUTSequence": []}, WHOLE),
    "empty frames": ({"NumberOfFrames": None}, WHOLE),
}


@pytest.mark.parametrize(("fields", "expected"), WINDOWS.values(), ids=WINDOWS)
def test_windows_and_what_counts_as_none(fields, expected):
    check(dicom(RAMP, BitsStored=12, **fields), expected)
    shifted = dict(fields, PixelRepresentation=1)
    if fields.get("WindowCenter") == 2048:
        shifted["WindowCenter"] = 0
        check(dicom(SIGNED, BitsStored=12, **shifted), expected)


CURVE = [v * v // 16 for v in range(256)]  # 0 to 4064
SHOWN = BYTES.astype(int) ** 2 // 16 / 4064 * 255
HOUNSFIELD = {"RescaleIntercept": -1024}
LONG = [v // 16 for v in range(65536)]
TABLES = {
    "VOI": (BYTES, {"VOILUTSequence": lut(CURVE, 0, 12)}, SHOWN),
    "VOI of more bits than it uses": (BYTES, {"VOILUTSequence": lut(CURVE, 0, 16)}, SHOWN),
    "VOI as US": (BYTES, {"VOILUTSequence": lut(CURVE, 0, 12, "US")}, SHOWN),
    "VOI of 8 bits in words": (BYTES, {"VOILUTSequence": lut(range(255, -1, -1), 0, 8)}, 255 - BYTES),
    "VOI of 8 bits, packed": (BYTES, {"VOILUTSequence": lut(range(255, -1, -1), 0, 8, "packed")}, 255 - BYTES),
    "VOI and window": (BYTES, {"VOILUTSequence": lut(CURVE, 0, 12), "WindowCenter": 9, "WindowWidth": 9}, SHOWN),
    "VOI with ends": (
        BYTES,
        {"VOILUTSequence": lut([100, 0, 400], 99, 9)},
        np.select([BYTES < 100, BYTES == 100], [100 / 400 * 255, 0], 255),
    ),
    "VOI of 65536": (RAMP * 16, {"VOILUTSequence": lut(LONG, 0, 12)}, WHOLE),
    "VOI of signed values": (SIGNED, {"VOILUTSequence": lut(LONG[::16], -2048, 12, signed=True)}, WHOLE),
    "VOI of Hounsfield's, as US": (RAMP, {"VOILUTSequence": lut(LONG[::16], 64512, 12), **HOUNSFIELD}, WHOLE),
    "VOI of Hounsfield's, as SS": (
        RAMP,
        {"VOILUTSequence": lut(LONG[::16], -1024, 12, signed=True), **HOUNSFIELD},
        WHOLE,
    ),
    "VOI as US, of values that would be others'": (
        BYTES.astype(np.uint16),
        {
            "VOILUTSequence": lut(np.repeat(CURVE, 32), 32768, 12),
            "RescaleSlope": 32,
            "RescaleIntercept": -32768,
        },
        SHOWN,
    ),
    "modality, 12 bits": (BYTES, {"ModalityLUTSequence": lut(CURVE, 0, 12)}, SHOWN),
    "modality, 16 bits": (BYTES, {"ModalityLUTSequence": lut(np.arange(255, -1, -1) * 257, 0, 16)}, 255 - BYTES),
    "modality and slope": (BYTES, {"ModalityLUTSequence": lut(CURVE, 0, 12), "RescaleSlope": -1}, SHOWN),
    "modality of signed values": (SIGNED, {"ModalityLUTSequence": lut(LONG[::16], -2048, 12, signed=True)}, WHOLE),
    "modality of 65536": (RAMP * 16, {"ModalityLUTSequence": lut(LONG, 0, 12)}, WHOLE),
    "modality from 1000 up": (
        BYTES,
        {"ModalityLUTSequence": lut([1000 + 10 * v for v in range(256)], 0, 12)},
        BYTES,
    ),
    "modality and window": (
        BYTES,
        {"ModalityLUTSequence": lut(CURVE, 0, 12), **NARROW},
        linear(BYTES.astype(int) ** 2 // 16, 2048, 1024),
    ),
    "modality and VOI": (
        BYTES,
        {"ModalityLUTSequence": lut(CURVE, 0, 12), "VOILUTSequence": lut(range(4095, -1, -1), 0, 12)},
        (4095 - BYTES.astype(int) ** 2 // 16) / 4095 * 255,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("stored", "fields", "expected"), TABLES.values(), ids=TABLES)
def test_look_up_tables_of_every_legal_descriptor(stored, fields, expected):
    bits = 12 if stored.max() < 4096 and stored.itemsize == 2 else 8 * stored.itemsize
    check(dicom(stored, BitsStored=bits, **fields), expected)


def test_look_up_tables_in_every_byte_order():
    for syntax in (UID.ImplicitVRLittleEndian, UID.ExplicitVRBigEndian):
        little = syntax != UID.ExplicitVRBigEndian
        for kind in ("OW", "US"):
            for name in ("VOILUTSequence", "ModalityLUTSequence"):
                fields = {name: lut(CURVE, 0, 12, kind, little=little)}
                check(dicom(BYTES, syntax=syntax, **fields), SHOWN)
    signed = lut(LONG[::16], -2048, 12, signed=True)
    check(dicom(SIGNED, BitsStored=12, syntax=UID.ImplicitVRLittleEndian, VOILUTSequence=signed), WHOLE)


def test_the_window_before_the_table_where_the_field_says_so():
    both = {"VOILUTSequence": lut(CURVE, 0, 12), "WindowCenter": 128, "WindowWidth": 64}
    check(dicom(BYTES, **both), SHOWN)
    check(dicom(BYTES, **both), linear(BYTES, 128, 64), "first window")
    check(dicom(BYTES, VOILUTSequence=lut(CURVE, 0, 12)), SHOWN, "first window")
    check(dicom(RAMP, BitsStored=12), WHOLE, "first window")


@pytest.mark.parametrize("signed", [False, True])
def test_percentiles_of_the_picture_leave_padding_out(signed):
    rng = np.random.default_rng(0)
    stored = rng.normal(1500, 200, (60, 50)).round().astype(np.int16 if signed else np.uint16)
    stored[:20], stored[20:25] = 3000, 3005
    kept = stored[25:] * 0.5 - 100
    low, high = np.percentile(kept, (0.5, 99.5))
    expected = np.clip((stored * 0.5 - 100 - low) / (high - low), 0, 1) * 255
    rescale = {"RescaleSlope": 0.5, "RescaleIntercept": -100, "WindowCenter": 7, "WindowWidth": 3}
    for ends in ((3000, 3005), (3005, 3000)):
        limits = {"PixelPaddingValue": ends[0], "PixelPaddingRangeLimit": ends[1]}
        check(dicom(stored, BitsStored=12 + signed, **rescale, **limits), expected, "percentile")
    low, high = np.percentile(stored, (0.5, 99.5))
    check(dicom(stored), np.clip((stored - low) / (high - low), 0, 1) * 255, "percentile")
    check(dicom(stored, "MONOCHROME1"), 255 - np.clip((stored - low) / (high - low), 0, 1) * 255, "percentile")
    padded = stored.astype(np.int16)
    padded[:25] = -2000  # written as if it were unsigned
    low, high = np.percentile(stored[25:], (0.5, 99.5))
    header = pydicom.dcmread(io.BytesIO(dicom(padded)))
    header.add_new("PixelPaddingValue", "US", 65536 - 2000)
    content = io.BytesIO()
    header.save_as(content)
    check(content.getvalue(), np.clip((padded - low) / (high - low), 0, 1) * 255, "percentile")


def test_padding_has_no_say_in_what_is_white_where_no_window_tells():
    padded = RAMP.copy()
    padded[:20] = 65535
    expected = np.where(padded == 65535, 255, WHOLE)
    check(dicom(padded, PixelPaddingValue=65535), expected)
    padded[:10] = 65000
    check(dicom(padded, PixelPaddingValue=65535, PixelPaddingRangeLimit=65000), expected)
    check(dicom(padded, PixelPaddingValue=65535), padded / 65535 * 255)
    signed = SIGNED.copy()
    signed[:20] = -32768
    check(dicom(signed, PixelPaddingValue=-32768), np.where(signed == -32768, 0, WHOLE))
    check(dicom(RAMP, PixelPaddingValue=0, PixelPaddingRangeLimit=4095), WHOLE)  # all is padding


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colour_becomes_luma(photometric):
    gray = xray(40, 30)
    rgb = np.stack([gray, gray, gray], axis=2)
    if photometric == "YBR_FULL":
        rgb[:, :, 1:] = 128  # no chroma
    for options in ({}, {"compress": UID.RLELossless}):
        found = decode.read(dicom(rgb, photometric, **options), "a.dcm")
        assert difference(found.gray, gray).max() <= 1


def test_colour_of_16_bits():
    rgb = np.random.default_rng(0).integers(0, 4096, (30, 40, 3), np.uint16)
    rgb[0, 0] = 4095
    check(dicom(rgb, "RGB"), rgb @ (0.299, 0.587, 0.114) / 4095 * 255)


LOSSLESS = ("JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless", "RLELossless")


def compressed(folder, stored: np.ndarray, syntax: str, **fields) -> bytes:
    """As archives of hospitals hold them; compressed by GDCM."""
    gdcm = pytest.importorskip("gdcm")
    paths = [str(folder / f"{name}.dcm") for name in ("plain", "compressed")]
    (folder / "plain.dcm").write_bytes(dicom(stored, **fields))
    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(paths[0])
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(paths[1])
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    assert pydicom.dcmread(paths[1]).file_meta.TransferSyntaxUID.is_compressed
    return (folder / "compressed.dcm").read_bytes()


@pytest.mark.parametrize("syntax", LOSSLESS)
def test_compressed_without_loss(tmp_path, syntax):
    for stored in (RAMP, SIGNED):
        check(compressed(tmp_path, stored, syntax, BitsStored=12), WHOLE)
    check(compressed(tmp_path, BYTES, syntax), BYTES)


def test_jpegs_of_fewer_bits_than_gdcm_can_bear(tmp_path):
    for bits in (2, 5, 7):
        stored = BYTES >> (8 - bits)
        check(compressed(tmp_path, stored, LOSSLESS[0], BitsStored=bits), stored / (2**bits - 1) * 255)


def test_compressed_files_of_which_the_decoder_ends_its_process_cost_no_others(tmp_path):
    """Of these bytes GDCM ends the process or writes beyond its arrays."""
    root = tmp_path / "set" / "NORMAL"
    root.mkdir(parents=True)
    whole, lossless = (compressed(tmp_path, BYTES, syntax) for syntax in LOSSLESS[1::-1])
    (root / "whole.dcm").write_bytes(whole)
    (root / "zwhole.dcm").write_bytes(compressed(tmp_path, BYTES.T.copy(), LOSSLESS[0]))
    start = lossless.rindex(b"\xff\xd8\xff")
    for number, (where, bit) in enumerate([(6, 5), (15, 0), (16, 4)]):  # precision, a marker, another marker
        damaged = bytearray(lossless)
        damaged[start + where] ^= 1 << bit
        (root / f"x{number}.dcm").write_bytes(damaged)
    config = default.get_config().data
    config.dir, config.cache, config.on_bad = str(tmp_path / "set"), str(tmp_path / "cache"), "skip"
    images = data.load(config, 64)
    assert images.names == ("NORMAL/whole.dcm", "NORMAL/zwhole.dcm")
    np.testing.assert_array_equal(images.pixels, [BYTES, BYTES.T])
    assert len(images.skipped) == 3
    assert all("of which the decoder itself ends: fetch it again, or convert it" in line for line in images.skipped)


def test_a_process_that_has_ended_meanwhile_is_started_anew(tmp_path):
    content = compressed(tmp_path, BYTES, LOSSLESS[0])
    check(content, BYTES)
    apart.idle.extend(apart.start() for _ in range(3))
    for process in apart.idle:
        process.kill()
        process.wait()
    check(content, BYTES)
    assert all(process.poll() is None for process in apart.idle)


def test_the_header_tells_the_patient_and_not_the_number():
    content = dicom(RAMP, BitsStored=12, PatientID="4711")
    found = decode.decode(content, "a.dcm", 8, "stretch").patient
    assert found == decode.decode(dicom(RAMP // 2, PatientID="4711"), "b.dcm", 8, "stretch").patient
    assert found != decode.decode(dicom(RAMP, PatientID="4712"), "b.dcm", 8, "stretch").patient
    assert found.startswith("dicom-")
    assert "4711" not in found
    for none in ({}, {"PatientID": None}, {"PatientID": ""}):
        assert decode.decode(dicom(RAMP, **none), "b.dcm", 8, "stretch").patient == ""


def test_a_folder_groups_by_its_headers(tmp_path):
    """A name as hospitals' exports have it says nothing of the patient, where the header does."""
    for label, patients in {"NORMAL": "AAB", "PNEUMONIA": "CC"}.items():
        (tmp_path / label).mkdir()
        for number, patient in enumerate(patients):
            path = tmp_path / label / f"IM-0001-{number:04d}.dcm"
            path.write_bytes(dicom(RAMP + number, BitsStored=12, PatientID=patient))
    config = default.get_config().data
    config.dir, config.cache = str(tmp_path), str(tmp_path / "cache")
    one, two, other, third, fourth = data.load(config, 8).patients
    assert one == two
    assert third == fourth
    assert len({one, other, third}) == 3


def test_files_that_waited_for_their_reader(tmp_path, monkeypatch):
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "1.dcm").write_bytes(dicom(RAMP))
        (tmp_path / label / "2.dcm").write_bytes(dicom(RAMP)[:200])
    config = default.get_config().data
    config.dir, config.cache, config.on_bad = str(tmp_path), str(tmp_path / ".cache"), "skip"
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pydicom", None)
        assert len(data.load(config, 16).skipped) == 4
    images = data.load(config, 16)
    assert images.names == ("NORMAL/1.dcm", "PNEUMONIA/1.dcm")
    assert images.left_out == {"unreadable": 2}
    monkeypatch.setattr(files, "decode", lambda *_: pytest.fail("decoded again"))
    assert data.fingerprint(data.load(config, 16)) == data.fingerprint(images)


def without(content: bytes, *names: str, **fields) -> bytes:
    """A DICOM less some elements, with others."""
    header = pydicom.dcmread(io.BytesIO(content))
    for name in names:
        del header[name]
    for name, value in fields.items():
        setattr(header, name, value)
    changed = io.BytesIO()
    pydicom.dcmwrite(changed, header)
    return changed.getvalue()


PLAIN = dicom(RAMP, BitsStored=12)
NO_PICTURE = {
    UID.BasicTextSRStorage: "a DICOM without a picture (Basic Text SR Storage): leave it out",
    UID.RTPlanStorage: "a DICOM without a picture (RT Plan Storage): leave it out",
    UID.TwelveLeadECGWaveformStorage: "a DICOM without a picture (12-lead ECG Waveform Storage): leave it out",
    UID.EncapsulatedPDFStorage: "a DICOM without a picture (Encapsulated PDF Storage): leave it out",
    UID.ComputedRadiographyImageStorage: "a DICOM without a picture (Computed Radiography Image Storage): "
    "leave it out, or fetch it again",
}


@pytest.mark.parametrize(("sop", "words"), NO_PICTURE.items(), ids=[sop.name for sop in NO_PICTURE])
def test_what_has_no_picture_is_named_by_its_class(sop, words):
    for content in (
        without(PLAIN, "PixelData", "Rows", SOPClassUID=sop),
        without(PLAIN, SOPClassUID=sop, PixelData=b""),
    ):
        assert decode.decode(content, "a.dcm", 8, "stretch").why == words


def broken(field: str, text: bytes) -> bytes:
    """A ramp with a number that is none."""
    return dicom(RAMP, BitsStored=12, **{field: "1234567890"}).replace(b"1234567890", text.ljust(10))


COLOURED = np.stack([BYTES] * 3, 2)
SHORT = lut(CURVE, 0, 12)
SHORT[0].LUTDescriptor = [400, 0, 16]
NO_DATA, NO_DESCRIPTOR = lut(CURVE, 0, 12), lut(CURVE, 0, 12)
NO_DATA[0].LUTData, NO_DESCRIPTOR[0].LUTDescriptor = None, None
FRAMES = {"Rows": 32, "Columns": 64, "BitsStored": 12}
FRAME_OF_RLE = dicom(RAMP, **FRAMES, NumberOfFrames=2, compress=UID.RLELossless)
REFUSED = {
    "frames": (dicom(RAMP, NumberOfFrames=2), "2 frames: export one image a file"),
    "frames that the header does not count": (dicom(RAMP, **FRAMES), "2 frames: export one image a file"),
    "frames of RLE that the header does not count": (without(FRAME_OF_RLE, "NumberOfFrames"), "2 frames: export one"),
    "signed colour": (dicom(COLOURED.view(np.int8), "RGB"), "RGB must be unsigned, PixelRepresentation is 1: mend"),
    "many frames in colour": (dicom(COLOURED, "RGB", Rows=16), "4 frames: export one image a file"),
    "cut off": (PLAIN[:-1000], "damaged or of a rare kind"),
    "large": (dicom(RAMP, Rows=40000, Columns=40000), "40000 x 40000 pixels are more than 80,000,000: reduce it"),
    "palette": (dicom(RAMP, "PALETTE COLOR"), "PALETTE COLOR is not gray or RGB: convert it"),
    "video": (dicom(RAMP, "YBR_PARTIAL_420"), "YBR_PARTIAL_420 is not gray or RGB: convert it"),
    "slope 0": (dicom(RAMP, RescaleSlope=0), "RescaleSlope 0 makes all pixels alike: mend the header"),
    "slope 0.0": (dicom(RAMP, RescaleSlope="0.000", **NARROW), "RescaleSlope 0 makes all pixels alike"),
    "a slope that is no number": (broken("RescaleSlope", b"one"), "RescaleSlope one is no number of pixels: mend"),
    "a center that is no number": (broken("WindowCenter", b"nan"), "WindowCenter nan is no number of pixels: mend"),
    "a slope too large": (broken("RescaleSlope", b"1e300"), "RescaleSlope 1e300 is no number of pixels"),
    "an intercept without an end": (broken("RescaleIntercept", b"inf"), "RescaleIntercept inf is no number of pixels"),
    "another function": (dicom(RAMP, **NARROW, VOILUTFunction="CURVED"), "VOILUTFunction CURVED is not LINEAR, LINEAR"),
    "HighBit": (dicom(RAMP, BitsStored=12, HighBit=3), "BitsAllocated 16, BitsStored 12, HighBit 3 do not agree"),
    "rows": (without(PLAIN, "Rows"), "no Rows: mend the header, or fetch it again"),
    "empty bits": (without(PLAIN, BitsStored=None), "no BitsStored: mend the header, or fetch it again"),
    "a short table": (dicom(RAMP, VOILUTSequence=SHORT), "VOILUTSequence has 256 of 400 entries: mend the header"),
    "a table without data": (dicom(RAMP, ModalityLUTSequence=NO_DATA), "ModalityLUTSequence has 0 of 256 entries"),
    "a table without descriptor": (dicom(RAMP, VOILUTSequence=NO_DESCRIPTOR), "VOILUTSequence has no LUTDescriptor of"),
    "fractions": (
        without(PLAIN, "PixelData", FloatPixelData=RAMP.astype(np.float32).tobytes(), BitsAllocated=32),
        "pixels that are fractions (Digital X-Ray Image Storage - For Presentation): convert it to whole numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("content", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_and_why(content, words):
    assert decode.decode(content, "a.dcm", 8, "stretch").why.startswith(words)


def test_readers_that_are_missing_are_named(monkeypatch):
    imported = builtins.__import__

    def without_pydicom(name, *rest):
        if name == "pydicom":
            raise ImportError
        return imported(name, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "__import__", without_pydicom)
        found = decode.decode(PLAIN, "a.dcm", 8, "stretch")
        assert "pip install 'pneumojax[dicom]'" in found.why
        assert found.passing
    header = pydicom.dcmread(io.BytesIO(PLAIN))
    for syntax, words in (
        (
            UID.MPEG4HP41,
            "compressed as MPEG-4 AVC/H.264 High Profile / Level 4.1, which pydicom does not read: convert",
        ),
        (UID.HTJ2K, "compressed as High-Throughput JPEG 2000 Image Compression, of which pylibjpeg - requires"),
    ):
        header.file_meta.TransferSyntaxUID = syntax
        header.PixelData = pydicom.encaps.encapsulate([b"\xff\x4f\xff\x51" + bytes(20)])
        content = io.BytesIO()
        pydicom.dcmwrite(content, header, enforce_file_format=True)
        found = decode.decode(content.getvalue(), "a.dcm", 8, "stretch")
        assert found.why.startswith(words)
        assert found.passing
