"""Finished runs side by side as a Markdown table, beside what the paper prints; runs are told apart by what differs.

python -m experiments.compare WORKDIR…
python -m experiments.compare WORKDIR… --csv > FILE     # every score of every part, a row a score
python -m experiments.compare WORKDIR… --contrasts      # arms against those that they count against; Holm over all runs
"""

from pneumojax import runtime

if __name__ == "__main__":
    runtime.configure()  # before anything imports jax

from pneumojax import cli, paper, tidy
from pneumojax import config as configs
from pneumojax import run as runs
from pneumojax.evaluate.contrasts import correct
from pneumojax.report import contrasts, tables
from pneumojax.run import Run
from pneumojax.workdir import csv_of

COLUMNS = ("accuracy", "f1_macro", "auc")
ALWAYS = ("model.name", "classifier.mode", "gan.name", "seed")


def differing(found: list[Run]) -> list[str]:
    """Fields that tell the runs apart, beside those that are always told."""
    flat = [configs.flat(run.config.to_dict()) for run in found]
    fields = dict.fromkeys(field for config in flat for field in config)
    return [
        f for f in fields if f not in (*ALWAYS, *configs.PLACES) and len({str(config.get(f)) for config in flat}) > 1
    ]


def rows_of(run: Run, fields: list[str]) -> list[str]:
    """One row for each protocol, arm and part of one run."""
    flat = configs.flat(run.config.to_dict())
    told = [str(flat.get(field, "")) for field in fields]
    recalls = [f"recall_{name.lower()}" for name in run.config.data.classes]
    rows = []
    for protocol, arms in run.results["protocols"].items():
        for name, arm in arms.items():
            for part in [*tables.PARTS, *tables.more_parts(run, external=True)]:
                summary = tables.summary_of(arm, part)
                if part == "test" and not summary:
                    blank = ["–"] * (len(COLUMNS) + 1)
                    rows.append(" | ".join([*told, protocol, f"{name} (diverged)", part, "0", *blank, ""]))
                if summary:
                    cells = [" ".join(filter(None, tables.cell(arm, part, column))) for column in COLUMNS]
                    cells.append(", ".join(tables.cell(arm, part, column)[0] for column in recalls))
                    counts = tables.image_counts(arm["trials"], part)
                    mark = " (diverged in part)" if "diverged" in arm else ""
                    last = printed(run.results["model"], protocol, name, part)
                    rows.append(" | ".join([*told, protocol, name + mark, part, counts, *cells, last]))
    return rows


def contrasts_of(run: Run, fields: list[str]) -> tuple[list[str], list[str]]:
    """Heads and rows of the contrasts of one run, as its page has them; none where it has no two arms."""
    section, flat = contrasts.section(run), configs.flat(run.config.to_dict())
    if not section:
        return [], []
    table = section["blocks"][-1]["table"]
    told = [str(flat.get(field, "")) for field in fields]
    rows = [[*told, *row["lead"], *(" ".join(filter(None, cell)) for cell in row["cells"])] for row in table["rows"]]
    return [*fields, *table["heads"]], [" | ".join(row) for row in rows]


def as_one_study(found: list[Run]) -> list[Run]:
    """The runs with each `p_holm` by the contrasts of all of them, as if they were of one."""
    rows = [[dict(row) for row in run.results["contrasts"]] for run in found]
    correct([row for own in rows for row in own])
    return [run._replace(results=run.results | {"contrasts": own}) for run, own in zip(found, rows, strict=True)]


def as_csv(found: list[Run], fields: list[str]) -> str:
    """The tidy scores of runs, with the fields that tell the runs apart in front; an empty cell is not defined."""
    rows = []
    for run in found:
        flat = configs.flat(run.config.to_dict())
        told = [str(flat.get(field, "")) for field in fields]
        rows += [[*told, *tidy.cells(score)] for score in tidy.scores(run.results)]
    heads = (*fields, *tidy.Score._fields)
    return csv_of({head: [row[place] for row in rows] for place, head in enumerate(heads)}).decode()


def printed(model: str, protocol: str, arm: str, part: str) -> str:
    """The paper's accuracy, percent, where it has one for this row; what its matrix proves where that is another."""
    if (protocol, part) != ("paper", "test"):
        return ""
    if arm == "with_gan" and model in paper.TABLE_1:
        accuracy = paper.TABLE_1[model][paper.TABLE_1_COLUMNS.index("accuracy")]
        proven = paper.MISPRINTS.get((model, "accuracy"))
        return f"{accuracy} (its matrix: {proven})" if proven else accuracy
    if arm == "without_gan" and model in paper.MATRICES_WITHOUT_GAN:
        (a, b), (c, d) = paper.MATRICES_WITHOUT_GAN[model]
        return f"{100 * (a + d) / (a + b + c + d):.1f}"
    return ""


def main(arguments=None) -> None:
    """Prints one table of several runs."""
    parser = cli.Parser(prog="python -m experiments.compare", description=main.__doc__)
    parser.add_argument("workdirs", nargs="+", type=cli.path, metavar="WORKDIR", help="of a finished run")
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--csv", action="store_true", help="all scores as CSV, a row a score")
    instead.add_argument("--contrasts", action="store_true", help="arms against the arms that they count against")
    cli.show_log()
    with cli.exit_codes():
        options = parser.parse_args(arguments)
        found = [runs.load(workdir) for workdir in options.workdirs]
        fields = [*ALWAYS, *differing(found)]
        if options.csv:
            cli.show(*as_csv(found, fields).splitlines())
            return
        if options.contrasts:
            told = [table for run in as_one_study(found) if (table := contrasts_of(run, fields))[1]]
            heads, rows = (told[0][0] if told else fields), [row for _, own in told for row in own]
        else:
            rows = [row for run in found for row in rows_of(run, fields)]
            last = ("recall of each class", "the paper prints (accuracy)")
            heads = (*fields, "protocol", "arm", "scored on", "n", *COLUMNS, *last)
        cli.show_table(heads, rows)


if __name__ == "__main__":
    main()
