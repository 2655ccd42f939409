"""From results to one self-contained HTML page: the paper's tables beside the study's, pictures, curves, config."""

import base64
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path

import jinja2
from matplotlib.figure import Figure

from pneumojax import checkpoint, paper

ARMS = {
    "without_gan": "without GAN",
    "with_gan": "with GAN",
    "with_gan_epochs": "with GAN, as many epochs instead of as many steps",
}
PARTS = {
    "test": "test",
    "test_real": "test, real images only",
    "test_generated": "test, generated images only",
    "unseen": "unseen real images outside the subset",
}
PROTOCOLS = {
    "clean": "split by patient before anything is trained, the GAN sees the training part only, tested on real images "
    "only.",
    "paper": "as published: the GAN sees every image of the subset, generated images are in the test set, patients on "
    "both sides. Its two arms have different test sets, so their difference is no gain and is not printed.",
    "official": "trained on the published folder train, tested on the published folder test; a trial is a seed.",
    "patient_kfold": "a trial is a fold of all images; no patient is in two folds.",
}
SUMMARY_COLUMNS = ("accuracy", "f1_macro", "recall_normal", "recall_pneumonia", "auc")
HEADINGS = {
    "accuracy": "accuracy",
    "f1_macro": "F1, mean of classes",
    "f1_paper": "F1, the paper's",
    "recall_normal": "recall NORMAL (specificity)",
    "recall_pneumonia": "recall PNEUMONIA (sensitivity)",
    "auc": "AUC",
    "precision_normal": "precision NORMAL",
    "precision_pneumonia": "precision PNEUMONIA",
    "precision_macro": "macro precision (the paper's 'Recall')",
    "recall_macro": "macro recall (the paper's 'Precision')",
}


def write(workdir: Path, config: dict, results: dict, curves: dict[str, dict[int, float]]) -> None:
    """Writes report.html from what is in results.json, the curves of metrics.jsonl and the grids in samples/."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pneumojax", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html.j2").render(
        results=results,
        config=json.dumps(config, indent=1),
        arms=ARMS,
        protocols={name: PROTOCOLS[name] for name in results["protocols"]},
        summary=table(results, SUMMARY_COLUMNS, [*PARTS, *more_parts(results, external=True)]),
        broken_down=table(results, ("accuracy",), more_parts(results, external=False)),
        table_1=table(results, paper.TABLE_1_COLUMNS, ("test",), printed(results["model"], 1)),
        table_2=table(results, paper.TABLE_2_COLUMNS, ("test",), printed(results["model"], 2)),
        matrices=[
            (protocol, part, picture(draw_matrices(arms, part)))
            for protocol, arms in results["protocols"].items()
            for part in ("test", "unseen")
            if any(has_images(arm, part) for arm in arms.values())
        ],
        losses=[(title, picture(draw_curves(curves, pattern))) for title, pattern in CURVES],
        grids=[(name, base64.b64encode(path.read_bytes()).decode()) for name, path in last_grids(workdir)],
    )
    checkpoint.write_bytes(workdir / "report.html", page.encode())


def table(results: dict, columns, parts: Sequence[str], printed_row=None) -> dict:
    """One row for each protocol, arm and part that has images, with cells (mean ± deviation, interval) in percent."""
    rows = []
    for protocol, arms in results["protocols"].items():
        for name, arm in arms.items():
            for part in parts:
                if has_images(arm, part):
                    summary = arm if part == "test" else arm[part]
                    rows.append(
                        {
                            "protocol": protocol,
                            "arm": ARMS[name],
                            "part": PARTS.get(part, part),
                            "n": image_counts(arm["trials"], part),
                            "cells": [cell(summary, column) for column in columns],
                        }
                    )
    return {"columns": [HEADINGS[column] for column in columns], "rows": rows, "printed": printed_row}


def has_images(arm: dict, part: str) -> bool:
    """Whether an arm was scored on any image of a part."""
    return part == "test" or (part in arm and any(trial[part]["images"] for trial in arm["trials"]))


def more_parts(results: dict, external: bool) -> list[str]:
    """The external test sets that were scored, or the parts by folder and subtype."""
    found = dict.fromkeys(
        part for arms in results["protocols"].values() for arm in arms.values() for part in arm if "/" in part
    )
    return [part for part in found if part.startswith("external/") == external]


def image_counts(trials: list[dict], part: str) -> str:
    """Images of each trial: '3 x 125', or one by one where they differ."""
    counts = [trial["test"] if part == "test" else trial[part]["images"] for trial in trials]
    return f"{len(counts)} × {counts[0]}" if len(set(counts)) == 1 else ", ".join(map(str, counts))


def cell(summary: dict, score: str) -> tuple[str, str]:
    """('88.8 ± 1.2', '[86.0, 91.5]'), percent; the deviation is over trials, the interval by patient bootstrap."""
    low, high = summary["interval"][score]
    mean, std = summary["mean"][score], summary["std"][score]
    return f"{100 * mean:.1f} ± {100 * std:.1f}", f"[{100 * low:.1f}, {100 * high:.1f}]"


def printed(model: str, number: int) -> dict | None:
    """The paper's own row of a table, misprints marked; None for a network that it does not have."""
    columns, rows = {1: (paper.TABLE_1_COLUMNS, paper.TABLE_1), 2: (paper.TABLE_2_COLUMNS, paper.TABLE_2)}[number]
    if model not in rows:
        return None
    wrong = [c for c in columns if (model, c) in paper.MISPRINTS]
    return {
        "cells": rows[model],
        "misprints": [f"{HEADINGS[c]} should read {paper.MISPRINTS[model, c]}, its matrix says" for c in wrong],
    }


