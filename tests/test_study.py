"""The study from end to end: the contracts of its files, going on after it was killed, arms that diverge."""

import base64
import csv
import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import bits, call, ended, error_of, finish, load, start, wait_for
from sklearn.metrics import confusion_matrix, roc_auc_score

from pneumojax import evaluate, main, metrics

SCORES = [
    *("accuracy", "precision_macro", "recall_macro", "f1_macro", "f1_paper", "precision_normal"),
    *("precision_pneumonia", "recall_normal", "recall_pneumonia", "balanced_accuracy", "mcc", "auc", "auprc", "brier"),
]
ARMS = {  # title, and the arm that it counts against
    "clean": {
        "without_gan": ("without GAN", None),
        "with_gan": ("with GAN", "without_gan"),
        "with_gan_epochs": ("with GAN, as many epochs instead of as many steps", "without_gan"),
    },
    "paper": {"without_gan": ("without GAN", None), "with_gan": ("with GAN", None)},
}
COLUMNS = [
    *("protocol", "arm", "trial", "gan_seed", "classifier_seed", "part"),
    *("name", "patient", "label", "logit_normal", "logit_pneumonia"),
]


@pytest.fixture(scope="module")
def rows(whole):
    with (whole / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def test_results_keep_the_contract(whole):
    results = load(whole)
    assert results["schema"] == 2
    assert results["model"] == "resnet18"
    assert results["data"]["name"] == "phantom"
    assert results["data"]["images"] == 130
    assert results["data"]["classes"] == ["NORMAL", "PNEUMONIA"]
    assert results["data"]["class_counts"] == [50, 80]
    assert results["data"]["used"] == {"NORMAL": 50, "PNEUMONIA": 80}
    assert re.fullmatch("[0-9a-f]{64}", results["data"]["fingerprint"])
    assert {"gan", "timings_s", "environment"} <= results.keys()
    stages = {"weights", "data", "gan", "classifier", "evaluate"}
    compiling = {name for name in results["timings_s"] if name.endswith("_compile")}
    assert stages == results["timings_s"].keys() - compiling
    assert {"gan_compile", "classifier_compile"} <= compiling
    assert 0.1 < results["environment"]["peak_memory_gb"]["host"] < 100
    for protocol, arms in results["protocols"].items():
        assert {name: (arm["title"], arm["against"]) for name, arm in arms.items()} == ARMS[protocol]
        for name, arm in arms.items():
            assert arm["overrides"] == {}
            assert "diverged" not in arm
            assert [trial["trial"] for trial in arm["trials"]] == [0, 1, 2]
            own_parts = ["unseen"]
            if (protocol, name) == ("paper", "with_gan"):
                own_parts += ["test_real", "test_generated"]
            summaries = [arm, *(arm[part] for part in own_parts)]
            for trial in arm["trials"]:
                parts = [trial, *(trial[part] for part in own_parts)]
                assert {"unseen", "test_real", "test_generated"} & trial.keys() == set(own_parts)
                if len(own_parts) > 1:
                    assert trial["test_real"]["images"] + trial["test_generated"]["images"] == trial["test"]
                assert np.sum(trial["confusion_matrix"]) == trial["test"]
                for part in parts:
                    assert list(part["scores"]) == SCORES
                    missing = [not sum(row) for row in part["confusion_matrix"]]
                    undefined = {s for s in SCORES if part["scores"][s] is None}
                    assert undefined == (
                        set(SCORES) - {"accuracy", "recall_normal", "brier"} if any(missing) else set()
                    )
                    defined = set(SCORES) - undefined
                    assert all(-(s == "mcc") <= part["scores"][s] <= 1 for s in defined)
                    told = {s: own for s in SCORES if (own := part["interval"][s])}
                    assert all(low <= part["scores"][s] <= high for s, (low, high) in told.items())
            for summary in summaries:
                assert set(summary["mean"]) == set(summary["std"]) == set(summary["interval"]) == set(SCORES)
                assert set(summary["procedure"]) == set(SCORES)
                assert (summary["procedure"]["accuracy"]["replicates"], summary["procedure_why"]) == (3, None)
            assert 0 <= arm["collapsed"] <= 3
            accuracies = [trial["scores"]["accuracy"] for trial in arm["trials"]]
            assert arm["mean"]["accuracy"] == pytest.approx(np.mean(accuracies))
            assert arm["std"]["accuracy"] == pytest.approx(np.std(accuracies, ddof=1))


def test_contrasts_follow_from_what_arms_count_against(whole, rows):
    contrasts = load(whole)["contrasts"]
    against = [(name, "without_gan") for name in ("with_gan", "with_gan_epochs")]
    assert [(row["protocol"], row["part"], *row["arms"]) for row in contrasts] == [
        ("clean", part, *arms) for part in ("unseen", "test") for arms in against for _ in range(2)
    ]
    for row in contrasts:
        assert row.keys() == {
            *("protocol", "part", "score", "arms", "difference", "patients", "procedure", "procedure_why"),
            *("equivalent", "same_procedure", "declared", "p_holm"),
        }
        assert row["patients"].keys() == {"interval", "p_value"}
        assert row["patients"]["p_value"] is row["p_holm"] is row["same_procedure"] is None  # phantoms; one seed
        if row["score"] == "auc":
            continue
        assert row["procedure"].keys() == {"interval", "p_value", "replicates", "few"}
        assert (row["procedure"]["replicates"], row["procedure"]["p_value"]) == (3, None)
        right = {}
        for r in rows:
            if (r["protocol"], r["part"]) == (row["protocol"], row["part"]) and r["arm"] in row["arms"]:
                said = float(r["logit_pneumonia"]) > float(r["logit_normal"])
                right.setdefault((r["arm"], r["trial"]), []).append(said == int(r["label"]))
        means = [np.mean([np.mean(v) for (name, _), v in right.items() if name == arm]) for arm in row["arms"]]
        assert row["difference"] == pytest.approx(means[0] - means[1])
    [declared] = [row for row in contrasts if row["declared"]]
    assert (declared["part"], declared["arms"][0], declared["score"]) == ("unseen", "with_gan", "accuracy")


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
    assert list(rows[0]) == COLUMNS
    assert {(r["gan_seed"], r["classifier_seed"]) for r in rows} == {("0", "0")}
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
    grids = sorted((whole / "samples").glob("generated-*.png"))
    assert len(grids) == 3 * 2 * 2 * 2
    with Image.open(grids[0]) as grid:
        assert grid.size == (1074, 388)
    assert len(list((whole / "samples").glob("progress-*.webp"))) == 3 * 2 * 2
    assert len(list((whole / "samples").glob("worst-clean-*.png"))) == 2
    assert (whole / "samples/maps-trial0-clean-with_gan.png").exists()
    assert len(list((whole / "samples").iterdir())) == 24 + 12 + 2 + 1
    assert len(list(whole.glob("events.out.tfevents.*"))) == 1
    stages = sorted(path.name for path in (whole / "checkpoints" / "trial1" / "clean").iterdir() if path.is_dir())
    assert stages == ["gan_normal", "gan_pneumonia", "with_gan", "with_gan_epochs", "without_gan"]
    assert json.loads((whole / "config.json").read_text())["gan"]["filters"] == 4


def test_a_line_of_metrics_tells_its_step_trial_protocol_and_arm_or_gan(whole):
    lines = metrics.read(whole)
    losses = {"d_loss", "g_loss"}
    scalars = [line for line in lines if "grid" not in line]
    for line in scalars:
        fields, values = list(line)[:4], set(list(line)[4:])
        assert fields[:3] == ["step", "trial", "protocol"]
        assert (fields[3], values) == (("gan", values | losses) if "gan" in line else ("arm", {"loss", "accuracy"}))
    of_gans = [line for line in scalars if "gan" in line]
    assert [line["step"] for line in of_gans] == [2, 4, 6] * 12
    assert {line["gan"] for line in of_gans} == {"normal", "pneumonia"}
    first = [line["step"] for line in scalars if (line["trial"], line.get("arm")) == (0, "with_gan_epochs")]
    assert first == [2, 4, 6, 8, 10, 12]
    last = {f"trial{r['trial']}/{r['protocol']}/gan_{r['gan']}/d_loss": r["d_loss"] for r in of_gans if r["step"] == 6}
    found = load(whole)["gan"]["losses"]
    assert {name: own for name, own in found.items() if name.endswith("d_loss")} == {
        name: {"step": 6, "value": value} for name, value in last.items()
    }


def test_the_report_is_one_page_with_all_in_it(whole):
    page = (whole / "report.html").read_text()
    assert "These are phantoms, not X-rays" in page
    assert "There is no p on phantoms" in page
    assert "Diverged" not in page
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    for text in ("98.97", "as printed", "declared beforehand", "made by the GANs", "test, generated images only"):
        assert text in page
    accuracy = load(whole)["protocols"]["clean"]["with_gan"]["unseen"]
    low, high = accuracy["interval"]["accuracy"]
    cell = f"{100 * accuracy['mean']['accuracy']:.1f} ± {100 * accuracy['std']['accuracy']:.1f}"
    assert cell in page
    assert f"(a) [{100 * low:.1f}, {100 * high:.1f}]" in page
    low, high = accuracy["procedure"]["accuracy"]["interval"]
    assert f"(b) [{100 * low:.1f}, {100 * high:.1f}]" in page
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(pictures) == 2 + 1 + 2 + 4 + 2  # forest plots, ROC, reliability and net benefit, matrices, curves
    assert all(base64.b64decode(picture).startswith(b"\x89PNG") for picture in pictures)
    pictures = re.findall(r"data:image/webp;base64,([^\"]+)", page)
    assert len(pictures) == 2 + 1 + 12 + 2  # worst errors, maps, sheets, animations of a trial
    assert all(base64.b64decode(picture)[8:12] == b"WEBP" for picture in pictures)
    assert len(page) < 3e6


def test_a_run_that_is_whole_is_left_alone(whole, tiny_flags):
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.name != ".lock"}
    assert call(main.main, *tiny_flags, f"--workdir={whole}")[0] == 0
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*") if path.name != ".lock"} == before


