"""What one image looks like: gray levels, a thumbnail, bars at its edges, marks burnt in, what its header tells."""

import io
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from pneumojax.data.picture import orientation

THUMBNAIL = 32  # pixels a side, stretched to a square
BAR_LEVELS = 6  # pixels within so many levels of the edge's are of its bar; more than JPEG's noise
BAR_SHARE = 0.9  # of a row's pixels that are; a letter within a bar does not end it
BLACK, WHITE = 16, 239  # a bar up to, and from
SCANNER = ("Manufacturer", "ManufacturerModelName")  # PS3.3 C.7.5.1

MARK_SIDES = (512, 160)  # pixels of the longer side to look for marks: averaged down to, then by the brightest of four
# Of what these find in the published set three in four are letters, the others buttons, wires and ends of ribs.
MARK_LEVEL = 180  # of a mark's pixels, at least
MARK_EDGE = 50  # levels by which what is around a mark is darker, at least …
MARK_AROUND = 0.9  # … in so much of a frame one pixel off
MARK_SMALLEST = 3  # pixels of a mark's longer side
MARK_LARGEST = 0.12  # of the picture's
MARK_MARGIN = 0.2  # of the picture's sides: a mark's centre is as near to an edge
MARKS = 20  # more are no letters: a grid, or noise


class Bar(NamedTuple):
    """Rows or columns at one edge of a picture that are all alike."""

    share: float  # of the picture's height or width; 0 for none
    level: int  # gray, 0…255


class Look(NamedTuple):
    """What is kept of how one image looks."""

    histogram: np.ndarray  # float32 [256], shares of pixels
    thumbnail: np.ndarray  # uint8 [THUMBNAIL, THUMBNAIL]
    bars: tuple[Bar, Bar, Bar, Bar]  # top, bottom, left, right
    marks: tuple[tuple[float, float, float, float], ...]  # left, top, right, bottom, as shares of the picture's sides
    exif: int  # orientation, 1…8; 1 is upright, and none
    scanner: str  # of a DICOM; '' where it is not told
    bits: str  # stored, of a DICOM


def look(gray: np.ndarray, content: bytes) -> Look:
    """Looks at an image: uint8 [H, W] as decoded, and the content of its file."""
    image = Image.fromarray(gray)
    scanner, bits = read_header(content)
    return Look(
        histogram=(np.array(image.histogram()) / gray.size).astype(np.float32),
        thumbnail=np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX, reducing_gap=1.0)),
        bars=tuple(bar(edge) for edge in (gray, gray[::-1], gray.T, gray.T[::-1])),
        marks=find_marks(image),
        exif=exif_orientation(content),
        scanner=scanner,
        bits=bits,
    )


def bar(rows: np.ndarray) -> Bar:
    """The bar at the top of uint8 [rows, pixels]: BAR_SHARE of each row within BAR_LEVELS of the first one's median."""
    level = int(np.sort(rows[0])[len(rows[0]) // 2])  # np.median takes three times as long
    low, high = max(level - BAR_LEVELS, 0), min(level + BAR_LEVELS, 255)
    count = 0
    for row in rows:
        if np.count_nonzero((row >= low) & (row <= high)) < BAR_SHARE * row.size:
            break
        count += 1
    return Bar(count / len(rows), level)


def find_marks(image: Image.Image) -> tuple[tuple[float, float, float, float], ...]:
    """Boxes of what may be letters or markers: small, bright, sharply bounded, near an edge.

    Connected pixels of MARK_LEVEL and more, in a box with a longer side of MARK_SMALLEST to MARK_LARGEST and its
    centre within MARK_MARGIN of an edge; of the frame around it MARK_AROUND is darker than their mean by MARK_EDGE.
    A hint: buttons, wires and ends of ribs can look so, and letters that are dark, large or within the chest do not.
    """
    gray = np.asarray(image.reduce(-(-max(image.size) // MARK_SIDES[0])))
    while max(gray.shape) > MARK_SIDES[1]:
        gray = brightest_of_four(gray)
    labels, _ = ndimage.label(gray >= MARK_LEVEL, np.ones((3, 3)))
    height, width = gray.shape
    largest, found = max(MARK_SMALLEST, MARK_LARGEST * max(height, width)), []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        if not MARK_SMALLEST <= max(rows.stop - rows.start, columns.stop - columns.start) <= largest:
            continue
        y, x = (rows.start + rows.stop) / 2 / height, (columns.start + columns.stop) / 2 / width
        if min(x, y, 1 - x, 1 - y) > MARK_MARGIN:
            continue
        level = gray[rows, columns][labels[rows, columns] == number].mean()
        around = frame(gray, rows, columns)
        if np.count_nonzero(around <= level - MARK_EDGE) >= max(MARK_AROUND * around.size, 1):
            found.append((columns.start / width, rows.start / height, columns.stop / width, rows.stop / height))
    return tuple(found) if len(found) <= MARKS else ()


def brightest_of_four(gray: np.ndarray) -> np.ndarray:
    """uint8 [H, W] → [H / 2, W / 2], rounded down, at least 1: thin strokes stay as bright as they are."""
    gray = gray[: max(len(gray) // 2 * 2, 1), : max(gray.shape[1] // 2 * 2, 1)]
    rows = np.maximum(gray[::2], gray[1::2]) if len(gray) > 1 else gray
    return np.maximum(rows[:, ::2], rows[:, 1::2]) if gray.shape[1] > 1 else rows


def frame(gray: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """The pixels around a box, one off, as far as they lie in the picture: uint8 [pixels]."""
    top, bottom, left, right = rows.start - 2, rows.stop + 1, columns.start - 2, columns.stop + 1
    across, down = slice(max(left, 0), right + 1), slice(max(top + 1, 0), bottom)
    sides = [gray[row, across] for row in (top, bottom) if 0 <= row < len(gray)]
    sides += [gray[down, column] for column in (left, right) if 0 <= column < gray.shape[1]]
    return np.concatenate([gray[:0, 0], *sides])


def exif_orientation(content: bytes) -> int:
    """EXIF's orientation of a JPEG (APP1) or PNG (eXIf), 1…8; 1 where it tells none."""
    if b"Exif\0\0" not in content[:65536] and b"eXIf" not in content:
        return 1
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            return orientation(image.info.get("exif", b""))
    except Exception:  # Pillow reads less than the decoders do
        return 1


def read_header(content: bytes) -> tuple[str, str]:
    """(scanner, bits stored) of a DICOM; '' of anything else."""
    if content[128:132] != b"DICM":
        return "", ""
    import pydicom  # it is there: the image has been decoded

    try:
        header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True, specific_tags=[*SCANNER, "BitsStored"])
        words = [str(header.get(field) or "").strip() for field in SCANNER]
        return " ".join(filter(None, words)), f"{header.BitsStored} bits"
    except Exception:  # a field of another kind than it should be, which says nothing; the pixels have been decoded
        return "", ""
