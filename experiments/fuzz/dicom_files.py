"""DICOM files by pydicom, odd ones: bits anywhere in their words, empty elements, all orders of bytes, all codecs."""

import io
from pathlib import Path

import numpy as np
import pydicom
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset

from experiments.fuzz.dicom_gray import Mono, Table

PLAIN = {
    "implicit": uid.ImplicitVRLittleEndian,
    "explicit": uid.ExplicitVRLittleEndian,
    "big endian": uid.ExplicitVRBigEndian,
    "deflated": uid.DeflatedExplicitVRLittleEndian,
}
BY_GDCM = ("JPEGLosslessProcess14_1", "JPEGLSLossless", "JPEG2000Lossless")
SYNTAXES = (*PLAIN, "RLE", *BY_GDCM)


def header(sop_class: str = uid.DigitalXRayImageStorageForPresentation, syntax: str = "explicit") -> Dataset:
    """A data set without pixels."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = PLAIN.get(syntax, uid.ExplicitVRLittleEndian)
    made.SOPClassUID = sop_class
    made.SOPInstanceUID = uid.generate_uid()
    return made


def words(stored: np.ndarray, bits: int, high_bit: int, allocated: int, junk: np.ndarray) -> np.ndarray:
    """Samples as they lie in the file: the stored values below `high_bit`, and `junk` in all other bits."""
    mask, shift = (1 << bits) - 1, high_bit + 1 - bits
    return ((stored & mask) << shift) | (junk & ~(mask << shift) & ((1 << allocated) - 1))


def with_samples(made: Dataset, samples: np.ndarray, allocated: int, bits: int, high_bit: int, signed: bool) -> None:
    """Adds the module of pixels: samples [H, W], or [H, W, 3] in colour by pixel."""
    big = made.file_meta.TransferSyntaxUID == uid.ExplicitVRBigEndian
    made.Rows, made.Columns = samples.shape[:2]
    made.SamplesPerPixel = 1 if samples.ndim == 2 else 3
    made.BitsAllocated, made.BitsStored, made.HighBit = allocated, bits, high_bit
    made.PixelRepresentation = int(signed)
    content = samples.astype(f"{'>' if big else '<'}u{allocated // 8}").tobytes()
    made.add_new("PixelData", "OB" if allocated == 8 else "OW", content + bytes(len(content) % 2))


def grayscale(one: Mono, samples: np.ndarray, allocated: int, high_bit: int, syntax: str) -> Dataset:
    """The data set of a grayscale picture; elements that `one` has as '' are present and empty."""
    made = header(syntax=syntax)
    with_samples(made, samples, allocated, one.bits, high_bit, one.signed)
    made.PhotometricInterpretation = "MONOCHROME1" if one.inverted else "MONOCHROME2"
    texts = {"RescaleSlope": one.slope, "RescaleIntercept": one.intercept, "VOILUTFunction": one.function}
    texts |= {"WindowCenter": one.center, "WindowWidth": one.width}
    for name, text in texts.items():
        if text is not None:
            setattr(made, name, text.split("\\") if "\\" in text else text)
    for name, value in zip(("PixelPaddingValue", "PixelPaddingRangeLimit"), one.padding, strict=False):
        made.add_new(name, "SS" if one.signed else "US", value)
    big = syntax == "big endian"
    if one.modality:
        made.ModalityLUTSequence = [lut_item(one.modality, one.signed, big)]
        made.ModalityLUTSequence[0].ModalityLUTType = "US"
    if one.voi:
        negative = one.signed or one.voi.first < 0
        made.VOILUTSequence = [lut_item(one.voi, negative, big), lut_item(one.voi, negative, big)]
        made.VOILUTSequence[1].LUTData = made.VOILUTSequence[1].LUTData[::-1]  # the second is not to be looked at
    return made


def lut_item(table: Table, signed: bool, big: bool) -> Dataset:
    """One item of a sequence of LUTs."""
    item = Dataset()
    count, first = len(table.entries) % 65536, table.first if signed else table.first % 65536
    item.add_new("LUTDescriptor", "SS" if signed else "US", [count, first, table.bits])
    if table.form == "US":
        item.add_new("LUTData", "US", table.entries.tolist())
    else:
        content = table.entries.astype("u1" if table.form == "OB" else "<u2").tobytes()
        content = np.frombuffer(content + bytes(len(content) % 2), "<u2")  # of two of 8 bits the first is the lower
        item.add_new("LUTData", "OW", content.astype(">u2" if big else "<u2").tobytes())
    return item


def write(made: Dataset, path: Path, syntax: str = "explicit", preamble: bool = True, check: bool = True) -> None:
    """Writes a file, compressed by GDCM where `syntax` says so; to `check`, only if pydicom can read that."""
    content = io.BytesIO()
    pydicom.dcmwrite(content, made, enforce_file_format=True)
    path.write_bytes(content.getvalue()[0 if preamble else 132 :])
    if syntax in BY_GDCM and not recompressed(path, syntax, made.pixel_array if check else None):
        path.write_bytes(content.getvalue())


def recompressed(path: Path, syntax: str, samples: np.ndarray | None) -> bool:
    """Compresses a file by GDCM. False where that fails, or what pydicom reads then is not `samples`."""
    import gdcm

    reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
    reader.SetFileName(str(path))
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, syntax)))
    if not reader.Read():
        return False
    change.SetInput(reader.GetImage())
    if not change.Change():
        return False
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    try:
        return writer.Write() and (samples is None or np.array_equal(pydicom.dcmread(path).pixel_array, samples))
    except Exception:
        return False


def with_jpeg(made: Dataset, picture: Image.Image, quality: int) -> np.ndarray:
    """Puts a baseline JPEG in place of the samples. Returns: its gray, uint8 [H, W], as Pillow has it."""
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality)
    made.PixelData = pydicom.encaps.encapsulate([content.getvalue()])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = uid.JPEGBaseline8Bit
    return np.asarray(Image.open(content).convert("L"))
