"""What a folder of X-rays holds, before anybody trains on it: `python -m pneumojax.data.audit DIR [--out=FOLDER]`.

Counts, sizes, duplicates, patients on both sides of the published split, and how far features get that see no anatomy.
"""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import jinja2
import numpy as np
from PIL import Image
from tqdm import tqdm

from pneumojax import checkpoint, cli, paths
from pneumojax.data import CLASSES, PATIENT_PATTERN, decode, duplicates, files, folder, layout, splits, trivial
from pneumojax.data.trivial import FEATURES
from pneumojax.errors import BadInput
from pneumojax.names import printable, shown

SUBSET = 624  # images of a trial of the paper
TRAINED_ON = 0.8  # of a split
THUMBNAIL = 96  # pixels a side
SHEET = (11, 3)  # thumbnails across and down
GROUPS_SHOWN = 24
GROUP_WIDTH = 6  # images of a group that are shown


class Seen(NamedTuple):
    """What is kept of one image."""

    name: str
    told: layout.Told
    digest: str  # equal for equal gray pixels at full size
    mode: str  # as stored: gray, RGB, …
    patient: str  # kinds of pneumonia merged; the name where it is unknown
    bits: np.ndarray  # bool [bits], the perceptual hash
    features: tuple[float, ...]  # in the order of FEATURES; gray levels in 0…255, bytes


def audit(root: Path) -> tuple[dict, list[str]]:
    """Looks at all images of a data directory.

    Returns: (what `audit.json` holds, names of the readable images).

    Errors: BadInput where there are no images, or none can be read.
    """
    source = folder.source(root)
    names = source.names
    looked = files.in_parallel(lambda name: examine(source, name), names)
    seen, unreadable = [], []
    for name, one in zip(names, tqdm(looked, "looking at images", len(names), unit=" images"), strict=True):
        if isinstance(one, Seen):
            seen.append(one)
        else:
            unreadable.append({"file": name, "why": one})
    if not seen:
        details = [f"{bad['file']}: {bad['why']}" for bad in unreadable]
        raise BadInput(f"none of {len(names)} images in {root} can be read; repair or replace them", details)
    found = {
        "images": len(seen),
        **describe_folders(seen),
        **find_duplicates(seen),
        **count_patients(seen),
        "trivial_features": ask_trivial_features(seen),
        "unreadable": unreadable,
        "left_out": source.left_out,
    }
    return found, [one.name for one in seen]


def examine(source: files.Source, name: str) -> Seen | str:
    """Looks at one image; says why it cannot be read, if so."""
    try:
        content = files.content_of(source.read, name)
        picture = decode.read(content, name)
    except decode.Unreadable as problem:
        return str(problem)
    gray = Image.fromarray(picture.gray)
    counts = np.array(gray.histogram())  # mean and deviation from it: no float copy of a big picture
    mean = counts @ np.arange(256) / counts.sum()
    contrast = (counts @ (np.arange(256) - mean) ** 2 / counts.sum()) ** 0.5
    width, height = picture.width, picture.height
    return Seen(
        name=name,
        told=source.told[name],
        digest=hashlib.sha256(f"{width} {height}".encode() + picture.gray.tobytes()).hexdigest(),
        mode=picture.mode,
        patient=picture.patient or files.patient_key(name, PATIENT_PATTERN) or name,
        bits=duplicates.perceptual_hash(gray),
        features=(width, height, width / height, float(mean), float(contrast), len(content)),
    )


def folder_of(name: str) -> str:
    """The folder of an image, `train/NORMAL`."""
    return str(PurePosixPath(name).parent)


def part_of(one: Seen) -> str:
    """`train`, `val` or `test`; '' where class folders lie at the top."""
    return one.told.part


def kind_and_id(one: Seen) -> str:
    """The patient, bacteria and virus apart."""
    return f"{one.patient} {one.told.subtype}".rstrip()


READINGS = {"by_kind_and_id": kind_and_id, "by_id": lambda one: one.patient}


def by(key: Callable, items: Sequence) -> dict[str, list]:
    """Items by a key, in the order given."""
    groups: dict[str, list] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def tally(seen: Sequence[Seen], key: Callable[[Seen], str]) -> dict[str, int]:
    """Images by a key, in the order of names; those without one are not counted."""
    return {value: len(own) for value, own in by(key, seen).items() if value}


