"""Fine-tuning of a network of `pneumojax.models`: all of it, its last stages, or its head.

Where the first stages are frozen and nothing is augmented, the others see features that were computed once an image,
and heads train together: it is the same computation.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import numpy as np
from absl import logging
from clu import parameter_overview
from flax.traverse_util import flatten_dict
from ml_collections import FrozenConfigDict

from pneumojax import augment, checkpoint, classify, loop, models, pretrained, sharding, tuning
from pneumojax.classify import Recipe
from pneumojax.config import with_overrides
from pneumojax.data import pixels
from pneumojax.data.table import Table
from pneumojax.errors import BadInput
from pneumojax.jobs import Diverged, Job, Place
from pneumojax.stage import Stage, seed_of
from pneumojax.systems import Classifier, Exported, Fit, Opened, features, folding


class System(NamedTuple):
    """A network and what it starts from."""

    config: FrozenConfigDict
    model: nn.Module
    weights: pretrained.Weights | None  # None: from scratch
    shapes: dict  # of {"params", "batch_stats"}
    new: frozenset  # parameters that the weights do not bring
    facts: dict

    def recipe(self, overrides: dict) -> Recipe:
        """What is compiled, with some fields of config.classifier changed; those that jobs bring as arrays are None."""
        config = FrozenConfigDict({**self.classifier(overrides), **dict.fromkeys(tuning.TRACED)})
        chosen = tuning.choose(self.model, self.config.model.image_size, self.shapes, config, self.new)
        recipe = Recipe(self.model, config, chosen, self.config.model.dtype)
        if config.standardise and not on_features(recipe):
            raise BadInput(
                "config.classifier.standardise=True: what is standardised are features in memory; give mode 'head' or "
                "'last_k', no augmentation, and config.classifier.feature_memory"
            )
        return recipe

    def classifier(self, overrides: dict) -> FrozenConfigDict:
        """config.classifier with some fields changed."""
        return with_overrides(self.config.classifier, overrides)

    def start(self, seed: int) -> dict:
        """{"params", "batch_stats"} to start from."""
        variables = classify.init(jax.random.key(seed), self.model, self.config.model.image_size)
        return pretrained.start_from(variables, self.weights.variables)[0] if self.weights else variables


def prepare(config) -> System:
    """Builds the network and loads its weights. Errors: BadInput where either cannot be."""
    model, shapes = built(config)
    weights = pretrained.of_config(config)
    new = pretrained.start_from(shapes, weights.variables)[1] if weights else frozenset()
    if weights:
        anew = ", ".join(sorted(map(".".join, new))) or "the head is that of the weights as well"
        logging.info("%d parameters start anew: %s", len(new), anew)
    system = System(config, model, weights, shapes, new, {})
    return system._replace(facts=facts_of(system))


def parameters(system: System) -> str:
    """A table of the network's variables: name, shape, dtype, size."""
    return parameter_overview.get_parameter_overview(system.shapes, include_stats=False)


def built(config) -> tuple[nn.Module, dict]:
    """The network and the shapes of its variables. Errors: BadInput where it cannot be built at its image size."""
    model, size = models.build(config.model, len(config.data.classes)), config.model.image_size
    try:
        return model, jax.eval_shape(lambda: classify.fresh_variables(jax.random.key(0), model, size))
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise BadInput(
            f"config.model.image_size={size}: {config.model.name} cannot be built at this size; raise it", [str(error)]
        ) from error


def untrained(system: System, end: int) -> list[str]:
    """The parameters of the stages before number `end` that the weights do not bring: random where nothing trains."""
    computed = tuning.stages(system.model, system.config.model.image_size)[:end]
    return sorted(".".join(path) for path in system.new & frozenset.union(*(stage.params for stage in computed)))


