"""Cells and rows of the page's tables, from the ARMs of results.json."""

from collections.abc import Sequence

from pneumojax.run import Run

PARTS = {  # without `inner`: settings are chosen by it, so that its scores flatter; results.json has them
    "test": "test",
    "test_real": "test, real images only",
    "test_generated": "test, generated images only",
    "unseen": "unseen real images outside the subset",
    "generated": "generated images alone",
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


ESTIMANDS = (
    "Percent: mean over trials (seeds averaged in each) ± standard deviation over trials (ddof 1), then two 95% "
    "intervals of the mean: (a) these networks and new patients; (b) this procedure with new training sets, GANs and "
    "seeds."
)
OLDER = "this run was made before it was computed"


def table(run: Run, columns: Sequence[str], parts: Sequence[str]) -> dict:
    """A TABLE: one row for each protocol, arm and part that was scored, in percent."""
    rows = []
    for protocol, arms in run.results["protocols"].items():
        for arm in arms.values():
            own = [part for part in parts if summary_of(arm, part)]
            for part in own:
                cells = [cell(arm, part, column) for column in columns]
                lead = [
                    protocol,
                    arm["title"] + failures(arm),
                    PARTS.get(part, part),
                    image_counts(arm["trials"], part),
                    collapsed(arm),
                ]
                rows.append({"lead": lead, "cells": cells})
            if "diverged" in arm and not own and "test" in parts:
                lead = [protocol, arm["title"] + failures(arm), "test", "0", ""]
                rows.append({"lead": lead, "cells": [("–", "")] * len(columns)})
    heads = ["protocol", "arm", "scored on", "n (networks × images)", "collapsed"]
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
    """Images of each network: '3 × 125', or one by one where they differ."""
    counts = counted(trials, part)
    return f"{len(counts)} × {counts[0]}" if len(set(counts)) == 1 else ", ".join(map(str, counts))


def counted(trials: list[dict], part: str) -> list[int]:
    """Images of a part, for each TRIAL that was scored on it."""
    whole = [t for t in trials if "diverged" not in t and (part == "test" or part in t)]
    return [t["test"] if part == "test" else t[part]["images"] for t in whole]


def cell(arm: dict, part: str, score: str) -> tuple[str, str, str]:
    """('88.8 ± 1.2', '(a) [86.0, 91.5]', '(b) [85.1, 91.9]'), percent: these networks, this procedure; '' for none.

    Of one trial alone there is no deviation: results.json has 0 there.
    """
    summary, trials = summary_of(arm, part), {one["trial"] for one in arm.get("trials", ()) if "diverged" not in one}
    if not summary or summary["mean"].get(score) is None:
        return "–", "", ""
    mean, std = summary["mean"][score], summary["std"][score]
    told = [between(interval) for interval in (summary["interval"][score], of_procedure(summary, score))]
    named = [f"({letter}) {text}" if text else "" for letter, text in zip("ab", told, strict=True)]
    return f"{percent(mean)} ± {percent(std)}" if len(trials) > 1 else percent(mean), *named


def of_procedure(summary: dict, score: str) -> list[float] | None:
    """The interval of a score for new training sets, GANs and seeds; None where nothing is known of them."""
    return ((summary.get("procedure") or {}).get(score) or {}).get("interval")


def percent(fraction: float | None) -> str:
    """'88.8'."""
    return "–" if fraction is None else f"{100 * fraction:.1f}"


def between(interval: Sequence[float] | None) -> str:
    """'[86.0, 91.5]', percent; '' for none."""
    return f"[{percent(interval[0])}, {percent(interval[1])}]" if interval else ""


def collapsed(arm: dict) -> str:
    """'1 of 3' networks; '' where a run is older than the count."""
    whole = sum("diverged" not in trial for trial in arm["trials"])
    return f"{arm['collapsed']} of {whole}" if "collapsed" in arm else ""


def why_no_procedure(run: Run) -> list[str]:
    """Why no (b) is given, a sentence a reason; none where it is."""
    reasons: dict[str, list[str]] = {}
    for protocol, arms in run.results["protocols"].items():
        scored = [arm for arm in arms.values() if "mean" in arm]
        for reason in dict.fromkeys(arm.get("procedure_why", OLDER) for arm in scored):
            if reason:
                reasons.setdefault(reason, []).append(protocol)
    return [f"No (b) under {', '.join(protocols)}: {reason}." for reason, protocols in reasons.items()]
