"""Arms by protocol and contrasts of arms, each an estimate with both intervals."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from pneumojax.report import contrasts, figures, tables
from pneumojax.run import Run

PLACE = 5
SCORES = ("auc", "accuracy")
NOTE = (
    "Thick: (a) these networks, new patients. Thin: (b) this procedure, with new training sets, GANs and seeds; help "
    "or harm is said from this alone, and where it is missing nothing is known of it. Both 95%."
)
DIFFERENCES = (
    "Contrasts, points; red square: declared beforehand; gray: ±{margin:g} points, within which arms are alike"
)
SEEDS = "; open diamonds (A/A): another seed of the control alone"
ROW = 0.27  # inches


class Line(NamedTuple):
    """An estimate, percent or points."""

    label: str
    value: float
    patients: Sequence[float] | None  # (a)
    procedure: Sequence[float] | None  # (b)
    seeds: float | None = None  # what another seed of the control does
    declared: bool = False  # before any result


def section(run: Run) -> dict | None:
    """Both figures; nothing where no arm was scored."""
    levels = {score: levels_of(run, score) for score in SCORES}
    if not any(levels.values()):
        return None
    found = {score: differences_of(run, score) for score in SCORES}
    drawn = [("Scores of the arms by protocol and part, percent", figures.encoded(draw(levels)))]
    if any(found.values()):
        margin = 100 * run.config.evaluate.margin
        seeds = SEEDS if any(line.seeds is not None for own in found.values() for line in own) else ""
        shown = figures.encoded(draw(found, {run.config.evaluate.score: margin}))
        drawn.insert(0, (DIFFERENCES.format(margin=margin) + seeds, shown))
    return {"title": "Arms and contrasts", "blocks": [{"note": NOTE}, {"figures": drawn}]}


def score_name(score: str) -> str:
    """'AUC'."""
    return tables.HEADINGS.get(score, score)


def levels_of(run: Run, score: str) -> list[Line]:
    """A line for each protocol, arm and part that has the score."""
    lines = []
    for protocol, arms in run.results["protocols"].items():
        for arm in arms.values():
            for part in [*tables.PARTS, *tables.more_parts(run, external=True)]:
                summary = tables.summary_of(arm, part)
                if summary and summary["mean"].get(score) is not None:
                    label = f"{protocol} · {figures.short(arm['title'])} · {part}"
                    own = summary["interval"].get(score), tables.of_procedure(summary, score)
                    lines.append(Line(label, 100 * summary["mean"][score], *map(hundredfold, own)))
    return lines


def differences_of(run: Run, score: str) -> list[Line]:
    """A line for each contrast that is judged by the score."""
    lines = []
    for row in run.results["contrasts"]:
        if contrasts.score_of(row) != score or row["difference"] is None:
            continue
        arms = run.results["protocols"][row["protocol"]]
        titles = " against ".join(figures.short(arms[name]["title"]) for name in row["arms"])
        label = f"{row['protocol']} · {titles} · {row['part']}"
        told = [(row[estimand] or {}).get("interval") for estimand in ("patients", "procedure")]
        own = [interval and hundredfold(contrasts.possible(interval)) for interval in told]
        same = (row.get("same_procedure") or {}).get("difference")
        lines.append(Line(label, 100 * row["difference"], *own, None if same is None else 100 * same, row["declared"]))
    return lines


def hundredfold(interval: Sequence[float] | None) -> list[float] | None:
    """Fractions as percent."""
    return interval and [100 * bound for bound in interval]


def draw(lines: dict[str, list[Line]], margins: dict[str, float] | None = None) -> Figure:
    """A panel a score, a row a line. With `margins`, by score, these are differences, about 0."""
    labels = list(dict.fromkeys(line.label for own in lines.values() for line in own))
    place = {label: row for row, label in enumerate(labels)}
    figure = Figure(figsize=(11, 1.1 + ROW * len(labels)), layout="constrained")
    for axes, (score, own) in zip(figure.subplots(1, len(lines), sharey=True), lines.items(), strict=True):
        if margins is not None:
            axes.axvline(0, color="black", linewidth=0.8)
            axes.axvspan(-margins.get(score, 0), margins.get(score, 0), color="0.9", linewidth=0)
        for line in own:
            row = place[line.label]
            if line.procedure:
                axes.plot(line.procedure, [row, row], color="C0", linewidth=1, marker="|", markersize=5)
            if line.patients:
                axes.plot(line.patients, [row, row], color="C0", linewidth=3.5, alpha=0.55, solid_capstyle="butt")
            axes.plot(
                line.value, row, "s" if line.declared else "o", color="C3" if line.declared else "C0", markersize=5
            )
            if line.seeds is not None:
                axes.plot(line.seeds, row, "D", color="black", markersize=5, fillstyle="none")
        axes.set_title(f"{score_name(score)}, {'percent' if margins is None else 'points'}", fontsize=9)
        axes.grid(axis="x", color="0.92")
        axes.tick_params(labelsize=7.5)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    return figure
