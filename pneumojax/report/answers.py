"""What networks said of one part of one protocol, from predictions.csv."""

from collections.abc import Mapping, Sequence

from pneumojax import run as runs
from pneumojax.evaluate import Prediction
from pneumojax.report import tables
from pneumojax.run import Run


def of(run: Run, protocol: str, part: str) -> dict[str, list[Prediction]]:
    """Arm → its networks' answers, in the order of the file."""
    columns = run.predictions
    wanted = zip(columns["protocol"], columns["part"], strict=True)
    rows = [row for row, where in enumerate(wanted) if where == (protocol, part)]
    own = {name: [values[row] for row in rows] for name, values in columns.items()}
    found: dict[str, list[Prediction]] = {}
    for one in runs.predictions_of(run._replace(predictions=own)) if rows else ():
        found.setdefault(one.arm, []).append(one)
    return found


def main_parts(run: Run) -> dict[str, str]:
    """Protocol → the part that its figures are of: unseen images, or where it has none, its test images."""
    found = {}
    for protocol, arms in run.results["protocols"].items():
        scored = [part for part in ("unseen", "test") if any(tables.summary_of(arm, part) for arm in arms.values())]
        if scored:
            found[protocol] = scored[0]
    return found


def chosen(arms: Mapping[str, dict], declared: Sequence[str]) -> list[str]:
    """The arm of the declared contrast and its control, the control first; else the first that was scored."""
    scored = [name for name, arm in arms.items() if "mean" in arm]
    arm = declared[2]
    pair = [name for name in (arms[arm]["against"], arm) if name in scored] if arm in arms else []
    return pair or scored[:1]
