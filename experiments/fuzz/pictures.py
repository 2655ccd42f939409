"""Small sets of PNGs and JPEGs that are legal and odd, against their samples and Pillow."""

import io
import struct
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from experiments.fuzz import Outcome, judge
from experiments.fuzz import picture_files as made
from experiments.fuzz.judge import Expected

THEMES = (
    *("PNG", "PNG of 16 bits", "PNG of 16 bits in colour", "PNG turned", "JPEG", "JPEG turned", "JPEG segments"),
    *("JPEG large", "suffix", "alike", "truncated", "mixed"),
)
COLOURS_16 = (made.RGB, made.GRAY_ALPHA, made.RGBA)
Drawn = tuple[bytes, str, Expected]  # content, format, what it should be


class Sixteen(dict):
    """16-bit PNGs of a set: name → (samples [H, W, C], sBIT, orientation); gray only once all are known."""


def case(rng: np.random.Generator, folder: Path) -> Outcome:
    """One set of 1 to 4 pictures."""
    theme = str(rng.choice(THEMES))
    root = folder / "set"
    (root / "NORMAL").mkdir(parents=True)
    expected: dict[str, Expected] = {}
    sixteen, turned, hows = Sixteen(), 0, []
    for number in range(rng.integers(1, 5)):
        own = theme if theme != "mixed" and rng.random() < 0.7 else str(rng.choice(THEMES[:7]))
        own = theme if "16 bits" in theme else own
        orientation = int(rng.integers(0, 10)) if "turned" in own or rng.random() < 0.1 else None
        content, kind, one = drawn(rng, own, orientation, sixteen)
        name = f"NORMAL/{number}.{suffix(rng, kind, theme == 'suffix')}"
        if None in sixteen:
            sixteen[name] = sixteen.pop(None)
        (root / name).write_bytes(content)
        expected[name] = one
        turned += bool(one.grays and orientation in range(2, 9)) or bool(name in sixteen and orientation in range(2, 9))
        hows.append(f"{name}: {own}, orientation {orientation}, {one.how}")
    for name, variants in of_sixteen_bits(sixteen).items():
        expected[name] = expected[name]._replace(grays=variants)
    result, detail, loaded = judge.judged(root, expected)
    if result == "right" and turned:
        lines = [line for line in loaded.said if "upright" in line]
        if len(lines) != 1 or str(turned) not in lines[0]:
            result, detail = "silent", f"{turned} are turned upright, said: {lines}"
    return Outcome(f"pictures: {theme}", result, detail and f"{detail}; {' | '.join(hows)}")


def drawn(rng, theme: str, orientation: int | None, sixteen: Sixteen) -> Drawn:
    """One picture of a theme."""
    if theme in ("PNG of 16 bits", "PNG of 16 bits in colour"):
        colour = made.GRAY if theme == "PNG of 16 bits" else COLOURS_16[rng.integers(3)]
        return png_16(rng, colour, orientation, sixteen)
    if theme in ("alike", "truncated"):
        return spoilt(rng, theme)
    if theme.startswith("PNG") or (theme == "suffix" and rng.random() < 0.5):
        return png_8(rng, orientation)
    return jpeg(rng, theme, orientation)


def suffix(rng, kind: str, odd: bool) -> str:
    """Of a file's name."""
    options = {"PNG": ["png", "PNG", "Png"], "JPEG": ["jpeg", "jpg", "JPG", "JPEG", "jPeg"]}[kind]
    return str(rng.choice(options)) if odd else options[0]


