"""The study from end to end, as a command: the contracts of its files, and going on after it was killed."""

import base64
import copy
import csv
import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import bits, load, start, wait_for
from sklearn.metrics import confusion_matrix, roc_auc_score

from experiments import compare
from pneumojax import evaluate

ROOT = Path(__file__).parents[1]
SCORES = [
    *("accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_paper", "precision_normal"),
    *("precision_pneumonia", "recall_normal", "recall_pneumonia", "auc"),
]


@pytest.fixture(scope="module")
def flags(tiny_flags):
    return tiny_flags


@pytest.fixture(scope="module")
def whole(tmp_path_factory, flags):
    """A whole run of the shrunk demo."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    done = start(flags, workdir)
    assert done.wait(300) == 0
    return workdir


@pytest.fixture(scope="module")
def rows(whole):
    with (whole / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_results_keep_the_contract(whole):
    results = load(whole)
    assert results["schema"] == 1
    assert results["model"] == "resnet18"
    assert results["data"]["name"] == "phantom"
    assert results["data"]["images"] == 130
    assert results["data"]["classes"] == ["NORMAL", "PNEUMONIA"]
    assert {"gan", "timings_s", "environment"} <= results.keys()
    assert list(results["protocols"]["clean"]) == ["without_gan", "with_gan", "with_gan_epochs"]
    assert list(results["protocols"]["paper"]) == ["without_gan", "with_gan"]
    for protocol, arms in results["protocols"].items():
        for name, arm in arms.items():
            assert [trial["trial"] for trial in arm["trials"]] == [0, 1, 2]
            summaries = [arm, arm["unseen"]]
            for trial in arm["trials"]:
                parts = [trial, trial["unseen"]]
                if (protocol, name) == ("paper", "with_gan"):
                    parts += [trial["test_real"], trial["test_generated"]]
                    assert trial["test_real"]["images"] + trial["test_generated"]["images"] == trial["test"]
                assert np.sum(trial["confusion_matrix"]) == trial["test"]
                for part in parts:
                    assert list(part["scores"]) == SCORES
                    assert all(0 <= part["scores"][s] <= 1 for s in SCORES)
                    assert all(part["interval"][s][0] <= part["interval"][s][1] for s in SCORES)
            for summary in summaries:
                assert set(summary["mean"]) == set(summary["std"]) == set(summary["interval"]) == set(SCORES)
            accuracies = [trial["scores"]["accuracy"] for trial in arm["trials"]]
            assert arm["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))
            assert arm["std"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))


def test_counts_of_the_arms(whole):
    protocols = load(whole)["protocols"]
    counts = {
        (protocol, name): {(trial["train"], trial["test"]) for trial in arm["trials"]}
        for protocol, arms in protocols.items()
        for name, arm in arms.items()
    }
    # a subset of 12 + 20, enlarged twofold: 2 + 4 of 32 to test, or 5 + 8 of 64
    assert counts == {
        ("clean", "without_gan"): {(26, 6)},
        ("clean", "with_gan"): {(52, 6)},
        ("clean", "with_gan_epochs"): {(52, 6)},
        ("paper", "without_gan"): {(26, 6)},
        ("paper", "with_gan"): {(51, 13)},
    }


def test_every_statistic_can_be_redone_from_the_predictions(whole, rows):
    results = load(whole)
    seen = set()
    for protocol, arms in results["protocols"].items():
        for name, arm in arms.items():
            for trial in arm["trials"]:
                for part in ("test", "unseen", "test_real", "test_generated"):
                    if part != "test" and part not in trial:
                        continue
                    key = (protocol, name, str(trial["trial"]), part)
                    own = [r for r in rows if (r["protocol"], r["arm"], r["trial"], r["part"]) == key]
                    seen.update(id(r) for r in own)
                    labels = [int(r["label"]) for r in own]
                    logits = np.array([[r["logit_normal"], r["logit_pneumonia"]] for r in own], float)
                    block = trial if part == "test" else trial[part]
                    matrix = confusion_matrix(labels, np.argmax(logits, 1), labels=[0, 1])
                    assert matrix.tolist() == block["confusion_matrix"]
                    for score, value in evaluate.scores(matrix).items():
                        assert block["scores"][score] == pytest.approx(value)
                    auc = roc_auc_score(labels, logits[:, 1] - logits[:, 0])
                    assert block["scores"]["auc"] == pytest.approx(auc, abs=1e-6)
    assert len(seen) == len(rows)


def test_splits_and_predictions_agree(whole, rows):
    trials = json.loads((whole / "splits.json").read_text())["trials"]
    assert [trial["trial"] for trial in trials] == [0, 1, 2]
    for trial in trials:
        clean, paper = trial["clean"], trial["paper"]
        assert clean["subset"] == paper["subset"]
        assert len(clean["subset"] + clean["unseen"] + clean["excluded"]) == 130
        for protocol, arm, part, names in (
            ("clean", "with_gan", "test", clean["test"]),
            ("clean", "with_gan", "unseen", clean["unseen"]),
            ("paper", "without_gan", "test", paper["without_gan"]["test"]),
            ("paper", "with_gan", "test", paper["with_gan"]["test"]),
        ):
            key = (protocol, arm, str(trial["trial"]), part)
            own = [r["name"] for r in rows if (r["protocol"], r["arm"], r["trial"], r["part"]) == key]
            assert own == names
        assert not any("generated" in name for name in clean["test"] + clean["unseen"] + clean["train"])
        assert any("generated" in name for name in paper["with_gan"]["test"])
    with_patients = [r for r in rows if r["protocol"] == "clean" and r["trial"] == "0"]
    sides = {part: {r["patient"] for r in with_patients if r["part"] == part} for part in ("test", "unseen")}
    assert not sides["test"] & sides["unseen"]


def test_what_else_it_leaves(whole):
    grids = sorted((whole / "samples").iterdir())
    assert len(grids) == 3 * 2 * 2 * 2
    assert all(path.name.startswith("generated-") for path in grids)
    with Image.open(grids[0]) as grid:
        assert grid.size == (512, 512)
    assert list(whole.glob("events.out.tfevents.*"))
    stages = sorted(path.name for path in (whole / "checkpoints" / "trial1" / "clean").iterdir() if path.is_dir())
    assert stages == ["gan_normal", "gan_pneumonia", "with_gan", "with_gan_epochs", "without_gan"]
    assert json.loads((whole / "config.json").read_text())["gan"]["filters"] == 4


def test_the_report_is_one_page_with_all_in_it(whole):
    page = (whole / "report.html").read_text()
    assert "These are phantoms, not X-rays" in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    for text in ("98.97", "as printed", "declared beforehand", "made by the GANs", "test, generated images only"):
        assert text in page
    accuracy = load(whole)["protocols"]["clean"]["with_gan"]["unseen"]
    low, high = accuracy["interval"]["accuracy"]
    cell = f"{100 * accuracy['mean']['accuracy']:.1f} ± {100 * accuracy['std']['accuracy']:.1f}"
    assert cell in page
    assert f"[{100 * low:.1f}, {100 * high:.1f}]" in page
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(pictures) == 4 + 2 + 12  # matrices, curves, grids
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)


def test_finished_runs_side_by_side(whole, tmp_path, capsys):
    compare.main([str(whole), str(whole)])
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
    assert len(rows) == 2 * 12
    assert {row["network"] for row in rows} == {"resnet18, from scratch"}
    by_key = {(row["protocol"], row["arm"], row["scored on"]): row for row in rows}
    printed = {key: row["the paper prints (accuracy)"] for key, row in by_key.items()}
    assert {key: value for key, value in printed.items() if value} == {("paper", "with_gan", "test"): "99.0"}
    mean = load(whole)["protocols"]["clean"]["with_gan"]["unseen"]["mean"]
    assert by_key["clean", "with_gan", "unseen"]["auc"].startswith(f"{100 * mean['auc']:.1f} ± ")
    with pytest.raises(SystemExit, match="2"):
        compare.main([str(tmp_path)])
    assert "error: " in capsys.readouterr().err


def test_a_run_that_is_whole_is_left_alone(whole, flags):
    before = (whole / "results.json").stat().st_mtime_ns
    again = start(flags, whole)
    assert again.wait(100) == 0
    assert (whole / "results.json").stat().st_mtime_ns == before


def test_killed_in_four_places_it_ends_in_the_same_bits(whole, flags, tmp_path):
    """SIGKILL in a GAN, in a checkpoint that is being written, in a classifier, and when all but the end is done."""
    workdir = tmp_path / "killed"
    stages = workdir / "checkpoints"
    for condition in (
        lambda: (stages / "trial0/clean/gan_normal/2").exists(),
        lambda: list(stages.glob("trial0/clean/*/*tmp*")),
        lambda: (stages / "trial0/paper/with_gan/4").exists(),
        lambda: (workdir / "predictions.csv").exists(),
    ):
        process = start(flags, workdir)
        wait_for(condition, process)
        process.kill()
        process.wait()
        assert not (workdir / "results.json").exists()
    last = start(flags, workdir)
    assert last.wait(300) == 0
    assert bits(workdir) == bits(whole)


def test_sigterm_saves_and_ends_with_143(whole, flags, tmp_path):
    workdir = tmp_path / "terminated"
    process = start(flags, workdir)
    wait_for((workdir / "checkpoints/trial0/clean/gan_normal/2").exists, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(100) == 143
    assert start(flags, workdir).wait(300) == 0
    assert bits(workdir) == bits(whole)


def test_a_second_process_on_a_workdir_refuses(flags, tmp_path):
    workdir = tmp_path / "busy"
    first = start(flags, workdir)
    try:
        wait_for((workdir / "config.json").exists, first)
        second = start(flags, workdir)
        assert second.wait(100) == 2
        assert "is in use by another process" in second.stderr.read()
    finally:
        first.kill()
        first.wait()


def test_another_config_in_a_workdir_refuses_and_says_what_differs(whole, flags):
    before = bits(whole)
    process = start([*flags, "--config.seed=7", "--config.gan.filters=8"], whole)
    assert process.wait(100) == 2
    lines = process.stderr.read().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("error:"))
    assert lines[at + 1 :] == ["  config.gan.filters: 4 there, 8 now", "  config.seed: 0 there, 7 now"]
    assert bits(whole) == before


@pytest.fixture
def begun(whole, tmp_path):
    """A copy of the whole run that still wants its end."""
    workdir = tmp_path / "begun"
    shutil.copytree(whole, workdir)
    (workdir / "results.json").unlink()
    return workdir


def test_other_splits_or_images_than_a_run_began_with_refuse(begun, flags):
    """Logits at rest are in the order of the splits: under others they would count for the wrong images."""
    path = begun / "splits.json"
    record = json.loads(path.read_text())
    for change, words in (
        (lambda r: r["trials"][0]["clean"]["test"].reverse(), "another version of pneumojax"),
        (lambda r: r.update(fingerprint="0"), "the images are not those"),
    ):
        changed = copy.deepcopy(record)
        change(changed)
        path.write_text(json.dumps(changed))
        process = start(flags, begun)
        assert process.wait(100) == 2
        assert words in process.stderr.read()
        assert not (begun / "results.json").exists()
