"""What a study does for each trial and protocol: the GAN, the classifiers of its arms, their logits."""

import time
import zlib
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import FrozenConfigDict

from pneumojax import augment, checkpoint, classify, data, finetune, heads, loop, pretrained, sharding
from pneumojax.classify import Recipe
from pneumojax.data import pixels, splits, stream
from pneumojax.evaluate import Prediction
from pneumojax.gan import train as gan_train
from pneumojax.metrics import Writer
from pneumojax.protocols import Arm, Plan

Plans = dict[tuple[int, str], Plan]  # (trial, protocol) → what is done for them


class Study(NamedTuple):
    """What all stages share."""

    config: FrozenConfigDict
    workdir: Path
    writer: Writer
    timings: dict[str, float]  # seconds
    recipe: Recipe
    weights: pretrained.Weights | None  # None: from scratch
    gan: ModuleType
    images: data.Images
    real: jax.Array | stream.Streamed  # uint8 [N, S, S] on the device, or read from disk
    small: Callable[[], jax.Array]  # the same, uint8 [N, G, G] on the device, as GANs see them
    generated_rows: int  # of the longest plan; tables are as long for all, so that programs compile once
    training_rows: int  # of the longest arm, as above


def make_generated(study: Study, planned: Plan, stage: str) -> np.ndarray:
    """The generated images of one protocol of one trial, uint8 [M, G, G], in the order of `planned.generated`."""
    path = study.workdir / "checkpoints" / stage / "generated.npz"
    if path.exists():
        return checkpoint.read_arrays(path)["images"]
    config = study.config.gan
    if not planned.generated:
        return np.zeros((0, config.image_size, config.image_size), np.uint8)
    row_of = {name: row for row, name in enumerate(study.images.names)}
    train_key, sample_key = jax.random.split(stage_key(study.config.seed, f"{stage}/gan"))
    with timed(study.timings, "gan"):
        states = gan_train.train(
            study.gan,
            config,
            study.small(),
            sharding.replicate(study.images.labels),
            np.array([row_of[name] for name in planned.seen_by_gan], np.int32),
            train_key,
            stage,
            study.workdir,
            study.writer,
        )
        counts = splits.count(planned.generated, splits.labels_of_generated(planned.generated))
        generated = gan_train.generate(study.gan, config, states, counts, sample_key)
    checkpoint.write_arrays(path, images=generated)
    return generated


def keep_frozen(study: Study) -> None:
    """Saves what is not trained, once, so that `predict` needs the workdir alone."""
    if study.config.classifier.mode == "full":
        return
    with checkpoint.open_manager(study.workdir / "checkpoints" / "frozen") as manager:
        if manager.latest_step() is None:
            frozen = finetune.split(start(study, study.config.trials[0]), study.recipe.tuning)[1]
            if jax.tree.leaves(frozen):  # nothing is where `last_k` counts all stages
                checkpoint.save(manager, 0, frozen)


def start(study: Study, trial: int) -> dict:
    """The variables that all classifiers of a trial start from; they differ by their images alone."""
    key = stage_key(study.config.seed, f"trial{trial}/init")
    variables = classify.init(key, study.recipe.model, study.config.model.image_size)
    return pretrained.start_from(variables, study.weights.variables)[0] if study.weights else variables


def table_rows(study: Study, planned: Plan, offset: int) -> dict[str, int]:
    """Name of an image → its row in a table that has the real ones first and this plan's generated ones at `offset`."""
    rows = {name: row for row, name in enumerate(study.images.names)}
    return rows | {name: offset + index for index, name in enumerate(planned.generated)}


def labels_of(planned: Plan) -> np.ndarray:
    """Labels of a plan's generated images, int32 [M]."""
    return np.array(list(splits.labels_of_generated(planned.generated).values()), np.int32)


def logits_path(study: Study, stage: str) -> Path:
    """Where the logits of one classifier are kept: {part: float32 [n, 2]}, in the order of its arm's parts."""
    return study.workdir / "checkpoints" / f"{stage}.npz"


def write_logits(study: Study, arm: Arm, table, rows: dict[str, int], stage: str, variables: dict) -> None:
    """Predicts the parts of one arm, each image once, and keeps the logits."""
    tested = sorted({rows[name] for names in arm.parts.values() for name in names})
    logits = classify.predict(variables, table, np.array(tested, np.int32), study.recipe)
    position = {row: index for index, row in enumerate(tested)}
    by_part = {part: logits[[position[rows[name]] for name in names]] for part, names in arm.parts.items()}
    checkpoint.write_arrays(logits_path(study, stage), **by_part)


