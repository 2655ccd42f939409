"""What is kept of each image of a folder, and by which keys images are counted."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from pneumojax.data import CLASSES, PATIENT_PATTERN, decode, duplicates, files, layout, levels
from pneumojax.data.audit import look

COMMON = 0.05  # of all images: what fewer have in common is taken together, as OTHERS
OTHERS = "others"


class Seen(NamedTuple):
    """What is kept of one image."""

    name: str
    told: layout.Told
    digest: str  # equal for equal gray pixels at full size
    mode: str  # as stored: gray, RGB, …
    patient: str  # kinds of pneumonia merged; the name where it is unknown
    bits: np.ndarray  # bool [bits], the perceptual hash
    features: tuple[float, ...]  # in the order of trivial.FEATURES; gray levels in 0…255, bytes
    look: look.Look
    own: levels.Range  # that it would be shown by alone
    turned: bool  # by EXIF


def examine(source: files.Source, name: str, shown: levels.Levels = levels.ALONE) -> Seen | str:
    """Looks at one image, shown by the levels of its set; says why it cannot be read, if so."""
    try:
        content = files.content_of(source.read, name)
        picture = decode.read(content, name, levels=shown)
    except decode.Unreadable as problem:
        return str(problem)
    looks = look.look(picture.gray, content)
    grays = np.arange(256)
    mean = looks.histogram @ grays  # from the histogram: no float copy of a big picture
    contrast = (looks.histogram @ (grays - mean) ** 2) ** 0.5
    width, height = picture.width, picture.height
    return Seen(
        name=name,
        told=source.told[name],
        digest=hashlib.sha256(f"{width} {height}".encode() + picture.gray.tobytes()).hexdigest(),
        mode=picture.mode,
        patient=picture.patient or files.patient_key(name, PATIENT_PATTERN) or name,
        bits=duplicates.perceptual_hash(Image.fromarray(picture.gray)),
        features=(width, height, width / height, float(mean), float(contrast), len(content)),
        look=looks,
        own=picture.own,
        turned=picture.turned,
    )


def folder_of(name: str) -> str:
    """The folder of an image, `train/NORMAL`."""
    return str(PurePosixPath(name).parent)


def part_of(one: Seen) -> str:
    """`train`, `val` or `test`; '' where class folders lie at the top."""
    return one.told.part


def class_of(one: Seen) -> str:
    """The class by its name."""
    return CLASSES[one.told.label]


def kind_and_id(one: Seen) -> str:
    """The patient, bacteria and virus apart."""
    return f"{one.patient} {one.told.subtype}".rstrip()


def own_folder(one: Seen) -> str:
    """The folders that tell neither part nor class nor subtype: a site's or scanner's, maybe."""
    known = {*layout.PARTS, *layout.SUBTYPES, *map(str.lower, CLASSES)}
    return "/".join(folder for folder in PurePosixPath(one.name).parent.parts if folder.lower() not in known)


SOURCES: dict[str, Callable[[Seen], str]] = {  # where images may come from, as far as it is told
    "part": part_of,
    "folder": own_folder,
    "subtype": lambda one: one.told.subtype,
    "scanner": lambda one: one.look.scanner,
    "stored bits": lambda one: one.look.bits,
    "mode": lambda one: one.mode,
    "format": lambda one: decode.FORMATS[PurePosixPath(one.name).suffix.lower()],
    "size": lambda one: f"{one.features[0]} x {one.features[1]}",
}


def sources(seen: Sequence[Seen]) -> dict[str, list[str]]:
    """Kinds of source that tell images apart → the source of each image; rare ones are taken together."""
    values = {}
    for kind, key in SOURCES.items():
        own = list(map(key, seen))
        common = {value for value, images in by(key, seen).items() if len(images) >= COMMON * len(seen)}
        if len(set(own)) > 1 and common:
            values[kind] = [(value or "none") if value in common else OTHERS for value in own]
    return values


def by(key: Callable, items: Sequence) -> dict[str, list]:
    """Items by a key, in the order given."""
    groups: dict[str, list] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def tally(seen: Sequence[Seen], key: Callable[[Seen], str]) -> dict[str, int]:
    """Images by a key, in the order of names; those without one are not counted."""
    return {value: len(own) for value, own in by(key, seen).items() if value}
