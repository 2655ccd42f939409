"""The images that a user gives to a command: files, folders and zips, each image once."""

import os
import stat
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import logging

from pneumojax.data import archive, decode, folder, layout
from pneumojax.errors import BadInput


class Given(NamedTuple):
    """One image."""

    file: str  # as it was given: its path; of one in a zip that of the zip, and the member's behind it
    name: Path | str  # what `read` takes; its suffix tells the format
    read: Callable  # name → its content; raises OSError


def find(paths: Sequence[Path]) -> list[Given]:
    """The images that are meant, each once, in the order given; what is left out is said.

    A file is one whatever its name, but for a zip; of a folder and of a zip those are that training would take of it.

    Errors: BadInput where a file is missing, a folder or zip has none, or one cannot be looked into.
    """
    found: dict[str, Given] = {}
    count = 0
    for path in paths:
        inside = inside_of(path)
        if not inside:
            raise BadInput(f"{path} is no image, nor a folder or zip with {', '.join(decode.FORMATS)} in it")
        count += len(inside)
        for one in inside:
            found.setdefault(os.path.abspath(one.file), one)
    if count > len(found):
        logging.warning("%d images were given more than once: they are answered once", count - len(found))
    return list(found.values())


def inside_of(path: Path) -> list[Given]:
    """What one path means. Errors: BadInput where it cannot be looked into."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise BadInput(f"{path} is no image, nor a folder or zip of images: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        return [Given(str(path / name), path / name, folder.read) for name in images_among(folder.walk(path), path)]
    if is_zip(path, mode):
        names, read, _ = archive.members(path)
        return [Given(f"{path}/{name}", name, read) for name in images_among(names, path)]
    return [Given(str(path), path, folder.read)]


def is_zip(path: Path, mode: int) -> bool:
    """Whether a file is a zip, by its name or its first bytes: a damaged one is to be called that, and not an image."""
    if not stat.S_ISREG(mode):  # what is a pipe is not read twice
        return False
    if path.suffix.lower() == ".zip":
        return True
    try:
        with open(path, "rb") as file:
            return file.read(4) == zipfile.stringFileHeader
    except OSError:  # which reading it as an image reports
        return False


def images_among(names, where: Path) -> list[str]:
    """The images among paths below a folder or in a zip, sorted; what is left out is said."""
    names = sorted(names)
    seen = [name for name in names if not layout.is_passed_over(name)]
    images = [name for name in seen if layout.is_image(name)]
    hidden = sum(map(layout.is_image, names)) - len(images)
    counts = {"no image by its name": len(seen) - len(images), layout.HIDDEN: hidden}
    if left_out := {why: count for why, count in counts.items() if count}:
        logging.warning("%s: %d images; left out: %s", where, len(images), layout.listed(left_out))
    return images
