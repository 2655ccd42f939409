"""One image file → gray pixels: JPEG, PNG and, with the extra `dicom`, DICOM. What cannot be read says why."""

import hashlib
import io
import struct
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
import simplejpeg
from PIL import Image

from pneumojax.errors import describe

FORMATS = {  # suffix → format
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
}
FITS = ("stretch", "pad")
PIXEL_LIMIT = 80_000_000  # of one image; more is taken for a decompression bomb
SCAN_LIMIT = 100  # of one JPEG, each of which goes over the whole picture; a progressive one has about ten
TWELVE_BITS, SIXTEEN_BITS = 4095, 65535
# JPEGs are decoded at no less than so many times the size wanted; the rest is done by resizing. 2 differs from decoding
# all pixels by 0.14 gray levels in the mean and 5 at most (X-rays of 1 to 4 megapixels to 224), 1 by 0.31 and 18.
REDUCED = 2
MODES = ("L", "RGB", "LA", "RGBA", "P", "1")  # of PNGs; 16-bit gray ones are I;16


class Unreadable(Exception):
    """Why an image cannot be used, and what can be done about it."""


class Passing(Unreadable):
    """The same, of a file that may be read the next time though nothing in it has changed."""


class Picture(NamedTuple):
    """One image, decoded."""

    gray: np.ndarray  # uint8 [H, W]; a JPEG's may have some eighths of the original's sides, rounded up
    width: int  # pixels of the original
    height: int
    mode: str  # gray, RGB, …, as stored
    patient: str = ""  # from a DICOM header; '' if it tells none


class Decoded(NamedTuple):
    """One image, decoded and resized; `why` it cannot be read is '' if it can."""

    pixels: np.ndarray | None  # uint8 [S, S]
    digest: str = ""  # equal for images with equal pixels and original size
    patient: str = ""
    why: str = ""
    passing: bool = False  # whether the same content may be readable another time


def failed(problem: Unreadable) -> Decoded:
    """What cannot be read."""
    return Decoded(None, why=str(problem), passing=isinstance(problem, Passing))


def decode(content: bytes, name: str, size: int, fit: str) -> Decoded:
    """One image, size x size pixels, by Pillow's antialiased bilinear filter.

    Args:
      content: of the file.
      name: of the file; its suffix tells the format.
      size: pixels of a side.
      fit: `stretch` to a square, as the paper's set is, or `pad` with black, which keeps the aspect.
    """
    try:
        picture = read(content, name, REDUCED * size)
    except Unreadable as problem:
        return failed(problem)
    pixels = resize(picture, size, fit)
    digest = hashlib.sha256(f"{picture.width} {picture.height}".encode() + pixels.tobytes()).hexdigest()[:32]
    return Decoded(pixels, digest, picture.patient)


def resize(picture: Picture, size: int, fit: str) -> np.ndarray:
    """uint8 [H, W] → uint8 [size, size]."""
    width, height = size, size
    if fit == "pad":
        longer = max(picture.width, picture.height)
        width, height = (max(1, round(size * side / longer)) for side in (picture.width, picture.height))
    # the picture may end within its last column and row, which have been rounded up
    eighths = round(8 * max(picture.gray.shape) / max(picture.height, picture.width))
    box = (0, 0, picture.width * eighths / 8, picture.height * eighths / 8)
    resized = np.asarray(Image.fromarray(picture.gray).resize((width, height), Image.Resampling.BILINEAR, box))
    top, left = (size - height) // 2, (size - width) // 2
    return np.pad(resized, ((top, size - height - top), (left, size - width - left)))


def read(content: bytes, name: str, at_least: int | None = None) -> Picture:
    """Decodes an image.

    Args:
      content: of the file.
      name: of the file; its suffix tells the format, which must be that of the content.
      at_least: pixels a side that suffice; a JPEG that is larger is then decoded at a fraction of its size, eighths,
        which is faster. None: all of them.

    Errors: Unreadable.
    """
    suffix = PurePath(name).suffix.lower()
    claimed, found = FORMATS.get(suffix), format_of(content)
    if not content:
        raise Unreadable("an empty file: fetch it again")
    if found is None:
        raise Unreadable("neither JPEG, PNG nor DICOM: convert it, or fetch it again if it is damaged")
    if found != claimed:
        raise Unreadable(f"a {found} file by its content, not {suffix}: rename it")
    try:
        return {"JPEG": read_jpeg, "PNG": read_png, "DICOM": read_dicom}[found](content, at_least)
    except Unreadable:
        raise
    except Exception as error:  # decoders raise anything for damaged files
        # pydicom lacks a plugin, or memory is short: that may be mended without the file
        kind = Passing if isinstance(error, RuntimeError | MemoryError) else Unreadable
        raise kind(f"damaged or of a rare kind ({describe(error)}): fetch it again, or convert it") from error