def describe_folders(seen: Sequence[Seen]) -> dict:
    """Counts, subtypes, modes and features of each folder, and each part's share of PNEUMONIA."""
    folders = by(lambda one: folder_of(one.name), seen)
    return {
        "folders": {where: len(own) for where, own in folders.items()},
        "subtypes": {where: tally(own, lambda one: one.told.subtype) for where, own in folders.items()},
        "modes": {where: tally(own, lambda one: one.mode) for where, own in folders.items()},
        "sizes": len({one.features[:2] for one in seen}),
        "features": {where: describe_features(own) for where, own in folders.items()},
        "share_of_pneumonia": {
            part: float(np.mean([one.told.label for one in own])) for part, own in by(part_of, seen).items()
        },
    }


def describe_features(seen: Sequence[Seen]) -> dict[str, dict[str, float]]:
    """Range, median and mean of FEATURES."""
    values = np.array([one.features for one in seen], float)
    statistics = {"min": values.min(0), "median": np.median(values, 0), "mean": values.mean(0), "max": values.max(0)}
    return {
        name: {statistic: float(column[row]) for statistic, column in statistics.items()}
        for row, name in enumerate(FEATURES)
    }


def find_duplicates(seen: Sequence[Seen]) -> dict:
    """Groups of images with equal pixels, and groups that are nearly equal; one of each exact group is compared."""
    same = list(by(lambda one: one.digest, seen).values())
    exact = [group for group in same if len(group) > 1]
    pairs, beyond = duplicates.compare(np.array([group[0].bits for group in same]))
    near = [sum(groups, []) for groups in duplicates.connected(pairs, same)]
    pictures = [group[0].name for group in same]
    return {
        "exact_duplicates": named(exact),
        "exact_duplicates_across": across(exact),
        "near_duplicates": named(near),
        "near_duplicates_across": across(near),
        "near_threshold": {
            "hash": "imagehash.phash",
            "bits": duplicates.HASH_SIDE**2,
            "differing_at_most": duplicates.NEAR,
        },
        "nearest_beyond": [{"differing": d, "images": [pictures[i], pictures[j]]} for d, i, j in beyond],
    }


def named(groups: Sequence[Sequence[Seen]]) -> list[list[str]]:
    """Groups by the names of their images, sorted."""
    return sorted(sorted(one.name for one in group) for group in groups)


def across(groups: Sequence[Sequence[Seen]]) -> dict[str, int]:
    """Groups with more than one part, class, patient."""
    keys = {"parts": part_of, "classes": lambda one: one.told.label, "patients": lambda one: one.patient}
    return {what: sum(len(set(map(key, group))) > 1 for group in groups) for what, key in keys.items()}


def count_patients(seen: Sequence[Seen]) -> dict:
    """Patients under both readings of the ID, on both sides of the published split, and what a random split does."""
    sides = by(part_of, seen)
    shared = {
        reading: sorted(set(map(key, sides.get("train", ()))) & set(map(key, sides.get("test", ()))))
        for reading, key in READINGS.items()
    }
    both_kinds = {}
    for part, own in sides.items():
        kinds = Counter(patient for patient, kind in {(one.patient, one.told.subtype) for one in own} if kind)
        both_kinds[part] = sum(count > 1 for count in kinds.values())
    drawn = {part or "all": (own, len(own)) for part, own in sides.items()}
    if len(seen) > SUBSET:
        drawn[f"a random {SUBSET} of all"] = (seen, SUBSET)
    return {
        "patients": len({one.patient for one in seen}),
        "patients_by_kind_and_id": len(set(map(kind_and_id, seen))),
        "patients_unknown": sum(one.patient == one.name for one in seen),
        "patients_on_both_sides": {reading: len(keys) for reading, keys in shared.items()},
        "who_is_on_both_sides": shared,
        "ids_of_both_kinds": both_kinds,
        "most_images_of_a_patient": {reading: max(tally(seen, key).values()) for reading, key in READINGS.items()},
        "leak_of_a_random_split": {
            what: {reading: random_leak(list(map(key, own)), count) for reading, key in READINGS.items()}
            for what, (own, count) in drawn.items()
        },
    }


def random_leak(patients: Sequence[str], drawn: int) -> float:
    """Expected share of test images whose patient is trained on too, if images are split at random.

    Args:
      patients: of the images to draw from.
      drawn: images drawn; TRAINED_ON of them are trained on, the rest is the test part.
    """
    counts = Counter(patients)
    others = len(patients) - 1
    trained_on = round(TRAINED_ON * drawn)
    # chance that none of the first k other images of a patient is trained on, k = 0, 1, …
    steps = np.arange(max(counts.values()) - 1)
    none = np.concatenate(
        [[1.0], np.cumprod(np.maximum(others - trained_on - steps, 0) / np.maximum(others - steps, 1))]
    )
    return float(1 - np.mean([none[counts[patient] - 1] for patient in patients]))


