"""The scores of a finished run as one tidy table, a row a score: for CSV files, sweeps and pandas."""

from pneumojax.report import tables
from pneumojax.run import Run

# `n` counts images, of all networks together; low and high are the 95% interval of (a) these networks and new patients,
# the last two that of (b) this procedure.
COLUMNS = (
    *("protocol", "arm", "part", "networks", "n", "score", "mean", "std", "low", "high"),
    *("procedure_low", "procedure_high"),
)


def scores(run: Run) -> dict[str, list]:
    """Every score of every protocol, arm and part, by COLUMNS: fractions, or None for what is not defined."""
    rows = []
    for protocol, arms in run.results["protocols"].items():
        for name, arm in arms.items():
            for part in ["test", *(key for key, value in arm.items() if isinstance(value, dict))]:
                if summary := tables.summary_of(arm, part):
                    rows += [(protocol, name, part, *row) for row in rows_of(summary, arm["trials"], part)]
    return {column: [row[place] for row in rows] for place, column in enumerate(COLUMNS)}


def rows_of(summary: dict, trials: list[dict], part: str) -> list[tuple]:
    """The rest of COLUMNS of one part, a row a score."""
    images = [trial["test"] if part == "test" else trial[part]["images"] for trial in tables.scored_on(trials, part)]
    rows = []
    for score, mean in summary["mean"].items():
        low, high = summary["interval"][score] or (None, None)
        ends = tables.of_procedure(summary, score) or (None, None)
        rows.append((len(images), sum(images), score, mean, summary["std"][score], low, high, *ends))
    return rows
