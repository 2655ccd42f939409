"""The study: trials x protocols x arms, from images on disk to a report. What is whole is not run again."""

import json
import time
import zlib
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
from absl import logging
from clu import platform
from ml_collections import ConfigDict, FrozenConfigDict

from pneumojax import augment, checkpoint, classify, data, evaluate, gan, loop, metrics, models, plan, report, sharding
from pneumojax import workdir as workdirs
from pneumojax.config import validate
from pneumojax.data import CLASSES, pixels, splits
from pneumojax.evaluate import Prediction
from pneumojax.gan import train as gan_train
from pneumojax.metrics import Writer
from pneumojax.protocols import Arm, Plan


class Study(NamedTuple):
    """What all stages share."""

    config: FrozenConfigDict
    workdir: Path
    writer: Writer
    timings: dict[str, float]  # seconds
    model: nn.Module
    gan: ModuleType
    images: data.Images
    real: jax.Array  # uint8 [N, S, S] on the device
    capacity: int  # rows for generated images


def run(config: ConfigDict, workdir: Path) -> None:
    """Runs the study of `config` in `workdir`, goes on with one that was begun there, or finds it whole.

    Errors: BadInput before anything is written; Diverged; OSError where the workdir cannot be written.
    """
    validate(config)
    resolved = json.loads(config.to_json())
    config = FrozenConfigDict(config)
    with workdirs.claimed(workdir, resolved):
        if (workdir / "results.json").exists():
            logging.info("%s is whole; nothing to do", workdir)
            return
        timings: dict[str, float] = {}
        model = models.load(config.model.name)(num_classes=len(CLASSES), width=config.model.width)
        gan_module = gan.load(config.gan.name)
        with timed(timings, "data"):
            images = data.load(config.data, config.model.image_size)
            fingerprint = data.fingerprint(images)
        plan.check_networks(config, model, gan_module)
        plans, overlapping = plan.draw(images, config, gan_module)
        workdirs.record_plan(workdir, resolved, plan.record(plans), fingerprint)

        platform.work_unit().create_artifact(platform.ArtifactType.DIRECTORY, str(workdir), "workdir")
        writer = Writer(workdir)
        writer.write_hparams(resolved)
        study = Study(
            config=config,
            workdir=workdir,
            writer=writer,
            timings=timings,
            model=model,
            gan=gan_module,
            images=images,
            real=sharding.replicate(images.pixels),
            capacity=max(len(p.generated) for p in plans.values()),
        )
        predictions = []
        for (trial, protocol), one in plans.items():
            platform.work_unit().set_task_status(f"trial {trial}, {protocol}")
            predictions += run_protocol(study, one, trial, protocol)
        writer.close()

        with timed(timings, "evaluate"):
            results = {
                "schema": 1,
                "model": config.model.name,
                "data": {
                    "name": config.data.name,
                    "images": len(images.names),
                    "classes": list(CLASSES),
                    "class_counts": np.bincount(images.labels).tolist(),
                    "patients": len(set(images.patients)),
                    "patients_unknown": sum(map(str.__eq__, images.names, images.patients)),
                    "overlapping_trials": overlapping,
                    "skipped": list(images.skipped),
                    "fingerprint": fingerprint,
                },
                "protocols": evaluate.score_all(predictions, config.evaluate.resamples, config.seed),
                "contrasts": evaluate.contrasts(predictions, config.evaluate.resamples, config.seed),
                "gan": gan_results(config, metrics.read(workdir)),
                "timings_s": timings,
                "environment": workdirs.environment(),
            }
        workdirs.write_predictions(workdir, predictions)
        report.write(workdir, resolved, results, metrics.read(workdir))
        checkpoint.write_json(workdir / "results.json", results)  # last: its being there says that all is whole
        logging.info("whole: %s and %s", workdir / "results.json", workdir / "report.html")


