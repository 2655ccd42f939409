"""Folders and zips of odd layout: each image is used as the rule says, or counted, or there is an error.

The rule, as README and `layout` state it: parts, classes and subtypes are read off the names of folders, in any case,
of several the innermost; a subtype also off a file's name, before its folders; a set begins where the first such
folder lies. Hidden files and those of systems are no files.
"""

import io
import os
import warnings
import zipfile
from collections import defaultdict
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from experiments.fuzz import Outcome, judge
from pneumojax.data import archive
from pneumojax.errors import BadInput

SUFFIXES = (".jpeg", ".jpg", ".png", ".dcm", ".dicom")
PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test"}
PARTS |= {"val": "val", "valid": "val", "validation": "val"}
SUBTYPES = ("bacteria", "virus")
CLASSES = (("NORMAL", "PNEUMONIA"), ("NORMAL", "BACTERIA", "VIRUS"), ("normal", "Covid19"), ("Größe", "NORMAL"))
THEMES = ("plain", "case", "subtypes", "third classes", "prefix", "two sets", "odd names", "odd files", "links")
ZIP_THEMES = ("backslashes", "twice", "macOS", "outside")

PREFIXES = ("", "", "", "chest_xray/", "a/b/", "Train set/", "data.v1/chest_xray/")
PLAIN_PARTS = ("train/", "test/", "val/")
ODD_PARTS = ("Train/", "TEST/", "training/", "Testing/", "valid/", "VALIDATION/", "vAl/", "test/train/", "")
ODD_CLASSES = ("normal/", "Normal/", "Pneumonia/", "PNEUMONIA/", "pneumonia/NORMAL/")
THIRD = ("COVID19/", "covid19/", "NORMAL /", "NORMALS/", "Größe/", "GRÖSSE/", "no_finding/", "")
NAMES = ("IM-{n}-0001", "person{n}_bacteria_1", "person{n}_virus_2", "BACTERIA-{n}-1", "VIRUS-{n}-1", "NORMAL-{n}-1")
ODD_NAMES = (
    "x\n{n}",
    "error: {n}",
    "\N{SNOWMAN}\U0001f600{n}",
    "y" * 240 + "{n}",
    "\udcff\udcfe{n}",
    "a b\t{n}",
    "{n}.txt",
)
NO_IMAGES = (".hidden{n}.png", "._{n}.jpeg", "Thumbs{n}.db", "notes{n}.txt", "no_suffix{n}", "{n}.png.part", "{n}.PNG~")
SYSTEMS = ("__MACOSX/", "@eaDir/", ".Trash/", "lost+found/")


def case(rng: np.random.Generator, folder: Path) -> Outcome:
    """One folder, or one zip."""
    as_zip = bool(rng.random() < 0.4)
    theme = str(rng.choice(THEMES[:-1] + ZIP_THEMES if as_zip else THEMES))
    classes = CLASSES[int(rng.choice(4, p=[0.6, 0.2, 0.1, 0.1]))]
    paths = sorted(set(drawn(rng, theme)))
    result, detail = (
        of_zip(rng, folder / "set.zip", paths, classes, theme)
        if as_zip
        else of_folder(rng, folder / "set", paths, classes, theme)
    )
    return Outcome(
        f"layouts: {'zip' if as_zip else 'folder'}, {theme}", result, detail and f"{detail}; {classes} {paths}"
    )


def drawn(rng, theme: str) -> list[str]:
    """Paths of files, some of them no images."""

    def pick(options):
        return str(options[rng.integers(len(options))])

    found = []
    prefixes = [pick(PREFIXES) if theme == "prefix" else ""]
    if theme == "two sets":
        sites = (("a/", "b/"), ("", "chest_xray/"), ("x/", "x/y/"), ("chest_xray/", "chest_xray/chest_xray/"))
        prefixes = list(sites[rng.integers(4)])
    for number in range(rng.integers(1, 14)):
        odd = rng.random() < 0.6
        part = pick(ODD_PARTS) if odd and theme == "case" else pick(PLAIN_PARTS) if rng.random() < 0.8 else ""
        label = pick(ODD_CLASSES) if odd and theme == "case" else pick(("NORMAL/", "PNEUMONIA/"))
        label = pick(THIRD) if theme == "third classes" and odd else label
        below = pick(("bacteria/", "Virus/", "BACTERIA/set 2/", "")) if theme == "subtypes" and odd else ""
        below = pick(SYSTEMS) if theme == "odd files" and rng.random() < 0.2 else below
        below = below or (pick(("patient 7/", "train_2/", "x/y/z/")) if rng.random() < 0.1 else "")
        name = pick(ODD_NAMES if theme == "odd names" and odd else NAMES)
        if theme == "odd files" and odd:
            name = pick(NO_IMAGES)
        else:
            name += pick((".jpeg", ".png", ".PNG", ".Jpg") if odd else (".jpeg", ".png"))
        order = (label, part) if rng.random() < 0.1 else (part, label)
        found.append(pick(prefixes) + "".join(order) + below + name.format(n=number))
    return found


