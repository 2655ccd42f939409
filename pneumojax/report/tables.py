"""Cells and rows of the page's tables, from the ARMs of results.json."""

from collections.abc import Sequence

from pneumojax.run import Run

PARTS = {
    "test": "test",
    "test_real": "test, real images only",
    "test_generated": "test, generated images only",
    "unseen": "unseen real images outside the subset",
}
HEADINGS = {
    "accuracy": "accuracy",
    "f1_macro": "F1, mean of classes",
    "f1_paper": "F1, the paper's",
    "recall_normal": "recall NORMAL (specificity)",
    "recall_pneumonia": "recall PNEUMONIA (sensitivity)",
    "auc": "AUC",
    "precision_macro": "macro precision (the paper's 'Recall')",
    "recall_macro": "macro recall (the paper's 'Precision')",
}


def heading(score: str, classes: Sequence[str]) -> str:
    """What a column of a score is called."""
    named = {f"{kind}_{name.lower()}": f"{kind} {name}" for kind in ("precision", "recall") for name in classes}
    return HEADINGS.get(score) or named.get(score, score)


def summary_of(arm: dict, part: str) -> dict | None:
    """Means, deviations and intervals of a part of an ARM; None where it was not scored on it."""
    summary = arm if part == "test" else arm.get(part)
    return summary if summary and "mean" in summary else None


def table(run: Run, columns: Sequence[str], parts: Sequence[str]) -> dict:
    """A TABLE: one row for each protocol, arm and part that was scored, in percent."""
    rows = []
    for protocol, arms in run.results["protocols"].items():
        for arm in arms.values():
            own = [part for part in parts if summary_of(arm, part)]
            for part in own:
                cells = [cell(summary_of(arm, part), column) for column in columns]
                lead = [
                    protocol,
                    arm["title"] + failures(arm),
                    PARTS.get(part, part),
                    image_counts(arm["trials"], part),
                ]
                rows.append({"lead": lead, "cells": cells})
            if "diverged" in arm and not own and "test" in parts:
                rows.append(
                    {"lead": [protocol, arm["title"] + failures(arm), "test", "0"], "cells": [("–", "")] * len(columns)}
                )
    heads = ["protocol", "arm", "scored on", "n (trials × images)"]
    return {"heads": heads + [heading(column, run.config.data.classes) for column in columns], "rows": rows}


def failures(arm: dict) -> str:
    """Which trials of an ARM diverged, in words; '' for none."""
    failed = [t for t in arm["trials"] if "diverged" in t]
    told = (f"trial {t['trial']} after step {t['diverged']['step']} ({t['diverged']['metric']})" for t in failed)
    return f" — DIVERGED and left out: {', '.join(told)}" if failed else ""


def more_parts(run: Run, external: bool) -> list[str]:
    """The external test sets that were scored, or the parts by folder and subtype."""
    found = dict.fromkeys(
        part for arms in run.results["protocols"].values() for arm in arms.values() for part in arm if "/" in part
    )
    return [part for part in found if part.startswith("external/") == external]


def image_counts(trials: list[dict], part: str) -> str:
    """Images of each trial: '3 × 125', or one by one where they differ."""
    whole = [t for t in trials if "diverged" not in t and (part == "test" or part in t)]
    counts = [t["test"] if part == "test" else t[part]["images"] for t in whole]
    return f"{len(counts)} × {counts[0]}" if len(set(counts)) == 1 else ", ".join(map(str, counts))


def cell(summary: dict, score: str) -> tuple[str, str]:
    """('88.8 ± 1.2', '[86.0, 91.5]'), percent; the deviation is over trials, the interval by patient."""
    if summary["mean"].get(score) is None:
        return "–", ""
    mean, std = summary["mean"][score], summary["std"][score]
    own = summary["interval"][score]
    return f"{100 * mean:.1f} ± {100 * std:.1f}", f"[{100 * own[0]:.1f}, {100 * own[1]:.1f}]" if own else ""
