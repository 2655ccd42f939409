"""Parts, trials and arms scored, as results.json has them."""

from collections.abc import Mapping, Sequence

import numpy as np

from pneumojax.evaluate.calibration import calibration
from pneumojax.evaluate.influence import Part, mean_of, part_of
from pneumojax.evaluate.intervals import INDEPENDENT, Design, number, of_patients, of_procedure
from pneumojax.evaluate.operating import decision_curve, operating
from pneumojax.evaluate.scores import Prediction
from pneumojax.evaluate.subgroups import subgroups

CONSTANT = 1e-3  # of logits: they differ by less from image to image
JUDGED = ("test", "unseen")  # where a network shows whether it has collapsed


def score_part(prediction: Prediction, classes, part: Part | None = None) -> dict:
    """Count, confusion matrix, scores and intervals of one part: a PART of the contract.

    A score is None where a class that it needs has no image. `auc` is that of class 1 against class 0, or with more
    classes the mean of `auc_<class>`, each against the rest. `part`: what `part_of` made of the prediction.
    """
    size = len(classes)
    whole = mean_of([part or part_of(prediction, classes)], [prediction.trial], classes)
    return {
        "images": len(prediction.labels),
        "confusion_matrix": np.bincount(prediction.cells, minlength=size**2).reshape(size, size).tolist(),
        "scores": {name: number(v) for name, v in zip(whole.names, whole.value, strict=True)},
        "interval": of_patients(whole),
    }


def summarise(parts: Sequence[Part], trials: Sequence[int], classes, design: Design) -> dict:
    """Mean over trials (seeds averaged in a trial), their standard deviation (ddof 1, 0.0 for one trial), and the
    mean's intervals: `interval` of these networks and new patients, `procedure` of new training sets, GANs and seeds.

    A score that is undefined in any trial is None in all.
    """
    mean = mean_of(parts, trials, classes)
    deviation = mean.by_trial.std(0, ddof=min(1, len(mean.by_trial) - 1))
    return {
        "mean": {name: number(v) for name, v in zip(mean.names, mean.value, strict=True)},
        "std": {name: number(v) for name, v in zip(mean.names, deviation, strict=True)},
        "interval": of_patients(mean),
        **of_procedure(mean, design),
    }


def score_arm(predictions: Sequence[Prediction], classes, design: Design = INDEPENDENT) -> dict:
    """All trials and parts of one arm: an ARM of the contract, but for what only its plan tells.

    Each pair of seeds is an entry of its own, which names them if any is not 0. Parts without images are left out.
    """
    predictions = [p for p in predictions if p.part == "test" or len(p.names)]
    seeds = ("gan_seed", "classifier_seed") if any(p.gan_seed or p.classifier_seed for p in predictions) else ()
    trials: dict[tuple, dict] = {}
    by_part: dict[str, list[tuple[Prediction, Part]]] = {}
    for p in predictions:
        entry = {field: getattr(p, field) for field in ("trial", *seeds)}
        entry = trials.setdefault(tuple(entry.values()), entry)
        part = part_of(p, classes)
        scored = score_part(p, classes, part)
        entry |= {"test": scored.pop("images")} | scored if p.part == "test" else {p.part: scored}
        by_part.setdefault(p.part, []).append((p, part))
    inner = {network(p): p for p, _ in by_part.get("inner", ())}
    summaries = {}
    for name, own in by_part.items():
        made = [p for p, _ in own]
        summaries[name] = summarise([part for _, part in own], [p.trial for p in made], classes, design)
        if name in JUDGED or name.startswith("external/"):
            kept = [inner.get(network(p)) for p in made]
            summaries[name] |= {
                "calibration": calibration(made, kept),
                "operating": operating(made, kept, classes),
                "decision_curve": decision_curve(made),
            }
    return {
        "trials": list(trials.values()),
        **summaries.pop("test"),
        "collapsed": collapsed(predictions),
        "subgroups": subgroups(by_part, classes, design),
        **summaries,
    }


def network(prediction: Prediction) -> tuple[int, int, int]:
    """Which network of an arm."""
    return prediction.trial, prediction.gan_seed, prediction.classifier_seed


def collapsed(predictions: Sequence[Prediction]) -> int:
    """How many networks of an arm say one class of all images of `test` and `unseen`, which are of several, or have all
    but the same logits for them. They are counted in all means.
    """
    logits: dict[tuple, list[np.ndarray]] = {}
    labels: dict[tuple, set[int]] = {}
    for p in predictions:
        if p.part in JUDGED and len(p.labels):
            logits.setdefault(network(p), []).append(p.logits)
            labels.setdefault(network(p), set()).update(p.labels.tolist())
    whole = [np.concatenate(own) for key, own in logits.items() if len(labels[key]) > 1]
    return sum(bool(len(set(own.argmax(1).tolist())) < 2 or np.ptp(own, 0).max() < CONSTANT) for own in whole)


def score_all(predictions: Sequence[Prediction], classes, designs: Mapping[str, Design]) -> dict:
    """{protocol: {arm: ARM}} of a study. `designs`: of protocols whose trials are not independent."""
    protocols: dict[str, dict] = {}
    for protocol, arm in dict.fromkeys((p.protocol, p.arm) for p in predictions):
        own = [p for p in predictions if (p.protocol, p.arm) == (protocol, arm)]
        protocols.setdefault(protocol, {})[arm] = score_arm(own, classes, designs.get(protocol, INDEPENDENT))
    return protocols
