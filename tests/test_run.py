"""A run that is read again: columns, curves, grids; the page anew, trials merged on one page, runs compared."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from runs import call, error_of, load

from experiments import compare
from pneumojax import metrics, predict
from pneumojax import run as runs
from pneumojax import workdir as workdirs
from pneumojax.errors import BadInput
from pneumojax.report import __main__ as report
from pneumojax.stage import Stage

READ = ("config.json", "splits.json", "results.json", "metrics.jsonl", "predictions.csv", "samples")


@pytest.fixture(scope="module")
def run(whole):
    return runs.load(whole)


def copied(workdir, to, **fields):
    """What is read of a run, elsewhere, with other fields in its config: 'section__field' or 'field'."""
    to.mkdir()
    for name in READ:
        (shutil.copytree if (workdir / name).is_dir() else shutil.copy)(workdir / name, to / name)
    config = json.loads((to / "config.json").read_text())
    for field, value in fields.items():
        *section, name = field.split("__")
        (config[section[0]] if section else config)[name] = value
    (to / "config.json").write_text(json.dumps(config))
    results = json.loads((to / "results.json").read_text())
    results["model"], results["gan"]["name"] = config["model"]["name"], config["gan"]["name"]
    (to / "results.json").write_text(json.dumps(results))
    return to


def test_predictions_are_columns_of_numbers_and_texts(run, whole):
    with (whole / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(run.predictions) == list(rows[0])
    assert {len(column) for column in run.predictions.values()} == {len(rows)}  # as pandas.DataFrame wants them
    kinds = {name: {type(value) for value in column} for name, column in run.predictions.items()}
    whole_numbers = ("trial", "gan_seed", "classifier_seed", "label")
    assert kinds == {name: {int} if name in whole_numbers else {str} for name in rows[0]} | {
        name: {float} for name in ("logit_normal", "logit_pneumonia")
    }
    for name, column in run.predictions.items():
        assert column == [type(column[0])(row[name]) for row in rows]


def test_predictions_come_back_as_they_were_made(run, whole):
    """To the bit, in their order: what is written of them again is what was written."""
    found = runs.predictions_of(run)
    assert sum(len(one.names) for one in found) == len(run.predictions["label"])
    assert {one.logits.dtype.name for one in found} == {"float32"}
    assert {one.labels.dtype.name for one in found} == {"int32"}
    before = (whole / "predictions.csv").read_bytes()
    assert workdirs.csv_of(run.predictions) == before
    again = whole.with_name("again")
    workdirs.write_predictions(again, found, run.config.data.classes)
    assert (again / "predictions.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda rows: rows[:-1], "its answers are not those that results.json counts"),
        (lambda rows: [*rows, rows[-1]], "its answers are not those that results.json counts"),
        (lambda rows: [rows[0] | {"arm": "x"}, *rows[1:]], "its answers are not those that results.json counts"),
        (lambda rows: [rows[0] | {"label": str(1 - int(rows[0]["label"]))}, *rows[1:]], "its answers are not"),
        (lambda rows: [rows[0] | {"label": "2"}, *rows[1:]], "a label of no class"),
        (lambda rows: [rows[0] | {"logit_normal": "nan"}, *rows[1:]], "a logit that is not finite"),
        (lambda rows: [{k: v for k, v in row.items() if k != "logit_normal"} for row in rows], "logit_normal"),
    ],
)
def test_predictions_that_results_do_not_count_are_refused(single, tmp_path, change, why):
    """A page would draw curves of one study beside scores of another."""
    folder = copied(single(0), tmp_path / "run")
    with (folder / "predictions.csv").open() as file:
        rows = change(list(csv.DictReader(file)))
    with (folder / "predictions.csv").open("w") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    line = error_of(call(report.main, f"--workdir={folder}"), 2)[0]
    assert line.startswith(f"{folder} is not the workdir of a finished run (predictions.csv is damaged: ")
    assert why in line


@pytest.mark.parametrize(
    "change",
    [
        lambda results: results.pop("contrasts"),
        lambda results: results["protocols"]["clean"]["with_gan"].update(mean={"accuracy": "high"}),
        lambda results: results["timings_s"].update(gan="long"),
    ],
)
def test_results_of_which_no_page_can_be_drawn_are_one_line(single, tmp_path, change):
    folder = copied(single(0), tmp_path / "run")
    results = load(folder)
    change(results)
    (folder / "results.json").write_text(json.dumps(results))
    [line] = error_of(call(report.main, f"--workdir={folder}"), 2)
    assert line.startswith(f"{folder}/results.json is damaged or was edited (")
    assert line.endswith("; bring it back or run anew")
    assert not (folder / "report.html").exists()


def test_a_damaged_sheet_of_errors_is_one_line(single, tmp_path):
    folder = copied(single(0), tmp_path / "run")
    sheet = min((folder / "samples").glob("worst-*.png"))
    for content in (b"", sheet.read_bytes()[:60]):
        sheet.write_bytes(content)
        [line] = error_of(call(report.main, f"--workdir={folder}"), 2)
        assert line.startswith(f"{sheet} cannot be read (")


def test_curves_grids_and_splits_of_a_run(run, whole):
    gan, arm = Stage(0, "clean", gan="normal"), Stage(2, "paper", arm="with_gan")
    assert {metric for stage, metric in run.curves if stage.gan} == {"d_loss", "g_loss", "d_real", "d_fake"}
    assert {metric for stage, metric in run.curves if stage.arm} == {"loss", "accuracy"}
    assert len({stage for stage, _ in run.curves}) == 3 * (4 + 5)
    assert list(run.curves[gan, "d_loss"]) == [2, 4, 6]
    assert list(run.curves[arm, "loss"]) == [2, 4, 6, 8, 10, 12]
    own = [line for line in metrics.read(whole) if (line["trial"], line["protocol"]) == (2, "paper")]
    losses = [line["loss"] for line in own if line.get("arm") == "with_gan"]
    assert list(run.curves[arm, "loss"].values()) == losses
    assert len(run.grids) == 12
    assert run.grids[gan] == whole / "samples/generated-trial0-clean-gan_normal-000006.png"
    assert all(path.exists() for path in run.grids.values())
    assert run.splits == json.loads((whole / "splits.json").read_text())
    assert run.results == load(whole)
    assert run.config.model.width == 4
    assert hash(run.config)
    assert run.arm(arm)["title"] == "with GAN"
    stages = run.stages()
    assert (len(stages), stages[0]) == (15, Stage(0, "clean", arm="without_gan"))


def test_a_folder_without_a_finished_run_is_told(whole, tmp_path):
    for damage, words in (
        (lambda path: shutil.rmtree(path), "is not the workdir of a finished run"),
        (lambda path: (path / "results.json").unlink(), "is not the workdir of a finished run"),
        (lambda path: (path / "results.json").write_text('{"schema": 1}'), "another version of pneumojax (schema 1)"),
    ):
        workdir = copied(whole, tmp_path / "run")
        damage(workdir)
        with pytest.raises(BadInput, match=re.escape(words)):
            runs.load(workdir)
        [line] = error_of(call(report.main, f"--workdir={workdir}"), 2)
        assert words in line
        shutil.rmtree(workdir, ignore_errors=True)


EDITED = {
    "fit is not there": ("config.json", lambda c: c["data"].pop("fit"), "config.data.fit is lacking"),
    "fit is nonsense": (
        "config.json",
        lambda c: c["data"].update(fit="nonsense"),
        "config.data.fit='nonsense': give one",
    ),
    "data is a number": ("config.json", lambda c: c.update(data=5), "config.json is damaged"),
    "sizes are texts": ("config.json", lambda c: c["model"].update(image_size="48"), "config.model.image_size='48'"),
    "classes are reversed": (
        "config.json",
        lambda c: c["data"]["classes"].reverse(),
        "is not that of its results.json",
    ),
    "model is another": ("config.json", lambda c: c["model"].update(name="alexnet"), "is not that of its results.json"),
    "the size is another": (
        "config.json",
        lambda c: c["model"].update(image_size=64),
        "config.json is not that of its results.json; bring it back",
    ),
    "images are padded": ("config.json", lambda c: c["data"].update(fit="pad"), "is not that of its results.json"),
    "groups are a number": ("results.json", lambda r: r["data"].update(gray={"groups": 5}), "results.json is damaged"),
    "gray is a list": ("results.json", lambda r: r["data"].update(gray=[5]), "results.json is damaged"),
    "black is not there": ("results.json", lambda r: r["data"].update(gray={"groups": {"a": {}}}), "is damaged"),
}


@pytest.mark.parametrize("edit", EDITED)
def test_a_run_whose_records_do_not_fit_is_not_believed(edit, whole, tmp_path):
    name, change, words = EDITED[edit]
    copied(whole, tmp_path / "run")
    content = json.loads((tmp_path / "run" / name).read_text())
    change(content)
    (tmp_path / "run" / name).write_text(json.dumps(content))
    for ended in (
        call(report.main, f"--workdir={tmp_path / 'run'}"),
        call(predict.main, f"--workdir={tmp_path / 'run'}", tmp_path / "run/samples"),
    ):
        [line, *_] = error_of(ended, 2)
        assert words in line
        assert str(tmp_path / "run") in line


def test_a_run_that_is_older_than_a_field_is_read_with_its_default(whole, tmp_path):
    copied(whole, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    del config["data"]["window"], config["evaluate"]["margin"]
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    assert runs.load(tmp_path / "run").config.data.window == "as viewer"
    assert runs.load(tmp_path / "run").config.evaluate.margin == 0.01


def test_a_run_that_is_older_than_the_end_of_a_field_is_read_without_it(whole, tmp_path):
    copied(whole, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["evaluate"]["resamples"] = 1000
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    assert "resamples" not in runs.load(tmp_path / "run").config.evaluate


def test_the_page_anew_is_the_page_to_the_byte(whole, tmp_path, capsys):
    """And the table beside it."""
    workdir = copied(whole, tmp_path / "run")
    assert call(report.main, f"--workdir={workdir}")[0] == 0
    assert capsys.readouterr().out == f"{workdir / 'report.html'}\n"
    for name in ("report.html", "results.csv"):
        assert (workdir / name).read_bytes() == (whole / name).read_bytes()


def page_of(folder) -> str:
    """A page less its times, the machine's versions, and pictures of images that merged runs do not have."""
    page = (folder / "report.html").read_text()
    page = re.sub("<h2>Cost.*?(?=<h2>)", "", page, flags=re.DOTALL)
    page = re.sub("<h2>(Worst|Where a network looks).*?(?=<h2>)", "", page, flags=re.DOTALL)
    *_, environment, seconds = re.findall("<pre>.*?</pre>", page, re.DOTALL)
    return page.replace(environment, "").replace(seconds, "")


