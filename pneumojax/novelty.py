"""Whether an image is unlike those that a classifier was trained on, by its distance from them in features.

The distance is that to the fifth nearest training image, of features before the head with length 1 (Sun et al. 2022,
'Out-of-distribution detection with deep nearest neighbors'). What is far is told by images of patients who were not
trained on: half of these patients set the threshold, the others say how often it is a false alarm.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from pneumojax import checkpoint, classify, data, sharding
from pneumojax import run as runs
from pneumojax.classify import Recipe
from pneumojax.data import pixels, stream
from pneumojax.data import table as tables
from pneumojax.data.table import Table
from pneumojax.errors import BadInput, describe
from pneumojax.run import Run
from pneumojax.stage import Stage
from pneumojax.systems import Opened, finetune

NEAREST = 5  # whose distance counts
SHARE = 0.95  # of images like those trained on that are not to be flagged
MOST = 400  # images of either kind that are looked at
FEWEST = 4  # patients who were not trained on


class Reference(NamedTuple):
    """What images are held against."""

    features: np.ndarray  # float32 [m, d], of training images
    threshold: float  # distance above which an image is unlike them
    false_alarms: float  # share of held-out images that it flags, others than it was chosen by
    images: int  # how many these are
    patients: int  # whose they are


def distances(features: np.ndarray, trained_on: np.ndarray) -> np.ndarray:
    """Of features [n, d] from the NEAREST-th nearest of others [m, d], all scaled to length 1: 0…2, [n]."""
    one, other = (
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12) for rows in (features, trained_on)
    )
    squares = np.maximum(2 - 2 * one.astype(float) @ other.astype(float).T, 0)
    place = min(NEAREST, len(trained_on)) - 1
    return np.sqrt(np.partition(squares, place, axis=1)[:, place])


def fitted(trained_on: np.ndarray, held_out: np.ndarray, patients: list[str]) -> Reference:
    """A reference of training images.

    Args:
      trained_on: features float [m, d].
      held_out: features float [n, d] of images of other patients.
      patients: of these, [n]; every other one, in the order of their names, sets the threshold.
    """
    order = {patient: number for number, patient in enumerate(sorted(set(patients)))}
    choosing = np.array([order[patient] % 2 == 0 for patient in patients])
    far = distances(held_out, trained_on)
    threshold = float(np.quantile(far[choosing], SHARE, method="higher"))
    alarms = far[~choosing] > threshold
    return Reference(np.float32(trained_on), threshold, float(alarms.mean()), len(alarms), len(order) // 2)


def of_run(run: Run, stage: Stage, opened: Opened | None) -> tuple[Reference | None, str]:
    """The reference of a classifier of a finished run, and why there is none.

    It is made of the run's images, where `config.data` still brings those, and kept in the workdir for the next time.

    Args:
      run: a finished one.
      stage: of the classifier.
      opened: its network.
    """
    path, key = run.workdir / "checkpoints" / f"{stage.name}.reference.npz", key_of(run, stage)
    if opened is None:
        return None, "its system tells no features"
    if known := kept(path, key):
        return known, ""
    trained_on, held_out = names_of(run, stage)
    patients = list(held_out.values())
    if len(set(patients)) < FEWEST:
        return None, "too few patients were kept from it"
    try:
        made = features_of(opened, images_of(run, [*trained_on, *held_out]))
    except (BadInput, OSError) as error:
        return None, f"the run's own images cannot be had: {describe(error)}"
    reference = fitted(made[: len(trained_on)], made[len(trained_on) :], patients)
    try:
        checkpoint.write_arrays(path, key=np.array(key), **{n: np.asarray(v) for n, v in reference._asdict().items()})
    except OSError as error:
        logging.warning("%s: %s: what images are held against is made anew each time", path, describe(error))
    return reference, ""


def key_of(run: Run, stage: Stage) -> str:
    """What a reference is of: the images of a run, and what this classifier says of them."""
    logits = np.array([values for name, values in run.predictions.items() if name.startswith("logit_")]).T
    digest = hashlib.sha256(run.results["data"]["fingerprint"].encode())
    digest.update(np.ascontiguousarray(logits[runs.rows_of(run, stage)], "<f8").tobytes())
    return digest.hexdigest()


def kept(path: Path, key: str) -> Reference | None:
    """A reference that was kept; None where there is none, it is damaged, or of another classifier."""
    try:
        arrays = checkpoint.read_arrays(path)
        if arrays.pop("key").item() != key:
            return None
        numbers = {name: arrays[name].item() for name in Reference._fields[1:]}
        return Reference(arrays["features"], **numbers)
    except (OSError, *checkpoint.DAMAGED):
        return None


def names_of(run: Run, stage: Stage) -> tuple[list[str], dict[str, str]]:
    """Real images that a classifier was trained on, and those of other patients with these; at most MOST of each.

    Under the protocol `paper` all of the subset count as trained on: its GAN saw them.
    """
    [record] = [trial[stage.protocol] for trial in run.splits["trials"] if trial["trial"] == stage.trial]
    parts = ("test", "unseen", "inner") if "train" in record else ("unseen",)
    columns = [run.predictions[name] for name in ("protocol", "trial", "arm", "part", "name", "patient")]
    held_out = {
        name: patient
        for protocol, trial, arm, part, name, patient in zip(*columns, strict=True)
        if (protocol, trial, arm) == (stage.protocol, stage.trial, stage.arm) and part in parts
    }
    return some(record.get("train", record["subset"])), {name: held_out[name] for name in some(sorted(held_out))}


def some(names: list[str]) -> list[str]:
    """At most MOST of them, evenly spread."""
    return [names[place] for place in np.unique(np.linspace(0, len(names) - 1, min(MOST, len(names))).astype(int))]


def images_of(run: Run, names: list[str]) -> np.ndarray:
    """Images of a run by their names, uint8 [n, S, S]. Errors: BadInput where these are not to be had any more."""
    config = run.config
    own = data.load(config.data, config.model.image_size)
    images, _ = data.with_external(own, config.data, config.model.image_size)
    if data.fingerprint(images) != run.results["data"]["fingerprint"]:
        raise BadInput(f"config.data.dir={config.data.dir!r} holds others now")
    real = stream.real_images(images, config)
    row_of = {name: row for row, name in enumerate(images.names)}
    return tables.images(Table(real, images.labels), np.array([row_of[name] for name in names]))


@partial(jax.jit, static_argnames=("recipe", "end"))
def seen_by(variables, examples, generated, index: tables.Index, recipe: Recipe, end: int):
    """What the stage of number `end` sees, float32 [B, d], of the images at an index [B]; of a picture the mean."""
    images = sharding.split_batch(tables.take(examples, generated, index))
    return classify.pooled(classify.until(recipe, variables, pixels.normalise(images), end).astype(jnp.float32))


def features_of(opened: Opened, images: np.ndarray) -> np.ndarray:
    """Features float32 [n, d] of images uint8 [n, S, S]."""
    compute = partial(seen_by, end=opened.end)
    rows = np.arange(len(images))
    return classify.predict(opened.variables, finetune.table_of(images), rows, opened.recipe, compute)
