"""What is sent of a finished run to trackers, and that their own local modes take it."""

import sys

import pytest
from runs import call, error_of, load

from pneumojax import config, metrics, sinks
from pneumojax import run as runs
from pneumojax.sinks import __main__ as command

STAGE = "trial0/clean/gan_normal"


@pytest.fixture(scope="module")
def record(single):
    return sinks.record_of(runs.load(single(0)))


def test_what_is_sent_are_numbers(record, single):
    """Every line of metrics, each score with its interval, the config without folders, no image and no name of one."""
    workdir = single(0)
    assert record.name == "trial0"
    assert (record.fields["model.name"], record.fields["trials"]) == ("resnet18", (0,))
    assert not record.fields.keys() & set(config.PLACES)
    lines = [line for line in metrics.read(workdir) if "grid" not in line]
    assert len(record.curves) == len(lines) > 0
    assert {name for stage, _, values in record.curves for name in values if stage == STAGE} == {
        *("d_loss", "g_loss", "d_real", "d_fake")
    }
    arm = load(workdir)["protocols"]["clean"]["with_gan"]["unseen"]
    own = {name: record.scores[f"clean/with_gan/unseen/{name}"] for name in ("auc", "auc/low", "auc/high")}
    assert list(own.values()) == [arm["mean"]["auc"], *arm["interval"]["auc"]]
    assert {type(value) for value in record.scores.values()} == {float}
    assert [path.name for path in record.files] == ["results.csv"]
    asked = sinks.record_of(runs.load(workdir), page=True)
    assert [path.name for path in asked.files] == ["results.csv", "report.html"]


@pytest.mark.parametrize("sink", ["wandb", "mlflow"])
def test_without_its_package_the_remedy_is_told(single, monkeypatch, sink):
    monkeypatch.setitem(sys.modules, sink, None)
    [line] = error_of(call(command.main, sink, f"--workdir={single(0)}"), 2)
    assert line == f"{sink} is not installed here; pip install 'pneumojax[sinks]'"


def test_what_cannot_be_sent_is_told(tmp_path):
    [line] = error_of(call(command.main, "wandb", f"--workdir={tmp_path}"), 2)
    assert line.startswith(f"{tmp_path} is not the workdir of a finished run")
    [line] = error_of(call(command.main, "paper", f"--workdir={tmp_path}"), 2)
    assert "invalid choice: 'paper' (choose from" in line


@pytest.mark.slow
def test_mlflow_takes_a_run_into_a_database(single, record, tmp_path, monkeypatch, capsys):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path}/runs.db"
    mlflow.set_tracking_uri(uri)
    code, stderr = call(command.main, "mlflow", f"--workdir={single(0)}", "--project=x-rays", "--page")
    assert code == 0, stderr
    where, of_run = capsys.readouterr().out.split()
    client = mlflow.MlflowClient(uri)
    made = client.get_run(of_run)
    assert where == uri
    assert client.get_experiment(made.info.experiment_id).name == "x-rays"
    assert (made.info.run_name, made.info.status) == ("trial0", "FINISHED")
    assert made.data.params == {name: str(value) for name, value in record.fields.items()}
    assert {name: made.data.metrics[name] for name in record.scores} == pytest.approx(record.scores)
    curve = [(one.step, one.value) for one in client.get_metric_history(of_run, f"{STAGE}/d_loss")]
    assert sorted(curve) == [(step, values["d_loss"]) for stage, step, values in record.curves if stage == STAGE]
    assert [file.path for file in client.list_artifacts(of_run)] == ["report.html", "results.csv"]


@pytest.mark.slow
def test_wandb_takes_a_run_offline(single, record, tmp_path, monkeypatch, capsys):
    """Into a folder that `wandb sync` sends; it is read again by its own reader."""
    pytest.importorskip("wandb")
    monkeypatch.chdir(tmp_path)
    for name, value in {"MODE": "offline", "DIR": str(tmp_path), "ERROR_REPORTING": "false", "SILENT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    code, stderr = call(command.main, "wandb", f"--workdir={single(0)}", "--project=x-rays")
    assert code == 0, stderr