@pytest.mark.slow
def test_killed_in_four_places_it_ends_in_the_same_bits(single, tiny_flags, tmp_path):
    """SIGKILL in a GAN, in a checkpoint that is being written, in a classifier, and when all but the end is done.

    Whether it finds programs that were compiled before, and GANs that another run has made, or does not.
    """
    workdir, flags = tmp_path / "killed", own_gans(tiny_flags, tmp_path)
    stages = workdir / "checkpoints"
    for condition, finds_programs in (
        (lambda: (stages / "trial0/clean/gan_normal/4").exists(), "true"),
        (lambda: list(stages.glob("trial0/clean/*/*tmp*")), "true"),
        (lambda: (stages / "trial0/paper/with_gan/4").exists(), "false"),
        (lambda: (workdir / "predictions.csv").exists(), "true"),
    ):
        process = start(flags, workdir, JAX_ENABLE_COMPILATION_CACHE=finds_programs)
        wait_for(condition, process)
        process.kill()
        process.wait()
        assert not (workdir / "results.json").exists()
    assert bits(finish(flags, workdir)) == bits(single(0))


def own_gans(flags, tmp_path) -> list[str]:
    """The flags of one trial that finds no GAN that another run has made: it is to be killed in one."""
    return [*flags, "--config.trials=(0,)", f"--config.gan.cache={tmp_path / 'cache'}"]


