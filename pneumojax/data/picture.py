"""One decoded image, why one cannot be had, and which way up it is."""

import struct
from typing import NamedTuple

import numpy as np

from pneumojax.data.levels import Range

PIXEL_LIMIT = 80_000_000  # of one image; more is taken for a decompression bomb
ORIENTATION = 0x0112  # tag of EXIF
WHOLE = {1: "B", 3: "H", 4: "I"}  # types of whole numbers in EXIF → struct's


class Unreadable(Exception):
    """Why an image cannot be used, and what can be done about it."""


class Passing(Unreadable):
    """The same, of a file that may be read the next time though nothing in it has changed."""


class Picture(NamedTuple):
    """One image, decoded, upright."""

    gray: np.ndarray  # uint8 [H, W]; a JPEG's may have some eighths of the original's sides, rounded up
    width: int  # pixels of the original
    height: int
    mode: str  # gray, RGB, …, as stored
    patient: str = ""  # from a DICOM header; '' if it tells none
    own: Range = Range()  # that this picture alone would be shown by
    turned: bool = False  # whether EXIF has turned it


def check_size(width: int, height: int) -> None:
    """Errors: Unreadable for an image that would fill the memory."""
    if width * height > PIXEL_LIMIT:
        raise Unreadable(f"{width} x {height} pixels are more than {PIXEL_LIMIT:,}: reduce it, or fetch it again")


def to_uint8(share: np.ndarray) -> np.ndarray:
    """float in 0…1, clipped → uint8 in 0…255, rounded."""
    return np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)


def luma(colours: np.ndarray) -> np.ndarray:
    """Unsigned [H, W, 3] → float [H, W] in the same range, ITU-R 601."""
    return colours @ np.array([0.299, 0.587, 0.114])


def orientation(exif: bytes) -> int:
    """1 to 8, by EXIF (TIFF 6.0, tag 274), with or without `Exif` before it.

    1, upright, where it tells none or is damaged: viewers pass over it.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    first = struct.unpack(f"{order}I", tiff[4:8])[0] + 2  # entry, in any order though TIFF wants an ascending one
    count = int.from_bytes(tiff[first - 2 : first], "little" if order == "<" else "big")
    for at in range(first, min(len(tiff) - 11, first + 12 * count), 12):
        tag, kind = struct.unpack(f"{order}HH", tiff[at : at + 4])
        if tag == ORIENTATION and kind in WHOLE:
            told = struct.unpack_from(order + WHOLE[kind], tiff, at + 8)[0]
            return told if 1 <= told <= 8 else 1
    return 1


def upright(picture: Picture, told: int) -> Picture:
    """Turns a picture that is stored in one of EXIF's orientations as a viewer shows it."""
    if told == 1:
        return picture
    gray = picture.gray.T if told >= 5 else picture.gray
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[told]
    sides = (picture.height, picture.width) if told >= 5 else (picture.width, picture.height)
    turned = np.ascontiguousarray(gray[::rows, ::columns])
    return picture._replace(gray=turned, width=sides[0], height=sides[1], turned=True)