def format_of(content: bytes) -> str | None:
    """The format that a file's first bytes tell."""
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    return "DICOM" if content[128:132] == b"DICM" else None


def check_size(width: int, height: int) -> None:
    """Errors: Unreadable for an image that would fill the memory."""
    if width * height > PIXEL_LIMIT:
        raise Unreadable(f"{width} x {height} pixels are more than {PIXEL_LIMIT:,}: reduce it, or fetch it again")


def read_jpeg(content: bytes, at_least: int | None) -> Picture:
    """Luma (ITU-R 601) of a JPEG. Damage that most decoders pass over in silence is an error here."""
    height, width, space, _ = simplejpeg.decode_jpeg_header(content)
    check_size(width, height)
    if space in ("CMYK", "YCCK"):
        raise Unreadable(f"{space}, a picture for print: convert it to gray or RGB")
    if content.count(b"\xff\xda") > SCAN_LIMIT:
        raise Unreadable(f"more than {SCAN_LIMIT} scans, which would take hours: save it anew")
    limits = {} if at_least is None else {"min_height": min(at_least, height), "min_width": min(at_least, width)}
    gray = simplejpeg.decode_jpeg(content, "GRAY", min_factor=2.0, **limits)[:, :, 0]
    return Picture(gray, width, height, "gray" if space == "Gray" else "RGB")


def read_png(content: bytes, _: int | None) -> Picture:
    """A PNG in gray. 16-bit ones are scaled from 12 bits where no pixel has more, else from 16."""
    check_size(*struct.unpack(">II", content[16:24]))  # before Pillow, whose own limit would say less
    with Image.open(io.BytesIO(content), formats=("PNG",)) as file:
        file.verify()  # checksums, which decoding does not look at
    with Image.open(io.BytesIO(content), formats=("PNG",)) as file:
        if file.mode.startswith("I"):
            levels = np.asarray(file, np.float32)
            top = TWELVE_BITS if levels.max() <= TWELVE_BITS else SIXTEEN_BITS
            return Picture(to_uint8(levels / top), *file.size, "gray, 16 bits")
        if file.mode not in MODES:
            raise Unreadable(f"mode {file.mode} is not gray or RGB: convert it")
        mode = {"L": "gray", "1": "gray, 1 bit"}.get(file.mode, file.mode)
        return Picture(np.asarray(file.convert("L")), *file.size, mode)


def read_dicom(content: bytes, _: int | None) -> Picture:
    """A DICOM image as a viewer shows it: rescaled, windowed, MONOCHROME1 inverted (PS3.3 C.7.6.3.1.2, C.11)."""
    try:
        import pydicom
        from pydicom import pixels
    except ImportError as error:
        raise Passing("DICOM is read with the extra: pip install 'pneumojax[dicom]'") from error
    header = pydicom.dcmread(io.BytesIO(content))
    check_size(header.Columns, header.Rows)
    if int(header.get("NumberOfFrames", 1)) != 1:
        raise Unreadable(f"{header.NumberOfFrames} frames: export one image a file")
    photometric = header.PhotometricInterpretation
    levels = header.pixel_array
    if photometric.startswith("MONOCHROME"):
        shown = pixels.apply_voi_lut(pixels.apply_modality_lut(levels, header), header)
        low, high = range_shown(header)
        share = (shown - low) / (high - low)
        gray = to_uint8(1 - share if photometric == "MONOCHROME1" else share)
    elif photometric == "RGB" or photometric.startswith("YBR"):
        gray = np.asarray(Image.fromarray(levels).convert("L"))  # pydicom has made it RGB
    else:
        raise Unreadable(f"{photometric} is not gray or RGB: convert it")
    # the number itself stays out of what a run writes
    patient = str(header.get("PatientID", ""))
    key = f"dicom-{hashlib.sha256(patient.encode()).hexdigest()[:12]}" if patient else ""
    return Picture(gray, header.Columns, header.Rows, photometric, key)


def range_shown(header) -> tuple[float, float]:
    """What is black and what is white once rescale and window are applied; all stored bits where there is no window."""
    for sequence in ("VOILUTSequence", "ModalityLUTSequence"):
        if header.get(sequence):
            return 0.0, 2.0 ** header[sequence][0].LUTDescriptor[2] - 1
    low, high = 0.0, 2.0**header.BitsStored - 1
    if header.PixelRepresentation == 1:
        low, high = low - 2.0 ** (header.BitsStored - 1), high - 2.0 ** (header.BitsStored - 1)
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def to_uint8(share: np.ndarray) -> np.ndarray:
    """float in 0…1, clipped → uint8 in 0…255, rounded."""
    return np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)
