"""Accuracy by published folder and by subtype."""

from pneumojax.report import contrasts, tables
from pneumojax.run import Run

PLACE = 30
DIFFERENCES = "How far the parts of a part lie apart, points [95%]; without a test."


def section(run: Run) -> dict | None:
    """Parts of the parts."""
    table = tables.table(run, ("accuracy",), tables.more_parts(run, external=False))
    if not table["rows"]:
        return None
    note = f"{tables.ESTIMANDS} Where all images of a part are of one class, its accuracy is that class's recall."
    blocks = [{"note": note}, {"table": table}]
    if rows := [row for arms in run.results["protocols"].items() for row in differences(*arms)]:
        heads = ["protocol", "arm", "difference of", "score", "points", "(a) these networks", "(b) this procedure"]
        blocks += [{"note": DIFFERENCES}, {"table": {"heads": heads, "rows": rows}}]
    return {"title": "By published folder and by subtype", "blocks": blocks}


def differences(protocol: str, arms: dict) -> list[dict]:
    """Rows of two parts of an arm, the later less the earlier."""
    rows = []
    for arm in arms.values():
        for one in arm.get("subgroups", ()):
            cells = [(contrasts.points(one["difference"]), ""), contrasts.estimate(one), contrasts.of_procedure(one)]
            later, earlier = one["of"]
            rows.append({"lead": [protocol, arm["title"], f"{later} less {earlier}", one["score"]], "cells": cells})
    return rows
