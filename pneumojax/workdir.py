"""What makes a folder the run of one config: the lock, the checks before anything is written, the records."""

import contextlib
import csv
import importlib.metadata
import io
import json
import platform
from pathlib import Path

import jax

from pneumojax import checkpoint
from pneumojax.config import differences
from pneumojax.errors import BadInput
from pneumojax.evaluate import Prediction

OUTPUTS = ("checkpoints", "metrics.jsonl", "predictions.csv", "report.html", "results.json", "splits.json")


@contextlib.contextmanager
def claimed(workdir: Path, config: dict):
    """Creates the workdir and holds it for this process.

    Errors: BadInput where it belongs to another config or a process that runs; OSError where it cannot be written.
    """
    with checkpoint.held(workdir, "--workdir"):
        check_config(workdir, config)
        yield


def check_config(workdir: Path, config: dict) -> None:
    """Errors: BadInput where the workdir was made by another config, with the fields that differ."""
    path = workdir / "config.json"
    if path.exists():
        lines = differences(json.loads(path.read_text()), config)
        if lines:
            raise BadInput(f"{path} is of another config; choose another --workdir or set these fields back", lines)
    elif any((workdir / name).exists() for name in OUTPUTS):
        raise BadInput(f"{workdir} holds results but no config.json; choose another --workdir")


def record_plan(workdir: Path, config: dict, trials: list[dict], fingerprint: str, weights: str) -> None:
    """Writes config.json and splits.json once.

    Errors: BadInput where the images, the weights, or the splits that this version of the code draws are not those
    that the run began with: what is left of it would be taken for results on other images.
    """
    path = workdir / "splits.json"
    record = {"fingerprint": fingerprint, "weights": weights, "trials": trials}
    if path.exists():
        begun = json.loads(path.read_text())
        if begun["fingerprint"] != fingerprint:
            raise BadInput(
                f"the images are not those that {workdir} began with (config.data.dir={config['data']['dir']!r}); "
                "bring them back or choose another --workdir"
            )
        if begun["weights"] != weights:
            raise BadInput(
                f"the weights are not those that {workdir} began with (config.model.weights="
                f"{config['model']['weights']!r}); bring them back or choose another --workdir"
            )
        if begun != record:
            raise BadInput(
                f"{path} was drawn by another version of pneumojax; go on with that one or choose another --workdir"
            )
        return
    checkpoint.write_json(workdir / "config.json", config)
    checkpoint.write_json(path, record)


def write_predictions(workdir: Path, predictions: list[Prediction]) -> None:
    """Writes predictions.csv, one line for each image, part, trial, arm and protocol."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("protocol", "arm", "trial", "part", "name", "patient", "label", "logit_normal", "logit_pneumonia")
    writer.writerow(columns)
    for p in predictions:
        rows = zip(p.names, p.patients, p.labels.tolist(), p.logits, strict=True)
        for name, patient, label, logits in rows:
            # nine digits bring a float32 back to the bit
            writer.writerow(
                (p.protocol, p.arm, p.trial, p.part, name, patient, label, *(f"{value:.9g}" for value in logits))
            )
    checkpoint.write_bytes(workdir / "predictions.csv", text.getvalue().encode(errors="surrogateescape"))


def environment() -> dict:
    """Versions and devices, on which the bits of a result depend."""
    packages = ("pneumojax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "pillow")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "devices": [device.device_kind for device in jax.devices()],
        "processes": jax.process_count(),
    }