@pytest.mark.slow
def test_trials_of_three_runs_give_the_page_of_the_run_of_three_trials(whole, single, tmp_path, capsys):
    """Into a new folder, in whatever order they are given, and into one beside the first one's own page."""
    expected = {k: v for k, v in load(whole).items() if k not in ("timings_s", "environment")}
    alone = [copied(single(trial), tmp_path / f"trial{trial}") for trial in (0, 1, 2)]
    page = (single(1) / "report.html").read_bytes()
    (alone[1] / "report.html").write_bytes(page)
    for workdir, others, folder in (
        (tmp_path / "new", [alone[2], alone[0], alone[1]], tmp_path / "new"),
        (alone[1], [alone[0], alone[2]], alone[1] / "merged"),
    ):
        code, stderr = call(report.main, f"--workdir={workdir}", "--merge", *others)
        assert code == 0, stderr
        assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
        merged = load(folder)
        del merged["environment"]
        seconds = merged.pop("timings_s")
        assert seconds["gan"] == pytest.approx(sum(load(path)["timings_s"]["gan"] for path in alone), abs=0.01)
        assert merged == expected
        assert page_of(folder) == page_of(whole)
        for name in ("predictions.csv", "results.csv"):
            assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert (alone[1] / "report.html").read_bytes() == page


