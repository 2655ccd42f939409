"""A DICOM image → gray pixels, as a viewer shows it (PS3.3 C.7.6.3, C.11.1, C.11.2), with the extra `dicom`.

stored value → (modality LUT, or slope and intercept) → (VOI LUT or window) → gray → inverted in MONOCHROME1. An element
that is empty counts as absent.
"""

import hashlib
import io
import math
from collections.abc import MutableSequence
from typing import Any, NamedTuple

import numpy as np

from pneumojax.data.levels import MODALITY_LUT, Levels, Range, of_bits, used
from pneumojax.data.picture import Passing, Picture, Unreadable, check_size, luma, to_uint8
from pneumojax.errors import describe

COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # pydicom makes RGB of them
FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
PERCENTILES = (0.5, 99.5)
BITS = 32  # stored, at most
MAPPED = 16  # bits: up to so many, each possible value is mapped once and not each pixel


class Pixels(NamedTuple):
    """The stored values of a picture, as `least` + samples."""

    samples: np.ndarray  # unsigned [H, W] or [H, W, 3]
    bits: int  # BitsStored
    signed: bool

    @property
    def least(self) -> int:
        """The smallest value that can be stored."""
        return -(2 ** (self.bits - 1)) if self.signed else 0

    def own(self) -> Range:
        """The fewest bits that hold the values; more than 8 are the set's affair."""
        group = f"DICOM of {self.bits} bits{', signed' if self.signed else ''}" if self.bits > 8 else ""
        low, high = (self.least + int(one) for one in (self.samples.min(), self.samples.max()))
        return of_bits(group, low, high, self.bits, self.signed)


class Table(NamedTuple):
    """A look-up table: what lies beyond its ends is mapped as they are."""

    first: int  # the value that the first entry is of
    entries: np.ndarray  # uint16 or uint8 [n]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values, of fractions the whole part → entries, float."""
        places = np.clip(np.floor(values).astype(np.int64) - self.first, 0, len(self.entries) - 1)
        return self.entries[places].astype(float)


def read(content: bytes, _: int | None, levels: Levels) -> Picture:
    """A DICOM image in gray. Without a window its black and white are its group's in `levels`."""
    try:
        import pydicom
    except ImportError as error:
        raise Passing("DICOM is read with the extra: pip install 'pneumojax[dicom]'") from error
    header = pydicom.dcmread(io.BytesIO(content))
    check_picture(header)
    pixels = stored(header)
    photometric = header.PhotometricInterpretation
    if photometric in COLOURS:
        own = pixels.own()
        gray = to_uint8(luma(pixels.samples) / used(own, levels).white)
    else:
        share, own = shown(header, pixels, levels)
        gray = to_uint8(1 - share if photometric == "MONOCHROME1" else share)
        gray = gray[pixels.samples] if pixels.bits <= MAPPED else gray
    # the number itself stays out of what a run writes
    patient = str(header.get("PatientID") or "")
    key = f"dicom-{hashlib.sha256(patient.encode()).hexdigest()[:12]}" if patient else ""
    return Picture(gray, header.Columns, header.Rows, photometric, key, own)


def check_picture(header) -> None:
    """Errors: Unreadable for what is no single picture in gray or RGB, with the remedy."""
    if find([header], "PixelData") is None:
        of = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
        name = getattr(of, "name", None) or "of no SOP class"
        if find([header], "FloatPixelData") is not None or find([header], "DoubleFloatPixelData") is not None:
            raise Unreadable(f"pixels that are fractions ({name}): convert it to whole numbers")
        whole = "Storage" in name and "Image" not in name  # else the picture may have been cut off
        remedy = "leave it out" if whole else "leave it out, or fetch it again"
        raise Unreadable(f"a DICOM without a picture ({name}): {remedy}")
    needed = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "PixelRepresentation")
    for field in (*needed, "PhotometricInterpretation"):
        if find([header], field) is None:
            raise Unreadable(f"no {field}: mend the header, or fetch it again")
    check_size(header.Columns, header.Rows)
    frames = find([header], "NumberOfFrames")
    if frames is None:
        header.NumberOfFrames = 1
    elif int(frames) != 1:
        raise Unreadable(f"{frames} frames: export one image a file")
    photometric = header.PhotometricInterpretation
    colours = {"MONOCHROME1": 1, "MONOCHROME2": 1, **dict.fromkeys(COLOURS, 3)}
    if photometric not in colours:
        raise Unreadable(f"{photometric} is not gray or RGB: convert it")
    if header.SamplesPerPixel != colours[photometric]:
        raise Unreadable(f"SamplesPerPixel {header.SamplesPerPixel} in {photometric}: mend the header")


