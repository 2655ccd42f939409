"""Figures of an audit's page: gray levels by class and source."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from pneumojax.data import CLASSES
from pneumojax.data.audit.grays import BIN, POINTS

LINES = 8  # values of a source that are drawn, those with most images
ABOVE = 1.15  # of the highest share between black and white is drawn: padding alone can reach higher
ENDS = 4  # levels at either end that do not count for that


def gray_levels(found: dict) -> list[tuple[str, str]]:
    """(caption, base64 PNG): histograms by class, the ends of each image's, and by each kind of source."""
    figures = [
        (
            "Gray levels by class: shares of pixels, mean of images; a big image counts as much as a small one.",
            encoded(draw_histograms({"": found["by_class"]})),
        ),
        (
            "Black point, median and white point of each image: 0.5%, 50%, 99.5% of its pixels are darker. "
            "Two heaps are two ways of making images.",
            encoded(draw_points(found["points"])),
        ),
    ]
    for kind, source in found["sources"].items():
        values = sorted(source["values"].items(), key=lambda item: -item[1]["images"])
        panels: dict[str, dict[str, list[float]]] = {name: {} for name in CLASSES}
        for value, described in values[:LINES]:
            for name, histogram in described["histograms"].items():
                panels[name][f"{value} ({described['by_class'][name]})"] = histogram
        more = f" The {LINES} of {len(values)} with most images." if len(values) > LINES else ""
        figures.append((f"Gray levels by {kind}, within each class.{more}", encoded(draw_histograms(panels))))
    return figures


def draw_histograms(panels: dict[str, dict[str, Sequence[float]]]) -> Figure:
    """Title → lines: label → 256 shares of pixels. Panels side by side, under one scale."""
    figure = Figure(figsize=(9, 3))
    every = [histogram for lines in panels.values() for histogram in lines.values()]
    top = max((max(histogram[ENDS:-ENDS]) for histogram in every), default=0) or 1
    for axes, (title, lines) in zip(row(figure, len(panels)), panels.items(), strict=True):
        for label, histogram in lines.items():
            axes.plot(range(len(histogram)), np.multiply(100, histogram), label=label, linewidth=1.2)
        axes.set_ylim(0, 100 * ABOVE * top)
        finish(axes, title, "share of pixels, %")
    return figure


def draw_points(points: dict[str, dict[str, Sequence[int]]]) -> Figure:
    """Point → class → images in each bin of BIN levels; as shares of the class."""
    figure = Figure(figsize=(9, 3))
    for axes, name in zip(row(figure, len(POINTS)), POINTS, strict=True):
        for label, counts in points[name].items():
            axes.step(np.arange(len(counts)) * BIN, np.divide(counts, sum(counts) / 100), where="post", label=label)
        finish(axes, name, "images of a class, %")
    return figure


def row(figure: Figure, count: int) -> Sequence[Axes]:
    """Axes side by side."""
    # matplotlib's own layouts draw everything once more to measure it
    margins = {"left": 0.07, "right": 0.99, "bottom": 0.17, "top": 0.9, "wspace": 0.25}
    return figure.subplots(1, count, squeeze=False, gridspec_kw=margins)[0]


def finish(axes: Axes, title: str, unit: str) -> None:
    """What all panels share."""
    axes.set_xlim(0, 255)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("gray level", fontsize=9)
    axes.set_ylabel(unit, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)


def encoded(figure: Figure) -> str:
    """A figure as base64 PNG; names of folders in it are no formulas. As in `report`, which lies above the data."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return base64.b64encode(content.getvalue()).decode()
