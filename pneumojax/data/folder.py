"""A folder of X-rays as people have it: `train|val|test/NORMAL|PNEUMONIA/*`, or the two class folders alone."""

import errno
import hashlib
import os
import stat
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from absl import logging

from pneumojax.data import CLASSES, Images, files
from pneumojax.data.decode import FORMATS
from pneumojax.errors import BadInput, describe

BYTE_LIMIT = 1_000_000_000  # of one file
LAYOUT = "the folders NORMAL and PNEUMONIA, at its top or below train, val and test"


def load(config, size: int) -> Images:
    """The images below `config.dir`, size x size pixels, decoded once.

    Errors: BadInput where the folder is missing or holds no images, or an image cannot be read (with
    `config.on_bad='skip'` those are left out and listed in `Images.skipped`).
    """
    if not config.dir:
        raise BadInput(f"config.data.dir is empty; pass --config.data.dir=DIR with {LAYOUT}")
    root = Path(config.dir).expanduser()
    if not os.path.isdir(root):  # Path.is_dir raises where the folder above cannot be looked into
        raise BadInput(f"config.data.dir={config.dir!r} is not a directory; pass --config.data.dir=DIR")
    return files.images_of(source(root), config, size)


def source(root: Path) -> files.Source:
    """The images of a data directory. A changed file has another signature, by its size and times."""
    names = find(root)
    signature = hashlib.sha256(os.fsencode(root.absolute()))
    for name in names:
        signature.update(os.fsencode(name) + b"\0" + stamp(root / name))
    return files.Source(str(root), tuple(names), lambda name: read(root / name), signature.hexdigest())


def find(root: Path) -> list[str]:
    """Names of all images below a data directory, sorted. Hidden files are passed over, others of no use are told.

    Errors: BadInput where there is none, or a folder cannot be looked into.
    """
    found = [
        f"{part}/{label}/{name}".lstrip("/")
        for part in files.PARTS
        for label in CLASSES
        for name in entries(root / part / label)
        if not name.startswith(".")
    ]
    return images_among(found, root)


def images_among(found: Collection[str], where: Path) -> list[str]:
    """Files in class folders that are images by their names, sorted; the others are told.

    Errors: BadInput where there is none.
    """
    names = sorted(name for name in found if PurePosixPath(name).suffix.lower() in FORMATS)
    if len(names) < len(found):
        others = sorted(set(found) - set(names))
        logging.warning("%d files in %s are no images by their names: %s", len(others), where, ", ".join(others[:5]))
    if not names:
        raise BadInput(f"no images in {where}; it needs *{', *'.join(FORMATS)} in {LAYOUT}")
    return names


def entries(directory: Path) -> list[str]:
    """What is in a directory; nothing where there is none. Errors: BadInput where it cannot be looked into."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise BadInput(f"{describe(error)}; give this user the right to read it, or mend the link") from error


def stamp(path: Path) -> bytes:
    """What changes when a file does; nothing where it is not to be had, which reading then reports."""
    try:
        status = path.stat()
    except OSError:
        return b""
    return f"{status.st_ino} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode()


def read(path: Path) -> bytes:
    """The content of an image file. Errors: OSError, also for what is no file and for what would fill the memory."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a file", str(path))
    if status.st_size > BYTE_LIMIT:
        raise OSError(errno.EFBIG, f"{status.st_size:,} bytes are more than {BYTE_LIMIT:,}", str(path))
    return path.read_bytes()
