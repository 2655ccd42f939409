"""A JPEG → gray pixels (ITU-T T.81)."""

import re
from collections.abc import Iterator

import simplejpeg

from pneumojax.data.levels import Levels
from pneumojax.data.picture import Picture, Unreadable, check_size, orientation, upright

SCAN_LIMIT = 100  # of one JPEG, each of which goes over the whole picture; a progressive one has about ten
APP1, SCAN, END = 0xE1, 0xDA, 0xD9  # markers
MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # of segments that have a length, and END
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
LOSSLESS, HIERARCHICAL = (0xC3, 0xCB), (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF)


def read(content: bytes, at_least: int | None, levels: Levels) -> Picture:
    """Luma (ITU-R 601) of a JPEG, upright. Damage that most decoders pass over in silence is an error here.

    One that EXIF turns is decoded whole: of a reduced one the last row and column may be parts.
    """
    del levels  # of 8 bits
    told = None
    for marker, begin, end in segments(content):
        if marker == APP1 and told is None and content.startswith(b"Exif\0\0", begin):  # the first counts
            told = orientation(content[begin:end])
        elif marker in FRAMES:
            check_frame(marker, content[begin])
    told = told or 1
    height, width, space, _ = simplejpeg.decode_jpeg_header(content)
    check_size(width, height)
    if space in ("CMYK", "YCCK"):
        raise Unreadable(f"{space}, a picture for print: convert it to gray or RGB")
    if content.count(b"\xff\xda") > SCAN_LIMIT < scans(content):
        raise Unreadable(f"more than {SCAN_LIMIT} scans, which would take hours: save it anew")
    limits = {}
    if at_least is not None and told == 1:
        limits = {"min_height": min(at_least, height), "min_width": min(at_least, width)}
    gray = simplejpeg.decode_jpeg(content, "GRAY", min_factor=2.0, **limits)[:, :, 0]
    return upright(Picture(gray, width, height, "gray" if space == "Gray" else "RGB"), told)


def segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """(marker, begin, end) of the segments before the first scan."""
    at = 2
    while at + 4 < len(content) and content[at] == 0xFF and content[at + 1] != SCAN:
        if content[at + 1] == 0xFF:  # a fill byte
            at += 1
            continue
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        yield content[at + 1], at + 4, end
        at = end


def scans(content: bytes) -> int:
    """Scans up to the end of the picture; what looks like one inside other segments is none."""
    found = at = 0
    while (marker := MARKER.search(content, at)) and content[marker.end() - 1] != END:
        found += content[marker.end() - 1] == SCAN
        at = marker.end() + int.from_bytes(content[marker.end() : marker.end() + 2], "big")
    return found


def check_frame(marker: int, bits: int) -> None:
    """Errors: Unreadable for processes that hardly a program reads."""
    kind = "lossless" if marker in LOSSLESS else "hierarchical" if marker in HIERARCHICAL else ""
    if kind or bits != 8:
        raise Unreadable(f"a JPEG that is {kind or f'of {bits} bits'}: convert it")
