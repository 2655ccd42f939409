"""A random forest on what a network makes of images before its head (Wu et al. 2020, a row of the paper's table 3).

The network is fine-tuned first, as `config.classifier` says (`systems/finetune.py`), or frozen as its weights are. Its
features are those that its last stage sees, of a picture the mean over its pixels. The forest's settings are the ones
of a grid that do best in inner folds of the training images, by patient.

Kept is no forest, which would be a pickle that `predict` has to trust, but what it was grown from: features, labels,
settings and seed, of which the same forest grows again.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from ml_collections import FrozenConfigDict

from pneumojax import checkpoint, classify, embedding, sharding
from pneumojax.classify import Recipe
from pneumojax.data import median, splits
from pneumojax.data import table as tables
from pneumojax.data.splits import Split
from pneumojax.data.table import Table
from pneumojax.errors import BadInput
from pneumojax.jobs import Diverged, Place
from pneumojax.stage import Stage
from pneumojax.systems import Classifier, Fit, Opened, features, finetune, trees
from pneumojax.systems.finetune import Network
from pneumojax.systems.trees import Choice
from pneumojax.tuning import Tuning

NETWORKS = ("trained", "frozen")
GRADIENT = False
DEFAULTS = {
    "network": "trained",  # before the forest grows: trained, as config.classifier says, or frozen, as its weights are
    "median": 0,  # pixels a side of the largest window of the filter that images pass first, odd; 0: no filter
    # the grid, of which all combinations are tried, in this order; of equally good ones the first is taken
    "trees": (100, 300),
    "depth": (0,),  # splits from root to leaf, at most; 0: any number
    "leaf": (1, 3),  # training images in a leaf, at least
    "share": (0.0,),  # of the features, that a split is chosen among; 0: the square root of their number
    "folds": 3,  # of the training images, to choose by
}


class System(NamedTuple):
    """A network, trained or frozen, under a forest."""

    network: finetune.System
    facts: dict

    @property
    def own(self) -> FrozenConfigDict:
        """config.system."""
        return self.network.config.system


def prepare(config) -> System:
    """The network. Errors: BadInput for fields that cannot be, and as `finetune` has them."""
    check_fields(config)
    network = finetune.prepare(config)
    embedding.end_of(type(network.model), config.model.name, None)
    facts = network.facts | {"network": config.system.network}
    if config.system.network == "frozen":
        if lacking := finetune.untrained(network, len(network.model.STAGES) - 1):
            what = f"the weights lack {', '.join(lacking)}, which would be random; give whole ones, or 'trained'"
            raise BadInput(f"config.system.network='frozen': {what}")
        facts |= {"mode": "frozen", "trained_parameters": 0, "cached_features": True}
    return System(network, facts)


def check_fields(config) -> None:
    """Errors: BadInput for the first of the fields of `DEFAULTS` that cannot be."""
    own = config.system

    def require(ok: bool, field: str, remedy: str) -> None:
        if not ok:
            raise BadInput(f"config.system.{field}={own[field]!r}: {remedy}")

    require(own.network in NETWORKS, "network", f"give one of {', '.join(NETWORKS)}")
    frozen = own.network == "frozen" and config.model.weights == "none"
    require(not frozen, "network", "there are no weights; set config.model.weights, or give 'trained'")
    odd = own.median == 0 or (own.median >= median.SMALLEST and own.median % 2 == 1)
    require(odd, "median", "give 0 for no filter, or an odd number from 3")
    streamed = own.median and config.data.residence == "stream"
    require(not streamed, "median", "images are filtered in memory; give 0, or config.data.residence='device'")
    for field, least in (("trees", 1), ("depth", 0), ("leaf", 1)):
        whole = own[field] and all(type(value) is int and value >= least for value in own[field])
        require(whole, field, f"give one whole number from {least}, or several, e.g. '{DEFAULTS[field]}'")
    shares = own.share and all(type(value) in (int, float) and 0 <= value <= 1 for value in own.share)
    require(shares, "share", "give one fraction within 0…1, or several, e.g. '(0.0, 0.3)'; 0 is the square root")
    require(own.folds >= 2, "folds", "give 2 or more")


def parameters(system: System) -> str:
    """As `finetune.parameters` has it."""
    return finetune.parameters(system.network)


def check(system: System, fits: Sequence[Fit], labels: np.ndarray) -> None:
    """Errors: BadInput where features would take more memory than allowed, or an inner fold lacks a class."""
    if system.own.network == "trained":
        finetune.check(system.network, fits, labels)
    else:
        features.check(frozen_recipe(system.network), system.network.config.model.image_size, len(labels))
    for fit in fits:
        inner_folds(system, fit, labels)


def frozen_recipe(network: finetune.System) -> Recipe:
    """That of a network whose features before the head are computed once an image."""
    recipe = network.recipe({})
    return recipe._replace(tuning=Tuning(len(recipe.model.STAGES) - 1, (), ()))


def inner_folds(system: System, fit: Fit, labels: np.ndarray) -> list[Split]:
    """The folds that one forest's settings are chosen by, none where there is no choice: places among `fit.train` and,
    behind these, `fit.extra`, which is only learnt from.

    Generated images are in no fold: their GAN saw the patients whom a fold keeps, so that these would be no new ones.
    Where there are no others the folds are of them.

    Errors: BadInput where a class is missing: of the training images, or on a side of a fold.
    """
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second to import

    own, classes = system.own, system.network.config.data.classes
    rows, alone = np.concatenate([fit.train, fit.extra]), len(trees.grid(own)) == 1
    places = np.flatnonzero(fit.groups[rows] >= 0)
    places = places if len(places) else np.arange(len(rows))
    labels, groups = labels[rows[places]], fit.groups[rows[places]]
    remedy = "lower config.system.folds or bring images of more patients; one setting alone of each takes no folds"
    for label, name in enumerate(classes):
        patients = len(set(groups[labels == label].tolist()))
        if patients < (1 if alone else own.folds):
            what = f"a forest of {fit.stage.name} has {patients} patients with {name} to learn from"
            raise BadInput(f"config.system.folds={own.folds}: {what}; {remedy}")
    if alone:
        return []
    splitter = StratifiedGroupKFold(own.folds, shuffle=True, random_state=fit.seed)
    sides = splitter.split(labels, labels, groups)
    folds = [Split(train, test[places[test] < len(fit.train)]) for train, test in sides]
    for fold in folds:
        splits.check_sides(fold, labels, classes, f"of the inner folds of {fit.stage.name}; {remedy}")
    return [Split(*(places[side] for side in fold)) for fold in folds]


def logits(
    system: System, fits: Sequence[Fit], table: Table, place: Place
) -> Iterator[tuple[Fit, np.ndarray | Diverged]]:
    """Grows a forest for each fit: logits as `trees.votes` has them.

    A network whose features are not finite, or the same for all images it is trained on, has diverged.
    """
    if system.own.median:
        with place.timings.of("filter"):
            images = tables.images(table, np.arange(len(table.labels)))
            table = Table(sharding.replicate(median.filtered(images, system.own.median)), table.labels)
    for fit, made in networks(system, fits, table, place):
        if fit.done:
            continue
        if isinstance(made, Network):
            with place.timings.of("forest") as task:
                task.note = fit.stage.name
                made = answers(system, fit, made, place)
        yield fit, made


def networks(
    system: System, fits: Sequence[Fit], table: Table, place: Place
) -> Iterator[tuple[Fit, Network | Diverged]]:
    """The network of each fit: one of its own that is trained, or the frozen one."""
    if system.own.network == "trained":
        for number, made in finetune.trained(system.network, [(fit, place) for fit in fits], table):
            yield fits[number], made
    elif fits:
        finetune.keep_start(system.network, fits, place)
        recipe, size = frozen_recipe(system.network), system.network.config.model.image_size
        variables = system.network.start(fits[0].init_seed)
        with place.timings.of("features"):
            seen = features.table_of(recipe, variables, table, size)
        yield from ((fit, Network(recipe, variables, seen)) for fit in fits)


@partial(jax.jit, static_argnames="recipe")
def before_head(variables, examples, generated, index: tables.Index, recipe: Recipe):
    """What the head would see, float32 [B, d], of the images or features at an index [B]; of a picture the mean."""
    examples = sharding.split_batch(tables.take(examples, generated, index))
    if examples.dtype == jnp.uint8:
        examples = classify.features_of(recipe, variables, examples)
        if recipe.tuning.begin:  # as in memory, or `predict` would fall on the other side of a tree's thresholds
            examples = examples.astype(recipe.config.feature_dtype)
    end = len(recipe.model.STAGES) - 1
    x = classify.from_features(recipe, variables, examples, train=False, end=end).astype(jnp.float32)
    return classify.pooled(x)


def answers(system: System, fit: Fit, network: Network, place: Place) -> np.ndarray | Diverged:
    """Grows the forest of one fit, keeps what it grew from, and asks it."""
    learnt = np.concatenate([fit.train, fit.extra])
    rows = np.concatenate([learnt, fit.tested])
    made = classify.predict(network.variables, network.seen, rows, network.recipe, before_head)
    train, tested = np.split(made, [len(learnt)])
    last = place.checkpoints(fit.stage) / str(fit.steps)
    kept = str(last.relative_to(place.workdir)) if last.exists() else None
    if not np.isfinite(made).all():
        return Diverged(fit.steps, "features", kept)
    if (train == train[0]).all():
        return Diverged(fit.steps, "constant features", kept)
    weights = np.ones(len(learnt))
    weights[len(fit.train) :] = len(fit.train) / max(len(fit.extra), 1)  # as much as the others, whatever their number
    examples = trees.Examples(train, network.seen.labels[learnt], weights)
    folds = inner_folds(system, fit, network.seen.labels)
    choice = trees.chosen(trees.grid(system.own), folds, examples, fit.seed)
    logging.info("%s: a forest of %s", fit.stage.name, trees.words(choice))
    forest = trees.grown(choice, fit.seed, examples)
    grew_from = examples._asdict() | {"seed": fit.seed, "said": trees.votes(forest, train)}
    checkpoint.write_arrays(kept_at(place.checkpoints(fit.stage)), **grew_from, **choice._asdict())
    return trees.votes(forest, tested)


def kept_at(checkpoints: Path) -> Path:
    """The file of what a forest grew from, beside the checkpoints of its network."""
    return checkpoints.with_name(f"{checkpoints.name}.forest.npz")


def classifier(run, stage: Stage) -> Classifier:
    """One forest of a finished run, grown again, and the network under it, which sees images before any filter.

    A forest has no gradient.

    Errors: BadInput where what it grew from is missing or damaged, or scikit-learn grows another one of it.
    """
    with checkpoint.record_of_run(kept_at(run.workdir / "checkpoints" / stage.name)) as path:
        kept = checkpoint.read_arrays(path)
        choice = Choice(**{field: kept[field].item() for field in Choice._fields})
        examples = trees.Examples(*(kept[field] for field in trees.Examples._fields))
        forest = trees.grown(choice, kept["seed"].item(), examples)
        same = np.array_equal(trees.votes(forest, kept["features"]), kept["said"])
    if not same:
        versions = "scikit-learn is not of the version in results.json, or the file is damaged"
        raise BadInput(f"{path} does not grow the forest of the run: {versions}; bring either back or run anew")
    recipe, variables = network_of(run, stage)

    def predict(images: np.ndarray) -> np.ndarray:
        if run.config.system.median:
            images = median.filtered(np.asarray(images), run.config.system.median)
        rows = np.arange(len(images))
        return trees.votes(forest, classify.predict(variables, finetune.table_of(images), rows, recipe, before_head))

    return Classifier(predict, Opened(recipe, variables, len(recipe.model.STAGES) - 1, None))


def network_of(run, stage: Stage) -> tuple[Recipe, dict]:
    """The network under a forest of a finished run: its recipe and variables."""
    if run.config.system.network == "trained":
        return finetune.restored(run, stage)
    system, variables = finetune.rebuilt(run)
    return frozen_recipe(system), variables
