"""Files of images, made: X-ray-like pictures as JPEG and PNG, DICOM by pydicom, PNG by hand."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # 12 bits
WHOLE = RAMP / 4095 * 255


def xray(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Something with an X-ray's spectrum, uint8 [height, width]: structures of all sizes, edges, film grain."""
    rng = np.random.default_rng(seed)
    levels = np.zeros((height, width))
    for cells, contrast in ((4, 50), (16, 25), (64, 8), (256, 3)):
        coarse = Image.fromarray(rng.normal(0, contrast, (cells, cells)).astype(np.float32))
        levels += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    levels[height // 5 : height // 4] += 60  # a bone's edge
    levels += rng.normal(0, 2, levels.shape)
    return np.clip(levels + 120, 0, 255).round().astype(np.uint8)


def encoded(image: np.ndarray | Image.Image, kind: str = "JPEG", **options) -> bytes:
    content = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(content, kind, **options)
    return content.getvalue()


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.abs(one.astype(int) - other.astype(int))


def chunk(kind: bytes, content: bytes) -> bytes:
    """One of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, bits: int, colour: int, pixels: bytes, **chunks: bytes) -> bytes:
    """A PNG, made by hand."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    more = b"".join(chunk(kind.encode(), content) for kind, content in chunks.items())
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def png16(samples: np.ndarray, **chunks: bytes) -> bytes:
    """A PNG of 16 bits of samples [H, W] or [H, W, channels]; the rows are filtered in PNG's five ways by turns."""
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    rows, step = samples.astype(">u2").reshape(len(samples), -1).view(np.uint8).astype(int), 2 * channels
    above, filtered = np.zeros(rows.shape[1], int), b""
    for number, row in enumerate(rows):
        left, corner = (np.concatenate([np.zeros(step, int), line[:-step]]) for line in (row, above))
        estimate = left + above - corner
        near = np.abs(np.stack([left, above, corner]) - estimate).argmin(0)
        paeth = np.choose(near, [left, above, corner])
        way = number % 5
        filtered += bytes([way]) + (row - (0, left, above, (left + above) // 2, paeth)[way]).astype(np.uint8).tobytes()
        above = row
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    return png(samples.shape[1], len(samples), 16, colour, zlib.compress(filtered), **chunks)


def dicom(levels: np.ndarray, photometric: str = "MONOCHROME2", **fields) -> bytes:
    """A DICOM file of these stored levels; a field that is None is empty. `syntax` and `compress` are UIDs."""
    import pydicom

    header = pydicom.Dataset()
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = fields.pop("syntax", pydicom.uid.ExplicitVRLittleEndian)
    header.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    header.SOPInstanceUID = pydicom.uid.generate_uid()
    header.Rows, header.Columns = levels.shape[:2]
    header.SamplesPerPixel = 1 if levels.ndim == 2 else 3
    header.BitsAllocated = header.BitsStored = 8 * levels.itemsize
    header.PixelRepresentation = int(levels.dtype.kind == "i")
    header.PhotometricInterpretation = photometric
    big = not header.file_meta.TransferSyntaxUID.is_little_endian
    header.PixelData = levels.astype(levels.dtype.newbyteorder(">")).tobytes() if big else levels.tobytes()
    if levels.ndim == 3:
        header.PlanarConfiguration = 0
    compress = fields.pop("compress", None)
    header.HighBit = fields.get("BitsStored", header.BitsStored) - 1
    for name, value in fields.items():
        setattr(header, name, value)
    if compress:
        header.compress(compress)
    content = io.BytesIO()
    pydicom.dcmwrite(content, header, enforce_file_format=True)
    return content.getvalue()


def lut(values, first: int, bits: int, vr: str = "OW", signed: bool = False, little: bool = True):
    """A look-up table of DICOM; its entries as words, or of 8 bits and two in a word."""
    import pydicom

    item, order = pydicom.Dataset(), "<u2" if little else ">u2"
    item.add_new("LUTDescriptor", "SS" if signed else "US", [len(values) % 65536, first, bits])
    words = np.array(values, np.uint8 if vr == "packed" else np.uint16)
    if vr == "packed":
        words = words.view("<u2")
    item.add_new(
        "LUTData", "US" if vr == "US" else "OW", words.tolist() if vr == "US" else words.astype(order).tobytes()
    )
    return pydicom.Sequence([item])