def ask_trivial_features(seen: Sequence[Seen]) -> dict[str, dict]:
    """Whether FEATURES tell PNEUMONIA from NORMAL, and test from train, over all and within each class."""
    split = [one for one in seen if part_of(one) in ("train", "test")]
    questions = {"PNEUMONIA from NORMAL": (seen, lambda one: one.told.label)}
    questions["test from train"] = (split, lambda one: int(part_of(one) == "test"))
    for label, name in enumerate(CLASSES):
        own = [one for one in split if one.told.label == label]
        questions[f"test from train among {name}"] = (own, lambda one: int(part_of(one) == "test"))
    digests = [one.digest for one in seen]
    groups = splits.group([one.patient for one in seen], digests)
    row_of = {one.name: row for row, one in enumerate(seen)}
    answers = {}
    for question, (images, target) in questions.items():
        targets = np.array([target(one) for one in images], int)
        features = np.array([one.features for one in images], float)
        found = trivial.told_by(features, targets, groups[[row_of[one.name] for one in images]])
        answers[question] = found | {"statement": trivial.statement(question, found)}
    return answers


def write(out: Path, root: Path, found: dict, names: Sequence[str]) -> Path:
    """Writes audit.json and audit.html; returns the page's path."""
    groups = {kind: found[f"{kind}_duplicates"][:GROUPS_SHOWN] for kind in ("exact", "near")}
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pneumojax.data", "."),
        autoescape=True,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("audit.html.j2").render(
        found=found,
        root=str(root),
        classes=CLASSES,
        features=FEATURES,
        folds=trivial.FOLDS,
        sheets=[(where, len(own), sheet(root, evenly(own))) for where, own in by(folder_of, names).items()],
        on_a_sheet=SHEET[0] * SHEET[1],
        groups={kind: [(names, sheet(root, names[:GROUP_WIDTH])) for names in shown] for kind, shown in groups.items()},
        group_width=GROUP_WIDTH,
        beyond=[(pair["differing"], pair["images"], sheet(root, pair["images"])) for pair in found["nearest_beyond"]],
    )
    checkpoint.write_json(out / "audit.json", found)
    path = out / "audit.html"
    checkpoint.write_bytes(path, page.encode(errors="backslashreplace"))  # names need not be Unicode
    return path


def evenly(names: Sequence[str]) -> list[str]:
    """As many of the names as a sheet holds, from the first to the last in equal steps."""
    rows = np.linspace(0, len(names) - 1, min(SHEET[0] * SHEET[1], len(names))).astype(int)
    return [names[row] for row in rows]


def sheet(root: Path, names: Sequence[str]) -> str:
    """Thumbnails of images, in rows of SHEET[0], each padded to a square: a base64 JPEG."""
    columns = min(SHEET[0], len(names))
    canvas = Image.new("L", (columns * THUMBNAIL, -(-len(names) // columns) * THUMBNAIL))
    for index, name in enumerate(names):
        picture = decode.read(folder.read(root / name), name, decode.REDUCED * THUMBNAIL)
        thumbnail = Image.fromarray(decode.resize(picture, THUMBNAIL, "pad"))
        canvas.paste(thumbnail, (index % columns * THUMBNAIL, index // columns * THUMBNAIL))
    content = io.BytesIO()
    canvas.save(content, "JPEG", quality=80)
    return base64.b64encode(content.getvalue()).decode()


def main(arguments: Sequence[str] | None = None) -> None:
    """Looks for what makes scores on a folder of X-rays misleading; writes audit.html and audit.json."""
    parser = cli.Parser(prog="python -m pneumojax.data.audit", description=main.__doc__)
    parser.add_argument("directory", type=cli.path, metavar="DIR", help=f"with {folder.LAYOUT}")
    parser.add_argument("--out", type=cli.path, default="audit", metavar="FOLDER", help="to write to; %(default)s")
    cli.show_log()
    with cli.exit_codes():
        options = parser.parse_args(arguments)
    with cli.exit_codes(options.out, "--out"):
        root = options.directory
        if why := paths.why_no_directory(root):
            raise BadInput(f"{root} {why}; give one with {folder.LAYOUT}")
        found, names = audit(root)
        page = write(options.out, root, found, names)
        exact, near = len(found["exact_duplicates"]), len(found["near_duplicates"])
        cli.show(
            f"{printable(page)}: {found['images']} images of {found['patients']} patients, "
            f"{len(found['unreadable'])} unreadable, {sum(found['left_out'].values())} files left out, "
            f"{exact} groups of exact and {near} of near duplicates"
        )


if __name__ == "__main__":
    main()