def find(fields: list, name: str) -> Any:
    """The value of an element in the first of these datasets that has one; None if none has.

    Errors: Unreadable, with the element, where its text is not of its type.
    """
    for dataset in fields:
        try:
            value = dataset.get(name)
        except Exception as error:  # pydicom raises anything for damaged values
            raise Unreadable(f"{name} ({describe(error)}): mend the header, or fetch it again") from error
        if value is not None and not (hasattr(value, "__len__") and len(value) == 0):
            return value
    return None


def number(fields: list, name: str) -> float | None:
    """The first number of an element, None where it has none. Errors: Unreadable where it is not finite."""
    value = find(fields, name)
    if isinstance(value, MutableSequence):
        value = value[0]
    if value is None or value == "":
        return None
    try:
        given = float(value)
    except (TypeError, ValueError):
        given = math.nan
    if not math.isfinite(given):
        raise Unreadable(f"{name} {value} is no finite number: mend the header, or fetch it again")
    return given


def stored(header) -> Pixels:
    """The stored values: samples shifted right by HighBit + 1 - BitsStored, cut to BitsStored bits (PS3.5 8.1.1)."""
    from pydicom.pixels import get_decoder

    allocated, bits = int(header.BitsAllocated), int(header.BitsStored)
    high = find([header], "HighBit")
    shift = 0 if high is None else int(high) + 1 - bits
    if not 0 <= shift <= allocated - bits or not 1 <= bits <= BITS:
        told = f"BitsAllocated {allocated}, BitsStored {bits}, HighBit {high}"
        raise Unreadable(f"{told} do not agree, or are more than {BITS}: mend the header, or convert it")
    syntax = header.file_meta.TransferSyntaxUID
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise Passing(f"compressed as {syntax.name}, which pydicom does not read: convert it") from error
    if not decoder.is_available:
        wanted = " or ".join(decoder.missing_dependencies)
        raise Passing(f"compressed as {syntax.name}, of which {wanted}: install one, or convert it")
    try:
        # else pydicom drops what is above BitsStored bits, wherever HighBit is
        samples, _ = decoder.as_array(header, correct_unused_bits=False)
    except RuntimeError as error:  # of the libraries that it asks; another one may do better
        problem = f"{syntax.name} that cannot be decoded here ({describe(error)})"
        raise Passing(f"{problem}: convert it, or fetch it again") from error
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False).view(f"u{samples.itemsize}")
    if shift or bits < 8 * samples.itemsize:
        samples = (samples >> shift) & (2**bits - 1)
    signed = header.PixelRepresentation == 1
    return Pixels(samples ^ 2 ** (bits - 1) if signed else samples, bits, signed)


def shown(header, pixels: Pixels, levels: Levels) -> tuple[np.ndarray, Range]:
    """What is seen of a picture, or of every value that it could store.

    Returns: (float in 0…1, clipped later: of [2^bits] values in ascending order where these are few, else of [H, W];
    the range that the picture alone would be shown by).
    """
    few = pixels.bits <= MAPPED
    every = pixels.least + (np.arange(2**pixels.bits) if few else pixels.samples.astype(np.int64))
    fields = [header, *functional_groups(header)]
    slope, intercept = number(fields, "RescaleSlope"), number(fields, "RescaleIntercept")
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if slope == 0:
        raise Unreadable("RescaleSlope 0 makes all pixels alike: mend the header, or leave it out")
    modality = table(header, fields, "ModalityLUTSequence", every)
    values = modality(every) if modality else every * slope + intercept
    if levels.window == "percentile":
        of_picture = values[pixels.samples] if few else values
        return linear(values, *percentiles(of_picture, padding(fields, pixels))), Range()
    voi, window = table(header, fields, "VOILUTSequence", values), window_of(fields)
    if voi and (levels.window == "as viewer" or not window):
        return linear(voi(values), 0, int(voi.entries.max())), Range()
    if window:
        return windowed(values, *window), Range()
    if modality:
        own = Range(MODALITY_LUT, int(modality.entries.min()), int(modality.entries.max()))
        return linear(values, *used(own, levels)[1:]), own
    own = pixels.own()
    ends = [end * slope + intercept for end in used(own, levels)[1:]]
    return linear(values, min(ends), max(ends)), own


