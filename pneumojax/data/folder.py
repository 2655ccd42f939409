"""A folder of X-rays as people have it: `train|val|test/NORMAL|PNEUMONIA/*`, or the two class folders alone."""

import hashlib
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from absl import logging
from PIL import Image
from tqdm import tqdm

from pneumojax import checkpoint
from pneumojax.data import CLASSES, Images
from pneumojax.errors import BadInput, describe

PARTS = ("", "train", "val", "test")
SUFFIXES = (".jpeg", ".jpg", ".png")
MODES = ("L", "RGB", "LA", "RGBA", "P", "1")  # what Pillow turns into 8-bit gray without loss of meaning
CACHE_VERSION = 1  # raise it when decoding changes


def load(config, size: int) -> Images:
    """Decodes the images below `config.dir` once, in parallel; later runs read them from `config.cache`.

    The cache's key is made of the names and contents of the files, so a changed file is seen. Images are converted
    to gray (ITU-R 601 luma) and stretched to size x size by Pillow's antialiased bilinear filter.

    Errors: BadInput where the folder is missing, holds no images or only one class, or an image cannot be read
    (with `config.on_bad='skip'` those are left out and listed in `Images.skipped`).
    """
    root = Path(config.dir).expanduser()
    if not config.dir:
        raise BadInput(
            "config.data.dir is empty; pass --config.data.dir=DIR with the folders NORMAL and PNEUMONIA, "
            "at its top or below train, val and test"
        )
    if not root.is_dir():
        raise BadInput(f"config.data.dir={config.dir!r} is not a directory; pass --config.data.dir=DIR")
    files = find(root)
    cache = Path(config.cache).expanduser() / f"{content_key(root, files, size)}.npz"
    if cache.exists():
        arrays = checkpoint.read_arrays(cache)
    else:
        arrays = decode_all(root, files, size)
        try:
            checkpoint.write_arrays(cache, **arrays)
        except OSError as error:
            logging.warning("images are decoded anew at each start: config.data.cache: %s", describe(error))

    readable = arrays["why"] == ""
    skipped = tuple(f"{name}: {why}" for name, why in zip(files, arrays["why"].tolist(), strict=True) if why != "")
    if skipped and config.on_bad == "error":
        raise BadInput(
            f"{len(skipped)} of {len(files)} images in {root} cannot be read; repair or remove them, "
            "or pass --config.data.on_bad=skip to go on without them",
            skipped,
        )
    if skipped:
        logging.warning("%d of %d images in %s cannot be read and are left out", len(skipped), len(files), root)
    names = [name for name, ok in zip(files, readable, strict=True) if ok]
    labels = np.array([CLASSES.index(Path(name).parent.name) for name in names], np.int32)
    for label, wanted in enumerate(CLASSES):
        if not np.any(labels == label):
            raise BadInput(f"config.data.dir={config.dir!r} has no readable image of class {wanted}")
    return Images(
        pixels=arrays["pixels"][readable],
        labels=labels,
        names=tuple(names),
        patients=tuple(patient_key(name, config.patient_pattern) for name in names),
        digests=tuple(arrays["digests"][readable].tolist()),
        skipped=skipped,
    )


def find(root: Path) -> list[str]:
    """Names of all images below a data directory, sorted. Hidden files are passed over."""
    names = sorted(
        path.relative_to(root).as_posix()
        for part in PARTS
        for label in CLASSES
        for path in (root / part / label).glob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    if not names:
        raise BadInput(
            f"no images in {root}; it needs *.jpeg, *.jpg or *.png in the folders NORMAL and PNEUMONIA, "
            "at its top or below train, val and test"
        )
    return names


def patient_key(name: str, pattern: str) -> str:
    """The groups of `pattern`, found at the start of the file's name, joined; else the image's own name."""
    match = re.match(pattern, Path(name).name)
    return "".join(filter(None, match.groups())) if match else name


def content_key(root: Path, names: list[str], size: int) -> str:
    """A key that changes with any file's name or content."""
    digest = hashlib.sha256(f"{CACHE_VERSION} {size}".encode())
    for name, content in zip(names, in_parallel(root, names, file_digest), strict=True):
        digest.update(os.fsencode(name) + b"\0" + content)
    return digest.hexdigest()[:32]


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file; of nothing where it cannot be read, which decoding then reports."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return b""


def decode_all(root: Path, names: list[str], size: int) -> dict[str, np.ndarray]:
    """Decodes all files on all cores: uint8 `pixels` [N, size, size], `digests`, and `why` a file is unreadable."""
    pixels = np.zeros((len(names), size, size), np.uint8)
    digests, why = [], []
    results = in_parallel(root, names, lambda path: decode(path, size))
    progress = tqdm(results, "decoding images", len(names), unit=" images", mininterval=0.5)
    for index, (picture, digest, problem) in enumerate(progress):
        if picture is not None:
            pixels[index] = picture
        digests.append(digest)
        why.append(problem)
    return {"pixels": pixels, "digests": np.array(digests), "why": np.array(why)}


def decode(path: Path, size: int) -> tuple[np.ndarray | None, str, str]:
    """One image: (uint8 [size, size], digest of its gray pixels at full size, why it cannot be read)."""
    try:
        with Image.open(path) as file:
            if file.mode not in MODES:
                return None, "", f"mode {file.mode} is not 8-bit gray or RGB"
            gray = file.convert("L")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return None, "", describe(error).replace(f"{path.parent}{os.sep}", "")
    digest = hashlib.sha256(f"{gray.size}".encode() + gray.tobytes()).hexdigest()[:32]
    return np.asarray(gray.resize((size, size), Image.Resampling.BILINEAR)), digest, ""


def in_parallel(root: Path, names: list[str], function):
    """Results of `function(path)`, in order, by threads: Pillow and hashlib let go of the interpreter's lock."""
    with ThreadPoolExecutor() as pool:
        try:
            yield from pool.map(function, (root / name for name in names))
        finally:
            pool.shutdown(cancel_futures=True)
