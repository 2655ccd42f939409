"""Finished runs side by side as a Markdown table, beside what the paper prints.

python -m experiments.compare WORKDIR…
"""

import json
from pathlib import Path

from pneumojax import cli, paper, report
from pneumojax.errors import BadInput

COLUMNS = ("accuracy", "recall_normal", "recall_pneumonia", "f1_macro", "auc")


def rows_of(results: dict) -> list[str]:
    """One row for each protocol, arm and part of one run."""
    classifier = results["classifier"]
    name = f"{results['model']}, {classifier['mode'] if classifier['weights_digest'] else 'from scratch'}"
    return [
        " | ".join(
            [
                *(name, protocol, arm, part, report.image_counts(scores["trials"], part)),
                *(" ".join(report.cell(scores if part == "test" else scores[part], column)) for column in COLUMNS),
                printed(results["model"], protocol, arm, part),
            ]
        )
        for protocol, arms in results["protocols"].items()
        for arm, scores in arms.items()
        for part in report.PARTS
        if report.has_images(scores, part)
    ]


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
    parser.add_argument("workdirs", nargs="+", type=Path, metavar="WORKDIR", help="of a finished run")
    with cli.exit_codes():
        rows = []
        for workdir in parser.parse_args(arguments).workdirs:
            try:
                rows += rows_of(json.loads((workdir / "results.json").read_text()))
            except (OSError, ValueError) as error:
                raise BadInput(f"{workdir} is not the workdir of a finished run") from error
    heads = ("network", "protocol", "arm", "scored on", "n", *COLUMNS, "the paper prints (accuracy)")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    print("\n".join(f"| {row} |" for row in rows))


if __name__ == "__main__":
    main()
