"""A folder of X-rays as people have it: `train|val|test/NORMAL|PNEUMONIA/*`, class folders alone, sub-folders."""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from pneumojax import paths
from pneumojax.data import CLASSES, Images, files, layout
from pneumojax.data.layout import LAYOUT
from pneumojax.errors import BadInput, describe

BYTE_LIMIT = 1_000_000_000  # of one file


def load(config, size: int) -> Images:
    """The images below `config.dir`, size x size pixels, decoded once.

    Errors: BadInput where the folder is missing or holds no images, or an image cannot be read (with
    `config.on_bad='skip'` those are left out and listed in `Images.skipped`).
    """
    if not config.dir:
        raise BadInput(f"config.data.dir is empty; pass --config.data.dir=DIR with {LAYOUT}")
    root = paths.of(config.dir, "config.data.dir")
    if why := paths.why_no_directory(root):
        raise BadInput(f"config.data.dir={config.dir!r} {why}; pass --config.data.dir=DIR")
    return files.images_of(source(root, config.classes), config, size)


def source(root: Path, classes: Sequence[str] = CLASSES) -> files.Source:
    """The images of a data directory, as `layout` tells. A changed file has another signature, by its size and times.

    Errors: BadInput where there is none, they lie a folder deeper, or a folder cannot be looked into.
    """
    inner, told, left_out = layout.choose(walk(root), classes, root)
    if inner:
        others = f"; beside them: {layout.listed(left_out)}" if left_out else ""
        raise BadInput(f"the images in {root} lie in {root / inner} ({len(told)}): give that folder{others}")
    signature = hashlib.sha256(os.fsencode(root.absolute()))
    for name in told:
        signature.update(os.fsencode(name) + b"\0" + stamp(root / name))
    return files.Source(str(root), told, lambda name: read(root / name), signature.hexdigest(), left_out)


def walk(root: Path) -> Iterator[str]:
    """Paths of all files below a folder, in any order, hidden ones too; links are followed, but not back above.

    Errors: BadInput where a folder cannot be looked into that is not hidden or a system's own.
    """
    waiting = [("", ())]
    while waiting:
        path, above = waiting.pop()
        hidden, place = layout.is_passed_over(path), os.path.realpath(root / path)
        try:
            inside = entries(root / path)
        except BadInput:
            if not hidden:
                raise
            inside = []
        if inside is None and path:
            yield path
        elif inside and place not in above:
            for name in inside:
                inner = f"{path}/{name}" if path else name
                if layout.is_image(name) and not layout.is_passed_over(inner):
                    yield inner
                else:
                    waiting.append((inner, (*above, place)))


def entries(directory: Path) -> list[str] | None:
    """What is in a directory; None where it is none. Errors: BadInput where it cannot be looked into."""
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return None
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
    with paths.named(path):
        return path.read_bytes()
