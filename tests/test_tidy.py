"""results.csv: every score of a run, a line a score, for spreadsheets and pandas."""

import csv
import io
from pathlib import Path

import pytest
from answers import prediction
from invented import run_of
from runs import load, printed

from experiments import compare
from pneumojax import tidy

FIELDS = (
    *("protocol", "arm", "part", "score", "mean", "std", "low", "high", "n", "networks"),
    *("procedure_low", "procedure_high"),
)


def lines_of(workdir: Path) -> list[dict[str, str]]:
    with (workdir / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_every_score_as_compare_prints_them(whole, capsys):
    """Whose figures `test_run.py` holds against results.json."""
    rows = lines_of(whole)
    assert tuple(rows[0]) == FIELDS
    compare.main([str(whole), "--csv"])
    shown = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert [{name: row[name] for name in FIELDS} for row in shown] == rows
    auc = load(whole)["protocols"]["clean"]["with_gan"]["unseen"]["mean"]["auc"]
    where = ("clean", "with_gan", "unseen", "auc")
    assert [float(row["mean"]) for row in rows if tuple(row.values())[:4] == where] == [pytest.approx(auc, rel=1e-8)]


def test_what_is_not_defined_is_an_empty_cell(tmp_path):
    """Of one class alone there is no AUC, and no recall of the other."""
    tidy.write_scores(run_of(tmp_path, [prediction([1, 1, 1], [2.0, 1.0, -1.0])]).results, tmp_path)
    by_score = {row["score"]: row for row in lines_of(tmp_path) if row["part"] == "test"}
    assert (by_score["auc"]["mean"], by_score["recall_normal"]["mean"]) == ("", "")
    assert by_score["recall_pneumonia"]["mean"] == "0.666666667"
    assert {row["n"] for row in by_score.values()} == {"3"}


def test_a_run_that_has_no_score_leaves_the_heads_alone(tmp_path):
    tidy.write_scores({"protocols": {"clean": {"with_gan": {"trials": []}}}}, tmp_path)
    assert (tmp_path / "results.csv").read_text() == f"{','.join(FIELDS)}\n"


def test_scores_and_predictions_are_tables_of_pandas(whole):
    """By the lines of docs/finished.md."""
    pandas = pytest.importorskip("pandas")
    [text] = printed("Tables and figures")
    exec(text.replace("runs/resnet18", str(whole)), found := {})
    answers, made = found["answers"], found["scores"]
    read = pandas.read_csv(whole / "results.csv")
    pandas.testing.assert_frame_equal(read, made.astype(read.dtypes), rtol=1e-8)
    right = (answers.logit_pneumonia > answers.logit_normal) == (answers.label == 1)
    accuracy = right.groupby([answers.protocol, answers.arm, answers.part, answers.trial]).mean()
    means = accuracy.groupby(level=[0, 1, 2]).mean()
    scores = made[made.score == "accuracy"].set_index(["protocol", "arm", "part"])["mean"]
    assert scores[means.index].to_numpy() == pytest.approx(means.to_numpy())
