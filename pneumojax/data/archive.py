"""A zip of X-rays as it was downloaded, read without unpacking it: no member can leave a folder."""

import hashlib
import os
import threading
import zipfile
from pathlib import Path, PurePosixPath

from absl import logging

from pneumojax.data import CLASSES, files
from pneumojax.data.decode import FORMATS
from pneumojax.data.folder import BYTE_LIMIT, LAYOUT
from pneumojax.errors import BadInput, describe


def source(path: Path) -> files.Source:
    """The images of a zip whose folders are `…/train|val|test/NORMAL|PNEUMONIA`, below any one folder.

    The published zip on Kaggle holds everything twice and `__MACOSX` beside it: the copy nearest to the top counts.

    Errors: BadInput where the file is no whole zip, has no images, or a member that would leave the folder.
    """
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises anything for damaged files
        raise BadInput(f"{path} is not a whole zip: {describe(error)}; fetch it again") from error
    members = [member for member in archive.infolist() if not member.is_dir()]
    for member in members:
        check(path, member)
        if b"PK\1\2" in member.comment + member.extra:  # their lengths are damaged
            raise BadInput(f"{path}: its member {member.filename!r} hides others; fetch it again")
        try:
            archive.open(member).close()  # is its name the one that stands before its content?
        except Exception as error:
            problem = f"{path}: its member {member.filename!r} is damaged or encrypted ({describe(error)})"
            raise BadInput(f"{problem}; fetch it again") from error
    roots: dict[str, dict[str, str]] = {}  # folder → name below it → member
    others = []
    for member in members:
        root, name = parted(member.filename)
        if PurePosixPath(name).suffix.lower() in FORMATS:
            roots.setdefault(root, {})[name] = member.filename
        elif name:
            others.append(member.filename)
    if others:
        logging.warning("%d files in %s are no images by their names: %s", len(others), path, ", ".join(others[:5]))
    if not roots:
        raise BadInput(f"no images in {path}; it needs *{', *'.join(FORMATS)} in {LAYOUT}")
    chosen = roots[min(roots, key=lambda root: (len(PurePosixPath(root).parts), root))]
    lock = threading.Lock()  # a ZipFile has one position in its file

    def read(name: str) -> bytes:
        try:
            with lock:
                return archive.read(chosen[name])
        except Exception as error:
            raise OSError(f"damaged or encrypted in {path.name} ({describe(error)}): fetch it again") from error

    status = path.stat()
    stamp = f"{path.absolute()} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"
    return files.Source(str(path), tuple(sorted(chosen)), read, hashlib.sha256(os.fsencode(stamp)).hexdigest())


def check(path: Path, member: zipfile.ZipInfo) -> None:
    """Errors: BadInput for a member that would leave the folder if it were unpacked, or would fill the memory."""
    name = member.orig_filename.replace("\\", "/")
    if name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/"):
        raise BadInput(f"{path}: its member {name!r} would leave the folder: refused; this is not the published file")
    if member.file_size > BYTE_LIMIT:
        raise BadInput(f"{path}: its member {name!r} has {member.file_size:,} bytes, more than {BYTE_LIMIT:,}: refused")


def parted(member: str) -> tuple[str, str]:
    """('chest_xray', 'train/NORMAL/a.jpeg') of a member's name; empty ones where it is hidden or in no class."""
    path = PurePosixPath(member)
    if len(path.parts) < 2 or path.parts[-2] not in CLASSES or path.name.startswith(".") or "__MACOSX" in path.parts:
        return "", ""
    depth = 3 if len(path.parts) > 2 and path.parts[-3] in files.PARTS else 2
    return "/".join(path.parts[:-depth]), "/".join(path.parts[-depth:])
