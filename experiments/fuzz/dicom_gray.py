"""From stored values to gray as DICOM has it, in plain numpy (PS3.3 C.7.6.3.1, C.11.1, C.11.2): the reference."""

from typing import NamedTuple

import numpy as np


class Table(NamedTuple):
    """A modality or VOI LUT."""

    entries: np.ndarray  # int64 [n], 1 to 65536 of them
    first: int  # value that the first entry is for
    bits: int  # that the descriptor tells
    form: str  # of LUT Data: OW, US, or OB for packed entries of 8 bits


class Mono(NamedTuple):
    """One grayscale picture as its header tells it; texts as they stand there, None for what does not."""

    stored: np.ndarray  # int64 [H, W]
    bits: int  # BitsStored
    signed: bool
    inverted: bool  # MONOCHROME1
    slope: str | None = None
    intercept: str | None = None
    modality: Table | None = None
    voi: Table | None = None
    center: str | None = None  # values with backslashes between
    width: str | None = None
    function: str | None = None
    padding: tuple[int, ...] = ()  # PixelPaddingValue and perhaps PixelPaddingRangeLimit


def looked_up(table: Table, values: np.ndarray) -> np.ndarray:
    """Values below the first one take the first entry, those beyond the last the last."""
    return table.entries[np.clip(values.astype(np.int64) - table.first, 0, len(table.entries) - 1)]


def values(one: Mono) -> np.ndarray:
    """Stored values through the modality LUT, or rescaled; float64 [H, W]."""
    if one.modality:
        return looked_up(one.modality, one.stored).astype(float)
    return float(one.slope or 1) * one.stored + float(one.intercept or 0)


def window(one: Mono) -> tuple[float, float, str] | None:
    """The first center and width with their function, where they can be."""
    if not one.center or not one.width:
        return None
    center, width = (float(text.split("\\")[0]) for text in (one.center, one.width))
    function = one.function or "LINEAR"
    return (center, width, function) if (width >= 1 if function == "LINEAR" else width > 0) else None


def windowed(x: np.ndarray, center: float, width: float, function: str) -> np.ndarray:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3; shares of white."""
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (x - center) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return np.clip((x - center) / width + 0.5, 0, 1)
    low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
    inside = (x - (center - 0.5)) / max(width - 1, 1e-30) + 0.5
    return np.where(x <= low, 0.0, np.where(x > high, 1.0, inside))


def fewest(one: Mono) -> int:
    """Bits that hold all stored values but padding."""
    low, high = min(one.padding, default=0), max(one.padding, default=-1)
    real = one.stored[(one.stored < low) | (one.stored > high)] if one.padding else one.stored
    real = real if real.size else one.stored
    low, high = int(real.min()), int(real.max())
    return max(high.bit_length(), (~low).bit_length()) + 1 if one.signed else high.bit_length()


def grays(pictures: list[Mono], mode: str) -> list[np.ndarray]:
    """Gray in 0…255 of all pictures of a set, float64 [H, W], as `config.data.window` says."""
    shares = [_chosen(one, mode) for one in pictures]
    without = [one for one, share in zip(pictures, shares, strict=True) if share is None]
    tables = [one.modality.entries for one in without if one.modality]
    bits: dict[tuple, int] = {}
    for one in without:
        if not one.modality:
            group = one.bits, one.signed
            bits[group] = min(one.bits, max(8, fewest(one), bits.get(group, 0)))
    found = []
    for one, share in zip(pictures, shares, strict=True):
        if share is None and one.modality:
            low, high = min(table.min() for table in tables), max(table.max() for table in tables)
            share = (values(one) - low) / max(high - low, 1)
        elif share is None:
            least = -(2 ** (bits[one.bits, one.signed] - 1)) if one.signed else 0
            ends = np.array([least, least + 2 ** bits[one.bits, one.signed] - 1])
            black, white = float(one.slope or 1) * ends + float(one.intercept or 0)
            low, high = min(black, white), max(black, white)
            share = (values(one) - low) / (high - low)
        share = np.clip(share, 0, 1)
        found.append(255 * (1 - share if one.inverted else share))
    return found


def _chosen(one: Mono, mode: str) -> np.ndarray | None:
    """Shares of white by the header or the picture; None where the set decides."""
    x, wanted = values(one), window(one)
    if mode == "percentile":
        low, high = min(one.padding, default=0), max(one.padding, default=0)
        real = x[(one.stored < low) | (one.stored > high)] if one.padding else x.ravel()
        low, high = np.percentile(real, (0.5, 99.5))
        low, high = (low, high) if low < high else (real.min(), real.max())
        return (x - low) / (high - low) if high > low else np.zeros_like(x)
    if one.voi and (mode == "as viewer" or not wanted):
        entries = looked_up(one.voi, x)
        return entries / max(one.voi.entries.max(), 1)
    return windowed(x, *wanted) if wanted else None
