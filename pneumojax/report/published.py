"""The paper's tables 1 and 2 beside this study's."""

from pneumojax import paper
from pneumojax.report import tables
from pneumojax.run import Run

PLACE = 40
PRINTED = [
    "the paper, as printed",
    "with GAN",
    "its own test set: generated images in it, patients on both sides",
    "1 × 1248",
    "",
]
TABLES = (
    ("table 1", "It calls precision 'accuracy for every class'.", paper.TABLE_1_COLUMNS, paper.TABLE_1),
    (
        "table 2",
        "It has the names of precision and recall the other way round; here they are the field's.",
        paper.TABLE_2_COLUMNS,
        paper.TABLE_2,
    ),
)


def section(run: Run) -> dict | None:
    """Both tables; nothing where the classes are not the paper's."""
    if tuple(run.config.data.classes) != paper.CLASSES:
        return None
    blocks = []
    for name, note, columns, printed in TABLES:
        table = tables.table(run, columns, ("test",))
        blocks += [{"note": f"The paper's {name}. {note} {tables.ESTIMANDS}"}, {"table": table}]
        model = run.results["model"]
        if model in printed:
            cells = [(value, "") for value in printed[model]]
            table["rows"].insert(0, {"lead": PRINTED, "cells": cells, "printed": True})
            wrong = [column for column in columns if (model, column) in paper.MISPRINTS]
            blocks += [
                {
                    "note": f"Misprint in the paper: {tables.heading(column, run.config.data.classes)} should read "
                    f"{paper.MISPRINTS[model, column]}, its matrix says."
                }
                for column in wrong
            ]
    return {"title": "The paper's tables", "blocks": blocks}
