"""One page: the paper's tables 1 to 3 and figures 6 to 10, each beside what these runs have in its place."""

from pathlib import Path

from pneumojax import pages, paper
from pneumojax.report import matrices, samples, tables
from pneumojax.report.figures import encoded
from pneumojax.report.headline import is_phantom
from pneumojax.run import Run

NETWORKS = {"alexnet": "AlexNet", "squeezenet": "SqueezeNet", "googlenet": "GoogLeNet", "resnet18": "ResNet18"}
FIGURES = {"alexnet": 7, "squeezenet": 8, "googlenet": 9, "resnet18": 10}  # the paper's, of confusion matrices

# Rows of the tables: (protocol, arm, part) → what a figure there is one of.
ESTIMANDS = {
    ("paper", "with_gan", "test"): "as the paper tests: most images generated, by GANs that saw all, patients shared",
    ("paper", "with_gan", "test_generated"): "of these the generated ones: which of two GANs made them",
    ("paper", "with_gan", "test_real"): "of these the real ones: their patients, and they, were seen by the GANs",
    ("paper", "with_gan", "unseen"): "real images outside the subset, some of patients that were trained on",
    ("paper", "without_gan", "test"): "real images, patients shared",
    ("clean", "with_gan", "test"): "real images of patients that neither GAN nor classifier saw",
    ("clean", "with_gan", "unseen"): "real images outside the subset, of patients that neither saw",
    ("clean", "without_gan", "test"): "real images of patients that the classifier did not see",
    ("clean", "without_gan", "unseen"): "real images outside the subset, of patients that it did not see",
}
PRINTED = "printed; " + ESTIMANDS["paper", "with_gan", "test"]
NOT_RUN = "not run by this command: python -m pneumojax.main --config=configs/{}.py, python -m experiments.table3"


def write(found: dict[str, Run], folder: Path) -> None:
    """Writes paper.html of the runs of some networks."""
    pages.write(
        folder / "paper.html",
        __package__,
        networks=[NETWORKS[name] for name in found],
        missing=[NETWORKS[name] for name in NETWORKS if name not in found],
        diverged=diverged(found),
        phantoms=any(map(is_phantom, found.values())),
        data=next(iter(found.values())).results["data"],
        sections=sections(found),
    )


def diverged(found: dict[str, Run]) -> list[str]:
    """The arms that have lost trials, a line each: whose rows are of the others, or are not there."""
    return [
        f"{NETWORKS[name]}, {protocol}, {arm['title']}, trial {arm['diverged']['trial']}"
        for name, run in found.items()
        for protocol, arms in run.results["protocols"].items()
        for arm in arms.values()
        if "diverged" in arm
    ]


def sections(found: dict[str, Run]) -> list[dict]:
    """The paper's order: figure 6, figures 7 to 10, tables 1 to 3."""
    return [
        figure_6(found),
        *(figure_of_matrices(name, run) for name, run in found.items()),
        table("Table 1", "Its 'accuracy of each class' is precision.", paper.TABLE_1_COLUMNS, paper.TABLE_1, found),
        table("Table 2", "It has macro precision and recall exchanged.", paper.TABLE_2_COLUMNS, paper.TABLE_2, found),
        table_3(found),
    ]


def figure_6(found: dict[str, Run]) -> dict:
    """Generated images of the first trial."""
    run = next(iter(found.values()))
    first = min(run.config.trials)
    sheets = [(stage.name, samples.shown(path)) for stage, path in sorted(run.grids.items()) if stage.trial == first]
    return {"title": "Figure 6: generated images", "blocks": [{"note": samples.NOTE}, {"pictures": sheets}]}


def figure_of_matrices(network: str, run: Run) -> dict:
    """Figures 7 to 10: a network's matrices, without and with GAN."""
    known = {"without_gan": paper.MATRICES_WITHOUT_GAN, "with_gan": paper.MATRICES_WITH_GAN}
    printed = {name: {"the paper's": own[network]} for name, own in known.items() if network in own}
    classes = list(run.config.data.classes)
    figures = [("the paper's, as its tables prove them", encoded(matrices.draw(printed, list(paper.CLASSES))))]
    for protocol, part in (("paper", "test"), ("clean", "test"), ("clean", "unseen")):
        arms = run.results["protocols"].get(protocol, {})
        rows = {name: own for name, arm in arms.items() if (own := matrices.matrices(arm, part))}
        if rows:
            of = "; ".join(f"{name}: {ESTIMANDS[key]}" for name in rows if (key := (protocol, name, part)) in ESTIMANDS)
            figures.append((f"{protocol}, {part}. {of}", encoded(matrices.draw(rows, classes))))
    title = f"Figure {FIGURES[network]}: confusion matrices of {NETWORKS[network]}"
    return {"title": title, "blocks": [{"note": matrices.NOTE}, {"figures": figures}]}


def table(title: str, note: str, columns: tuple, printed: dict, found: dict[str, Run]) -> dict:
    """A table of the paper: what it prints of a network, then what this run has, a row an estimand."""
    rows, wrong = [], []
    for network, run in found.items():
        cells = [(value, "") for value in printed[network]]
        rows.append({"lead": [NETWORKS[network], "the paper", PRINTED, "1 × 1248"], "cells": cells, "printed": True})
        for column in columns:
            if proven := paper.MISPRINTS.get((network, column)):
                wrong.append(f"{NETWORKS[network]}, {tables.heading(column, paper.CLASSES)}: {proven}")
        rows += rows_of(network, run, columns)
    heads = ["network", "arm", "which is", "n", *(tables.heading(column, paper.CLASSES) for column in columns)]
    blocks = [{"note": f"{note} {tables.ESTIMANDS}"}, {"table": {"heads": heads, "rows": rows}}]
    if wrong:
        blocks.append({"note": f"Misprints in the paper, and what its matrices prove: {'; '.join(wrong)}."})
    return {"title": title, "blocks": blocks}


def rows_of(network: str, run: Run, columns: tuple) -> list[dict]:
    """A row of a run for each estimand that it has."""
    rows = []
    for (protocol, name, part), which in ESTIMANDS.items():
        arm = run.results["protocols"].get(protocol, {}).get(name, {})
        if tables.summary_of(arm, part):
            lead = [NETWORKS[network], f"{protocol}: {arm['title']}", which, tables.image_counts(arm["trials"], part)]
            rows.append({"lead": lead, "cells": [tables.cell(arm, part, column) for column in columns]})
    return rows


def table_3(found: dict[str, Run]) -> dict:
    """The systems that the paper compares with, what their figures are of, and its own under both protocols."""
    heads = ["system", "cited accuracy", "which is", "under paper: as the paper tests", "under clean: unseen patients"]
    rows = []
    for name, cited in paper.TABLE_3.items():
        if name in found:
            arms = found[name].results["protocols"]
            keys = (("paper", "test"), ("clean", "unseen"))
            cells = [tables.cell(arms.get(one, {}).get("with_gan", {}), part, "accuracy") for one, part in keys]
        else:
            cells = [("–", NOT_RUN.format(name)), ("–", "")]
        rows.append({"lead": [cited.system, cited.figure, cited.of], "cells": cells})
    note = f"All are called accuracy in the paper; they are of different things on different images. {tables.ESTIMANDS}"
    return {"title": "Table 3", "blocks": [{"note": note}, {"table": {"heads": heads, "rows": rows}}]}
