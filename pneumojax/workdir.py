"""What makes a folder the run of one config: the lock, the checks before anything is written, the records."""

import contextlib
import csv
import io
from pathlib import Path
from types import ModuleType

import numpy as np
from absl import logging

from pneumojax import checkpoint, hosts
from pneumojax.config import PLACES, differences
from pneumojax.errors import BadInput
from pneumojax.evaluate import Prediction
from pneumojax.names import defused, escaped

OUTPUTS = (
    "checkpoints",
    "metrics.jsonl",
    "predictions.csv",
    "report.html",
    "results.csv",
    "results.json",
    "splits.json",
)


@contextlib.contextmanager
def claimed(workdir: Path, config: dict):
    """Creates the workdir and holds it for this process.

    Errors: BadInput where it belongs to another config or a process that runs; OSError where it cannot be written.
    """
    with checkpoint.held(workdir, "--workdir"):
        hosts.agreed(lambda: check_config(workdir, config))
        yield


def check_config(workdir: Path, config: dict) -> None:
    """Errors: BadInput where the workdir was made by another config, with the fields that differ.

    Files may lie elsewhere by now: whether they are the same is known by their digests (`begin`).
    """
    path = workdir / "config.json"
    if path.exists():
        with checkpoint.record_of_run(path):
            lines = differences(checkpoint.read_json(path), config)
        moved = tuple(f"config.{field}: " for field in PLACES)
        lines = [line for line in lines if not line.startswith(moved)]
        if lines:
            raise BadInput(f"{path} is of another config; choose another --workdir or set these fields back", lines)
    elif any((workdir / name).exists() for name in OUTPUTS):
        raise BadInput(f"{workdir} holds results but no config.json; choose another --workdir")


def record_plan(workdir: Path, config: dict, trials: list[dict], fingerprint: str, facts: dict) -> bool:
    """Writes config.json and splits.json once; `facts` are those of the system.

    Returns: whether the run had begun before.

    Errors: BadInput where splits.json is damaged, or the images, the weights, or the splits that this version of the
    code draws are not those that the run began with: what is left of it would be taken for results on other images.
    Nor may they be others in another process.
    """
    weights = facts.get("weights_digest") or "none"
    for what, digest in {"images": fingerprint, "weights": weights}.items():
        hosts.check_alike(what, digest, f"let each read the same {what}")
    record = {"fingerprint": fingerprint, "weights": weights, "trials": trials}
    return hosts.agreed(lambda: begin(workdir, config, record))


def begin(workdir: Path, config: dict, record: dict) -> bool:
    """Writes a config and a record as splits.json once; see `record_plan`."""
    path = workdir / "splits.json"
    images, weights = record["fingerprint"], record["weights"]
    if path.exists():
        with checkpoint.record_of_run(path):
            begun = checkpoint.read_json(path)
            images_then, weights_then, _ = (begun[name] for name in record)
        if images_then != images:
            raise BadInput(
                f"the images are not those that {workdir} began with (config.data.dir={config['data']['dir']!r}); "
                "bring them back or choose another --workdir"
            )
        if weights_then != weights:
            raise BadInput(
                f"the weights are not those that {workdir} began with (config.model.weights="
                f"{config['model']['weights']!r}); bring them back or choose another --workdir"
            )
        if begun != record:
            raise BadInput(
                f"{path} was drawn by another version of pneumojax; go on with that one or choose another --workdir"
            )
        if checkpoint.read_json(workdir / "config.json") != config:
            checkpoint.write_json(workdir / "config.json", config)  # of where files lie now: later commands read them
        return True
    checkpoint.write_json(workdir / "config.json", config)
    checkpoint.write_json(path, record)
    return False


def write_parameters(workdir: Path, name: str, system: ModuleType, prepared) -> None:
    """Writes parameters.txt, where the `system` has such a table, and says how many are trained, where that is told."""
    facts, where = prepared.facts, ""
    if table := getattr(system, "parameters", None):
        checkpoint.write_bytes(workdir / "parameters.txt", f"{name}\n{table(prepared)}\n".encode())
        where = f": {workdir / 'parameters.txt'}"
    if "parameters" in facts:
        trained = facts.get("trained_parameters", 0)
        logging.info("%s: %s parameters, %s of them trained%s", name, f"{facts['parameters']:,}", f"{trained:,}", where)


def write_predictions(workdir: Path, predictions: list[Prediction], classes) -> None:
    """Writes predictions.csv, one line for each image, part, trial, arm and protocol."""
    keys = ("protocol", "arm", "trial", "gan_seed", "classifier_seed", "part")
    columns = {name: [getattr(p, name) for p in predictions for _ in p.names] for name in keys}
    columns |= {
        "name": [name for p in predictions for name in p.names],
        "patient": [patient for p in predictions for patient in p.patients],
        "label": [label for p in predictions for label in p.labels.tolist()],
    }
    logits = np.concatenate([np.zeros((0, len(classes)), np.float32), *(p.logits for p in predictions)])
    columns |= {f"logit_{name.lower()}": logits[:, label].tolist() for label, name in enumerate(classes)}
    checkpoint.write_bytes(workdir / "predictions.csv", csv_of(columns))


def csv_of(columns: dict[str, list]) -> bytes:
    """A table by column as CSV in UTF-8, a line a row; nine digits bring a float32 back to the bit.

    Texts are escaped as `names.escaped` does, or a name with a line end in it would be two lines, and as
    `names.defused` does, or a spreadsheet would compute one that begins with `=`; `names.unescaped` reads them.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(cell, columns))
    for row in zip(*columns.values(), strict=True):
        writer.writerow(map(cell, row))
    return text.getvalue().encode()


def cell(value) -> str:
    """A value as it stands in a CSV."""
    if isinstance(value, float):
        return f"{value:.9g}"
    return defused(escaped(value)) if isinstance(value, str) else escaped(value)
