"""Figures as they stand in the page."""

import base64
import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from pneumojax.names import printable

DASHES = ("-", "--", ":", "-.")  # of the first ten arms, the next ten, …
COLOURS = 10  # of matplotlib's cycle
LONGEST = 52  # letters of a name in a figure


def encoded(figure: Figure) -> str:
    """A figure as base64 PNG; names of classes in it are no formulas, whatever dollars they hold."""
    content = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    figure.savefig(content, format="png", dpi=110)
    return base64.b64encode(content.getvalue()).decode()


def short(text: str) -> str:
    """A name as a figure has room for it."""
    text = printable(text)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def style(index: int) -> dict:
    """Colour and dashes of an arm, by its place among those of its protocol: the same in all figures."""
    return {"color": f"C{index % COLOURS}", "linestyle": DASHES[index // COLOURS % len(DASHES)]}


def panels(titles: Sequence[str], entries: int) -> tuple[Figure, list[Axes]]:
    """A figure with a square panel a title, two in a row, and room below for so many entries of a legend."""
    columns = min(len(titles), 2)
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(4.4 * columns, (4.1 + 0.16 * entries) * rows), layout="constrained")
    found = [figure.add_subplot(rows, columns, place + 1) for place in range(len(titles))]
    for axes, title in zip(found, titles, strict=True):
        axes.set_title(title, fontsize=9)
        axes.tick_params(labelsize=8)
    return figure, found


def legend(axes: Axes, title: str) -> None:
    """Below a panel, where it hides no line. A label that begins with `_` would be left out."""
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.13), fontsize=7, title=title, title_fontsize=7, frameon=False
    )