def told(path: str, classes: tuple[str, ...]) -> tuple[str, int | None, str]:
    """(part, label, subtype) of a path."""
    *folders, name = PurePosixPath(path.lower()).parts
    words = [folder for folder in reversed(folders)]
    subtype = next((one for one in SUBTYPES if name.startswith(f"{one}-")), "")
    if name.startswith("person") and name[6:].split("_")[0].isdigit():
        subtype = next((one for one in SUBTYPES if name[6:].split("_")[1:2] == [one]), "")
    of_class = [
        wanted.index(word)
        for wanted in [[one.lower() for one in classes]]
        for word in [subtype, *words]
        if word in wanted
    ]
    return (
        next((PARTS[word] for word in words if word in PARTS), ""),
        of_class[0] if of_class else None,
        subtype or next((word for word in words if word in SUBTYPES), ""),
    )


def known(folder: str, classes: tuple[str, ...]) -> bool:
    """Whether a folder's name is of a part, a class or a subtype."""
    return folder.lower() in {*PARTS, *SUBTYPES, "normal", "pneumonia", *(one.lower() for one in classes)}


def is_hidden(path: str) -> bool:
    """Whether a part of a path is hidden or a system's own."""
    return any(part.startswith(".") or f"{part}/" in SYSTEMS for part in path.split("/"))


def sets_of(paths: list[str], classes: tuple[str, ...]) -> tuple[dict[str, list[str]], int, list[str]]:
    """The images of a class by the folder that their set begins in; how many other images there are; what is no image.

    Of those that are hidden the images alone count.
    """
    roots, others, no_images = defaultdict(list), 0, []
    for path in paths:
        image, of_class = path.lower().endswith(SUFFIXES), told(path, classes)[1] is not None
        folders = path.split("/")[:-1]
        first = next((depth for depth, one in enumerate(folders) if known(one, classes)), 0)
        if image and of_class and not is_hidden(path):
            roots["".join(f"{one}/" for one in folders[:first])].append(path)
        elif image:
            others += 1
        elif not is_hidden(path):
            no_images.append(path)
    return roots, others, no_images


def chosen(roots: dict[str, list[str]]) -> str | None:
    """The set with most images, of equal ones the upper; None where there are sets that do not lie in one line."""
    best = sorted(roots, key=lambda root: (-len(roots[root]), len(root)))[0]
    return best if all(root.startswith(best) or best.startswith(root) for root in roots) else None


def expected_of(paths: list[str], classes: tuple[str, ...]) -> tuple[str, list[str], int, str]:
    """(root, names below it, count of what is left out, a word of the error where there is none to choose)."""
    roots, others, no_images = sets_of(paths, classes)
    if not roots:
        return "", [], others, "no images"
    root = chosen(roots)
    beside = [path for path in no_images if (root or "").startswith("".join(path.rpartition("/")[:2]))]
    others += len(no_images) - len(beside)  # a readme beside the set is none
    if root is None:
        return "", [], others, "side by side"
    names = sorted(path.removeprefix(root) for path in roots[root])
    return root, names, others + sum(map(len, roots.values())) - len(names), ""


def spellings(paths: list[str], classes: tuple[str, ...]) -> list[set[str]]:
    """The folders of parts and classes that are spelled in more than one way."""
    found = defaultdict(set)
    for folder in {folder for path in paths for folder in path.split("/")[:-1] if known(folder, classes)}:
        found[PARTS.get(folder.lower(), folder.lower())].add(folder)
    return [folders for folders in found.values() if len(folders) > 1]


def differences(names, facts, left_out: dict, expected: tuple, classes: tuple[str, ...]) -> str:
    """What differs between what is used and what should be."""
    root, wanted, others, _ = expected
    if list(names) != wanted:
        return f"used {list(names)}, should be {wanted}"
    for name, fact in zip(names, facts, strict=True):
        if tuple(fact) != told(root + name, classes):
            return f"{name!r} is {fact}, should be {told(root + name, classes)}"
    if sum(left_out.values()) != others:
        return f"silent: {left_out} are counted, left out are {others}"
    return ""


def of_folder(rng, root: Path, paths: list[str], classes: tuple[str, ...], theme: str) -> tuple[str, str]:
    """Makes the files and loads them."""
    contents = {}
    for kind in ("JPEG", "PNG"):
        content = io.BytesIO()
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(content, kind)
        contents[kind] = content.getvalue()
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(contents["PNG" if path.lower().endswith("png") else "JPEG"])
    if theme == "links":
        linked(rng, root)
    files = sorted(walked(root))
    expected = expected_of(files, classes)
    loaded = judge.load(root, 8, classes=classes)
    top, names, _, error = expected
    no_files = [name for name in names if not (root / name).is_file()]
    if error or top or no_files:
        word = error or (os.path.join(root, top).rstrip("/") if top else "cannot be read")
        if loaded.error is None:
            return "silent", f"should be refused: {word}; used {loaded.images.names}"
        problems = [line for line in no_files if not any(one.startswith(line) for one in loaded.error.details)]
        fine = word in str(loaded.error) and not (problems and not (error or top))
        return ("refused", "") if fine else ("wrong", f"{loaded.error}, should say {word} {problems}")
    if loaded.error:
        return "wrong", f"refused: {loaded.error} {loaded.error.details}"
    images = loaded.images
    facts = zip(images.parts, images.labels.tolist(), images.subtypes, strict=True)
    return verdict(differences(images.names, facts, images.left_out, expected, classes), loaded.said, names, classes)


