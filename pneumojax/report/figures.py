"""Figures as they stand in the page."""

import base64
import io

from matplotlib.figure import Figure
from matplotlib.text import Text


def encoded(figure: Figure) -> str:
    """A figure as base64 PNG; names of classes in it are no formulas, whatever dollars they hold."""
    content = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    figure.savefig(content, format="png", dpi=110)
    return base64.b64encode(content.getvalue()).decode()