def run_heads(study: Study, plans: Plans, generated: dict[tuple[int, str], np.ndarray]) -> None:
    """Trains all classifiers on features computed once an image; `run_protocol` finds their logits."""
    arms = {}  # stage → arm, its trial, and the rows of its images in one table for all
    labels = [study.images.labels]
    offset = len(study.images.names)
    for (trial, protocol), planned in plans.items():
        rows = table_rows(study, planned, offset)
        arms |= {f"trial{trial}/{protocol}/{name}": (arm, trial, rows) for name, arm in planned.arms.items()}
        labels.append(labels_of(planned))
        offset += len(planned.generated)
    if all(logits_path(study, stage).exists() for stage in arms):
        return

    size = study.config.model.image_size
    parts = {trial: finetune.split(start(study, trial), study.recipe.tuning) for trial in study.config.trials}
    trained, frozen = parts[study.config.trials[0]]
    sources = [(len(study.real), lambda: study.real)]
    for one in generated.values():
        if len(one):
            sources.append((len(one), lambda one=one: pixels.resize(sharding.replicate(one), size)))
    with timed(study.timings, "features"):
        table = heads.feature_table(
            study.recipe,
            finetune.merge(trained, frozen),
            sources,
            finetune.stages(study.recipe.model, size)[study.recipe.tuning.begin].inputs.shape[1:],
        )
    with timed(study.timings, "classifier"):
        states = heads.fit(
            study.recipe,
            frozen,
            [
                heads.Head(
                    stage=stage,
                    trained=parts[trial][0],
                    rows=np.array([rows[name] for name in arm.train], np.int32),
                    steps=arm.steps,
                    key=stage_key(study.config.seed, stage),
                )
                for stage, (arm, trial, rows) in arms.items()
            ],
            table,
            sharding.replicate(np.resize(np.concatenate(labels), len(table))),
            study.training_rows,
            study.workdir,
            study.writer,
        )
        for stage, (arm, _, rows) in arms.items():
            write_logits(study, arm, table, rows, stage, classify.variables_of(states[stage], frozen))


def run_protocol(study: Study, planned: Plan, generated: np.ndarray, trial: int, protocol: str) -> list[Prediction]:
    """All arms of one protocol of one trial."""
    stages = {name: f"trial{trial}/{protocol}/{name}" for name in planned.arms}
    rows = table_rows(study, planned, len(study.images.names))
    labels = np.concatenate([study.images.labels, labels_of(planned)])
    patients = (*study.images.patients, *planned.generated)
    missing = [name for name, stage in stages.items() if not logits_path(study, stage).exists()]
    if missing:
        table = augment.enlarge(study.real, generated, study.generated_rows)
        for name in missing:
            run_arm(study, planned.arms[name], table, labels, rows, trial, stages[name])
    predictions = []
    for name, arm in planned.arms.items():
        logits = checkpoint.read_arrays(logits_path(study, stages[name]))
        for part, part_names in arm.parts.items():
            index = [rows[image] for image in part_names]
            predictions.append(
                Prediction(
                    protocol=protocol,
                    arm=name,
                    trial=trial,
                    part=part,
                    names=part_names,
                    patients=[patients[row] for row in index],
                    labels=labels[index],
                    logits=logits[part],
                    train_images=len(arm.train),
                )
            )
    return predictions


def run_arm(study: Study, arm: Arm, table, labels, rows, trial: int, stage: str) -> None:
    """Trains one classifier and writes the logits of its parts."""
    trained, frozen = finetune.split(start(study, trial), study.recipe.tuning)
    with timed(study.timings, "classifier"):
        state = classify.fit(
            study.recipe,
            trained,
            frozen,
            table,
            sharding.replicate(np.resize(labels, len(table))),
            loop.make_pool(np.array([rows[name] for name in arm.train], np.int32), study.training_rows),
            arm.steps,
            stage_key(study.config.seed, stage),
            stage,
            study.workdir,
            study.writer,
        )
        write_logits(study, arm, table, rows, stage, classify.variables_of(state, frozen))


def stage_key(seed: int, stage: str):
    """A key of its own for each stage, from the seed and the stage's name."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(stage.encode()))


@contextmanager
def timed(timings: dict[str, float], name: str):
    """Adds the seconds that its block takes."""
    started = time.monotonic()
    yield
    timings[name] = round(timings.get(name, 0.0) + time.monotonic() - started, 3)
