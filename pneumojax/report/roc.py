"""ROC curves of the arms, and the operating points that were chosen on inner parts."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from pneumojax.evaluate import Prediction
from pneumojax.evaluate.calibration import weights_of
from pneumojax.evaluate.operating import POINTS
from pneumojax.report import answers, figures, tables
from pneumojax.run import Run

PLACE = 22
GRID = np.linspace(0, 1, 201)  # shares of class 0 that are called class 1
MARKERS = dict(zip(POINTS, ("^", "v", "<", ">"), strict=True))
NOTE = (
    "Of each arm the mean over its networks at the same share of false alarms, seeds averaged within a trial; AUC is "
    "the mean of theirs, which the mean curve's area equals but for the grid. Marks: thresholds that keep 90 or 95% of "
    "{ill} (sens) or {well} (spec) on each network's own inner part, and what they keep here."
)
BEFORE = (
    " The thresholds of the table are probabilities as the networks say them, the mean over trials. predict says "
    "probabilities after each network's temperature: its --threshold takes a name, as sens95, and not these numbers."
)
NO_POINTS = " No thresholds were chosen here: {why}."


def section(run: Run) -> dict | None:
    """A panel a protocol, a line an arm; nothing for more than two classes, or where one is absent."""
    classes = run.config.data.classes
    if len(classes) != 2:
        return None
    curves = {where: curves_of(run, *where) for where in answers.main_parts(run).items()}
    curves = {where: own for where, own in curves.items() if own}
    if not curves:
        return None
    points = {where: points_of(run, *where) for where in curves}
    note = NOTE.format(ill=classes[1], well=classes[0])
    note += BEFORE if any(points.values()) else NO_POINTS.format(why=why_none(run, curves))
    caption = "; ".join(f"{protocol}, {part}" for protocol, part in curves)
    blocks = [{"note": note}, {"figures": [(caption, figures.encoded(draw(run, curves, points)))]}]
    if rows := rows_of(run, points):
        heads = ["protocol", "arm", "scored on", "threshold for", "probability before temperature"]
        heads += [f"recall {name} (a)" for name in classes]
        blocks.append({"table": {"heads": heads, "rows": rows}})
    return {"title": "ROC curves", "blocks": blocks}


def curves_of(run: Run, protocol: str, part: str) -> dict[str, np.ndarray]:
    """Arm → the share of class 1 that is found, [G], at the shares of false alarms in `GRID`."""
    found = answers.of(run, protocol, part)
    return {arm: mean_curve(own) for arm, own in found.items() if all(len(set(p.labels.tolist())) == 2 for p in own)}


def mean_curve(predictions: Sequence[Prediction]) -> np.ndarray:
    """The vertical average of ROC curves: [G]."""
    rows = []
    for p in predictions:
        false, true, _ = roc_curve(p.labels, p.margins[1].astype(float), drop_intermediate=False)
        # Of several points with the same share of false alarms np.interp takes the last, the highest one.
        rows.append(np.interp(GRID, false, true))
    return np.average(rows, axis=0, weights=weights_of(predictions))


def points_of(run: Run, protocol: str, part: str) -> dict[str, dict[str, dict]]:
    """Arm → point → {"threshold", "recall_<class>"…, "interval"}, as far as there are any."""
    found = {}
    for name, arm in run.results["protocols"][protocol].items():
        told = (tables.summary_of(arm, part) or {}).get("operating") or {}
        own = {point: told[point] for point in POINTS if told.get(point)}
        if own:
            found[name] = own
    return found


def why_none(run: Run, wheres) -> str:
    """The first reason why there is no operating point."""
    for protocol, part in wheres:
        for arm in run.results["protocols"][protocol].values():
            told = (tables.summary_of(arm, part) or {}).get("operating") or {}
            for reason in told.get("why", {}).values():
                return reason
    return "this run is of before they were"


def rows_of(run: Run, points: dict) -> list[dict]:
    """The operating points as rows of a TABLE."""
    recalls = [f"recall_{name.lower()}" for name in run.config.data.classes]
    rows = []
    for (protocol, part), arms in points.items():
        for name, own in arms.items():
            title = run.results["protocols"][protocol][name]["title"]
            for point, told in own.items():
                cells = [(f"{told['threshold']:.3f}", "")]
                cells += [(tables.percent(told[one]), tables.between(told["interval"][one])) for one in recalls]
                rows.append({"lead": [protocol, title, tables.PARTS[part], point], "cells": cells})
    return rows


def draw(run: Run, curves: dict, points: dict) -> Figure:
    """A panel for each protocol and part."""
    titles = [f"{protocol}, {part}" for protocol, part in curves]
    figure, panels = figures.panels(titles, max(map(len, curves.values())) + len(POINTS))
    recalls = [f"recall_{name.lower()}" for name in run.config.data.classes]
    for axes, (where, own) in zip(panels, curves.items(), strict=True):
        arms = run.results["protocols"][where[0]]
        axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        for name, line in own.items():
            summary = tables.summary_of(arms[name], where[1])
            style = figures.style(list(arms).index(name))
            area = summary["mean"]["auc"]
            label = f"{'–' if area is None else f'{area:.3f}'}  {figures.short(arms[name]['title'])}"
            axes.plot([0, *GRID], [0, *line], label=label, linewidth=1.3, **style)
            for point, told in points[where].get(name, {}).items():
                at = [1 - told[recalls[0]], told[recalls[1]]]
                axes.plot(*at, MARKERS[point], color=style["color"], markersize=5, markeredgecolor="black")
        for point in [point for point in POINTS if any(point in told for told in points[where].values())]:
            axes.plot([], [], MARKERS[point], color="white", markeredgecolor="black", markersize=5, label=point)
        axes.set_xlabel("false alarms (1 - specificity)", fontsize=8)
        axes.set_ylabel("sensitivity", fontsize=8)
        figures.legend(axes, "AUC, arm; thresholds")
    return figure
