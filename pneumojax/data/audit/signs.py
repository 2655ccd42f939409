"""Signs that images bear, counted by class and part: orientation, inversion, bars at the edges, marks burnt in."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from pneumojax.data.audit import look, orientation, questions
from pneumojax.data.audit.seen import Seen, by, class_of, part_of

EDGES = ("top", "bottom", "left", "right")
WIDEST = 12  # images that are named
NARROW = 0.02  # of a side: a narrower bar counts only for a frame


def bars(one: Seen) -> list[look.Bar]:
    """Those that are wide enough to count."""
    return [bar for bar in one.look.bars if bar.share >= NARROW]


SIGNS = {  # sign → whether an image bears it, as the pixels and the header tell
    "wider than high": lambda one: one.features[0] > one.features[1],
    "an EXIF orientation": lambda one: one.look.exif != 1,
    "a black bar": lambda one: any(bar.level <= look.BLACK for bar in bars(one)),
    "a white bar": lambda one: any(bar.level >= look.WHITE for bar in bars(one)),
    "a gray bar": lambda one: any(look.BLACK < bar.level < look.WHITE for bar in bars(one)),
    "a frame": lambda one: all(bar.share for bar in one.look.bars),
    "a mark": lambda one: bool(one.look.marks),
}


def describe(seen: Sequence[Seen], lie: orientation.Lie, asked: dict[str, questions.Asked]) -> dict:
    """What `audit.json` holds of them.

    Returns: {"orientation": {"exif": {orientation: images}, "shapes": {shape: images}, "common_layout": correlation or
    None, "sided": whether single mirrored images were looked for, "mirrored_to_each_other": pairs of classes and parts,
    "turned": [{"file", "how"}], "inverted": [names]}, "borders": {"NORMAL train": {"images", edge: mean share}},
    "widest_bars": {name: words}, "marks": {name: boxes, as shares of the sides}, "signs": {sign: {"images", "by_class",
    "by_part", "tell", "statement"}}}.
    """
    borne = {sign: np.array([bears(one) for one in seen]) for sign, bears in SIGNS.items()}
    borne["another orientation than most"] = np.array([how != orientation.UPRIGHT for how in lie.how])
    borne["black for white"] = lie.inverted
    turned = [(one.name, how) for one, how in zip(seen, lie.how, strict=True) if how != orientation.UPRIGHT]
    return {
        "orientation": {
            "exif": dict(Counter(str(one.look.exif) for one in seen if one.look.exif != 1)),
            "shapes": dict(Counter(shape(one) for one in seen)),
            "common_layout": lie.common,
            "sided": lie.sided,
            "mirrored_to_each_other": mirrored_groups(seen) if lie.common is not None else [],
            "turned": [{"file": name, "how": how} for name, how in turned],
            "inverted": [one.name for one, inverted in zip(seen, lie.inverted, strict=True) if inverted],
        },
        "borders": {where: describe_borders(own) for where, own in by(class_and_part, seen).items()},
        "widest_bars": widest_bars(seen),
        "marks": {one.name: one.look.marks for one in seen if one.look.marks},
        "signs": {sign: describe_sign(sign, seen, has, asked) for sign, has in borne.items() if has.any()},
    }


def mirrored_groups(seen: Sequence[Seen]) -> list[list[str]]:
    """Classes, and parts, that are mirror images of each other in the mean."""
    thumbnails = np.stack([one.look.thumbnail for one in seen])
    keys = (list(map(class_of, seen)), list(map(part_of, seen)))
    return [pair for own in keys for pair in orientation.mirrored_to_each_other(thumbnails, own)]


def shape(one: Seen) -> str:
    """Landscape, portrait or square, by the original's sides."""
    width, height = one.features[:2]
    return "landscape" if width > height else "portrait" if width < height else "square"


def class_and_part(one: Seen) -> str:
    """`NORMAL train`, for tables."""
    return f"{class_of(one)} {part_of(one)}".rstrip()


def describe_borders(seen: Sequence[Seen]) -> dict:
    """Mean shares of the sides that are bars."""
    means = np.mean([[bar.share for bar in one.look.bars] for one in seen], 0)
    return {"images": len(seen)} | dict(zip(EDGES, means.tolist(), strict=True))


def widest_bars(seen: Sequence[Seen]) -> dict[str, str]:
    """The images with the widest bars, and where they are."""
    widths = {one.name: max((bar.share for bar in bars(one)), default=0) for one in seen}
    widest = sorted(seen, key=lambda one: -widths[one.name])[:WIDEST]
    return {
        one.name: ", ".join(
            f"{edge} {bar.share:.0%} at level {bar.level}"
            for edge, bar in zip(EDGES, one.look.bars, strict=True)
            if bar in bars(one)
        )
        for one in widest
        if widths[one.name]
    }


def describe_sign(sign: str, seen: Sequence[Seen], has: np.ndarray, asked: dict[str, questions.Asked]) -> dict:
    """One sign: who bears it, and what it tells."""
    counts = questions.shares(seen, has)
    tell = questions.ask_values(asked, has)
    shown = ", ".join(f"{name} {n} of {of} ({n / of:.1%})" for name, (n, of) in sorted(counts["by_class"].items()))
    text = f"{sign[0].upper()}{sign[1:]}: {shown}."
    return {
        "images": int(has.sum()),
        **counts,
        "tell": tell,
        "statement": f"{text} {questions.statement('It', tell)}".rstrip(),
    }
