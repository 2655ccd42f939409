"""Losses of GANs and classifiers over steps, and how near the GANs' pictures came where that was measured."""

from matplotlib.figure import Figure

from pneumojax.report.figures import encoded
from pneumojax.run import Run

PLACE = 60


def section(run: Run) -> dict:
    """A panel for each state of a GAN, or arm, and metric; a line for each trial and protocol."""
    kinds: dict[str, dict[str, list]] = {}
    for (stage, metric), curve in run.curves.items():
        if title := title_of(bool(stage.gan), metric, run.config.quality):
            of = kinds.setdefault(title, {}).setdefault(f"{stage.gan or stage.arm} {metric}", [])
            seeds = "".join(f", {name.replace('_', ' ')} {n}" for name, n in stage.fields().items() if "seed" in name)
            of.append((f"{stage.trial} {stage.protocol}{seeds}", "--" if stage.protocol == "paper" else "-", curve))
    figures = [(f"{title}; dashed: paper", encoded(draw(found))) for title, found in kinds.items()]
    return {"title": "Losses", "blocks": [{"figures": figures}]}


def title_of(of_gan: bool, metric: str, settings) -> str | None:
    """Of the figure that shows a metric, by `config.quality`; None for one that is not shown."""
    if metric == "kid":
        whom = "images of patients kept from them" if settings.inner else "their training images"
        return f"KID at the same size of what the GANs make to {whom}, {settings.features}"
    if metric == "loss" or metric.endswith("_loss"):
        return "GAN losses" if of_gan else "Classifier losses"
    return None


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
