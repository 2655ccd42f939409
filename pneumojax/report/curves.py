"""Losses of GANs and classifiers over steps."""

from matplotlib.figure import Figure

from pneumojax.report.figures import encoded
from pneumojax.run import Run

PLACE = 60


def section(run: Run) -> dict:
    """A panel for each state of a GAN, or arm, and loss; a line for each trial and protocol."""
    panels: dict[bool, dict[str, list]] = {True: {}, False: {}}
    for (stage, metric), curve in run.curves.items():
        if metric == "loss" or metric.endswith("_loss"):
            of = panels[bool(stage.gan)].setdefault(f"{stage.gan or stage.arm} {metric}", [])
            of.append((f"{stage.trial} {stage.protocol}", "--" if stage.protocol == "paper" else "-", curve))
    titles = {True: "GAN losses", False: "Classifier losses"}
    figures = [(f"{titles[of]}; dashed: paper", encoded(draw(found))) for of, found in panels.items() if found]
    return {"title": "Losses", "blocks": [{"figures": figures}]}


def draw(panels: dict[str, list]) -> Figure:
    """Title → lines (label, style, {step: value})."""
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(6 * columns, 2.6 * rows), layout="constrained")
    for index, (title, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        for label, style, curve in lines:
            axes.plot(*zip(*sorted(curve.items()), strict=True), style, label=label, linewidth=1)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=6, ncols=2, title="trial", title_fontsize=6)
    return figure
