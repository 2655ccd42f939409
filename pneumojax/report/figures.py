"""Figures as they stand in the page."""

import base64
import io

from matplotlib.figure import Figure


def encoded(figure: Figure) -> str:
    """A figure as base64 PNG."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return base64.b64encode(content.getvalue()).decode()