def samples(rng, channels: int, top: int) -> np.ndarray:
    """int64 [H, W, C] of 0…top, smooth or noise, of odd sides, a row or column too."""
    sides = (
        tuple(rng.integers(2, 65, 2)) if rng.random() < 0.8 else (1, int(rng.integers(3, 65)))[:: rng.choice([-1, 1])]
    )
    sides = (judge.SIDE, judge.SIDE) if rng.random() < 0.3 else sides
    found = rng.integers(0, top + 1, (*sides, channels))
    if rng.random() < 0.7:
        ramps = np.linspace(0, top, found.size // channels).reshape(sides)[:: rng.choice([-1, 1])]
        found = np.round(ramps[:, :, None] * np.linspace(1, 0.5, channels)).astype(np.int64)
    return found


def luma(rgb: np.ndarray) -> np.ndarray:
    """ITU-R 601 of samples [H, W, 3], float [H, W]."""
    return rgb[:, :, :3].astype(float) @ [0.299, 0.587, 0.114]


def extras(rng, colour: int, depth: int) -> tuple[list[bytes], list[bytes]]:
    """Legal chunks that change no sample: before the data, and behind."""
    before = [made.chunk(b"tEXt", b"Comment\0IDAT"), made.chunk(b"pHYs", struct.pack(">IIB", 3, 1, 0))]
    before += [made.chunk(b"gAMA", struct.pack(">I", int(rng.choice([45455, 100000, 220000]))))]
    before += [made.chunk(b"teSt", rng.bytes(9))]
    if colour in (made.GRAY, made.RGB):
        before.append(made.chunk(b"tRNS", struct.pack(f">{made.CHANNELS[colour]}H", *[1] * made.CHANNELS[colour])))
    before = [one for one in before if rng.random() < 0.4]
    return before, [made.chunk(b"tIME", struct.pack(">HBBBBB", 2020, 1, 1, 1, 1, 1))] if rng.random() < 0.3 else []


def with_exif(rng, orientation: int | None, before: list[bytes], after: list[bytes]) -> None:
    """Adds an eXIf chunk, on either side of the data."""
    if orientation is not None:
        content = made.exif(rng, orientation)
        if orientation == 9:
            content = rng.bytes(30)  # no EXIF at all
        (before if rng.random() < 0.7 else after).append(made.chunk(b"eXIf", content))


def png_8(rng, orientation: int | None) -> Drawn:
    """A PNG of up to 8 bits a sample."""
    colour = int(rng.choice(list(made.DEPTHS)))
    depth = int(rng.choice([depth for depth in made.DEPTHS[colour] if depth <= 8]))
    top, channels = 2**depth - 1, made.CHANNELS[colour]
    stored = samples(rng, channels, top)
    before, after = extras(rng, colour, depth)
    if rng.random() < 0.3:
        count = {made.PALETTE: 3}.get(colour, channels)
        before.insert(0, made.chunk(b"sBIT", bytes([max(1, depth - 1) if colour != made.PALETTE else 5] * count)))
    with_exif(rng, orientation, before, after)
    if colour == made.PALETTE:
        palette = rng.integers(0, 256, (top + 1, 3))
        before.append(made.chunk(b"PLTE", palette.astype(np.uint8).tobytes()))
        if rng.random() < 0.5:
            before.append(made.chunk(b"tRNS", bytes(range(min(top + 1, 200)))))
        gray = luma(palette[stored[:, :, 0]])
    else:
        gray = stored[:, :, 0] * 255 / top if channels < 3 else luma(stored)
    content = made.png(rng, stored, colour, depth, before, after)
    how = f"colour type {colour}, {depth} bits, chunks {[one[4:8].decode() for one in (*before, *after)]}"
    return content, "PNG", Expected((made.upright(gray, orientation),), how=how)


def png_16(rng, colour: int, orientation: int | None, sixteen: Sixteen) -> Drawn:
    """A PNG of 16 bits a sample of which 7 to 16 are used, with an sBIT chunk that is right, wrong or not there."""
    bits, channels = int(rng.integers(7, 17)), made.CHANNELS[colour]
    stored = samples(rng, channels, 2**bits - 1)
    significant = bytes([int(rng.choice([8, 10, 12, 14, 16]))] * channels) if rng.random() < 0.5 else b""
    before, after = extras(rng, colour, 16)
    with_exif(rng, orientation, before, after)
    if significant:
        before.insert(0, made.chunk(b"sBIT", significant))
    sixteen[None] = stored, significant, orientation
    how = f"colour type {colour}, {bits} of 16 bits, largest {stored.max()}, sBIT {list(significant)}"
    return made.png(rng, stored, colour, 16, before, after), "PNG", Expected(how=how)


def of_sixteen_bits(pictures: Sixteen) -> dict[str, tuple[np.ndarray, ...]]:
    """What each may look like: by the bits of its group; in colour also by 8 of 16 bits, as Pillow has it."""
    found = defaultdict(tuple)
    groups = defaultdict(int)
    for stored, significant, _ in pictures.values():
        real = stored[:, :, : 1 if stored.shape[2] < 3 else 3]  # without alpha
        groups[significant] = max(groups[significant], int(real.max()))
    for name, (stored, significant, orientation) in pictures.items():
        largest = groups[significant]
        bits = max(8, largest.bit_length())
        if significant and largest < 2 ** significant[0]:
            bits = significant[0]
        levels = stored[:, :, 0] if stored.shape[2] < 3 else luma(stored)
        found[name] += (made.upright(levels * 255 / (2**bits - 1), orientation),)
        if stored.shape[2] > 1:
            eight = stored >> 8
            levels = eight[:, :, 0] if stored.shape[2] < 3 else luma(eight)
            found[name] += (made.upright(levels.astype(float), orientation),)
    return found


def jpeg(rng, theme: str, orientation: int | None) -> Drawn:
    """A JPEG by Pillow, with odd segments before its own; some are for print, which is refused."""
    large = theme == "JPEG large"
    sides = tuple(rng.integers(150, 500, 2)) if large else samples(rng, 1, 1).shape[1::-1]
    smooth = rng.integers(0, 256, (5, 4, 3), np.uint8)
    picture = Image.fromarray(smooth).resize(sides, Image.Resampling.BICUBIC)
    mode = str(rng.choice(["L", "RGB", "CMYK"], p=[0.5, 0.45, 0.05]))
    picture = picture.convert(mode)
    options = {"quality": int(rng.integers(40, 101)), "progressive": bool(rng.random() < 0.3)}
    if rng.random() < 0.3:
        options["restart_marker_blocks"] = int(rng.integers(1, 9))
    if mode == "RGB":
        options |= {"keep_rgb": True} if rng.random() < 0.3 else {"subsampling": int(rng.integers(3))}
    if rng.random() < 0.2:
        options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain = made.jpeg(picture, **options)
    content = with_segments(rng, plain, theme == "JPEG segments", orientation)
    if mode == "CMYK":
        return content, "JPEG", Expected(why="a picture for print: convert it")
    grays = []
    for stored in (True, False):  # luma as it is stored, and of the RGB that is cut to 0…255
        with Image.open(io.BytesIO(plain)) as file:
            if stored and not options.get("keep_rgb"):
                file.draft("L", None)
            grays.append(made.upright(np.asarray(file.convert("L")).astype(float), orientation))
    most = {"L": 1, "RGB": 2}[mode] if not large else 4
    how = f"{picture.size}, {mode}, {', '.join(options)}"
    return content, "JPEG", Expected(tuple(grays), most=most, how=how)


def with_segments(rng, plain: bytes, odd: bool, orientation: int | None) -> bytes:
    """Adds EXIF, and segments that a decoder passes over."""
    often = 0.5 if odd else 0.05
    behind = plain[2:]
    if rng.random() < often:
        behind = behind[2 + struct.unpack(">H", behind[2:4])[0] :] if behind[1] == 0xE0 else behind  # no JFIF
    front = b""
    if rng.random() < often:  # of another kind in the same segment
        front += made.segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>")
    if orientation is not None or rng.random() < often:
        small = Image.fromarray(rng.integers(0, 256, (16, 12, 3), np.uint8))
        thumbnail = made.jpeg(small, progressive=True) if rng.random() < 0.5 else b""
        told = made.exif(rng, orientation, thumbnail) if orientation != 9 else rng.bytes(40)
        front += made.segment(0xE1, b"Exif\0\0" + told)
    if rng.random() < often:
        front += made.segment(0xFE, rng.bytes(30) + b"\xff\xd9\xff\xda" * int(rng.choice([1, 150])))
    if rng.random() < often:
        front += b"\xff" * int(rng.integers(1, 4))  # fill bytes
    if rng.random() < often:
        behind += rng.bytes(50) + plain[:20]  # what cameras put behind
    return plain[:2] + front + behind


def spoilt(rng, theme: str) -> Drawn:
    """A picture whose pixels are all alike, or one of which some is lacking."""
    kind = str(rng.choice(["PNG", "JPEG", "PNG of 16 bits"]))
    if theme == "alike":
        stored = np.full((*rng.integers(1, 40, 2), 1), rng.integers(0, 200))
        if kind == "JPEG":
            return (
                made.jpeg(Image.fromarray(stored[:, :, 0].astype(np.uint8)), quality=90),
                "JPEG",
                Expected(why="alike"),
            )
        depth = 8 if kind == "PNG" else 16
        return made.png(rng, stored, made.GRAY, depth, [], []), "PNG", Expected(why="all pixels are alike")
    stored = rng.integers(0, 256, (*rng.integers(8, 40, 2), 1))
    if kind == "JPEG":
        content = made.jpeg(Image.fromarray(stored[:, :, 0].astype(np.uint8)), progressive=bool(rng.random() < 0.5))
    else:
        content = made.png(rng, stored, made.GRAY, 8, [], [])
    content = content[: int(len(content) * rng.uniform(0.3, 0.9))]
    kind = "JPEG" if kind == "JPEG" else "PNG"
    if kind == "PNG" and rng.random() < 0.3:  # whole by its checksums, but short of rows
        data = zlib.compress(bytes(50))
        content = b"\x89PNG\r\n\x1a\n" + made.chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 20, 8, 0, 0, 0, 0))
        content += made.chunk(b"IDAT", data) + made.chunk(b"IEND", b"")
    return content, kind, Expected(why="fetch it again")
