"""MLflow: a server, a database or a folder, as MLFLOW_TRACKING_URI says."""

import time

from pneumojax.errors import BadInput, describe
from pneumojax.sinks import Record

AT_ONCE = 1000  # metrics in one request


def send(record: Record, project: str) -> str:
    """Makes a run of the experiment `project`: curves and scores as metrics. Returns: where, and its id."""
    import mlflow
    from mlflow.entities import Metric

    now = int(1000 * time.time())
    found = [
        Metric(f"{stage}/{name}", value, now, step)
        for stage, step, values in record.curves
        for name, value in values.items()
    ]
    found += [Metric(name, value, now, 0) for name, value in record.scores.items()]
    try:
        mlflow.set_experiment(project)
        with mlflow.start_run(run_name=record.name) as run:
            mlflow.log_params(record.fields)
            for first in range(0, len(found), AT_ONCE):
                mlflow.MlflowClient().log_batch(run.info.run_id, metrics=found[first : first + AT_ONCE])
            for path in record.files:
                mlflow.log_artifact(str(path))
        return f"{mlflow.get_tracking_uri()} {run.info.run_id}"
    except mlflow.MlflowException as error:
        raise BadInput(f"mlflow did not take the run: {describe(error)}") from error