def test_runs_that_do_not_belong_together_are_not_merged(whole, single, tmp_path):
    other = copied(single(1), tmp_path / "other", seed=7, gan__filters=8, gan__cache="/elsewhere")
    images = copied(single(1), tmp_path / "images")
    results = load(images)
    results["data"]["fingerprint"] = "0"
    (images / "results.json").write_text(json.dumps(results))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    for workdir, others, words, details in (
        (
            *(tmp_path / "new", [single(0), other], "other configs: only their trials may differ"),
            ["config.gan.filters: 4 there, 8 now", "config.seed: 0 there, 7 now"],
        ),
        (tmp_path / "new", [single(0), images], "are of other images", []),
        (tmp_path / "new", [single(0), single(1), whole], "trials [0, 0, 1, 1, 2]: each may come once", []),
        (tmp_path / "full", [single(0), single(1)], "is neither a finished run nor empty", []),
        (tmp_path / "new", [single(0), tmp_path / "none"], "is not the workdir of a finished run", []),
    ):
        line, *found = error_of(call(report.main, f"--workdir={workdir}", "--merge", *others), 2)
        assert words in line
        assert found == details
    assert not (tmp_path / "new").exists()
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]


def table(capsys, *workdirs) -> list[dict]:
    """The rows that compare prints."""
    compare.main([str(workdir) for workdir in workdirs])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_finished_runs_side_by_side(whole, tmp_path, capsys):
    rows = table(capsys, whole, whole)
    assert len(rows) == 2 * 12
    assert {tuple(row[field] for field in list(row)[:4]) for row in rows} == {("resnet18", "full", "dcgan", "0")}
    assert list(rows[0])[:7] == [
        *("model.name", "classifier.mode", "gan.name", "seed", "protocol", "arm", "scored on"),
    ]
    by_key = {(row["protocol"], row["arm"], row["scored on"]): row for row in rows}
    printed = {key: row["the paper prints (accuracy)"] for key, row in by_key.items()}
    assert {key: value for key, value in printed.items() if value} == {("paper", "with_gan", "test"): "99.0"}
    mean = load(whole)["protocols"]["clean"]["with_gan"]["unseen"]["mean"]
    assert by_key["clean", "with_gan", "unseen"]["auc"].startswith(f"{100 * mean['auc']:.1f} ± ")
    with pytest.raises(SystemExit, match="2"):
        compare.main([str(tmp_path)])
    assert "error: " in capsys.readouterr().err