@pytest.mark.slow
def test_sigterm_saves_the_step_that_runs_and_ends_with_143(tiny_flags, tmp_path):
    workdir = tmp_path / "terminated"
    flags = [
        *own_gans(tiny_flags, tmp_path),
        *(
            "--config.protocols=('clean',)",
            "--config.arms=('without_gan', 'with_gan')",
            "--config.data.subset=(12, 12)",
        ),
        *("--config.gan.steps=150", "--config.gan.sample_every=1000", "--config.gan.save_every=1000"),
    ]
    process = start(flags, workdir)
    wait_for(lambda: "d_loss" in read(workdir / "metrics.jsonl"), process)
    process.send_signal(signal.SIGTERM)
    code, stderr = ended(process)
    assert code == 143, stderr
    saved = re.search(r"signal 15: trial0/clean/gan_normal is saved after step (\d+)", stderr)
    assert [path.name for path in (workdir / "checkpoints/trial0/clean/gan_normal").iterdir()] == [saved[1]]
    assert 2 <= int(saved[1]) < 150
    undisturbed = finish([*flags, "--config.gan.cache="], tmp_path / "undisturbed")
    assert bits(finish(flags, workdir)) == bits(undisturbed)


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.mark.slow
def test_a_second_process_on_a_workdir_refuses(tiny_flags, tmp_path):
    workdir, flags = tmp_path / "busy", own_gans(tiny_flags, tmp_path)
    first = start(flags, workdir)
    try:
        wait_for((workdir / "config.json").exists, first)
        [line] = error_of(call(main.main, *flags, f"--workdir={workdir}"), 2)
        assert "is in use by another process" in line
    finally:
        first.kill()
        first.wait()


