"""The pure functions of a neural classifier: a training step, features of its frozen stages, predictions."""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import FrozenConfigDict

from pneumojax import augment, loop, progress, sharding, tuning
from pneumojax.data import pixels
from pneumojax.data import table as tables
from pneumojax.data.table import Table
from pneumojax.jobs import Batch
from pneumojax.tuning import Tuning


class Recipe(NamedTuple):
    """What a compiled program depends on besides its arrays. Hashable, for jit."""

    model: nn.Module
    config: FrozenConfigDict  # config.classifier
    tuning: Tuning
    dtype: str = "float32"  # that the network computes in; parameters, statistics and logits are float32 always


class TrainState(NamedTuple):
    """All that a training step changes."""

    params: dict  # those that are trained
    batch_stats: dict  # those of stages that are trained
    opt_state: optax.OptState
    scaling: dict = {}  # {"mean", "deviation"} [C] that features are standardised by; {} for none; never changed


def optimizer(config, momentum=0.0, weight_decay=0.0) -> optax.GradientTransformation:
    """What `config.optimizer` makes of a gradient, not scaled by any rate; weight decay on kernels only.

    `momentum` and `weight_decay` are numbers or scalars of a trace; what is kept of a gradient does not depend on them.

    It is L2, a part of the gradient, but decoupled in `adamw` (Loshchilov and Hutter 2019). MATLAB's trainer spares its
    biases as well.
    """
    decay = optax.add_decayed_weights(weight_decay, lambda params: jax.tree.map(lambda p: p.ndim > 1, params))
    return {
        "sgd": lambda: optax.chain(decay, optax.trace(momentum)),
        "adam": lambda: optax.chain(decay, optax.scale_by_adam()),
        "adamw": lambda: optax.chain(optax.scale_by_adam(), decay),
    }[config.optimizer]()


def start(recipe: Recipe, trained: dict, scaling: dict | None = None) -> TrainState:
    """The state before the first step, from the trained part of {"params", "batch_stats"}."""
    opt_state = optimizer(recipe.config).init(trained["params"])
    return TrainState(trained["params"], trained["batch_stats"], opt_state, scaling or {})


def variables_of(state: TrainState, frozen: dict) -> dict:
    """{"params", "batch_stats", "scaling"}, whole, of a state and what is not trained."""
    merged = tuning.merge({"params": state.params, "batch_stats": state.batch_stats}, frozen)
    return merged | {"scaling": state.scaling}


def apply(recipe: Recipe, variables: dict, x, **options):
    """The network or some of its stages, computed in the recipe's dtype.

    Args:
      recipe: the model and its dtype.
      variables: {"params", "batch_stats"}, whole.
      x: float [N, ...], what the first of the stages takes.
      **options: of the model's call, and of flax's `apply`.
    """
    params = jax.tree.map(lambda leaf: leaf.astype(recipe.dtype), variables["params"])
    given = {"params": params, "batch_stats": variables["batch_stats"]}
    return recipe.model.apply(given, x.astype(recipe.dtype), **options)


def features_of(recipe: Recipe, variables: dict, images):
    """What the first trained stage sees of uint8 [N, S, S]: the images, normalised, where that is the first of all."""
    x = pixels.normalise(images)
    if recipe.tuning.begin == 0:
        return x
    return apply(recipe, variables, x, train=False, end=recipe.tuning.begin)


def from_features(recipe: Recipe, variables: dict, features, **options):
    """The trained stages: features [N, …, C], standardised if there is a scaling → what the model's call returns."""
    if scaling := variables.get("scaling"):
        features = (features.astype(jnp.float32) - scaling["mean"]) / scaling["deviation"]
    if recipe.tuning.begin == 0:
        return apply(recipe, variables, features, **options)
    return apply(recipe, variables, features, begin=recipe.tuning.begin, **options)


def until(recipe: Recipe, variables: dict, x, end: int):
    """What the stage of number `end` sees of images float [N, S, S, 3], normalised; before any scaling of its own."""
    begin = recipe.tuning.begin
    if end <= begin:
        return apply(recipe, variables, x, train=False, end=end)
    features = apply(recipe, variables, x, train=False, end=begin) if begin else x
    return from_features(recipe, variables, features, train=False, end=end)


