"""A PNG → gray pixels (W3C, Portable Network Graphics, third edition)."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

from pneumojax.data.levels import Levels, Range, of_bits, used
from pneumojax.data.picture import Picture, Unreadable, check_size, luma, orientation, to_uint8, upright
from pneumojax.errors import describe

PIECE = 2**16  # bytes that are inflated at once, to a thousand times as many at most
MODES = ("L", "RGB", "LA", "RGBA", "P", "1")  # of Pillow, where samples have 8 bits or fewer
GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types
SAMPLES = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}  # of a pixel
ADAM7 = (  # the passes of an interlaced one: first column and row, and steps
    *((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4)),
    *((0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)),
)
SIXTEEN = {GRAY: "gray", RGB: "RGB", GRAY_ALPHA: "LA", RGBA: "RGBA"}


def read(content: bytes, _: int | None, levels: Levels) -> Picture:
    """A PNG in gray, upright as its eXIf says; alpha is passed over. Samples of 16 bits are shown by their group's.

    Of all 16-bit PNGs of a set with the same sBIT chunk, or without one, white is the fewest bits (8 to 16) that hold
    their largest sample, or, where all of them fit into it, what sBIT says.
    """
    check_size(*struct.unpack(">II", content[16:24]))  # before Pillow, whose own limit would say less
    with opened(content) as file:
        file.verify()  # checksums, which decoding does not look at
    found = chunks(content)
    check_pixels(found, content[16:29])
    told = orientation(found[b"eXIf"]) if b"eXIf" in found else 1
    bits, colour = content[24:26]
    if bits == 16:
        samples = sixteen_bits(content, colour)
        own = range_of(samples, colour, found.get(b"sBIT", b""))
        gray = samples if samples.ndim == 2 else luma(samples)
        gray = to_uint8(gray / used(own, levels).white)
        return upright(Picture(gray, *gray.shape[::-1], f"{SIXTEEN[colour]}, 16 bits", own=own), told)
    with opened(content) as file:
        if file.mode not in MODES:
            raise Unreadable(f"mode {file.mode} is not gray or RGB: convert it")
        mode = {"L": "gray", "1": "gray, 1 bit"}.get(file.mode, file.mode)
        return upright(Picture(np.asarray(file.convert("L")), *file.size, mode), told)


def opened(content: bytes) -> Image.Image:
    """It in Pillow."""
    return Image.open(io.BytesIO(content), formats=("PNG",))


def chunks(content: bytes) -> dict[bytes, bytes]:
    """The chunks of a whole PNG by kind; those of its pixels, IDAT, joined, of others the last."""
    found, pixels, at = {}, [], 8
    while at + 12 <= len(content) and b"IEND" not in found:
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        found[kind] = content[at + 8 : at + 8 + length]
        if kind == b"IDAT":
            pixels.append(found[kind])
        at += 12 + length
    return found | {b"IDAT": b"".join(pixels)}


def check_pixels(found: dict[bytes, bytes], header: bytes) -> None:
    """Errors: Unreadable where the pixels end before IHDR's do, which Pillow makes black; more are passed over."""
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    needed = 0
    for left, top, across, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0:
            needed += max(rows, 0) * (1 + -(-columns * bits * SAMPLES[colour] // 8))  # a row's filter is a byte
    packed, inflater, inflated, at = found[b"IDAT"], zlib.decompressobj(), 0, 0
    try:
        while inflated < needed and at < len(packed):  # by pieces, of which none fills the memory
            inflated += len(inflater.decompress(packed[at : at + PIECE]))
            at += PIECE
    except zlib.error as error:
        raise Unreadable(f"damaged: its pixels cannot be inflated ({describe(error)}): fetch it again") from error
    if inflated < needed:
        raise Unreadable(f"damaged: its pixels end early ({inflated:,} of {needed:,} bytes): fetch it again")


def sixteen_bits(content: bytes, colour: int) -> np.ndarray:
    """The samples, uint16 [H, W] or [H, W, 3]. Pillow gives 8 of 16 bits of all but gray; these ask it otherwise."""
    if colour == GRAY:
        with opened(content) as file:
            return np.asarray(file, np.uint16)
    if colour == GRAY_ALPHA:  # its bytes are those of an RGBA of 8 bits, filters and interlacing included
        header = content[12:24] + bytes((8, RGBA)) + content[26:29]
        content = content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:]
        with opened(content) as file:
            pairs = np.asarray(file, np.uint16)
        return pairs[:, :, 0] << 8 | pairs[:, :, 1]
    with opened(content) as file:
        high = np.asarray(file)
    with opened(content) as file:  # the lower bytes
        file.tile = [tile._replace(args=tile.args.replace("16B", "16L")) for tile in file.tile]
        low = np.asarray(file)
    return high[:, :, :3].astype(np.uint16) << 8 | low[:, :, :3]


def range_of(samples: np.ndarray, colour: int, significant: bytes) -> Range:
    """What is white in a picture; an sBIT chunk that says nothing possible is passed over, as libpng does."""
    largest = int(samples.max())
    if len(significant) != SAMPLES[colour] or not all(1 <= bits <= 16 for bits in significant):
        return of_bits("PNG of 16 bits", 0, largest, 16)
    group, bits = f"PNG of 16 bits, sBIT {' '.join(map(str, significant))}", max(significant[: samples[0, 0].size])
    return Range(group, 0, 2**bits - 1) if largest < 2**bits else of_bits(group, 0, largest, 16)
