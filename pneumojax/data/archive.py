"""A zip of X-rays as it was downloaded, read without unpacking it: no member can leave a folder."""

import hashlib
import os
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from pneumojax.data import CLASSES, files, folder, layout
from pneumojax.errors import BadInput, describe


def source(path: Path, classes: Sequence[str] = CLASSES) -> files.Source:
    """The images of a zip, as `layout` tells, below any one folder.

    The published zip on Kaggle holds everything twice and `__MACOSX` beside it. Of members with one path the last
    counts, as unpacking has it; the others are counted as left out.

    Errors: BadInput as `members` and `layout.choose` have them.
    """
    names, read, behind = members(path)
    root, told, left_out = layout.choose(names, classes, path)
    if behind:
        left_out["behind another of the same path"] = behind
    signature = hashlib.sha256(os.fsencode(path.absolute()) + b"\0" + folder.stamp(path)).hexdigest()
    return files.Source(str(path), told, lambda name: read(root + name), signature, left_out)


def members(path: Path) -> tuple[list[str], Callable[[str], bytes], int]:
    """The files in a zip: their paths, what reads one of them, and how many lie behind another of the same path.

    Errors: BadInput where the file is no whole zip, or a member would leave the folder.
    """
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises anything for damaged files
        raise BadInput(f"{path} is not a whole zip: {describe(error)}; fetch it again") from error
    members = [member for member in archive.infolist() if not slashed(member).endswith("/")]
    for member in members:
        check(path, member)
        if b"PK\1\2" in member.comment + member.extra:  # their lengths are damaged
            raise BadInput(f"{path}: its member {member.filename!r} hides others; fetch it again")
        if member.flag_bits & 1:
            raise BadInput(f"{path}: its member {member.filename!r} is encrypted; unpack it with its password")
        try:
            archive.open(member).close()  # is its name the one that stands before its content?
        except Exception as error:
            problem = f"{path}: its member {member.filename!r} is damaged or encrypted ({describe(error)})"
            raise BadInput(f"{problem}; fetch it again") from error
    inside = {str(PurePosixPath(slashed(member))): member for member in members}  # './a' is 'a'
    lock = threading.Lock()  # a ZipFile has one position in its file

    def read(name: str) -> bytes:
        try:
            with lock:
                return archive.read(inside[name])
        except Exception as error:
            raise OSError(f"damaged or encrypted in {path.name} ({describe(error)}): fetch it again") from error

    return list(inside), read, len(members) - len(inside)


def slashed(member: zipfile.ZipInfo) -> str:
    """The name of a member; those made on Windows may have backslashes."""
    return member.filename.replace("\\", "/")


def check(path: Path, member: zipfile.ZipInfo) -> None:
    """Errors: BadInput for a member that would leave the folder if it were unpacked, or would fill the memory."""
    name = member.orig_filename.replace("\\", "/")
    if name.startswith("/") or ":" in name.split("/")[0] or ".." in name.split("/"):
        raise BadInput(f"{path}: its member {name!r} would leave the folder: refused; this is not the published file")
    size, limit = member.file_size, folder.BYTE_LIMIT
    if size > limit:
        raise BadInput(f"{path}: its member {name!r} has {size:,} bytes, more than {limit:,}: refused")