def facts_of(system: System) -> dict:
    """What was trained, and from which weights."""
    config, recipe, weights = system.config, system.recipe({}), system.weights
    sizes = {path: math.prod(leaf.shape) for path, leaf in flatten_dict(system.shapes["params"]).items()}
    return {
        "weights": config.model.weights if config.model.weights in ("none", "torchvision") else "file",
        "weights_digest": weights.digest if weights else None,
        **({"weights_trained_by": weights.trained_by} if weights and weights.trained_by else {}),
        "new_parameters": sorted(map(".".join, system.new)),
        "mode": config.classifier.mode,
        "parameters": sum(sizes.values()),
        "trained_parameters": sum(sizes[path] for path, _ in recipe.tuning.rates),
        "cached_features": on_features(recipe),
    }


def on_features(recipe: Recipe) -> bool:
    """Whether it trains on features that are computed once an image."""
    return recipe.tuning.begin > 0 and recipe.config.feature_memory > 0 and not augment.used(recipe.config)


def check(system: System, fits: Sequence[Fit], labels: np.ndarray) -> None:
    """Errors: BadInput where the features of so many images take more memory than is allowed."""
    for recipe in {system.recipe(fit.overrides) for fit in fits}:
        if on_features(recipe):
            features.check(recipe, system.config.model.image_size, len(labels))


class Network(NamedTuple):
    """One that is trained, and what it sees."""

    recipe: Recipe
    variables: dict  # {"params", "batch_stats"}, whole
    seen: Table  # of images, or of features of its frozen stages


def logits(
    system: System, fits: Sequence[Fit], table: Table, place: Place
) -> Iterator[tuple[Fit, np.ndarray | Diverged]]:
    """Trains a network for each fit and predicts with its last state, which is the one to score."""
    for number, made in logits_of_runs(system, [(fit, place) for fit in fits], table):
        yield fits[number], made


def logits_of_runs(
    system: System, asked: Sequence[tuple[Fit, Place]], table: Table
) -> Iterator[tuple[int, np.ndarray | Diverged]]:
    """`logits` of fits of several runs, whose jobs share programs; of each its number among those that are asked for.

    Runs may differ in `tuning.TRACED` and in seeds, where weights bring all that is frozen.
    """
    for number, made in trained(system, asked, table):
        if isinstance(made, Network):
            made = classify.predict(made.variables, made.seen, asked[number][0].tested, made.recipe)
        yield number, made


def trained(
    system: System, asked: Sequence[tuple[Fit, Place]], table: Table
) -> Iterator[tuple[int, Network | Diverged]]:
    """Trains a network for each fit that is not done."""
    timings = asked[0][1].timings
    with timings.of("weights"):
        for place in {place.workdir: place for _, place in asked}.values():
            keep_start(system, [fit for fit, own in asked if own.workdir == place.workdir], place)
    by_recipe: dict[Recipe, list[int]] = {}
    for number, (fit, _) in enumerate(asked):
        by_recipe.setdefault(system.recipe(fit.overrides), []).append(number)
    for recipe, own in by_recipe.items():
        fits = [asked[number] for number in own]
        if all(fit.done for fit, _ in fits):
            continue
        variables = system.start(fits[0][0].init_seed)
        frozen, seen = tuning.split(variables, recipe.tuning)[1], table
        if on_features(recipe):
            with timings.of("features"):
                seen = features.table_of(recipe, variables, table, system.config.model.image_size)
        jobs = [job_of(system, recipe, fit, seen, place) for fit, place in fits]
        number_of = {(job.place.workdir, job.stage): number for job, number in zip(jobs, own, strict=True)}
        together = on_features(recipe) and recipe.config.mode == "head"
        for job, state in loop.train(classify.train_step, jobs, seen, frozen, recipe, together):
            diverged = isinstance(state, Diverged)
            made = state if diverged else Network(recipe, classify.variables_of(state, frozen), seen)
            yield number_of[job.place.workdir, job.stage], made