def functional_groups(header) -> list:
    """Where enhanced objects keep rescale and window (PS3.3 C.7.6.16); of one frame."""
    groups = [
        item for which in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
        for item in (find([header], which) or [])[:1]
    ]  # fmt: skip
    macros = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
    return [item for group in groups for macro in macros for item in (find([group], macro) or [])[:1]]


def table(header, fields: list, sequence: str, inputs: np.ndarray) -> Table | None:
    """The first look-up table of a sequence (PS3.3 C.11.1.1.1), with any number of bits an entry; None without one.

    Errors: Unreadable where its data are fewer than its descriptor says.
    """
    item = (find(fields, sequence) or [None])[0]
    if item is None:
        return None
    descriptor, data = find([item], "LUTDescriptor"), find([item], "LUTData")
    if descriptor is None and data is None:
        return None
    little = header.original_encoding[1] is not False
    count, first, *_ = words_of(descriptor, little).tolist() if descriptor is not None else (0, 0)
    entries = words_of(data, little) if data is not None else np.zeros(0, np.uint16)
    count = count or 2**16
    if len(entries) < count <= 2 * len(entries):  # two of 8 bits in a word
        entries = entries.astype("<u2").view(np.uint8)
    if descriptor is None or len(entries) < count:
        raise Unreadable(f"{sequence} has {len(entries)} of {count} entries: mend the header, or fetch it again")
    signed = isinstance(descriptor, MutableSequence) and descriptor[1] < 0
    return Table(placed(first, count, signed, inputs), entries[:count])


def words_of(value, little: bool) -> np.ndarray:
    """uint16 [n] of an element of 16-bit words, as pydicom gives it: numbers, one number, or bytes."""
    if isinstance(value, bytes):
        return np.frombuffer(value[: len(value) // 2 * 2], "<u2" if little else ">u2").astype(np.uint16)
    return (np.atleast_1d(np.asarray(value, np.int64)) & 0xFFFF).astype(np.uint16)


def placed(first: int, count: int, signed: bool, inputs: np.ndarray) -> int:
    """The first value that a table maps, of 16 bits: signed or not as its VR tells, but where that maps no input."""
    readings = (first - 2**16, first) if signed else (first, first - 2**16)
    least, largest = inputs.min(), inputs.max()
    return next((one for one in readings if one <= largest and one + count > least), readings[0])


def window_of(fields: list) -> tuple[float, float, str] | None:
    """The first (center, width, function); None without one, and where the width is none."""
    center, width = number(fields, "WindowCenter"), number(fields, "WindowWidth")
    function = str(find(fields, "VOILUTFunction") or "").strip().upper() or "LINEAR"
    if center is None or width is None or width <= 0 or (width < 1 and function == "LINEAR"):
        return None
    if function not in FUNCTIONS:
        raise Unreadable(f"VOILUTFunction {function} is not {', '.join(FUNCTIONS)}: mend the header, or convert it")
    return center, width, function


def windowed(values: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """Values by a window (PS3.3 C.11.2.1.2, C.11.2.1.3), clipped later."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return (values - center) / width + 0.5
    if width == 1:
        return (values > center - 0.5).astype(float)
    return (values - (center - 0.5)) / (width - 1) + 0.5


def linear(values: np.ndarray, black: float, white: float) -> np.ndarray:
    """Values from black to white, clipped later; all black where these are the same."""
    return (values - black) / (white - black) if white > black else np.zeros(values.shape)


def padding(fields: list, pixels: Pixels) -> np.ndarray:
    """bool [H, W]: stored values from PixelPaddingValue to PixelPaddingRangeLimit (PS3.3 C.7.5.1.1.2)."""
    value, limit = number(fields, "PixelPaddingValue"), number(fields, "PixelPaddingRangeLimit")
    if value is None:
        return np.zeros(pixels.samples.shape, bool)
    possible = np.array([pixels.least, pixels.least + 2**pixels.bits - 1])
    ends = sorted(placed(int(end) & 0xFFFF, 1, end < 0, possible) for end in (value, value if limit is None else limit))
    low, high = (end - pixels.least for end in ends)
    return (pixels.samples >= low) & (pixels.samples <= high)


def percentiles(values: np.ndarray, padded: np.ndarray) -> tuple[float, float]:
    """PERCENTILES of a picture's values, less padding; the least and the largest where both are the same."""
    kept = values[~padded]
    if not kept.size:
        return 0.0, 0.0
    low, high = np.percentile(kept, PERCENTILES)
    return (low, high) if low < high else (kept.min(), kept.max())
