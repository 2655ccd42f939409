"""What is black and what is white where a file does not say it: numbers of the set, never of the picture."""

from collections.abc import Iterable
from typing import NamedTuple

WINDOWS = ("as viewer", "first window", "percentile")
MODALITY_LUT = "DICOM with a modality LUT"  # a group


class Range(NamedTuple):
    """The stored values that are black and white in a group of pictures; '' is the group of those that need none.

    Groups are the 16-bit PNGs with one sBIT chunk, the DICOMs without a window of one BitsStored and
    PixelRepresentation, and those with a modality LUT and no window (whose range is of its entries).
    """

    group: str = ""
    black: int = 0
    white: int = 0


class Levels(NamedTuple):
    """How stored values become gray. Where a group is not known, a picture of it is a set of its own."""

    window: str = WINDOWS[0]  # config.data.window
    ranges: tuple[Range, ...] = ()  # of a set, by group


ALONE = Levels()  # of a picture that is a set of its own


def of_bits(group: str, least: int, largest: int, most: int, signed: bool = False) -> Range:
    """The fewest bits, at least 8 and at most `most`, that hold the values from `least` to `largest`."""
    needed = max(largest, -1 - least).bit_length() + 1 if signed else largest.bit_length()
    bits = max(needed, min(8, most))
    return Range(group, -(2 ** (bits - 1)) if signed else 0, 2 ** (bits - signed) - 1)


def used(own: Range, levels: Levels) -> Range:
    """The range that a picture is shown by: its group's."""
    return next((one for one in levels.ranges if one.group == own.group), own)


def together(own: Iterable[Range]) -> tuple[Range, ...]:
    """The ranges of a set: of each group the one that holds those of all its pictures."""
    found: dict[str, Range] = {}
    for one in own:
        known = found.get(one.group, one)
        found[one.group] = Range(one.group, min(one.black, known.black), max(one.white, known.white))
    return tuple(found[group] for group in sorted(found) if group)


def facts(levels: Levels, turned: int) -> dict:
    """What results.json says: {"window", "groups": {group: {"black", "white", "bits"}}, "turned": images}.

    The entries of look-up tables have no bits.
    """
    groups = {}
    for group, black, white in levels.ranges:
        bits = {} if group == MODALITY_LUT else {"bits": (white - black).bit_length()}
        groups[group] = {"black": black, "white": white} | bits
    return {"window": levels.window, "groups": groups, "turned": turned}


def of_facts(known: dict) -> Levels:
    """The levels of a run, from what its results.json says; the defaults where it says nothing."""
    ranges = (Range(group, one["black"], one["white"]) for group, one in known.get("groups", {}).items())
    return Levels(known.get("window", WINDOWS[0]), tuple(ranges))


def words(known: dict) -> str:
    """`facts` in a sentence, for the log and the page; '' where the files say all themselves."""
    parts = [
        f"{group}: {one['black']} is black, {one['white']} white" + (f" ({one['bits']} bits)" if "bits" in one else "")
        for group, one in known.get("groups", {}).items()
    ]
    if known.get("turned"):
        parts.append(f"turned upright by EXIF: {known['turned']} images")
    if known.get("window", WINDOWS[0]) != WINDOWS[0]:
        parts.append(f"window of DICOMs: {known['window']}")
    return "; ".join(parts)


def beyond(own: Range, levels: Levels) -> str:
    """Why a picture is not shown as one of the set would be: it is clipped, or of a group that the set has none of."""
    if not own.group:
        return ""
    shown = used(own, levels)
    if all(one.group != own.group for one in levels.ranges):
        return f"the run has no {own.group}: what is black and white is told by each image alone"
    if own.black < shown.black or own.white > shown.white:
        return f"{own.group} with values beyond the run's {shown.black} to {shown.white}, which are clipped"
    return ""
