"""The paper's table 3 as one that compares: its systems under the same protocols, beside the figures that it cites.

python -m experiments.table3 WORKDIR…

`configs/table3.py` says how they are run. The cited figures are of different things on different images, which a column
of its own says; only the figures of one of the other columns can be held against each other. Under `clean` the images
outside the trial's subset count, of which there are most; under the others the test part.
"""

from pneumojax import runtime

if __name__ == "__main__":
    runtime.configure()  # before anything imports jax

from pneumojax import cli, paper
from pneumojax import run as runs
from pneumojax.paper import Cited
from pneumojax.report import tables
from pneumojax.run import Run

PARTS = {"official": "test", "patient_kfold": "test", "clean": "unseen"}
SCORES = ("accuracy", "auc")
FROZEN = ("kermany2018", "inception_v3")  # the system that is a way to train, and the network that it is stated for
NOT_CITED = Cited("not in table 3", "–", "–")


def cited(run: Run) -> Cited:
    """The row of table 3 that a run is; where its network is a substitute, that is said.

    The networks of three years carry the names of their systems. Kermany's is any that is frozen but for a head that
    Adam trains. The paper's own is ResNet-18. All are fine-tuned, but for Wu's, which is under a forest.
    """
    network, classifier = run.config.model.name, run.config.classifier
    if run.config.system.name != ("forest" if network == "wu2020" else "finetune"):
        return NOT_CITED
    if network in paper.TABLE_3 and network != "resnet18":
        return paper.TABLE_3[network]
    name, stated = FROZEN
    if classifier.mode == "head" and classifier.optimizer == "adam":
        found = paper.TABLE_3[name]
        return found if network == stated else found._replace(system=f"{found.system}, SUBSTITUTE for {stated}")
    return paper.TABLE_3.get(network, NOT_CITED)


def network_of(run: Run) -> str:
    """What was run, and on what: 'wu2020, 200 pixels, under a forest, on kermany'."""
    under = "" if run.config.system.name == "finetune" else f", under a {run.config.system.name}"
    return f"{run.config.model.name}, {run.config.model.image_size} pixels{under}, on {run.config.data.name}"


def rows_of(run: Run) -> list[str]:
    """A row for each arm of a run."""
    row, rows = cited(run), []
    arms = dict.fromkeys(name for of_protocol in run.results["protocols"].values() for name in of_protocol)
    for arm in arms:
        cells = [row.system, row.figure, row.of, network_of(run), arm]
        for protocol, part in PARTS.items():
            cells += cells_of(run, run.results["protocols"].get(protocol, {}).get(arm), part)
        rows.append(" | ".join(cells))
    return rows


def cells_of(run: Run, arm: dict | None, part: str) -> list[str]:
    """Of one protocol: n, accuracy and AUC with their intervals, the recall of each class; dashes where not run."""
    if not (arm and tables.summary_of(arm, part)):
        return ["diverged" if arm and "diverged" in arm else "–"] * (len(SCORES) + 2)
    mark = " (diverged in part)" if "diverged" in arm else ""
    scores = [" ".join(filter(None, tables.cell(arm, part, score))) + mark for score in SCORES]
    recalls = [tables.cell(arm, part, f"recall_{name.lower()}")[0] for name in run.config.data.classes]
    return [tables.image_counts(arm["trials"], part), *scores, " / ".join(recalls)]


def main(arguments=None) -> None:
    """Prints table 3 of several runs, percent: mean, deviation over trials, 95% by patient (a), by procedure (b)."""
    parser = cli.Parser(prog="python -m experiments.table3", description=main.__doc__)
    parser.add_argument("workdirs", nargs="+", type=cli.path, metavar="WORKDIR", help="of a finished run")
    cli.show_log()
    with cli.exit_codes():
        found = [runs.load(workdir) for workdir in parser.parse_args(arguments).workdirs]
        heads = ["system", "the paper cites", "which is", "run here", "arm"]
        for protocol, part in PARTS.items():
            scored = protocol if part == "test" else f"{protocol}, {part}"
            heads += [f"{scored}: {what}" for what in ("n", "accuracy", "AUC", "recall of each class")]
        cli.show_table(heads, [row for run in found for row in rows_of(run)])


if __name__ == "__main__":
    main()