def job_of(system: System, recipe: Recipe, fit: Fit, table: Table, place: Place) -> Job:
    """The training of one fit on a table of images or features; of extra images a step takes as many as of the others.

    Features are standardised by those of `fit.train` alone, so that arms with the same real images differ in nothing
    but what they are trained on.
    """
    batch, scaling = recipe.config.batch_size, None
    if recipe.config.standardise:
        scaling = features.scaling_of(table, fit.train, recipe.config.predict_batch_size)
    rows = loop.epochs(fit.train, batch, fit.steps, fit.seed)
    if len(fit.extra):
        beside = loop.epochs(fit.extra, batch, fit.steps, seed_of(fit.seed, "extra"))
        rows = np.concatenate([rows, beside], 1)
    return Job(
        stage=fit.stage,
        start=lambda: classify.start(recipe, tuning.split(system.start(fit.init_seed), recipe.tuning)[0], scaling),
        rows=rows,
        key=jax.random.key(fit.seed),
        place=place,
        fields=tuning.fields(fit.steps, system.classifier(fit.overrides)),
        done=fit.done,
    )


def keep_start(system: System, fits: Sequence[Fit], place: Place) -> None:
    """Saves what training starts from, once, where some of it is not trained: `classifier` needs the workdir alone."""
    if system.weights:
        with checkpoint.open_manager(place.workdir / "checkpoints" / "start") as manager:
            if checkpoint.latest(manager) is None:
                checkpoint.save(manager, 0, system.start(fits[0].init_seed))


def classifier(run, stage: Stage) -> Classifier:
    """One network of a finished run, from its workdir alone; its features are what the head sees.

    Errors: BadInput where a checkpoint of it is missing.
    """
    recipe, variables = restored(run, stage)

    def predict(images: np.ndarray) -> np.ndarray:
        return classify.predict(variables, table_of(images), np.arange(len(images)), recipe)

    names = getattr(recipe.model, "STAGES", ())
    return Classifier(predict, Opened(recipe, variables, len(names) - 1, classify.onward) if names else None)


def exported(run, stage: Stage) -> Exported:
    """The network of a classifier; what standardises its features is folded into the first layer that is trained.

    Errors: BadInput as `classifier` has them, and where that cannot be.
    """
    recipe, variables = restored(run, stage)
    scaling, said = variables.pop("scaling"), ()
    if scaling:
        first = recipe.model.STAGES[recipe.tuning.begin]
        size = run.config.model.image_size
        variables = folding.standardised(recipe.model, variables, size, recipe.tuning.begin, scaling)
        if variables is None:
            raise BadInput(
                f"{run.workdir}: {stage.name} standardises the features that {first} of {run.config.model.name} sees "
                "(config.classifier.standardise), and no layer there can take that into its numbers; it cannot be "
                "exported, python -m pneumojax.predict uses it"
            )
        said = (f"The standardisation of the features that `{first}` sees is folded into that layer's numbers.",)
    return Exported(recipe.model, variables, logits_function(recipe.model, variables), said)


def logits_function(model: nn.Module, variables: dict):
    """A whole network as a function: uint8 [N, S, S] → logits float32 [N, K]."""

    def logits(images):
        return model.apply(variables, pixels.normalise(images), train=False).astype(np.float32)

    return logits


def table_of(images: np.ndarray) -> Table:
    """Images, uint8 [N, S, S], whose labels nobody asks for."""
    return Table(sharding.replicate(images), np.zeros(len(images), np.int32))


def rebuilt(run) -> tuple[System, dict]:
    """The network of a finished run, and the variables that it started from, zeros where it had no weights."""
    model, shapes = built(run.config)
    new = frozenset(tuple(name.split(".")) for name in run.results["classifier"]["new_parameters"])
    variables = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    if run.config.model.weights != "none":
        variables = loop.newest(run.workdir / "checkpoints" / "start", variables)
    return System(run.config, model, None, shapes, new, {}), variables


def restored(run, stage: Stage) -> tuple[Recipe, dict]:
    """A trained network of a finished run: its recipe and variables."""
    system, variables = rebuilt(run)
    recipe = system.recipe(run.arm(stage)["overrides"])
    trained, frozen = tuning.split(variables, recipe.tuning)
    scaling = None
    if recipe.config.standardise:
        channels = features.shape_of(recipe, run.config.model.image_size)[-1]
        scaling = {name: np.zeros(channels, np.float32) for name in ("mean", "deviation")}
    state = loop.newest(run.workdir / "checkpoints" / stage.name, classify.start(recipe, trained, scaling))
    return recipe, classify.variables_of(state, frozen)
