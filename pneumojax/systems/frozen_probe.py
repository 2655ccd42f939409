"""A linear probe: logistic regression with an L2 penalty, to convergence, on the features of a frozen network.

Nothing in it depends on a rate, a number of steps or an initial value, so what it says of two training sets is about
these. Features are the mean over the pixels of what a stage makes, standardised by the images that are trained on;
extra images weigh as much as the others together. The penalty is chosen by the likelihood of patients who are neither
trained on nor tested.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax.traverse_util import flatten_dict, unflatten_dict
from scipy.special import logsumexp

from pneumojax import checkpoint, classify, embedding, progress, sharding, tuning
from pneumojax.classify import Recipe
from pneumojax.data import pixels
from pneumojax.data import table as tables
from pneumojax.data.table import Table
from pneumojax.errors import BadInput
from pneumojax.jobs import Diverged, Place, place_of
from pneumojax.run import Run
from pneumojax.stage import Stage
from pneumojax.systems import Classifier, Exported, Fit, Opened, finetune, folding
from pneumojax.tuning import Tuning

DEFAULTS = {
    "stage": "",  # the last stage that is computed, of the network's; '': the one before the head
    # of which one is chosen: lambda of the mean loss + lambda |w|² / 2
    "penalties": (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0),
    "iterations": 10_000,  # of L-BFGS, at most; one that has not converged by then is an error
}
TOLERANCE = 1e-8  # of the gradient's largest component
SMALLEST = 1e-6  # deviation of a feature; one that varies less is left out


class System(NamedTuple):
    """A network whose head is left out."""

    network: finetune.System
    recipe: Recipe
    facts: dict


def prepare(config) -> System:
    """Builds the network and loads its weights. Errors: BadInput where it cannot be cut, or a penalty cannot be."""
    own = config.system
    if not own.penalties or any(type(p) is not float or not p > 0 for p in own.penalties):
        raise BadInput(f"config.system.penalties={own.penalties}: give numbers above 0, e.g. '(0.001, 0.01, 0.1)'")
    if (seeds := config.classifier.seeds) > 1:
        what = "a probe takes nothing from a seed, and all of them would be one network"
        raise BadInput(f"config.classifier.seeds={seeds}: {what}; give 1, config.gan.seeds for GANs, or more trials")
    network = finetune.prepare(config)
    end = embedding.end_of(type(network.model), config.model.name, own.stage or None)
    if lacking := finetune.untrained(network, end):
        raise BadInput(
            f"config.model.weights={config.model.weights!r}: it lacks {', '.join(lacking)}, which nothing here would "
            "train; bring the whole weights, or give an earlier stage in config.system.stage"
        )
    names = ("weights", "weights_digest", "weights_trained_by", "parameters")
    known = {name: network.facts[name] for name in names if name in network.facts}
    numbers = tuning.stages(network.model, config.model.image_size)[end].inputs.shape[-1] + 1  # an intercept
    probe = {"mode": "frozen", "stage": network.model.STAGES[end - 1], "cached_features": True}
    classes = len(config.data.classes)
    probe |= {"new_parameters": [], "trained_parameters": numbers * (1 if classes == 2 else classes)}
    return system_of(network, end, known | probe)


def system_of(network: finetune.System, end: int, facts: dict) -> System:
    """A network up to stage number `end`."""
    config = network.config
    return System(network, Recipe(network.model, config.classifier, Tuning(end, (), ()), config.model.dtype), facts)


def parameters(system: System) -> str:
    """As `finetune.parameters` has it."""
    return finetune.parameters(system.network)


def check(system: System, fits: Sequence[Fit], labels: np.ndarray) -> None:
    """Errors: BadInput where a penalty is to be chosen, and a fit has no images to choose it by."""
    del labels
    penalties, inner = system.network.config.system.penalties, system.network.config.evaluate.inner
    protocols = sorted({fit.stage.protocol for fit in fits if not len(fit.inner)})
    if len(penalties) > 1 and protocols:
        raise BadInput(
            f"config.evaluate.inner={inner}: {' and '.join(protocols)} keeps no part of the training patients to "
            "choose the probe's penalty by; give 0.2 and config.protocols without 'paper', or one penalty alone in "
            "config.system.penalties"
        )


@partial(jax.jit, static_argnames="recipe")
def features_of(variables, examples, generated, index: tables.Index, recipe: Recipe):
    """Features float32 [B, d] of the images at an index [B] of a table: of a picture the mean over its pixels."""
    images = sharding.split_batch(tables.take(examples, generated, index))
    return classify.pooled(classify.features_of(recipe, variables, images).astype(jnp.float32))


def logits(
    system: System, fits: Sequence[Fit], table: Table, place: Place
) -> Iterator[tuple[Fit, np.ndarray | Diverged]]:
    """Fits a probe for each, and keeps it: where its numbers are, `classifier` finds them.

    A network whose features are not finite has diverged.
    """
    finetune.keep_start(system.network, fits, place)
    asked = [fit for fit in fits if not fit.done]
    used = np.unique(np.concatenate([rows for fit in asked for rows in (fit.train, fit.extra, fit.inner, fit.tested)]))
    with place.timings.of("features"):
        variables = system.network.start(0)
        made = classify.predict(variables, table, used, system.recipe, features_of)
    with progress.task("probes", len(asked), "fits") as task:
        for fit in asked:
            task.note = fit.stage.name
            yield fit, logits_of(system, fit, made, used, table.labels, place)
            task.advance()


def logits_of(system: System, fit: Fit, made: np.ndarray, used: np.ndarray, labels: np.ndarray, place: Place):
    """The logits of one fit, whose probe is kept, or Diverged: `made` are the features of the rows `used`."""
    parts = [made[np.searchsorted(used, rows)] for rows in (fit.train, fit.extra, fit.inner, fit.tested)]
    if not all(np.isfinite(part).all() for part in parts):
        return Diverged(0, "features", None)
    train, extra, inner, tested = parts
    probe = chosen(system, fit, np.concatenate([train, extra]), inner, labels)
    checkpoint.write_arrays(probe_path(place, fit.stage), **probe)
    return apply(probe, tested)


def chosen(system: System, fit: Fit, examples: np.ndarray, inner: np.ndarray, labels: np.ndarray) -> dict:
    """The probe of one fit, of all penalties that with the lowest log loss on `inner`.

    Errors: BadInput where a class is missing or all features are constant, or the optimiser did not converge.
    """
    own, classes = system.network.config.system, len(system.network.config.data.classes)
    rows = np.concatenate([fit.train, fit.extra])
    weights = np.concatenate([np.full(len(part), 1 / len(part)) for part in (fit.train, fit.extra) if len(part)])
    if len(set(labels[rows].tolist())) < classes:
        raise BadInput(f"{fit.stage.name}: a class has no image to train on; raise config.data.subset")
    try:
        probes = [fitted(examples, labels[rows], weights / weights.sum(), p, own.iterations) for p in own.penalties]
    except BadInput as error:
        raise BadInput(f"{fit.stage.name}: {error}") from error
    for probe in probes:
        if not probe["converged"]:
            raise BadInput(
                f"{fit.stage.name}: the probe has not converged after config.system.iterations={own.iterations} at a "
                f"penalty of {float(probe['penalty'])}; raise them, or leave it out of config.system.penalties"
            )
    losses = [log_loss(apply(probe, inner), labels[fit.inner]) for probe in probes] if len(probes) > 1 else [0.0]
    best = probes[int(np.argmin(losses))]
    logging.info("%s: penalty %g, log loss on inner %.4f", fit.stage.name, float(best["penalty"]), min(losses))
    return best


def fitted(examples: np.ndarray, labels: np.ndarray, weights: np.ndarray, penalty: float, iterations: int) -> dict:
    """A probe at one penalty.

    Args:
      examples: features float [n, d].
      labels: int [n].
      weights: float [n], of a sum of 1.
      penalty: lambda of sum(weights * loss) + lambda |w|² / 2, w of standardised features; the intercept is free.
      iterations: of L-BFGS, at most.

    Returns: {"mean", "deviation" [d], "weights" [d, K], "intercept" [K], "penalty", "converged"}, float64.

    Errors: BadInput where all features are constant.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    examples = examples.astype(np.float64)
    mean = weights @ examples
    deviation = np.sqrt(weights @ (examples - mean) ** 2)
    if not (deviation > SMALLEST).any():
        what = "all features are constant: the network is dead, or the images to train on are all alike"
        raise BadInput(f"{what}; bring other config.model.weights or images")
    deviation = np.where(deviation > SMALLEST, deviation, np.inf)
    model = LogisticRegression(C=1 / penalty, tol=TOLERANCE, max_iter=iterations)
    model.fit((examples - mean) / deviation, labels, sample_weight=weights)
    slopes, intercept = model.coef_.T, model.intercept_
    if slopes.shape[1] == 1:  # of two classes the evidence for the second
        slopes, intercept = np.hstack([-slopes / 2, slopes / 2]), np.array([-intercept[0] / 2, intercept[0] / 2])
    return {
        "mean": mean,
        "deviation": deviation,
        "weights": slopes,
        "intercept": intercept,
        "penalty": np.float64(penalty),
        "converged": np.bool_(model.n_iter_.max() < iterations),
    }


