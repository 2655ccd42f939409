"""Arms against the arms that they count against."""

import math

from pneumojax.run import Run

PLACE = 20
NOTE = (
    "Differences of accuracy in points [95%]. 'These networks' asks what new patients would change (bootstrap and sign "
    "flips by patient); 'this procedure' what a new training set, GAN and seed would (t over trials): help or harm is "
    "said from the latter alone. Holm over all but the contrast that was declared beforehand."
)


def section(run: Run) -> dict | None:
    """A row for each contrast."""
    if not run.results["contrasts"]:
        return None
    rows = []
    for row in run.results["contrasts"]:
        arms = run.results["protocols"][row["protocol"]]
        titles = [arms[name]["title"] for name in row["arms"]]
        cells = [(points(row["difference"]), ""), estimate(row["patients"]), estimate(row["procedure"])]
        last = "declared beforehand" if row["declared"] else f"Holm {row['p_holm']:.4f}"
        rows.append({"lead": [row["protocol"], " against ".join(titles), row["part"]], "cells": [*cells, (last, "")]})
    heads = ["protocol", "arms", "scored on", "difference", "these networks", "this procedure", ""]
    return {"title": "Does the GAN help?", "blocks": [{"note": NOTE}, {"table": {"heads": heads, "rows": rows}}]}


def points(fraction: float) -> str:
    """'+1.2'."""
    return f"{100 * fraction:+.1f}"


def estimate(found: dict | None) -> tuple[str, str]:
    """('[-1.0, +3.4]', 'p 0.3, 6 trials')."""
    if found is None:
        return "fewer than three trials", ""
    trials = f", {found['replicates']} trials" if "replicates" in found else ""
    low, high = found["interval"] or (math.nan, math.nan)
    return f"[{points(low)}, {points(high)}]", f"p {found['p_value']:.4f}{trials}"
