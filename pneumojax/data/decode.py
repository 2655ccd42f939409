"""One image file → gray pixels: JPEG, PNG and, with the extra `dicom`, DICOM. What cannot be read says why."""

import hashlib
from pathlib import PurePath
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from pneumojax.data import dicom, jpeg, png
from pneumojax.data.levels import ALONE, Levels, Range
from pneumojax.data.picture import Passing, Picture, Unreadable
from pneumojax.errors import describe

FORMATS = {  # suffix → format
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".png": "PNG",
    ".dcm": "DICOM",
    ".dicom": "DICOM",
}
READERS = {"JPEG": jpeg.read, "PNG": png.read, "DICOM": dicom.read}
FITS = ("stretch", "pad")
# JPEGs are decoded at no less than so many times the size wanted; the rest is done by resizing. 2 differs from decoding
# all pixels by 0.14 gray levels in the mean and 5 at most (X-rays of 1 to 4 megapixels to 224), 1 by 0.31 and 18.
REDUCED = 2


class Decoded(NamedTuple):
    """One image, decoded and resized; `why` it cannot be read is '' if it can."""

    pixels: np.ndarray | None  # uint8 [S, S]
    digest: str = ""  # equal for images with equal pixels and original size
    patient: str = ""
    why: str = ""
    passing: bool = False  # whether the same content may be readable another time
    turned: bool = False  # whether EXIF has turned it
    side: int = 0  # pixels of the original's shorter one
    group: str = ""  # the Range that it alone would be shown by
    black: int = 0
    white: int = 0

    @property
    def own(self) -> Range:
        """That range."""
        return Range(self.group, self.black, self.white)


def failed(problem: Unreadable) -> Decoded:
    """What cannot be read."""
    return Decoded(None, why=str(problem), passing=isinstance(problem, Passing))


def decode(content: bytes, name: str, size: int, fit: str, levels: Levels = ALONE) -> Decoded:
    """One image, size x size pixels, by Pillow's antialiased bilinear filter.

    Args:
      content: of the file.
      name: of the file; its suffix tells the format.
      size: pixels of a side.
      fit: `stretch` to a square, as the paper's set is, or `pad` with black, which keeps the aspect.
      levels: as for `read`.

    It raises nothing: what goes wrong with an image is its `why`.
    """
    try:
        picture = read(content, name, REDUCED * size, levels)
        pixels = resize(picture, size, fit)
    except Exception as error:  # one image must not stop the others
        return failed(unreadable(error))
    digest = hashlib.sha256(f"{picture.width} {picture.height}".encode() + pixels.tobytes()).hexdigest()[:32]
    return Decoded(
        pixels, digest, picture.patient, "", False, picture.turned, min(picture.width, picture.height), *picture.own
    )


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
    if resized.shape == (size, size):  # np.pad by nothing takes as long as decoding a small JPEG
        return resized
    top, left = (size - height) // 2, (size - width) // 2
    return np.pad(resized, ((top, size - height - top), (left, size - width - left)))


def read(content: bytes, name: str, at_least: int | None = None, levels: Levels = ALONE) -> Picture:
    """Decodes an image, upright. One whose pixels are all alike is none.

    Args:
      content: of the file.
      name: of the file; its suffix tells the format, which must be that of the content.
      at_least: pixels a side that suffice; a JPEG that is larger is then decoded at a fraction of its size, eighths,
        which is faster. None: all of them.
      levels: of the set that it belongs to. Where they do not know its group, as those given by default, black and
        white are what they would be in a set of this picture alone.

    Errors: Unreadable.
    """
    suffix = PurePath(name).suffix.lower()
    claimed, found = FORMATS.get(suffix), format_of(content)
    if not content:
        raise Unreadable("an empty file: fetch it again")
    if found is None:
        raise Unreadable("neither JPEG, PNG nor DICOM: convert it, or fetch it again if it is damaged")
    if not suffix:
        named = next(suffix for suffix, kind in FORMATS.items() if kind == found)
        raise Unreadable(f"a {found} file by its content, without a suffix: name it {named}")
    if found != claimed:
        raise Unreadable(f"a {found} file by its content, not {suffix}: rename it")
    try:
        picture = READERS[found](content, at_least, levels)
        # of a JPEG all pixels decide, whatever size is wanted
        if alike(picture.gray) and (at_least is None or alike(READERS[found](content, None, levels).gray)):
            raise Unreadable("all pixels are alike: leave it out, or fetch it again")
    except Unreadable:
        raise
    except Exception as error:  # decoders raise anything for damaged files
        raise unreadable(error) from error
    return picture


def unreadable(error: Exception) -> Unreadable:
    """What an error in decoding says of the file."""
    if isinstance(error, Unreadable):
        return error
    if isinstance(error, UnidentifiedImageError):  # whose message has an address, another one each time
        return Unreadable("damaged: fetch it again")
    if isinstance(error, MemoryError):
        return Passing("it does not fit the memory that is free: reduce it, or give more")
    return Unreadable(f"damaged or of a rare kind ({describe(error)}): fetch it again, or convert it")


def alike(gray: np.ndarray) -> bool:
    """Whether all pixels are; of most pictures the middle row tells that they are not."""
    middle = gray[len(gray) // 2]
    return bool((middle == middle[0]).all() and (gray == middle[0]).all())


def format_of(content: bytes) -> str | None:
    """The format that a file's first bytes tell."""
    if content.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    return "DICOM" if content[128:132] == b"DICM" else None
