"""Accuracy by published folder and by subtype."""

from pneumojax.report import tables
from pneumojax.run import Run

PLACE = 30


def section(run: Run) -> dict | None:
    """Parts of the parts."""
    table = tables.table(run, ("accuracy",), tables.more_parts(run, external=False))
    if not table["rows"]:
        return None
    note = "Parts of the parts. Where all images of a part are of one class, its accuracy is that class's recall."
    return {"title": "By published folder and by subtype", "blocks": [{"note": note}, {"table": table}]}
