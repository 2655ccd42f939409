"""Sends a finished run to a tracker, after it has ended: the training loop knows of none, and nothing is configured.

A sink is a module in this folder with

    send(record: Record, project: str) -> str
        Makes one run of `project` there, of which it gives the place. The tracker's own package is imported within, and
        its own environment variables say where it is (WANDB_MODE=offline, MLFLOW_TRACKING_URI). Errors: BadInput where
        it does not take the run.

Numbers are sent, and no name of an image; the page, on which X-rays of the test are shown, where it is asked for.
"""

from pathlib import Path
from typing import Any, NamedTuple

from pneumojax import config as configs
from pneumojax import metrics, tidy
from pneumojax.run import Run


class Record(NamedTuple):
    """What is sent of a run."""

    name: str
    fields: dict[str, Any]  # of its config, 'a.b' → value, less the places of files
    curves: list[tuple[str, int, dict[str, float]]]  # stage, 'trial0/clean/with_gan', step, its metrics
    scores: dict[
        str, float
    ]  # 'clean/with_gan/unseen/auc', and that with '/low' and '/high': fractions, 95% for new patients
    files: list[Path]


def record_of(run: Run, page: bool = False) -> Record:
    """What is sent of a run; with `page` its report.html too."""
    fields = configs.flat(run.config.to_dict())
    lines = map(metrics.parted, metrics.read(run.workdir))
    curves = [(stage.name, step, values) for step, stage, values in lines if "grid" not in values]
    scores = {
        "/".join((*one[:4], *end)): value
        for one in tidy.scores(run.results)
        for end, value in (((), one.mean), (("low",), one.low), (("high",), one.high))
        if value is not None
    }
    names = ("results.csv", "report.html") if page else ("results.csv",)
    return Record(
        run.workdir.absolute().name,
        {field: value for field, value in fields.items() if field not in configs.PLACES},
        curves,
        scores,
        [run.workdir / name for name in names if (run.workdir / name).exists()],
    )
