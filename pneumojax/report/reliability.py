"""Whether probabilities are what they say, before and after a temperature, and what deciding by them is worth."""

from matplotlib.figure import Figure

from pneumojax.report import answers, figures, tables
from pneumojax.run import Run

PLACE = 24
KINDS = {"before": "as they are", "after": "after its temperature"}
NOTE = (
    "Each point: a fifteenth of all networks' answers, by probability; on the diagonal they are what they say. ECE is "
    "the mean distance from it. A slope of 1 and an intercept of 0 are right; [95%] is (a), of these networks. A "
    "temperature is fitted to each network's own inner part."
)
DECISIONS = (
    "Decision curve: net benefit an image of calling {ill} what has a probability above the threshold, which says how "
    "many false alarms one missed {ill} is worth. Treat all: call everything so; treat none is 0."
)
CHOSEN = "Of so many arms the figures have those of the declared contrast; the table has all."
MOST = 6  # arms of a figure
LEAST = -0.1  # of net benefit that is shown


def section(run: Run) -> dict | None:
    """Both figures and their numbers; nothing for more than two classes, or of runs of before."""
    found = {where: own for where in answers.main_parts(run).items() if (own := told(run, *where, "calibration"))}
    worth = {where: own for where in answers.main_parts(run).items() if (own := told(run, *where, "decision_curve"))}
    if not found:
        return None
    names = [f"{protocol}, {part}" for protocol, part in found]
    drawn = figures.encoded(draw(run, few(run, found)))
    caption = f"Reliability; dashed: {KINDS['after']}. {'; '.join(names)}"
    more = max(map(len, found.values())) > MOST
    blocks = [{"note": f"{NOTE} {CHOSEN}" if more else NOTE}, {"figures": [(caption, drawn)]}]
    heads = ["protocol", "arm", "scored on", "probabilities", "temperature", "ECE", "slope", "intercept"]
    blocks.append({"table": {"heads": heads, "rows": rows_of(run, found)}})
    if worth:
        blocks.append({"note": DECISIONS.format(ill=run.config.data.classes[1])})
        blocks.append(
            {"figures": [(f"Net benefit. {'; '.join(names)}", figures.encoded(draw_worth(run, few(run, worth))))]}
        )
    return {"title": "Reliability", "blocks": blocks}


def told(run: Run, protocol: str, part: str, what: str) -> dict[str, dict]:
    """Arm → what its summary on a part has under a name, as far as it has."""
    arms = run.results["protocols"][protocol].items()
    return {name: own for name, arm in arms if (own := (tables.summary_of(arm, part) or {}).get(what))}


def few(run: Run, found: dict) -> dict:
    """The same, but where there are more arms than a figure can show, of those of the declared contrast alone."""
    kept = {}
    for (protocol, part), own in found.items():
        chosen = answers.chosen(run.results["protocols"][protocol], run.config.evaluate.declared)
        own = own if len(own) <= MOST else {name: own[name] for name in chosen if name in own}
        if own:
            kept[protocol, part] = own
    return kept


def rows_of(run: Run, found: dict) -> list[dict]:
    """A row for each arm and kind of probabilities."""
    rows = []
    for (protocol, part), arms in found.items():
        for name, calibration in arms.items():
            title = run.results["protocols"][protocol][name]["title"]
            for kind, words in KINDS.items():
                own, lead = calibration[kind], [protocol, title, tables.PARTS[part], words]
                if not own:
                    rows.append({"lead": [*lead[:3], f"{words}: {calibration['why']}"], "cells": [("–",)] * 4})
                    continue
                heat = (f"{own['temperature']:.2f}",) if "temperature" in own else ("–",)
                fits = [(plain(own[fit]), *bounds(own["interval"][fit])) for fit in ("slope", "intercept")]
                rows.append({"lead": lead, "cells": [heat, (f"{own['ece']:.3f}",), *fits]})
    return rows


def plain(value: float | None) -> str:
    """'1.02'; a dash where it is undefined."""
    return "–" if value is None else f"{value:.2f}"


def bounds(interval: list[float] | None) -> tuple[str, ...]:
    """('[0.92, 1.10]',); nothing for none."""
    return (f"[{interval[0]:.2f}, {interval[1]:.2f}]",) if interval else ()


def lines_of(calibration: dict) -> dict[str, tuple[list[float], list[float]]]:
    """Kind → mean predicted and observed shares of class 1, bin by bin."""
    kinds = {kind: calibration[kind]["reliability"] for kind in KINDS if calibration[kind]}
    return {kind: ([one[0] for one in bins], [one[1] for one in bins]) for kind, bins in kinds.items()}


def draw(run: Run, found: dict) -> Figure:
    """A panel for each protocol and part: predicted against observed."""
    entries = len(KINDS) * max(map(len, found.values()))
    figure, panels = figures.panels([f"{protocol}, {part}" for protocol, part in found], entries)
    for axes, ((protocol, _), own) in zip(panels, found.items(), strict=True):
        arms = run.results["protocols"][protocol]
        axes.plot([0, 1], [0, 1], color="0.8", linewidth=1)
        for name, calibration in own.items():
            colour = figures.style(list(arms).index(name))["color"]
            for kind, points in lines_of(calibration).items():
                label = f"{calibration[kind]['ece']:.3f}  {figures.short(arms[name]['title'])}"
                dashes = {"before": "-", "after": "--"}[kind]
                axes.plot(*points, dashes, marker="o", markersize=3, linewidth=1, color=colour, label=label)
        axes.set_xlabel(f"probability of {figures.short(run.config.data.classes[1])}", fontsize=8)
        axes.set_ylabel("share that is", fontsize=8)
        figures.legend(axes, "ECE, arm")
    return figure


def draw_worth(run: Run, worth: dict) -> Figure:
    """A panel for each protocol and part: net benefit over thresholds."""
    entries = max(map(len, worth.values())) + 2
    figure, panels = figures.panels([f"{protocol}, {part}" for protocol, part in worth], entries)
    for axes, ((protocol, _), own) in zip(panels, worth.items(), strict=True):
        arms = run.results["protocols"][protocol]
        for name, curve in own.items():
            label = f"‘{figures.short(arms[name]['title'])}’"
            style = figures.style(list(arms).index(name))
            axes.plot(curve["threshold"], curve["model"], label=label, linewidth=1.2, **style)
        first = next(iter(own.values()))
        axes.plot(first["threshold"], first["treat_all"], color="0.5", linewidth=1, label="treat all")
        axes.axhline(0, color="black", linewidth=1, label="treat none")
        most = max(max(curve["model"] + curve["treat_all"]) for curve in own.values())
        axes.set_ylim(LEAST, most + 0.05)
        axes.set_xlabel("threshold", fontsize=8)
        axes.set_ylabel("net benefit an image", fontsize=8)
        figures.legend(axes, "calling by")
    return figure