CURVES = (
    ("GAN losses", r"(.*)/gan_(\w+)/(d_loss|g_loss)"),
    ("Classifier losses", r"(.*)/(with\w+)/(loss)"),
)


def draw_curves(curves: dict[str, dict[int, float]], pattern: str) -> Figure:
    """One panel for each kind of curve that the pattern's second and third group tell, a line for each stage."""
    panels: dict[str, list] = {}
    for tag, curve in curves.items():
        match = re.fullmatch(pattern, tag)
        if match:
            panels.setdefault(f"{match[2]} {match[3]}", []).append((match[1], curve))
    columns = min(len(panels), 2) or 1
    rows = -(-len(panels) // columns) or 1
    figure = Figure(figsize=(6 * columns, 2.6 * rows), layout="constrained")
    for index, (title, lines) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        for stage, curve in lines:
            trial, protocol = stage.split("/")
            style = "--" if protocol == "paper" else "-"
            axes.plot(*zip(*sorted(curve.items()), strict=True), style, label=f"{trial[5:]} {protocol}", linewidth=1)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.legend(fontsize=6, ncols=2, title="trial", title_fontsize=6)
    return figure


def draw_matrices(arms: dict, part: str) -> Figure:
    """Confusion matrices of one part: a row for each arm, a column for each trial; true classes down."""
    trials = len(next(iter(arms.values()))["trials"])
    figure = Figure(figsize=(2.3 * trials + 0.6, 2.3 * len(arms)), layout="constrained")
    grid = figure.subplots(len(arms), trials, squeeze=False)
    for axes_of_arm, (name, arm) in zip(grid, arms.items(), strict=True):
        for axes, trial in zip(axes_of_arm, arm["trials"], strict=True):
            matrix = trial["confusion_matrix"] if part == "test" else trial[part]["confusion_matrix"]
            shares = [[count / max(sum(row), 1) for count in row] for row in matrix]
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
            for i, row in enumerate(matrix):
                for j, count in enumerate(row):
                    colour = "white" if shares[i][j] > 0.5 else "black"
                    axes.text(j, i, count, ha="center", va="center", color=colour, fontsize=10)
            axes.set_xticks((0, 1), ("NORMAL", "PNEUM."), fontsize=7)
            axes.set_yticks((0, 1), ("NORMAL", "PNEUM."), fontsize=7, rotation=90, va="center")
            axes.set_title(f"{name}, trial {trial['trial']}", fontsize=8)
            axes.set_xlabel("predicted", fontsize=7)
            axes.set_ylabel("true", fontsize=7)
    return figure


def last_grids(workdir: Path) -> list[tuple[str, Path]]:
    """The newest sample grid of each GAN: (stage, file)."""
    newest: dict[str, Path] = {}
    for path in sorted((workdir / "samples").glob("generated-*.png")):
        newest[path.stem.removeprefix("generated-").rpartition("-")[0]] = path
    return list(newest.items())


def picture(figure: Figure) -> str:
    """A figure as base64 PNG."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    return base64.b64encode(content.getvalue()).decode()
