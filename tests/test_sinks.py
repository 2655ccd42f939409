"""What is sent of a finished run to trackers, and that their own local modes take it."""

import json
import struct
import sys
from pathlib import Path

import pytest
from runs import call, error_of, load

from pneumojax import config, metrics, sinks
from pneumojax import run as runs
from pneumojax.sinks import __main__ as command

STAGE = "trial0/clean/gan_normal"


@pytest.fixture(scope="module")
def record(whole):
    return sinks.record_of(runs.load(whole))


def test_what_is_sent_are_numbers(record, whole):
    """Every line of metrics, each score with its interval, the config without folders, no image and no name of one."""
    assert record.name == "whole"
    assert (record.fields["model.name"], record.fields["trials"]) == ("resnet18", (0, 1, 2))
    assert not record.fields.keys() & set(config.PLACES)
    lines = [line for line in metrics.read(whole) if "grid" not in line]
    assert len(record.curves) == len(lines) > 0
    assert {name for stage, _, values in record.curves for name in values if stage == STAGE} == {
        *("d_loss", "g_loss", "d_real", "d_fake")
    }
    arm = load(whole)["protocols"]["clean"]["with_gan"]["unseen"]
    own = {name: record.scores[f"clean/with_gan/unseen/{name}"] for name in ("auc", "auc/low", "auc/high")}
    assert list(own.values()) == [arm["mean"]["auc"], *arm["interval"]["auc"]]
    assert {type(value) for value in record.scores.values()} == {float}
    assert [path.name for path in record.files] == ["results.csv"]
    asked = sinks.record_of(runs.load(whole), page=True)
    assert [path.name for path in asked.files] == ["results.csv", "report.html"]


@pytest.mark.parametrize("sink", ["wandb", "mlflow"])
def test_without_its_package_the_remedy_is_told(whole, monkeypatch, sink):
    monkeypatch.setitem(sys.modules, sink, None)
    [line] = error_of(call(command.main, sink, f"--workdir={whole}"), 2)
    assert line == f"{sink} is not installed here; pip install 'pneumojax[sinks]'"


def test_what_cannot_be_sent_is_told(tmp_path):
    [line] = error_of(call(command.main, "wandb", f"--workdir={tmp_path}"), 2)
    assert line.startswith(f"{tmp_path} is not the workdir of a finished run")
    [line] = error_of(call(command.main, "paper", f"--workdir={tmp_path}"), 2)
    assert "invalid choice: 'paper' (choose from" in line


@pytest.mark.slow
def test_mlflow_takes_a_run_into_a_database(whole, record, tmp_path, monkeypatch, capsys):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/runs.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    code, stderr = call(command.main, "mlflow", f"--workdir={whole}", "--project=x-rays", "--page")
    assert code == 0, stderr
    where, of_run = capsys.readouterr().out.split()
    client = mlflow.MlflowClient(uri)
    made = client.get_run(of_run)
    assert where == uri
    assert client.get_experiment(made.info.experiment_id).name == "x-rays"
    assert (made.info.run_name, made.info.status) == ("whole", "FINISHED")
    assert made.data.tags == {"mlflow.runName": "whole"}  # not who sends, from where
    assert made.data.params == {name: str(value) for name, value in record.fields.items()}
    assert {name: made.data.metrics[name] for name in record.scores} == pytest.approx(record.scores)
    curve = [(one.step, one.value) for one in client.get_metric_history(of_run, f"{STAGE}/d_loss")]
    assert sorted(curve) == [(step, values["d_loss"]) for stage, step, values in record.curves if stage == STAGE]
    assert [file.path for file in client.list_artifacts(of_run)] == ["report.html", "results.csv"]


def records_of(path: Path) -> list:
    """What wandb has kept offline: parts of records, each behind its checksum, length and kind, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, found, record, at = path.read_bytes(), [], b"", 7
    while at < len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        length, kind = struct.unpack("<HB", content[at + 4 : at + 7])
        record, at = record + content[at + 7 : at + 7 + length], at + 7 + length
        if kind in (1, 4):  # the whole, or the last part
            found.append(Record.FromString(record))
            record = b""
    return found


@pytest.mark.slow
def test_wandb_takes_a_run_offline(whole, record, tmp_path, monkeypatch, capsys):
    """Into a folder that `wandb sync` sends: curves over steps of their own, scores as its summary."""
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "ERROR_REPORTING": "false", "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    code, stderr = call(command.main, "wandb", f"--workdir={whole}", "--project=x-rays")
    assert code == 0, stderr
    folder = Path(capsys.readouterr().out.strip())
    assert folder.parent == tmp_path / "wandb"
    [kept] = folder.glob("run-*.wandb")
    found = records_of(kept)
    [made] = [one.run for one in found if one.HasField("run")]
    assert (made.project, made.display_name, made.host) == ("x-rays", "whole", "")
    told = {one.key: json.loads(one.value_json) for one in made.config.update}
    assert {name: told[name] for name in record.fields} == json.loads(json.dumps(record.fields))
    rows = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in one.history.item}
        for one in found
        if one.HasField("history")
    ]
    curve = [(row[f"{STAGE}/step"], row[f"{STAGE}/d_loss"]) for row in rows if f"{STAGE}/d_loss" in row]
    assert curve == [(step, values["d_loss"]) for stage, step, values in record.curves if stage == STAGE]
    axes = {one.metric.glob_name: one.metric.step_metric for one in found if one.HasField("metric")}
    assert axes[f"{STAGE}/*"] == f"{STAGE}/step"
    summary = {
        "/".join(item.nested_key) or item.key: json.loads(item.value_json)
        for one in found
        if one.HasField("summary")
        for item in one.summary.update
    }
    assert {name: summary[name] for name in record.scores} == pytest.approx(record.scores)
    assert [file.path for one in found if one.HasField("files") for file in one.files.files] == ["results.csv"]
