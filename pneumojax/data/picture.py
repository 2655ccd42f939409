"""One decoded image, why one cannot be had, and which way up it is."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from pneumojax.data.levels import Range

PIXEL_LIMIT = 80_000_000  # of one image; more is taken for a decompression bomb
ORIENTATION = 0x0112  # tag of EXIF


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
    """Unsigned [H, W, 3 or more] of up to 16 bits → uint32 [H, W], ITU-R 601 in 16 bits, rounded as Pillow does."""
    red, green, blue = (colours[:, :, channel].astype(np.uint32) for channel in range(3))
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16


def orientation(exif: bytes) -> int:
    """1 to 8, by EXIF (TIFF 6.0, tag 274), with or without `Exif` before it; 1, upright, where it tells none."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        told = tags.get(ORIENTATION, 1)
    except Exception:  # damaged EXIF; viewers pass over it
        return 1
    return told if isinstance(told, int) and 1 <= told <= 8 else 1


def upright(picture: Picture, told: int) -> Picture:
    """Turns a picture that is stored in one of EXIF's orientations as a viewer shows it."""
    if told == 1:
        return picture
    gray = picture.gray.T if told >= 5 else picture.gray
    rows, columns = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 5: (1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}[told]
    sides = (picture.height, picture.width) if told >= 5 else (picture.width, picture.height)
    turned = np.ascontiguousarray(gray[::rows, ::columns])
    return picture._replace(gray=turned, width=sides[0], height=sides[1], turned=True)
