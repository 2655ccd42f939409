"""The page of an audit, one self-contained HTML file, and its contact sheets."""

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pneumojax import checkpoint, pages
from pneumojax.data import CLASSES, decode, folder, levels, trivial
from pneumojax.data.audit import figures, grays, orientation, outliers, seen, signs
from pneumojax.data.audit.seen import by, folder_of
from pneumojax.data.picture import Picture

THUMBNAIL = 96  # pixels a side
SHEET = (11, 3)  # thumbnails across and down
GROUPS_SHOWN = 24
GROUP_WIDTH = 6  # images of a group that are shown
CARDS = 24  # pictures shown with words of their own
TURNED = 0.01  # of the images, from which it is said at the top; one-sided disease can look mirrored
CROP = 0.25  # of a picture's longer side is shown around a mark
RULES = {  # what the page says of them
    "common": seen.COMMON,
    "apart": grays.APART,
    "turned_at": orientation.TURNED,
    "inverted_at": orientation.INVERTED,
    "narrow": signs.NARROW,
    "far": outliers.FAR,
    "outliers": outliers.SHOWN,
}
Reader = Callable[..., Picture]  # name of an image, and pixels a side that suffice → the image as its set shows it


def write(out: Path, root: Path, found: dict, names: Sequence[str]) -> Path:
    """Writes audit.json and audit.html; returns the page's path."""
    levels_of_set = levels.of_facts(found["gray_values"])

    def picture(name: str, at_least: int | None = None) -> Picture:
        return decode.read(folder.read(root / name), name, at_least, levels_of_set)

    groups = {kind: found[f"{kind}_duplicates"][:GROUPS_SHOWN] for kind in ("exact", "near")}
    path = out / "audit.html"
    checkpoint.write_json(out / "audit.json", found)
    pages.write(
        path,
        "pneumojax.data.audit",
        found=found,
        root=str(root),
        classes=CLASSES,
        features=trivial.FEATURES,
        folds=trivial.FOLDS,
        sheets=[(where, len(own), sheet(picture, evenly(own))) for where, own in by(folder_of, names).items()],
        on_a_sheet=SHEET[0] * SHEET[1],
        groups={
            kind: [(names, sheet(picture, names[:GROUP_WIDTH])) for names in shown] for kind, shown in groups.items()
        },
        group_width=GROUP_WIDTH,
        beyond=[
            (pair["differing"], pair["images"], sheet(picture, pair["images"])) for pair in found["nearest_beyond"]
        ],
        alarms=alarms(found),
        edges=signs.EDGES,
        rules=RULES,
        gray_values=levels.words(found["gray_values"]),
        grays=figures.gray_levels(found["gray_levels"]),
        cards=cards(picture, found),
        marks=marks(picture, found["marks"]),
    )
    return path


def alarms(found: dict) -> list[tuple[str, str]]:
    """(topic, statement) of what looks tell too well, and of images that lie otherwise or are inverted."""
    gray = found["gray_levels"]
    answers = [("Gray levels", answer["statement"]) for answer in gray["tell"].values()]
    answers += [("Sources", source["statement"]) for source in gray["sources"].values()]
    answers += [("Signs", sign["statement"]) for sign in found["signs"].values()]
    told = [answer for answer in answers if "that is high" in answer[1]]
    if "found groups" in gray["sources"]:
        told.append(("Gray levels", in_groups(gray["sources"]["found groups"])))
    turned, inverted = found["orientation"]["turned"], found["orientation"]["inverted"]
    if len(turned) >= TURNED * found["images"]:
        ways = ", ".join(f"{len(own)} {way}" for way, own in by(lambda one: one["how"], turned).items())
        told.append(("Orientation", f"{len(turned)} images probably lie otherwise than most: {ways}."))
    for one, other in found["orientation"]["mirrored_to_each_other"]:
        told.append(("Orientation", f"{one} and {other} are mirror images of each other, in the mean."))
    if inverted:
        told.append(("Inverted", f"{len(inverted)} images are probably black for white."))
    return told


def in_groups(source: dict) -> str:
    """Groups of gray levels, in words."""
    texts = []
    for name, group in source["values"].items():
        levels = ", ".join(f"{point} {level:.0f}" for point, level in group["points"].items())
        shares = ", ".join(f"{count} {label}" for label, count in group["by_class"].items())
        texts.append(f"{name}: {group['images']} images ({levels}; {shares})")
    return f"There are {len(texts)} groups, as of scanners with other windows. {'. '.join(texts)}."


def evenly(names: Sequence, count: int = SHEET[0] * SHEET[1]) -> list:
    """So many of the names as fit, from the first to the last in equal steps."""
    return [names[row] for row in np.linspace(0, len(names) - 1, min(count, len(names))).astype(int)]


def thumbnail(picture: Reader, name: str) -> Image.Image:
    """One image, padded to a square of THUMBNAIL."""
    return Image.fromarray(decode.resize(picture(name, decode.REDUCED * THUMBNAIL), THUMBNAIL, "pad"))


def sheet(picture: Reader, names: Sequence[str]) -> str:
    """Thumbnails of images, in rows of SHEET[0]: a base64 JPEG."""
    return tiled([thumbnail(picture, name) for name in names])


def tiled(pictures: Sequence[Image.Image]) -> str:
    """Pictures of THUMBNAIL, in rows of SHEET[0]: a base64 JPEG."""
    columns = min(SHEET[0], len(pictures))
    canvas = Image.new("L", (columns * THUMBNAIL, -(-len(pictures) // columns) * THUMBNAIL))
    for index, picture in enumerate(pictures):
        canvas.paste(picture, (index % columns * THUMBNAIL, index // columns * THUMBNAIL))
    content = io.BytesIO()
    canvas.save(content, "JPEG", quality=80)
    return base64.b64encode(content.getvalue()).decode()


def cards(picture: Reader, found: dict) -> dict[str, list[tuple[str, str, str]]]:
    """Pictures that are shown with words: kind → [(name, words, base64 JPEG)]."""
    lying = found["orientation"]
    listed = {
        "turned": [(one["file"], one["how"]) for one in lying["turned"]],
        "inverted": [(name, "") for name in lying["inverted"]],
        "bars": [(name, words) for name, words in found["widest_bars"].items()],
        "outliers": [(one["file"], f"{one['why']} ({one['deviations']} deviations)") for one in found["outliers"]],
    }
    return {
        kind: [(name, words, tiled([thumbnail(picture, name)])) for name, words in of[:CARDS]]
        for kind, of in listed.items()
    }


def marks(picture: Reader, found: dict[str, Sequence]) -> list[tuple[str, int, str]]:
    """Crops around the first mark of images, in equal steps: (folder, images with marks, base64 JPEG)."""
    return [
        (where, len(own), tiled([crop(picture, name, found[name][0]) for name in evenly(own)]))
        for where, own in by(folder_of, list(found)).items()
    ]


def crop(picture: Reader, name: str, box: Sequence[float]) -> Image.Image:
    """CROP of a picture around the centre of a box, black beyond its edges."""
    gray = picture(name).gray
    height, width = gray.shape
    x, y, half = (box[0] + box[2]) / 2 * width, (box[1] + box[3]) / 2 * height, CROP / 2 * max(width, height)
    cut = Image.fromarray(gray).crop(tuple(int(edge) for edge in (x - half, y - half, x + half, y + half)))
    return cut.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
