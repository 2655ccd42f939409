"""What results.json says of arms and GANs, from predictions and curves."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pneumojax import checkpoint, data, evaluate, metrics, plan
from pneumojax.evaluate import Prediction
from pneumojax.jobs import Diverged
from pneumojax.plan import Plans
from pneumojax.stage import Stage

# protocol → arm → {"title", "against", "also", "overrides", "trials": {(trial, gan_seed, classifier_seed): {…}}}
Arms = dict[str, dict[str, dict]]
SEEDS = ("gan_seed", "classifier_seed")


def arms_of(plans: Plans, diverged: dict[Stage, Diverged], config) -> Arms:
    """What is known of arms before they are scored; a classifier's seeds are told where there are several."""
    found: Arms = {}
    several = max(config.gan.seeds, config.classifier.seeds) > 1
    for one in plans.values():
        for first, arm in one.arms.items():
            known = {"title": arm.title, "against": arm.against, "also": list(arm.also)}
            known |= {"overrides": dict(arm.overrides), "trials": {}}
            for seed in range(config.classifier.seeds):
                stage = first._replace(classifier_seed=seed)
                row = {"trial": stage.trial} | ({name: getattr(stage, name) for name in SEEDS} if several else {})
                row["train"] = len(arm.train) + len(arm.extra)
                how = diverged.get(stage)
                if how:
                    row["diverged"] = how._asdict()
                found.setdefault(stage.protocol, {}).setdefault(stage.arm, known)["trials"][replicate(row)] = row
    return found


def replicate(row: dict) -> tuple[int, int, int]:
    """Trial and seeds of a TRIAL; a seed that is not told is 0."""
    return row["trial"], *(row.get(name, 0) for name in SEEDS)


def scored(arms: Arms, predictions: list[Prediction], config, images: int = 0, overlapping: Sequence[int] = ()) -> dict:
    """{"protocols": {protocol: {arm: ARM}}, "contrasts": […]} of the contract; `designs` has the last two."""
    classes, known = config.data.classes, designs(config, images, overlapping)
    scores = evaluate.score_all(evaluate.broken_down(predictions), classes, known)
    protocols = {
        protocol: {name: arm_of(known, scores.get(protocol, {}).get(name)) for name, known in of_protocol.items()}
        for protocol, of_protocol in arms.items()
    }
    against = {
        (protocol, name): (known["against"], *(other for other in known.get("also", ()) if other in of_protocol))
        for protocol, of_protocol in arms.items()
        for name, known in of_protocol.items()
        if known["against"]
    }
    terms = evaluate.Terms(
        declared=tuple(config.evaluate.declared),
        score=config.evaluate.score,
        margin=config.evaluate.margin,
        tested=config.data.name != "phantom",
        seed=config.seed,
        designs=known,
    )
    return {"protocols": protocols, "contrasts": evaluate.contrasts(predictions, against, classes, terms)}


def designs(config, images: int = 0, overlapping: Sequence[int] = ()) -> dict[str, evaluate.Design]:
    """The protocols whose trials are no independent draws of the procedure, and what that does.

    The ratio of Nadeau and Bengio is of the images that trials have in common to train on: of a `config.data.fraction`
    each trial draws its own, so that a small one makes them share less, and not more.

    Args:
      config: of the study.
      images: of its own, all of them.
      overlapping: trials that share training patients with earlier ones, as those of folds do.
    """
    trained = 1 - config.evaluate.inner  # of the images that could be trained on
    found = {
        "official": evaluate.Design(why="trials share their training images"),
        "patient_kfold": evaluate.Design(overlap=1 / ((config.data.folds - 1) * trained)),
    }
    if overlapping:
        tested = config.data.test_fraction
        ratios = {
            "clean": tested / (1 - tested) / trained,
            "paper": tested / (1 - tested),
            "disjoint": tested * images / (sum(config.data.subset) * trained),
        }
        found |= {protocol: evaluate.Design(overlap=ratio) for protocol, ratio in ratios.items()}
    return found


def arm_of(known: dict, scores: dict | None) -> dict:
    """An ARM: what was known of it and its scores, if any of its trials has some."""
    whole = {replicate(trial): trial for trial in scores["trials"]} if scores else {}
    trials = [row | whole.get(key, {}) for key, row in sorted(known["trials"].items())]
    arm = {**known, **(scores or {}), "trials": trials}
    failed = [{"trial": row["trial"], **row["diverged"]} for row in trials if "diverged" in row]
    return arm | ({"diverged": failed[0]} if failed else {})


def gan_of(config, workdir: Path) -> dict:
    """Of the GANs: {"name", "losses": {stage/metric: {"step", "value"}}, "drawn_from": {stage: step}}.

    `losses` are the last ones; `drawn_from` has the stages whose state was chosen by its KID.
    """
    losses, drawn_from = {}, {}
    for step, stage, values in map(metrics.parted, metrics.read(workdir)):
        if stage.gan:
            losses |= {
                f"{stage.name}/{name}": {"step": step, "value": value}
                for name, value in values.items()
                if name != "grid"
            }
    for path in sorted((workdir / "checkpoints").glob("*/*/gan*_*.kept.json")) if config.quality.inner else ():
        with checkpoint.record_of_run(path):
            drawn_from[str(path.relative_to(workdir / "checkpoints")).removesuffix(".kept.json")] = (
                checkpoint.read_json(path)["step"]
            )
    return {"name": config.gan.name, "losses": dict(sorted(losses.items())), "drawn_from": drawn_from}


def data_of(loaded, planned) -> dict:
    """What results.json says of the images of a study that is loaded and planned."""
    config, own, images = loaded.config, loaded.own, loaded.images
    return {
        "name": config.data.name,
        "images": len(own.names),
        "classes": list(config.data.classes),
        "class_counts": np.bincount(own.labels, minlength=len(config.data.classes)).tolist(),
        "used": data.counted(own, config.data.classes),
        "patients": len(set(own.patients)),
        "patients_unknown": sum(map(str.__eq__, own.names, own.patients)),
        "external": {part.partition("/")[2]: len(rows) for part, rows in loaded.external.items()},
        "overlapping_trials": planned.overlapping,
        "official_groups_on_both_sides": plan.official_groups_on_both_sides(planned.plans),
        "skipped": list(images.skipped),
        "left_out": images.left_out,
        "gray": images.gray,
        "shape": {"image_size": config.model.image_size, "fit": config.data.fit},
        "fingerprint": data.fingerprint(images),
    }