def test_another_config_in_a_workdir_refuses_and_says_what_differs(whole, tiny_flags):
    before = bits(whole)
    flags = [*tiny_flags, "--config.seed=7", "--config.gan.filters=8", f"--workdir={whole}"]
    details = error_of(call(main.main, *flags), 2)[1:]
    assert details == ["config.gan.filters: 4 there, 8 now", "config.seed: 0 there, 7 now"]
    assert bits(whole) == before


@pytest.mark.slow
def test_other_splits_or_images_than_a_run_began_with_refuse(single, tiny_flags, tmp_path):
    """Logits at rest are in the order of the splits: under others they would count for the wrong images."""
    begun = tmp_path / "begun"
    shutil.copytree(single(0), begun)
    (begun / "results.json").unlink()
    path, flags = begun / "splits.json", [*tiny_flags, "--config.trials=(0,)", f"--workdir={begun}"]
    text = path.read_text()
    for change, words in (
        (lambda r: r["trials"][0]["clean"]["test"].reverse(), "another version of pneumojax"),
        (lambda r: r.update(fingerprint="0"), "the images are not those"),
    ):
        changed = json.loads(text)
        change(changed)
        path.write_text(json.dumps(changed))
        assert words in error_of(call(main.main, *flags), 2)[0]
        assert not (begun / "results.json").exists()
    path.write_text(text)
    moved = f"--config.gan.cache={tmp_path / 'elsewhere'}"  # a place of files may be another one
    assert bits(finish([*flags[:-1], moved], begun)) == bits(single(0))
    assert json.loads((begun / "config.json").read_text())["gan"]["cache"] == str(tmp_path / "elsewhere")


HOT = """
from pneumojax import arms

def hot(offer):
    return arms.without_gan(offer)._replace(title="hot", against="without_gan", overrides={"learning_rate": 1e30})
"""


