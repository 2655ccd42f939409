"""Arms against the arms that they count against."""

from pneumojax.run import Run

PLACE = 20
NOTE = (
    "Differences in points [95%]. 'These networks' asks what new patients would change (t and sign flips by patient); "
    "'this procedure' what a new training set, GAN and seed would (t over trials): help or harm is said from this "
    "alone. 'Seeds alone' is what another seed does to the control. Holm over all but the contrast that was declared "
    "beforehand."
)
PHANTOMS = " There is no p on phantoms."


def section(run: Run) -> dict | None:
    """A row for each contrast and score."""
    if not run.results["contrasts"]:
        return None
    rows = []
    for row in run.results["contrasts"]:
        arms = run.results["protocols"][row["protocol"]]
        titles = [arms[name]["title"] for name in row["arms"]]
        cells = [(points(row["difference"]), ""), estimate(row["patients"]), of_procedure(row)]
        same = row.get("same_procedure")  # runs of before there was one have accuracy alone
        cells.append((points(same["difference"]), "") if same else ("–", ""))
        lead = [row["protocol"], " against ".join(titles), row["part"], row["score"]]
        rows.append({"lead": lead, "cells": [*cells, (judged(row), "")]})
    heads = [*("protocol", "arms", "scored on", "score", "difference", "these networks", "this procedure")]
    note = NOTE + PHANTOMS if run.config.data.name == "phantom" else NOTE
    table = {"heads": [*heads, "seeds alone", ""], "rows": rows}
    return {"title": "Does the GAN help?", "blocks": [{"note": note}, {"table": table}]}


def points(fraction: float | None) -> str:
    """'+1.2'."""
    return "–" if fraction is None else f"{100 * fraction:+.1f}"


def judged(row: dict) -> str:
    """What a contrast is held against."""
    if row["declared"]:
        margin = row.get("equivalent")
        return "declared beforehand" + (", equivalent within the margin" if margin else "")
    return "" if row["p_holm"] is None else f"Holm {row['p_holm']:.4f}"


def of_procedure(row: dict) -> tuple[str, str]:
    """Its cell, or why there is none."""
    return estimate(row["procedure"]) if row["procedure"] else (row.get("procedure_why") or "fewer than 3 trials", "")


def estimate(found: dict) -> tuple[str, str]:
    """('[-1.0, +3.4]', 'p 0.3, 6 trials')."""
    told = [f"p {found['p_value']:.4f}"] if found["p_value"] is not None else []
    told += [f"{found['replicates']} trials"] if "replicates" in found else []
    interval = found["interval"]
    return f"[{points(interval[0])}, {points(interval[1])}]" if interval else "–", ", ".join(told)
