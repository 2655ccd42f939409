"""A DICOM file → the values that it stores, and what its header tells. An element that is empty counts as absent."""

import io
import math
from collections.abc import MutableSequence
from typing import Any, NamedTuple

import numpy as np

from pneumojax.data.levels import Range, of_bits
from pneumojax.data.picture import Passing, Unreadable, check_size
from pneumojax.errors import describe

COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # pydicom makes RGB of them
BITS = 32  # stored, at most
LARGEST = 1e30  # of numbers in a header


class Pixels(NamedTuple):
    """The stored values of a picture, as `least` + samples."""

    samples: np.ndarray  # unsigned [H, W] or [H, W, 3]
    bits: int  # BitsStored
    signed: bool

    @property
    def least(self) -> int:
        """The smallest value that can be stored."""
        return -(2 ** (self.bits - 1)) if self.signed else 0

    def own(self, left_out: np.ndarray | None = None) -> Range:
        """The fewest bits that hold the values; more than 8 are the set's affair.

        Those that are `left_out`, bool [H, W], have no say, unless all are.
        """
        kept = self.samples if left_out is None or left_out.all() else self.samples[~left_out]
        group = f"DICOM of {self.bits} bits{', signed' if self.signed else ''}" if self.bits > 8 else ""
        low, high = (self.least + int(one) for one in (kept.min(), kept.max()))
        return of_bits(group, low, high, self.bits, self.signed)


def header_of(content: bytes):
    """The data set of a DICOM file with one picture in gray or RGB. Errors: Unreadable for all others."""
    import pydicom

    header = pydicom.dcmread(io.BytesIO(content))
    check_picture(header)
    shift_of(header)
    return header


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
    if photometric in COLOURS and header.PixelRepresentation == 1:
        raise Unreadable(f"{photometric} must be unsigned, PixelRepresentation is 1: mend the header, or convert it")
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
    """The first number of an element, None where it has none. Errors: Unreadable where it is none or has no bounds."""
    value = find(fields, name)
    if isinstance(value, MutableSequence):
        value = value[0]
    if value is None or value == "":
        return None
    try:
        given = float(value)
    except (TypeError, ValueError):
        given = math.nan
    if not abs(given) < LARGEST:
        raise Unreadable(f"{name} {value} is no number of pixels: mend the header, or fetch it again")
    return given


def shift_of(header) -> int:
    """Bits that samples are to be shifted right by. Errors: Unreadable where the header's counts do not agree."""
    allocated, bits, high = header.BitsAllocated, header.BitsStored, find([header], "HighBit")
    shift = 0 if high is None else high + 1 - bits
    if not 0 <= shift <= allocated - bits or not 1 <= bits <= BITS:
        told = f"BitsAllocated {allocated}, BitsStored {bits}, HighBit {high}"
        raise Unreadable(f"{told} do not agree, or are more than {BITS}: mend the header, or convert it")
    return shift


def check_decoder(syntax) -> None:
    """Errors: Passing where pydicom or what it needs cannot decompress a transfer syntax."""
    from pydicom.pixels import get_decoder

    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise Passing(f"compressed as {syntax.name}, which pydicom does not read: convert it") from error
    if not decoder.is_available:
        wanted = " or ".join(decoder.missing_dependencies)
        raise Passing(f"compressed as {syntax.name}, of which {wanted}: install one, or convert it")


def samples_of(header) -> np.ndarray:
    """The samples, of any type [H, W] or, in RGB, [H, W, 3], decompressed."""
    from pydicom import uid
    from pydicom.pixels import get_decoder

    syntax = header.file_meta.TransferSyntaxUID
    if syntax in uid.JPEGTransferSyntaxes and header.BitsStored < 8:
        header.BitsStored, header.HighBit = 8, 7  # or GDCM ends the process
    # what is above BitsStored bits pydicom would drop wherever HighBit is
    return get_decoder(syntax).as_array(header, correct_unused_bits=False)[0]


def stored(header, samples: np.ndarray) -> Pixels:
    """Stored values are samples shifted right by HighBit + 1 - BitsStored, cut to BitsStored bits (PS3.5 8.1.1).

    Errors: Unreadable where the samples are not of one picture of Rows x Columns.
    """
    shape = (header.Rows, header.Columns, header.SamplesPerPixel)[: 2 if header.SamplesPerPixel == 1 else 3]
    if samples.shape[1:] == shape:
        raise Unreadable(f"{len(samples)} frames: export one image a file")
    if samples.shape != shape:
        told = f"{' x '.join(map(str, samples.shape))} samples do not fit Rows x Columns, {' x '.join(map(str, shape))}"
        raise Unreadable(f"{told}: mend the header, or fetch it again")
    bits, shift = header.BitsStored, shift_of(header)
    samples = samples.astype(samples.dtype.newbyteorder("="), copy=False).view(f"u{samples.itemsize}")
    if shift or bits < 8 * samples.itemsize:
        samples = (samples >> shift) & (2**bits - 1)
    signed = header.PixelRepresentation == 1
    return Pixels(samples ^ 2 ** (bits - 1) if signed else samples, bits, signed)
