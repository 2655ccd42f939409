"""A DICOM image → gray pixels, as a viewer shows it (PS3.3 C.7.6.3, C.11.1, C.11.2), with the extra `dicom`.

stored value → (modality LUT, or slope and intercept) → (VOI LUT or window) → gray → inverted in MONOCHROME1.
"""

import hashlib
from collections.abc import MutableSequence
from typing import NamedTuple

import numpy as np

from pneumojax.data.apart import samples_in
from pneumojax.data.levels import MODALITY_LUT, Levels, Range, used
from pneumojax.data.picture import Passing, Picture, Unreadable, luma, to_uint8
from pneumojax.data.stored import COLOURS, Pixels, check_decoder, find, header_of, number, samples_of, stored

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
PERCENTILES = (0.5, 99.5)
MAPPED = 16  # bits: up to so many, each possible value is mapped once and not each pixel


class Table(NamedTuple):
    """A look-up table: what lies beyond its ends is mapped as they are."""

    first: int  # the value that the first entry is of
    entries: np.ndarray  # uint16 or uint8 [n]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Values, of fractions the whole part → entries, float."""
        places = np.clip(np.floor(values) - self.first, 0, len(self.entries) - 1)
        return self.entries[places.astype(np.int64)].astype(float)


def read(content: bytes, _: int | None, levels: Levels) -> Picture:
    """A DICOM image in gray. Without a window its black and white are its group's in `levels`."""
    try:
        from pydicom import uid
    except ImportError as error:
        raise Passing("DICOM is read with the extra: pip install 'pneumojax[dicom]'") from error
    header = header_of(content)
    syntax = header.file_meta.TransferSyntaxUID
    check_decoder(syntax)
    by_gdcm = syntax.is_encapsulated and syntax != uid.RLELossless
    pixels = stored(header, samples_in(content, syntax.name) if by_gdcm else samples_of(header))
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
    modality = table(header, fields, "ModalityLUTSequence", every[pixels.samples] if few else every)
    values = modality(every) if modality else every * slope + intercept
    of_picture = values[pixels.samples] if few else values
    if levels.window == "percentile":
        return linear(values, *percentiles(of_picture, padding(fields, pixels))), Range()
    voi, window = table(header, fields, "VOILUTSequence", of_picture), window_of(fields)
    if voi and (levels.window == "as viewer" or not window):
        return linear(voi(values), 0, int(voi.entries.max())), Range()
    if window:
        return windowed(values, *window), Range()
    if modality:
        own = Range(MODALITY_LUT, int(modality.entries.min()), int(modality.entries.max()))
        return linear(values, *used(own, levels)[1:]), own
    own = pixels.own(padding(fields, pixels))
    ends = [end * slope + intercept for end in used(own, levels)[1:]]
    return linear(values, min(ends), max(ends)), own


def functional_groups(header) -> list:
    """Where enhanced objects keep rescale and window (PS3.3 C.7.6.16); of one frame."""
    which = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
    groups = [item for name in which for item in (find([header], name) or [])[:1]]
    macros = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
    return [item for group in groups for macro in macros for item in (find([group], macro) or [])[:1]]


def table(header, fields: list, sequence: str, inputs: np.ndarray) -> Table | None:
    """The first look-up table of a sequence (PS3.3 C.11.1.1.1), with any number of bits an entry; None without one.

    Args:
      inputs: the values of the picture that are to be mapped.

    Errors: Unreadable where its descriptor is none, or its data are fewer than it says.
    """
    item = (find(fields, sequence) or [None])[0]
    if item is None:
        return None
    descriptor, data = find([item], "LUTDescriptor"), find([item], "LUTData")
    if descriptor is None and data is None:
        return None
    little = header.original_encoding[1] is not False
    told, entries = (words_of(value, little) for value in (descriptor or b"", data or b""))
    if len(told) != 3:
        raise Unreadable(f"{sequence} has no LUTDescriptor of three numbers: mend the header, or fetch it again")
    count, first, bits = told.tolist()
    count = count or 2**16
    if len(entries) < count and bits <= 8:  # two in a word
        entries = entries.astype("<u2").view(np.uint8)
    if len(entries) < count:
        raise Unreadable(f"{sequence} has {len(entries)} of {count} entries: mend the header, or fetch it again")
    signed = isinstance(descriptor, MutableSequence) and descriptor[1] < 0
    return Table(placed(first, count, signed, inputs), entries[:count])


def words_of(value, little: bool) -> np.ndarray:
    """uint16 [n] of an element of 16-bit words, as pydicom gives it: numbers, one number, or bytes."""
    if isinstance(value, bytes):
        return np.frombuffer(value[: len(value) // 2 * 2], "<u2" if little else ">u2").astype(np.uint16)
    return (np.atleast_1d(np.asarray(value, np.int64)) & 0xFFFF).astype(np.uint16)


def placed(first: int, count: int, signed: bool, inputs: np.ndarray) -> int:
    """The first value that a table maps, of 16 bits: signed or not as its VR tells, but where that maps no input.

    In files of implicit VR that of a VOI LUT is told by the stored values, which a rescale can make negative.
    """
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
