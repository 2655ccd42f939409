"""Scores of all arms and parts."""

from pneumojax.report import tables
from pneumojax.run import Run

PLACE = 10


def section(run: Run) -> dict:
    """The main table."""
    recalls = [f"recall_{name.lower()}" for name in run.config.data.classes]
    parts = [*tables.PARTS, *tables.more_parts(run, external=True)]
    note = (
        "Percent: mean over trials ± standard deviation over trials (ddof 1) [95% interval of the mean for these "
        "networks and new patients]. 'Unseen' are all real images outside the trial's subset but "
        "for those of its patients; those of different trials overlap. A dash: undefined, since a class has no image "
        "there, or the arm diverged."
    )
    table = tables.table(run, ("accuracy", "f1_macro", *recalls, "auc"), parts)
    return {"title": "Scores", "blocks": [{"note": note}, {"table": table}]}