def verdict(differ: str, said: list[str], paths: list[str], classes: tuple[str, ...]) -> tuple[str, str]:
    """Right, if two spellings are said too."""
    for folders in spellings(paths, classes):
        if not differ and not any(all(folder in line for folder in folders) for line in said):
            differ = f"silent: nobody says that {folders} are one; said: {said}"
    return ("silent" if differ.startswith("silent") else "wrong" if differ else "right"), differ


def linked(rng, root: Path) -> None:
    """Adds links: to a folder elsewhere, to one above, to one beside, to nothing, and a folder named as an image."""
    folders = [path for path in root.rglob("*") if path.is_dir()] + [root]
    where = folders[rng.integers(len(folders))]
    kind = int(rng.integers(6))
    if kind == 0:
        elsewhere = root.parent / "elsewhere"
        elsewhere.mkdir()
        for file in [path for path in where.rglob("*") if path.is_file()][:2]:
            (elsewhere / file.name).write_bytes(file.read_bytes())
        (where / str(rng.choice(["Virus", "NORMAL", "more"]))).with_name("linked").symlink_to(elsewhere)
    elif kind == 5:
        (where / "folder.png").mkdir()
    elif kind == 4:
        (where / str(rng.choice(["nowhere.png", "nowhere", "nowhere.txt"]))).symlink_to("missing")
    else:
        target = (root, where.parent if where != root else root, folders[rng.integers(len(folders))])[kind - 1]
        (where / "again").symlink_to(target)


def walked(place: Path, below: str = "", above: tuple[str, ...] = ()) -> list[str]:
    """All files, links followed but not to a folder that they lie in."""
    here, found = os.path.realpath(place), []
    if here in above:
        return []
    for name in os.listdir(place):
        inner = place / name
        if inner.is_dir() and (is_hidden(below + name) or not name.lower().endswith(SUFFIXES)):
            found += walked(inner, f"{below}{name}/", (*above, here))
        else:
            found.append(below + name)
    return found


def of_zip(rng, path: Path, paths: list[str], classes: tuple[str, ...], theme: str) -> tuple[str, str]:
    """Makes a zip and reads all of it."""
    paths = [one for one in paths if "\udcff" not in one]  # zipfile writes UTF-8
    members = [(one, f"content {number}".encode()) for number, one in enumerate(paths)]
    if theme == "twice" and members:
        members += [(str(rng.choice(["", "./"])) + one, b"another") for one, _ in members[: rng.integers(1, 3)]]
    if theme == "macOS":
        members += [(f"__MACOSX/{os.path.dirname(one)}/._{os.path.basename(one)}", b"fork") for one in paths]
    if theme == "outside":
        members.append(
            (str(rng.choice(["../NORMAL/a.png", "/NORMAL/a.png", "C:/NORMAL/a.png", "x/../../NORMAL/a.png"])), b"a")
        )
    folders = {f"{parent}/" for one, _ in members for parent in PurePosixPath(one).parents if str(parent) not in "/."}
    method = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    with zipfile.ZipFile(path, "w", method) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, content in [*((one, b"") for one in sorted(folders) if rng.random() < 0.5), *members]:
            slashes = theme == "backslashes" and not name.endswith("/")
            file.writestr(name.replace("/", "\\") if slashes else name, content)
    unpacked = {str(PurePosixPath(name)): content for name, content in members}  # of two the last, as unzip has it
    expected = expected_of(sorted(unpacked), classes)
    hidden = len(members) - len(unpacked)  # behind another of the same path
    expected = expected[0], expected[1], expected[2] + hidden, expected[3] or ("refused" if theme == "outside" else "")
    with judge.listening() as said:
        try:
            source = archive.source(path, classes)
        except BadInput as error:
            fine = expected[3] in str(error) or theme == "outside"
            return ("refused", "") if expected[3] and fine else ("wrong", f"{error}, should say {expected[3]!r}")
    if expected[3]:
        return "silent", f"should be refused: {expected[3]}; used {source.names}"
    differ = differences(source.names, source.told.values(), source.left_out, expected, classes)
    for name in source.names if not differ else ():
        if source.read(name) != unpacked[expected[0] + name]:
            differ = f"the content of {name} is {source.read(name)}"
    return verdict(differ, said, list(expected[1]), classes)
