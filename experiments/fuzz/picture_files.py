"""PNGs of all colour types and JPEGs of odd segments, made by hand where Pillow would not make them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}
DEPTHS = {GRAY: (1, 2, 4, 8, 16), RGB: (8, 16), PALETTE: (1, 2, 4, 8), GRAY_ALPHA: (8, 16), RGBA: (8, 16)}
ADAM7 = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)  # x, y, steps
SEQUENTIAL = ((0, 0, 1, 1),)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(rng, samples: np.ndarray, colour: int, depth: int, before: list[bytes], after: list[bytes]) -> bytes:
    """A PNG of samples [H, W, C], perhaps interlaced, its rows filtered at random, its data in pieces.

    `before` and `after` are chunks that stand before and behind its data.
    """
    height, width = samples.shape[:2]
    interlaced = bool(rng.random() < 0.3)
    step = max(1, CHANNELS[colour] * depth // 8)
    data = b""
    for x, y, across, down in ADAM7 if interlaced else SEQUENTIAL:
        part = samples[y::down, x::across]
        if part.size:
            data += b"".join(filtered(rng, packed(part, depth), step))
    packed_data = zlib.compress(data, int(rng.integers(0, 10)))
    cuts = sorted({0, len(packed_data), *rng.integers(0, len(packed_data), rng.integers(0, 3)).tolist()})
    pieces = [packed_data[begin:end] for begin, end in zip(cuts, cuts[1:], strict=False)]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    chunks = [chunk(b"IHDR", header), *before, *(chunk(b"IDAT", piece) for piece in pieces), *after]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND", b"")


def packed(samples: np.ndarray, depth: int) -> np.ndarray:
    """[H, W, C] → the bytes of each row, uint8 [H, n]."""
    rows = samples.reshape(len(samples), -1)
    if depth >= 8:
        return rows.astype(f">u{depth // 8}").view(np.uint8).reshape(len(rows), -1)
    bits = (rows[:, :, None] >> np.arange(depth)[::-1]) & 1
    return np.packbits(bits.reshape(len(rows), -1).astype(np.uint8), axis=1)


def filtered(rng, rows: np.ndarray, step: int):
    """Each row by one of the five filters (PNG, section 9.2)."""
    above = np.zeros(rows.shape[1], int)
    for row in rows.astype(int):
        left, corner = (np.concatenate([np.zeros(step, int), one])[: len(row)] for one in (row, above))
        nearest = left + above - corner
        far = [np.abs(nearest - one) for one in (left, above, corner)]
        paeth = np.where((far[0] <= far[1]) & (far[0] <= far[2]), left, np.where(far[1] <= far[2], above, corner))
        kind = int(rng.integers(5))
        predicted = (0 * row, left, above, (left + above) // 2, paeth)[kind]
        yield bytes([kind]) + ((row - predicted) % 256).astype(np.uint8).tobytes()
        above = row


def exif(rng, orientation: int | None, thumbnail: bytes = b"") -> bytes:
    """A TIFF header with an orientation among other tags (EXIF 2.32, 4.6), and perhaps a thumbnail that lies."""
    order = str(rng.choice(["<", ">"]))
    entries = [(0x010E, 2, 4, b"abc\0"), (0x0128, 3, 1, struct.pack(order + "HH", 2, 0))]
    if orientation is not None:
        entries.append((0x0112, 3, 1, struct.pack(order + "HH", orientation, 0)))
    start = 8
    following = start + 2 + 12 * len(entries) + 4
    found = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", start)
    found += directory(entries, order, following if thumbnail else 0)
    if thumbnail:
        place = following + 2 + 12 * 3 + 4
        second = [(0x0112, 3, 1, struct.pack(order + "HH", 3, 0)), (0x0201, 4, 1, struct.pack(order + "I", place))]
        second.append((0x0202, 4, 1, struct.pack(order + "I", len(thumbnail))))
        found += directory(second, order, 0) + thumbnail
    return found


def directory(entries: list[tuple[int, int, int, bytes]], order: str, following: int) -> bytes:
    """An IFD: tags with type, count and the four bytes of their value, ascending."""
    rows = [struct.pack(order + "HHI", *entry[:3]) + entry[3] for entry in sorted(entries)]
    return struct.pack(order + "H", len(rows)) + b"".join(rows) + struct.pack(order + "I", following)


def upright(gray: np.ndarray, orientation: int | None) -> np.ndarray:
    """As EXIF means it: the stored row 0 is the picture's top, top, bottom, bottom, left, right, right, left side."""
    turned = {
        2: lambda a: np.fliplr(a),
        3: lambda a: np.rot90(a, 2),
        4: lambda a: np.flipud(a),
        5: lambda a: a.T,
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, 1),
    }
    return turned.get(orientation, lambda a: a)(gray)


def segment(marker: int, content: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg(picture: Image.Image, **options) -> bytes:
    """A JPEG by Pillow."""
    content = io.BytesIO()
    picture.save(content, "JPEG", **options)
    return content.getvalue()
