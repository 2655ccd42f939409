"""A zip of X-rays as it was downloaded, read without unpacking it: no member can leave a folder."""

import hashlib
import os
import threading
import zipfile
from pathlib import Path, PurePosixPath

from pneumojax.data import CLASSES, files, folder
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
    inside = {member.filename: parts for member in members if (parts := parted(member.filename))}
    roots: dict[str, dict[str, str]] = {}  # folder → name below it → member
    for member in folder.images_among(inside, path):
        root, name = inside[member]
        roots.setdefault(root, {})[name] = member
    chosen = roots[min(roots, key=lambda root: (len(PurePosixPath(root).parts), root))]
    lock = threading.Lock()  # a ZipFile has one position in its file

    def read(name: str) -> bytes:
        try:
            with lock:
                return archive.read(chosen[name])
        except Exception as error:
            raise OSError(f"damaged or encrypted in {path.name} ({describe(error)}): fetch it again") from error

    signature = hashlib.sha256(os.fsencode(path.absolute()) + b"\0" + folder.stamp(path)).hexdigest()
    return files.Source(str(path), tuple(sorted(chosen)), read, signature)


def check(path: Path, member: zipfile.ZipInfo) -> None:
    """Errors: BadInput for a member that would leave the folder if it were unpacked, or would fill the memory."""
    name = member.orig_filename.replace("\\", "/")
    if name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/"):
        raise BadInput(f"{path}: its member {name!r} would leave the folder: refused; this is not the published file")
    size, limit = member.file_size, folder.BYTE_LIMIT
    if size > limit:
        raise BadInput(f"{path}: its member {name!r} has {size:,} bytes, more than {limit:,}: refused")


def parted(member: str) -> tuple[str, str] | None:
    """('chest_xray', 'train/NORMAL/a.jpeg') of a member's name; None where it is hidden or in no class."""
    path = PurePosixPath(member)
    if len(path.parts) < 2 or path.parts[-2] not in CLASSES or path.name.startswith(".") or "__MACOSX" in path.parts:
        return None
    depth = 3 if len(path.parts) > 2 and path.parts[-3] in files.PARTS else 2
    return "/".join(path.parts[:-depth]), "/".join(path.parts[-depth:])