def onward(recipe: Recipe, variables: dict, x, begin: int):
    """Logits float32 [N, K] of what the stage of number `begin` sees."""
    first = recipe.tuning.begin
    if begin > first:
        return apply(recipe, variables, x, train=False, begin=begin).astype(jnp.float32)
    if begin < first:
        x = apply(recipe, variables, x, train=False, begin=begin, end=first)
    return from_features(recipe, variables, x, train=False).astype(jnp.float32)


def pooled(x):
    """Features [N, H, W, C] of pictures → their means over pixels [N, C]; others [N, C] are what they are."""
    return jnp.mean(x, (1, 2)) if x.ndim == 4 else x


def fresh_variables(key, model: nn.Module, size: int):
    """Random variables for images of size x size pixels: {"params", "batch_stats"}."""
    variables = model.init(key, jnp.zeros((1, size, size, 3)), train=False)
    return {"batch_stats": {}, **variables}


init = jax.jit(fresh_variables, static_argnames=("model", "size"), compiler_options=loop.QUICK_COMPILATION)


def train_step(state: TrainState, batch: Batch, key, frozen: dict, recipe: Recipe):
    """One optimiser step on softmax cross-entropy.

    Args:
      state: trained parameters, batch statistics, optimiser.
      batch: examples: images, uint8 [N, S, S], or their features, float [N, ...], which are not augmented; labels int32
        [N]; fields: {"rate", "momentum", "weight_decay"}, those of this step.
      key: for augmentation and dropout.
      frozen: {"params", "batch_stats"} that are not trained.
      recipe: model, `config.classifier` and what is trained.

    Returns: (state, {"loss", "accuracy"}), means over the batch before the step.
    """
    augment_key, dropout_key = jax.random.split(key)
    examples = batch.examples
    if examples.dtype == jnp.uint8:
        images = augment.augment(examples, augment_key, recipe.config)
        examples = features_of(recipe, variables_of(state, frozen), images)

    def loss_of(params):
        logits, changed = from_features(
            recipe,
            variables_of(state._replace(params=params), frozen),
            examples,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        return losses.mean(), (logits, {"params": {}, "batch_stats": changed.get("batch_stats", {})})

    (loss, (logits, changed)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    rate, momentum, weight_decay = (batch.fields[name] for name in ("rate", "momentum", "weight_decay"))
    rule = optimizer(recipe.config, momentum, weight_decay)
    updates, opt_state = rule.update(gradient, state.opt_state, state.params)
    multiples = tuning.rates_of(state.params, recipe.tuning)
    params = jax.tree.map(
        lambda param, update, multiple: param - rate * multiple * update, state.params, updates, multiples
    )
    batch_stats = tuning.split(changed, recipe.tuning)[0]["batch_stats"]
    accuracy = jnp.mean(jnp.argmax(logits, -1) == batch.labels)
    return TrainState(params, batch_stats, opt_state, state.scaling), {"loss": loss, "accuracy": accuracy}


@partial(jax.jit, static_argnames="recipe")
def logits_of(variables, examples, generated, index: tables.Index, recipe: Recipe):
    """Logits float32 [B, K] of the images or features at an index [B] of a table, in evaluation mode."""
    examples = sharding.split_batch(tables.take(examples, generated, index))
    if examples.dtype == jnp.uint8:
        examples = features_of(recipe, variables, examples)
    return from_features(recipe, variables, examples, train=False).astype(jnp.float32)


def predict(variables, table: Table, rows: np.ndarray, recipe: Recipe, compute=logits_of) -> np.ndarray:
    """Logits float32 [n, K] of rows [n] of a table, each counted once however n divides into batches.

    `compute`, with the arguments of `logits_of`, may make something else of a batch.
    """
    size = recipe.config.predict_batch_size
    if len(rows) == 0:
        return np.zeros((0, recipe.model.num_classes), np.float32)
    padded = np.resize(rows, -(-len(rows) // size) * size)  # the last batch goes round to the first images
    fed = tables.feed(table, padded.reshape(-1, size))
    pieces = []
    for examples, index in progress.over(fed, "predictions", len(padded), size):
        pieces.append(compute(variables, examples, table.generated, index, recipe))
        jax.block_until_ready(pieces[-2:][0])  # one batch late, so that what is counted is done
    return np.concatenate(sharding.fetched(pieces))[: len(rows)]