def test_every_score_is_in_the_csv_once(whole, capsys):
    compare.main([str(whole), "--csv"])
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    keys = [(row["protocol"], row["arm"], row["part"], row["score"]) for row in rows]
    assert len(set(keys)) == len(keys)
    by_key = dict(zip(keys, rows, strict=True))
    found = 0
    for protocol, arms in load(whole)["protocols"].items():
        for name, arm in arms.items():
            for part, summary in [
                ("test", arm),
                *((k, v) for k, v in arm.items() if isinstance(v, dict) and "mean" in v),
            ]:
                for score, mean in summary["mean"].items():
                    row, found = by_key[protocol, name, part, score], found + 1
                    assert row["mean"] == ("" if mean is None else f"{mean:.9g}")
                    low, high = summary["interval"][score] or ("", "")
                    assert (row["low"], row["high"]) == (("", "") if low == "" else (f"{low:.9g}", f"{high:.9g}"))
                    images = [t["test"] if part == "test" else t[part]["images"] for t in arm["trials"]]
                    assert (int(row["networks"]), int(row["n"])) == (len(images), sum(images))
    assert found == len(rows)


def test_contrasts_of_runs_are_those_of_their_pages(whole, capsys):
    compare.main([str(whole), "--contrasts"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    rows = load(whole)["contrasts"]
    assert len(lines) == 2 + len(rows) > 2
    assert [float(line[lines[0].index("difference")]) for line in lines[2:]] == [
        pytest.approx(100 * row["difference"], abs=0.051) for row in rows
    ]


def test_holm_is_over_all_runs_of_a_study_and_not_over_each():
    """Smallest times three, next times two; the declared one stands apart. What lies on the disk stays as it is."""

    def having(*values, declared=False):
        rows = [{"procedure": {"p_value": p}, "declared": declared, "p_holm": p} for p in values]
        return runs.Run(Path("run"), None, {"contrasts": rows}, {}, {}, {}, {})

    three = [having(0.02, 0.5), having(0.01), having(0.03, declared=True)]
    found = [[row["p_holm"] for row in own.results["contrasts"]] for own in compare.as_one_study(three)]
    assert found == [[0.04, 0.5], [0.03], [0.03]]
    assert [row["p_holm"] for row in three[0].results["contrasts"]] == [0.02, 0.5]


def test_runs_are_told_apart_by_network_gan_seed_and_what_was_swept(single, tmp_path, capsys):
    swept = {
        "network": {"model__name": "alexnet", "model__cache": "/elsewhere"},
        "gan": {"gan__name": "hinge"},
        "seed": {"seed": 5},
        "rate": {"classifier__learning_rate": 0.1, "classifier__optimizer": "adam"},
    }
    rows = table(capsys, single(0), *(copied(single(0), tmp_path / name, **own) for name, own in swept.items()))
    fields = ["model.name", "classifier.mode", "gan.name", "seed", "classifier.learning_rate", "classifier.optimizer"]
    assert list(rows[0])[: len(fields) + 1] == [*fields, "protocol"]
    told = list(dict.fromkeys(tuple(row[field] for field in fields) for row in rows))
    assert told == [
        ("resnet18", "full", "dcgan", "0", "0.03", "sgd"),
        ("alexnet", "full", "dcgan", "0", "0.03", "sgd"),
        ("resnet18", "full", "hinge", "0", "0.03", "sgd"),
        ("resnet18", "full", "dcgan", "5", "0.03", "sgd"),
        ("resnet18", "full", "dcgan", "0", "0.1", "adam"),
    ]
    assert len(rows) == 5 * 12


def test_one_run_compared_with_none_is_told_by_what_every_run_is_told_by(single, capsys):
    rows = table(capsys, single(0))
    assert [*rows[0]][:5] == ["model.name", "classifier.mode", "gan.name", "seed", "protocol"]
    assert np.unique([row["n"] for row in rows if row["scored on"] == "test"]).tolist() == ["1 × 13", "1 × 6"]