def apply(probe: dict, examples: np.ndarray) -> np.ndarray:
    """Features [n, d] → logits float32 [n, K]."""
    standard = (examples.astype(np.float64) - probe["mean"]) / probe["deviation"]
    return (standard @ probe["weights"] + probe["intercept"]).astype(np.float32)


def log_loss(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean softmax cross-entropy."""
    logits = logits.astype(np.float64)
    return float(np.mean(logsumexp(logits, 1) - logits[np.arange(len(labels)), labels]))


def probe_path(place: Place, stage: Stage):
    """Where the numbers of a probe are kept."""
    return place.checkpoints(stage) / "probe.npz"


def kept(run: Run, stage: Stage) -> tuple[Recipe, dict, dict]:
    """What a probe of a finished run stands on, recipe and variables, and its numbers.

    Errors: BadInput where its numbers or the network's are missing.
    """
    place, config = place_of(run.workdir), run.config
    with checkpoint.record_of_run(probe_path(place, stage)) as path:
        probe = checkpoint.read_arrays(path)
    network, variables = finetune.rebuilt(run)
    end = embedding.end_of(type(network.model), config.model.name, config.system.stage or None)
    if config.model.weights == "none":
        variables = network.start(0)
    return system_of(network, end, {}).recipe, variables, probe


def classifier(run: Run, stage: Stage) -> Classifier:
    """One probe of a finished run, from its workdir alone, as the head of the frozen network under it.

    Errors: BadInput as `kept` has them.
    """
    recipe, variables, probe = kept(run, stage)

    def predict(images: np.ndarray) -> np.ndarray:
        rows = np.arange(len(images))
        return apply(probe, classify.predict(variables, finetune.table_of(images), rows, recipe, features_of))

    numbers = {name: np.float32(probe[name]) for name in ("mean", "deviation", "weights", "intercept")}
    return Classifier(predict, Opened(recipe, variables | {"probe": numbers}, recipe.tuning.begin, onward))


def exported(run: Run, stage: Stage) -> Exported:
    """A network whose head is the probe, where its head can be that; else the stages that are computed, and the probe.

    Errors: BadInput as `kept` has them.
    """
    recipe, variables, probe = kept(run, stage)
    model, size, end = recipe.model, run.config.model.image_size, recipe.tuning.begin
    variables = {name: variables[name] for name in ("params", "batch_stats")}
    weight = (probe["weights"] / probe["deviation"][:, None]).T
    linear = {"weight": weight, "bias": probe["intercept"] - weight @ probe["mean"]}
    if end == len(model.STAGES) - 1:
        known = linear | {name: probe[name] for name in ("mean", "deviation")}
        head = folding.as_head(model, variables, size, known, lambda x: apply(probe, np.asarray(classify.pooled(x))))
        if head is not None:
            said = "The probe, a logistic regression on standardised features, is folded into the network's head."
            return Exported(model, head, finetune.logits_function(model, head), (said,))
    computed = tuning.stages(model, size)[:end]
    of_stages = {
        name: unflatten_dict({path: leaf for path, leaf in flatten_dict(variables[name]).items() if path in paths})
        for name, paths in {
            "params": frozenset.union(*(one.params for one in computed)),
            "batch_stats": frozenset.union(*(one.statistics for one in computed)),
        }.items()
    }
    linear = {name: np.float32(value) for name, value in linear.items()}

    def logits(images):
        x = model.apply(of_stages, pixels.normalise(images), train=False, end=end)
        return classify.pooled(x.astype(jnp.float32)) @ linear["weight"].T + linear["bias"]

    said = (
        f"The network ends with `{model.STAGES[end - 1]}`: its logits are those of a linear layer, the probe, on the "
        "means over the pixels of what that stage makes. The probe is in `probe.safetensors`."
    )
    return Exported(model, of_stages, logits, (said,), linear)


def onward(recipe: Recipe, variables: dict, x, begin: int):
    """As `classify.onward`, with the probe for a head: in float32, where `apply` has float64."""
    if begin < recipe.tuning.begin:
        x = classify.apply(recipe, variables, x, train=False, begin=begin, end=recipe.tuning.begin)
    probe = variables["probe"]
    standard = (classify.pooled(x.astype(jnp.float32)) - probe["mean"]) / probe["deviation"]
    return standard @ probe["weights"] + probe["intercept"]