@pytest.mark.slow
def test_an_arm_that_diverges_fails_alone(tiny_flags, tmp_path, monkeypatch):
    """Exit code 3 after all else is whole, and again 3 at once."""
    (tmp_path / "own_arms.py").write_text(HOT)
    workdir = tmp_path / "run"
    flags = [*tiny_flags, "--config.trials=(0, 1)", "--config.protocols=('clean',)"]
    flags.append("--config.arms=('without_gan', 'own_arms.hot', 'with_gan')")
    line, *details = error_of(ended(start(flags, workdir, PYTHONPATH=f"{tmp_path}:.")), 3)
    assert "diverged, 2 of the study's classifiers or their GANs; lower that learning rate" in line
    assert details == [f"trial {t}, clean, hot: loss after step 2 (last good checkpoint: none)" for t in (0, 1)]
    arms = load(workdir)["protocols"]["clean"]
    how = {"step": 2, "metric": "loss", "checkpoint": None}
    assert arms["hot"]["diverged"] == {"trial": 0, **how}
    assert arms["hot"]["trials"] == [{"trial": t, "train": 26, "diverged": how} for t in (0, 1)]
    assert "mean" not in arms["hot"]
    for name in ("without_gan", "with_gan"):
        assert "diverged" not in arms[name]
        assert [trial["test"] for trial in arms[name]["trials"]] == [6, 6]
        assert 0 <= arms[name]["unseen"]["mean"]["auc"] <= 1
    assert [row["arms"] for row in load(workdir)["contrasts"]] == [["with_gan", "without_gan"]] * 4  # parts, scores
    with (workdir / "predictions.csv").open() as file:
        assert {row["arm"] for row in csv.DictReader(file)} == {"without_gan", "with_gan"}
    page = (workdir / "report.html").read_text()
    assert "clean, hot, trial 0: loss is not finite after step 2" in page
    assert "DIVERGED and left out: trial 0 after step 2 (loss), trial 1 after step 2 (loss)" in page
    monkeypatch.syspath_prepend(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name != ".lock"}
    assert error_of(call(main.main, *flags, f"--workdir={workdir}"), 3) == [line, *details]
    assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*") if path.name != ".lock"} == before


@pytest.mark.slow
def test_arms_without_a_gan_that_diverges_are_scored(tiny_flags, tmp_path):
    flags = [*tiny_flags, "--config.trials=(0,)", "--config.gan.discriminator_learning_rate=1e38"]
    line, *details = error_of(call(main.main, *flags, f"--workdir={tmp_path / 'run'}"), 3)
    assert "diverged, 3 of the study's classifiers" in line
    protocols = load(tmp_path / "run")["protocols"]
    marked = {(p, name): arm.get("diverged") for p, arms in protocols.items() for name, arm in arms.items()}
    failed = {where for where, how in marked.items() if how}
    assert failed == {("clean", "with_gan"), ("clean", "with_gan_epochs"), ("paper", "with_gan")}
    assert all(how["metric"].startswith("gan_normal/") for how in marked.values() if how)
    for protocol in ("clean", "paper"):
        assert protocols[protocol]["without_gan"]["trials"][0]["test"] == 6
        assert not (tmp_path / "run/checkpoints" / f"trial0/{protocol}/with_gan").exists()
    assert load(tmp_path / "run")["contrasts"] == []
    assert "with GAN, trial 0: gan_normal/" in (tmp_path / "run/report.html").read_text()
    assert len(details) == 3


@pytest.mark.slow
def test_a_study_whose_arms_all_diverge_is_whole_too(tiny_flags, tmp_path):
    flags = [*tiny_flags, "--config.trials=(0,)", "--config.classifier.learning_rate=1e30"]
    line, *details = error_of(call(main.main, *flags, f"--workdir={tmp_path / 'run'}"), 3)
    assert ("diverged, 5 of the study's classifiers" in line, len(details)) == (True, 5)
    assert (tmp_path / "run/checkpoints/trial0/clean/gan_normal/6").is_dir()
    results = load(tmp_path / "run")
    assert [arm["diverged"]["trial"] for arms in results["protocols"].values() for arm in arms.values()] == [0] * 5
    assert results["contrasts"] == []
    assert (tmp_path / "run/predictions.csv").read_text() == f"{','.join(COLUMNS)}\n"
    assert "with GAN — DIVERGED and left out" in (tmp_path / "run/report.html").read_text()
