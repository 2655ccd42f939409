"""Arms against the arms that they count against."""

from collections.abc import Sequence

from pneumojax.report import tables
from pneumojax.run import Run

PLACE = 20
NOTE = (
    "Differences in points [95%]. (a), these networks, asks what new patients would change (t and sign flips by "
    "patient); (b), this procedure, what a new training set, GAN and seed would (t over trials): help or harm is said "
    "from this alone. 'Seeds alone' (A/A) is what another seed does to the control, all else alike. Holm over all but "
    "the contrast that was declared beforehand. A dash: it cannot be told, since a class is absent, there is but one "
    "patient, or all are alike."
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
        cells.append(of_seeds(row["same_procedure"]) if "same_procedure" in row else ("–", ""))
        n = tables.image_counts(arms[row["arms"][0]]["trials"], row["part"])
        score = tables.heading(score_of(row), run.config.data.classes)
        lead = [row["protocol"], " against ".join(titles), row["part"], n, score]
        rows.append({"lead": lead, "cells": [*cells, (judged(row), "")]})
    heads = ["protocol", "arms", "scored on", "n (networks × images)", "score", "difference"]
    note = NOTE + PHANTOMS if run.config.data.name == "phantom" else NOTE
    table = {"heads": [*heads, "(a) these networks", "(b) this procedure", "seeds alone", ""], "rows": rows}
    return {"title": "Contrasts", "blocks": [{"note": note}, {"table": table}]}


def score_of(row: dict) -> str:
    """The score of a contrast; runs of before there were several have accuracy alone."""
    return row.get("score", "accuracy")


def of_seeds(same: dict | None) -> tuple[str, ...]:
    """What another seed does to a control, with both intervals; a dash where one seed was run."""
    if not same:
        return ("–", "one seed")
    told = [(same["patients"] or {}).get("interval"), (same["procedure"] or {}).get("interval")]
    named = [f"({letter}) {between(own)}" for letter, own in zip("ab", told, strict=True) if own]
    return points(same["difference"]), *named


def between(interval: Sequence[float]) -> str:
    """'[-1.0, +3.4]', points."""
    return f"[{', '.join(map(points, possible(interval)))}]"


def possible(interval: Sequence[float]) -> list[float]:
    """An interval of a difference, cut where no shares can differ by more: t over few trials goes beyond 100 points."""
    return [min(1.0, max(-1.0, bound)) for bound in interval]


def points(fraction: float | None) -> str:
    """'+1.2'."""
    return "–" if fraction is None else f"{100 * fraction:+.1f}"


def judged(row: dict) -> str:
    """What a contrast is held against."""
    if row["declared"]:
        margin = row.get("equivalent")
        return "declared beforehand" + (", equivalent within the margin" if margin else "")
    of = "b" if row["procedure"] else "a"  # whose p it corrects
    return "" if row["p_holm"] is None else f"Holm {row['p_holm']:.4f} ({of})"


def of_procedure(row: dict) -> tuple[str, str]:
    """Its cell, or why there is none."""
    if row["procedure"] and not row.get("procedure_why"):
        return estimate(row["procedure"])
    return row.get("procedure_why") or "fewer than 3 trials", ""


def estimate(found: dict) -> tuple[str, str]:
    """('[-1.0, +3.4]', 'p 0.3, 6 trials')."""
    told = [f"p {found['p_value']:.4f}"] if found.get("p_value") is not None else []
    told += [f"{found['replicates']} trials"] if "replicates" in found else []
    interval = found["interval"]
    return between(interval) if interval else "–", ", ".join(told)
