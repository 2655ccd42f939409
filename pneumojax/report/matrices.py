"""Confusion matrices."""

from matplotlib.figure import Figure

from pneumojax.report.figures import encoded
from pneumojax.results import replicate
from pneumojax.run import Run

PLACE = 50
NOTE = (
    "True classes down, predicted across (the paper's pictures are the transpose). Counts; colour is the share of the "
    "true class. Of several seeds of GANs or classifiers the first seeds' are shown."
)


def section(run: Run) -> dict:
    """A figure for each protocol and part, a row for each arm, a column for each trial."""
    classes = [name if len(name) <= 8 else f"{name[:5]}." for name in run.config.data.classes]
    figures = []
    for protocol, arms in run.results["protocols"].items():
        for part in ("test", "unseen"):
            rows = {name: found for name, arm in arms.items() if (found := matrices(arm, part))}
            if rows:
                figures.append((f"{protocol}, {part}", encoded(draw(rows, classes))))
    return {"title": "Confusion matrices", "blocks": [{"note": NOTE}, {"figures": figures}]}


def matrices(arm: dict, part: str) -> dict[str, list]:
    """'trial 0' → its confusion matrix on a part, of the first seeds."""
    first = [trial for trial in arm["trials"] if not any(replicate(trial)[1:])]
    whole = [trial for trial in first if "diverged" not in trial and (part == "test" or part in trial)]
    parts = [trial if part == "test" else trial[part] for trial in whole]
    return {f"trial {one['trial']}": own["confusion_matrix"] for one, own in zip(whole, parts, strict=True)}


def draw(rows: dict[str, dict[str, list]], classes: list[str]) -> Figure:
    """Arm → 'trial 0' → matrix, as a grid of pictures."""
    width = max(map(len, rows.values()))
    figure = Figure(figsize=(2.3 * width + 0.6, 2.3 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), width, squeeze=False)
    for axes_of_arm, (name, found) in zip(grid, rows.items(), strict=True):
        for axes in axes_of_arm[len(found) :]:
            axes.set_axis_off()
        for axes, (trial, matrix) in zip(axes_of_arm, found.items(), strict=False):
            shares = [[count / max(sum(row), 1) for count in row] for row in matrix]
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            for i, row in enumerate(matrix):
                for j, count in enumerate(row):
                    colour = "white" if shares[i][j] > 0.5 else "black"
                    axes.text(j, i, count, ha="center", va="center", color=colour, fontsize=10)
            axes.set_xticks(range(len(classes)), classes, fontsize=7)
            axes.set_yticks(range(len(classes)), classes, fontsize=7, rotation=90, va="center")
            axes.set_title(f"{name}, {trial}", fontsize=8)
            axes.set_xlabel("predicted", fontsize=7)
            axes.set_ylabel("true", fontsize=7)
    return figure
