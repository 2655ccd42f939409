"""Scores of all arms and parts."""

from pneumojax.report import tables
from pneumojax.run import Run

PLACE = 10


def section(run: Run) -> dict:
    """The main table."""
    recalls = [f"recall_{name.lower()}" for name in run.config.data.classes]
    parts = [*tables.PARTS, *tables.more_parts(run, external=True)]
    note = (
        f"{tables.ESTIMANDS} 'Unseen' are all real images outside the trial's subset but for those of its patients; "
        "those of different trials overlap. Collapsed: networks that say one class of everything; they are in all "
        "means. A dash: undefined, since a class has no image there, or the arm diverged."
    )
    note = " ".join([note, *tables.why_no_procedure(run)])
    table = tables.table(run, ("accuracy", "f1_macro", *recalls, "auc"), parts)
    return {"title": "Scores", "blocks": [{"note": note}, {"table": table}]}