def run_protocol(study: Study, planned: Plan, trial: int, protocol: str) -> list[Prediction]:
    """GAN, enlargement and all arms of one protocol of one trial."""
    stage = f"trial{trial}/{protocol}"
    generated = make_generated(study, planned, stage)
    names = (*study.images.names, *planned.generated)
    patients = (*study.images.patients, *planned.generated)
    labels = np.concatenate([study.images.labels, list(splits.labels_of_generated(planned.generated).values())]).astype(
        np.int32
    )
    rows = {name: row for row, name in enumerate(names)}
    table = augment.enlarge(study.real, generated, study.capacity)

    predictions = []
    for arm_name, arm in planned.arms.items():
        logits = run_arm(study, arm, table, labels, rows, trial, f"{stage}/{arm_name}")
        for part, part_names in arm.parts.items():
            index = [rows[name] for name in part_names]
            predictions.append(
                Prediction(
                    protocol=protocol,
                    arm=arm_name,
                    trial=trial,
                    part=part,
                    names=part_names,
                    patients=[patients[i] for i in index],
                    labels=labels[index],
                    logits=logits[part],
                    train_images=len(arm.train),
                )
            )
    return predictions


def make_generated(study: Study, planned: Plan, stage: str) -> np.ndarray:
    """The generated images of one protocol of one trial, uint8 [M, G, G], in the order of `planned.generated`."""
    path = study.workdir / "checkpoints" / stage / "generated.npz"
    if path.exists():
        return checkpoint.read_arrays(path)["images"]
    config = study.config.gan
    row_of = {name: row for row, name in enumerate(study.images.names)}
    train_key, sample_key = jax.random.split(stage_key(study.config.seed, f"{stage}/gan"))
    with timed(study.timings, "gan"):
        states = gan_train.train(
            study.gan,
            config,
            pixels.resize(study.real, config.image_size),
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


def run_arm(study: Study, arm: Arm, table, labels, rows, trial: int, stage: str) -> dict[str, np.ndarray]:
    """Trains one classifier and predicts its parts: {part: logits [n, 2]}."""
    path = study.workdir / "checkpoints" / f"{stage}.npz"
    if path.exists():
        return checkpoint.read_arrays(path)
    config = study.config
    # All arms of a trial start from the same variables and differ by their images alone.
    variables = classify.init(stage_key(config.seed, f"trial{trial}/init"), study.model, config.model.image_size)
    padded = np.zeros(len(table), np.int32)
    padded[: len(labels)] = labels
    with timed(study.timings, "classifier"):
        variables = classify.fit(
            study.model,
            config.classifier,
            variables,
            table,
            sharding.replicate(padded),
            loop.make_pool(
                np.array([rows[name] for name in arm.train], np.int32),
                len(table),
            ),
            arm.steps,
            stage_key(config.seed, stage),
            stage,
            study.workdir,
            study.writer,
        )
        tested = sorted({rows[name] for names in arm.parts.values() for name in names})
        logits = classify.predict(
            variables, table, np.array(tested, np.int32), study.model, config.classifier.predict_batch_size
        )
    position = {row: i for i, row in enumerate(tested)}
    by_part = {part: logits[[position[rows[n]] for n in names]] for part, names in arm.parts.items()}
    checkpoint.write_arrays(path, **by_part)
    return by_part


def gan_results(config, curves: dict[str, dict[int, float]]) -> dict:
    """Name of the GAN and its last losses: {"name", "losses": {stage/metric: {"step", "value"}}}."""
    losses = {
        tag: {"step": max(curve), "value": curve[max(curve)]} for tag, curve in sorted(curves.items()) if "/gan_" in tag
    }
    return {"name": config.gan.name, "losses": losses}


def stage_key(seed: int, stage: str):
    """A key of its own for each stage, from the seed and the stage's name."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32(stage.encode()))


@contextmanager
def timed(timings: dict[str, float], name: str):
    """Adds the seconds that its block takes."""
    started = time.monotonic()
    yield
    timings[name] = round(timings.get(name, 0.0) + time.monotonic() - started, 3)
