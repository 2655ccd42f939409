"""MLflow: a server, a database or a folder, as MLFLOW_TRACKING_URI says."""

import time

from pneumojax.errors import BadInput, describe
from pneumojax.sinks import Record

AT_ONCE = 1000  # metrics in one request


def send(record: Record, project: str) -> str:
    """Makes a run of the experiment `project`: curves and scores as metrics. Returns: where, and its id.

    By mlflow's client, which adds nothing of its own: who sends, from which script and commit, is not who has trained.
    """
    import mlflow
    from mlflow.entities import Metric, Param

    now = int(1000 * time.time())
    found = [
        Metric(f"{stage}/{name}", value, now, step)
        for stage, step, values in record.curves
        for name, value in values.items()
    ]
    found += [Metric(name, value, now, 0) for name, value in record.scores.items()]
    try:
        client, experiment = mlflow.MlflowClient(), mlflow.set_experiment(project)
        run, ended = client.create_run(experiment.experiment_id, run_name=record.name).info.run_id, "FAILED"
        try:
            client.log_batch(run, params=[Param(name, str(value)) for name, value in record.fields.items()])
            for first in range(0, len(found), AT_ONCE):
                client.log_batch(run, metrics=found[first : first + AT_ONCE])
            for path in record.files:
                client.log_artifact(run, str(path))
            ended = "FINISHED"
        finally:
            client.set_terminated(run, ended)
        return f"{mlflow.get_tracking_uri()} {run}"
    except mlflow.MlflowException as error:
        raise BadInput(f"mlflow did not take the run: {describe(error)}") from error
