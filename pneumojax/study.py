"""The study: trials x protocols x arms, from images on disk to a report. What is whole is not run again."""

import functools
import json
import math
from pathlib import Path

import numpy as np
from absl import logging
from clu import platform
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from pneumojax import (
    checkpoint,
    data,
    evaluate,
    finetune,
    gan,
    heads,
    metrics,
    models,
    plan,
    pretrained,
    report,
    trials,
)
from pneumojax import workdir as workdirs
from pneumojax.classify import Recipe
from pneumojax.config import frozen, validate
from pneumojax.data import CLASSES, stream
from pneumojax.metrics import Writer
from pneumojax.trials import Study, timed


def run(config: ConfigDict, workdir: Path) -> None:
    """Runs the study of `config` in `workdir`, goes on with one that was begun there, or finds it whole.

    Errors: BadInput before anything is written; Diverged; OSError where the workdir cannot be written.
    """
    validate(config)
    resolved = json.loads(config.to_json())
    config = frozen(config)
    with workdirs.claimed(workdir, resolved):
        if (workdir / "results.json").exists():
            logging.info("%s is whole; nothing to do", workdir)
            return
        timings: dict[str, float] = {}
        model = models.build(config.model, len(CLASSES))
        gan_module = gan.load(config.gan.name)
        with timed(timings, "data"):
            own = data.load(config.data, config.model.image_size)
            data.check_classes(own, config.data)
            images, external = data.with_external(own, config.data, config.model.image_size)
            fingerprint = data.fingerprint(images)
        with timed(timings, "weights"):
            weights = pretrained.of_config(config.model)
        shapes = plan.check_networks(config, model, gan_module)
        new = pretrained.start_from(shapes, weights.variables)[1] if weights else frozenset()
        tuning = finetune.choose(model, config.model.image_size, shapes, config.classifier, new)
        plans, overlapping = plan.draw(own, external, config, gan_module)
        real = plan.table_of(images, config, plans)
        if heads.used(config.classifier):
            shape = finetune.stages(model, config.model.image_size)[tuning.begin].inputs.shape[1:]
            plan.check_memory(config, plans, len(images.names), shape)
        workdirs.record_plan(workdir, resolved, plan.record(plans), fingerprint, weights.digest if weights else "none")

        platform.work_unit().create_artifact(platform.ArtifactType.DIRECTORY, str(workdir), "workdir")
        writer = Writer(workdir)
        writer.write_hparams(resolved)
        study = Study(
            config=config,
            workdir=workdir,
            writer=writer,
            timings=timings,
            recipe=Recipe(model, config.classifier, tuning, config.model.dtype),
            weights=weights,
            gan=gan_module,
            images=images,
            real=real,
            small=functools.cache(lambda: stream.resized(real, config.gan.image_size)),
            generated_rows=max(len(one.generated) for one in plans.values()),
            training_rows=max(len(arm.train) for one in plans.values() for arm in one.arms.values()),
        )
        trials.keep_frozen(study)
        generated = {}
        for (trial, protocol), one in plans.items():
            platform.work_unit().set_task_status(f"GAN of trial {trial}, {protocol}")
            generated[trial, protocol] = trials.make_generated(study, one, f"trial{trial}/{protocol}")
        if heads.used(config.classifier):
            platform.work_unit().set_task_status("heads of all classifiers")
            trials.run_heads(study, plans, generated)
        predictions = []
        for (trial, protocol), one in plans.items():
            platform.work_unit().set_task_status(f"classifiers of trial {trial}, {protocol}")
            predictions += trials.run_protocol(study, one, generated[trial, protocol], trial, protocol)
        writer.close()

        with timed(timings, "evaluate"):
            scored = evaluate.broken_down(predictions)
            results = {
                "schema": 1,
                "model": config.model.name,
                "data": {
                    "name": config.data.name,
                    "images": len(own.names),
                    "classes": list(CLASSES),
                    "class_counts": np.bincount(own.labels).tolist(),
                    "patients": len(set(own.patients)),
                    "patients_unknown": sum(map(str.__eq__, own.names, own.patients)),
                    "external": {name: len(names) for name, names in external.items()},
                    "overlapping_trials": overlapping,
                    "official_groups_on_both_sides": plan.official_groups_on_both_sides(plans),
                    "skipped": list(images.skipped),
                    "fingerprint": fingerprint,
                },
                "classifier": classifier_results(study, shapes, new),
                "protocols": evaluate.score_all(scored, config.evaluate.resamples, config.seed),
                "contrasts": evaluate.contrasts(predictions, config.evaluate.resamples, config.seed),
                "gan": gan_results(config, metrics.read(workdir)),
                "timings_s": timings,
                "environment": workdirs.environment(),
            }
        workdirs.write_predictions(workdir, predictions)
        report.write(workdir, resolved, results, metrics.read(workdir))
        checkpoint.write_json(workdir / "results.json", results)  # last: its being there says that all is whole
        logging.info("whole: %s and %s", workdir / "results.json", workdir / "report.html")


def classifier_results(study: Study, shapes: dict, new: frozenset) -> dict:
    """What was trained, and from which weights."""
    config, count = study.config, lambda paths: int(sum(sizes[path] for path in paths))
    sizes = {path: math.prod(leaf.shape) for path, leaf in flatten_dict(shapes["params"]).items()}
    return {
        "weights": config.model.weights if config.model.weights in ("none", "torchvision") else "file",
        "weights_digest": study.weights.digest if study.weights else None,
        "new_parameters": sorted(map(".".join, new)),
        "mode": config.classifier.mode,
        "parameters": count(sizes),
        "trained_parameters": count(path for path, _ in study.recipe.tuning.rates),
        "cached_features": heads.used(config.classifier),
    }


def gan_results(config, curves: dict[str, dict[int, float]]) -> dict:
    """Name of the GAN and its last losses: {"name", "losses": {stage/metric: {"step", "value"}}}."""
    losses = {
        tag: {"step": max(curve), "value": curve[max(curve)]} for tag, curve in sorted(curves.items()) if "/gan_" in tag
    }
    return {"name": config.gan.name, "losses": losses}
