"""What a folder of X-rays holds, before anybody trains on it: `python -m pneumojax.data.audit DIR [--out=FOLDER]`.

Counts, sizes, duplicates, patients on both sides of the published split, how far features get that see no anatomy; and
what the images look like to a network: gray levels by class and source, how they lie, bars, marks, outliers.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pneumojax import cli, paths
from pneumojax.data import files, folder, levels, trivial
from pneumojax.data.audit import counts, grays, orientation, outliers, page, questions, signs
from pneumojax.data.audit.seen import Seen, examine
from pneumojax.errors import BadInput
from pneumojax.names import printable


def audit(root: Path) -> tuple[dict, list[str]]:
    """Looks at all images of a data directory.

    Returns: (what `audit.json` holds, names of the readable images).

    Errors: BadInput where there are no images, or none can be read.
    """
    source = folder.source(root)
    names = source.names
    looked = look_at(source, names, levels.ALONE)
    shown = levels.Levels(ranges=levels.together(one.own for one in looked.values() if isinstance(one, Seen)))
    stale = [name for name, one in looked.items() if isinstance(one, Seen) and levels.used(one.own, shown) != one.own]
    looked |= look_at(source, stale, shown)
    seen = [one for one in looked.values() if isinstance(one, Seen)]
    unreadable = [{"file": name, "why": one} for name, one in looked.items() if not isinstance(one, Seen)]
    if not seen:
        details = [f"{bad['file']}: {bad['why']}" for bad in unreadable]
        raise BadInput(f"none of {len(names)} images in {root} can be read; repair or replace them", details)
    found = {
        "images": len(seen),
        **counts.describe_folders(seen),
        **counts.find_duplicates(seen),
        **counts.count_patients(seen),
        **describe_looks(seen),
        "gray_values": levels.facts(shown, sum(one.turned for one in seen)),
        "unreadable": unreadable,
        "left_out": source.left_out,
    }
    return found, [one.name for one in seen]


def look_at(source: files.Source, names: Sequence[str], shown: levels.Levels) -> dict[str, Seen | str]:
    """Looks at images, shown by the levels of their set; why one cannot be read in place of it."""
    looked = files.in_parallel(lambda name: examine(source, name, shown), names)
    progress = tqdm(looked, "looking at images", len(names), unit=" images", disable=not names)
    return dict(zip(names, progress, strict=True))


def describe_looks(seen: Sequence[Seen]) -> dict:
    """What images look like, and whether it tells their class, and test from train."""
    asked = questions.questions(seen)
    lie = orientation.compare(np.stack([one.look.thumbnail for one in seen]))
    features = np.array([one.features for one in seen], float)
    return {
        "trivial_features": questions.ask_features(asked, features, trivial.TRIVIAL),
        "gray_levels": grays.describe(seen, asked),
        **signs.describe(seen, lie, asked),
        "outliers": outliers.find(seen, lie),
    }


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
        path = page.write(options.out, root, found, names)
        exact, near = len(found["exact_duplicates"]), len(found["near_duplicates"])
        cli.show(
            f"{printable(path)}: {found['images']} images of {found['patients']} patients, "
            f"{len(found['unreadable'])} unreadable, {sum(found['left_out'].values())} files left out, "
            f"{exact} groups of exact and {near} of near duplicates"
        )
