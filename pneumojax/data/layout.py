"""What the path of a file tells, part, class and subtype, and which of many files are the images of a data set."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from absl import logging

from pneumojax.data import CLASSES
from pneumojax.data.decode import FORMATS
from pneumojax.errors import BadInput

PARTS = {  # folder, in small letters → part
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val"},
}
SUBTYPES = ("bacteria", "virus")
BY_NAME = re.compile(rf"person\d+_({'|'.join(SUBTYPES)})_|({'|'.join(SUBTYPES)})-")  # both published namings
PASSED_OVER = ("__MACOSX", "@eaDir", "lost+found")  # folders of archivers, disk stations and file systems
HIDDEN = "hidden or a system's own"
SHOWN = 5  # names in a message
LAYOUT = (
    "a folder for each class (NORMAL and PNEUMONIA, or what config.data.classes names; in any case), at its top or "
    "below train, val and test; of an image's folders and its subtype (bacteria or virus, which its name or a "
    "sub-folder tells) the innermost that is a class counts"
)


class Told(NamedTuple):
    """What the path of a file below the data directory tells."""

    part: str  # train, val, test; '' for none
    label: int | None  # index into the classes; None where it is of none
    subtype: str  # bacteria, virus; '' for none


def tell(path: str, classes: Sequence[str] = CLASSES) -> Told:
    """Reads a path. Whatever the case and the Unicode form (macOS takes letters apart), and of several the innermost:

    A file's class is the innermost of the folders that it lies in and its subtype, as told by its name or by a
    sub-folder, that is one of the classes.
    """
    *folders, name = plain(path).split("/")
    match = BY_NAME.match(name)
    words = [match[1] or match[2] if match else "", *reversed(folders)]
    wanted = [plain(one) for one in classes]
    return Told(
        part=next((PARTS[word] for word in words[1:] if word in PARTS), ""),
        label=next((wanted.index(word) for word in words if word in wanted), None),
        subtype=next((word for word in words if word in SUBTYPES), ""),
    )


def plain(name: str) -> str:
    """A name to compare with others: small letters, in Unicode's form NFC."""
    return unicodedata.normalize("NFC", name).lower()


def is_image(name: str) -> bool:
    """Whether a file is an image by its name."""
    return name[name.rfind(".") :].lower() in FORMATS


def is_passed_over(path: str) -> bool:
    """Whether a file, or a folder that it lies in, is hidden or a system's own."""
    return any(name.startswith(".") or name in PASSED_OVER for name in path.split("/"))


def choose(paths: Iterable[str], classes: Sequence[str], where: object) -> tuple[str, dict[str, Told], dict[str, int]]:
    """The images of a data set among files. Two spellings of a folder are told.

    Each file that is not used is counted, by its reason, but for what is no image by its name and is hidden, a system's
    own, or lies beside the folders of parts and classes, as a readme does.

    Where such folders are there more than once, one set below the other, the one with most images counts, of equal ones
    the upper.

    Args:
      paths: of files, below one folder.
      classes: by name, in the order of their labels.
      where: that folder, for messages.

    Returns: (the folder that parts and classes lie in, '' or `chest_xray/`; {name of an image below it: what it tells},
    sorted; {why others are left out: how many}).

    Errors: BadInput where there is no image of a class, or there are data sets side by side.
    """
    known = {*PARTS, *SUBTYPES, *map(plain, (*CLASSES, *classes))}
    roots: dict[str, dict[str, Told]] = {}
    spelled: dict[str, set[str]] = {}  # part or class → its folders
    unknown, others, hidden = Counter(), [], 0
    for path in sorted(paths):
        told, folders = tell(path, classes), path.split("/")[:-1]
        if is_passed_over(path):
            hidden += is_image(path)
        elif not is_image(path):
            others.append(path)
        elif told.label is None:
            unknown["/".join(folders) or "its top"] += 1
        else:
            depths = [depth for depth, folder in enumerate(folders) if plain(folder) in known]
            root = "".join(f"{folder}/" for folder in folders[: min(depths, default=0)])
            roots.setdefault(root, {})[path.removeprefix(root)] = told
            for folder in (folders[depth] for depth in depths):
                spelled.setdefault(PARTS.get(plain(folder), plain(folder)), set()).add(folder)
    chosen = max(roots, key=lambda root: (len(roots[root]), -len(root)), default="")
    others = [path for path in others if not chosen.startswith(path[: path.rfind("/") + 1])]
    left_out = {f"no class: {folder}": count for folder, count in unknown.most_common(SHOWN)}
    if rest := unknown.total() - sum(left_out.values()):
        left_out["no class: other folders"] = rest
    if hidden:
        left_out[HIDDEN] = hidden
    if others:
        left_out["no image by its name"] = len(others)
        shown = ", ".join(others[:SHOWN])
        logging.warning("%d files in %s are no images by their names: %s", len(others), where, shown)
    if not roots:
        wanted = f"no images in {where} of {', '.join(classes)}; it needs *{', *'.join(FORMATS)} in {LAYOUT}"
        raise BadInput(wanted + (f"; left out: {listed(left_out)}" if left_out else ""))
    counts = {root.rstrip("/") or "its top": len(names) for root, names in sorted(roots.items())}
    if not all(root.startswith(chosen) or chosen.startswith(root) for root in roots):
        raise BadInput(f"{where} holds data sets side by side, {listed(counts)}: give one of these folders")
    for folders in spelled.values():
        if len(folders) > 1:
            logging.warning("%s: these folders are taken for one: %s", where, ", ".join(sorted(folders)))
    del counts[chosen.rstrip("/") or "its top"]
    return chosen, roots[chosen], left_out | {f"another data set: {root}": count for root, count in counts.items()}


def listed(counts: dict[str, int]) -> str:
    """Counts in words, for messages."""
    return ", ".join(f"{what} ({count})" for what, count in counts.items())
