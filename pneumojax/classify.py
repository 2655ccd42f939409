"""Fine-tunes a classifier on indices into a table of images or of their features, and predicts."""

import functools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from clu import metrics
from ml_collections import FrozenConfigDict

from pneumojax import finetune, loop, sharding
from pneumojax.data import CLASSES, pixels, stream
from pneumojax.finetune import Tuning
from pneumojax.metrics import Writer

ROWS_KEPT = 4096  # steps; more than are read ahead


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


@flax.struct.dataclass
class TrainMetrics(metrics.Collection):
    """What is logged of a training step."""

    loss: metrics.Average.from_output("loss")
    accuracy: metrics.Accuracy


def optimizer(config) -> optax.GradientTransformation:
    """Momentum; weight decay (L2) on kernels only, as MATLAB's trainer does for its biases. Not scaled by any rate."""
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, lambda params: jax.tree.map(lambda p: p.ndim > 1, params)),
        optax.trace(config.momentum),
    )


def start(recipe: Recipe, trained: dict) -> TrainState:
    """The state before the first step, from the trained part of {"params", "batch_stats"}."""
    return TrainState(trained["params"], trained["batch_stats"], optimizer(recipe.config).init(trained["params"]))


def variables_of(state: TrainState, frozen: dict) -> dict:
    """{"params", "batch_stats"}, whole, of a state and what is not trained."""
    return finetune.merge({"params": state.params, "batch_stats": state.batch_stats}, frozen)


def apply(recipe: Recipe, variables: dict, x, **options):
    """The network or some of its stages, computed in the recipe's dtype.

    Args:
      recipe: the model and its dtype.
      variables: {"params", "batch_stats"}, whole.
      x: float [N, ...], what the first of the stages takes.
      **options: of the model's call, and of flax's `apply`.
    """
    params = jax.tree.map(lambda leaf: leaf.astype(recipe.dtype), variables["params"])
    return recipe.model.apply({**variables, "params": params}, x.astype(recipe.dtype), **options)


def features_of(recipe: Recipe, variables: dict, images):
    """What the first trained stage sees of uint8 [N, S, S]: the images, normalised, where that is the first of all."""
    x = pixels.normalise(images)
    if recipe.tuning.begin == 0:
        return x
    return apply(recipe, variables, x, train=False, end=recipe.tuning.begin)


def from_features(recipe: Recipe, variables: dict, features, **options):
    """The trained stages: features [N, ...] → what the model's call returns."""
    if recipe.tuning.begin == 0:
        return apply(recipe, variables, features, **options)
    return apply(recipe, variables, features, begin=recipe.tuning.begin, **options)


def fresh_variables(key, model: nn.Module, size: int):
    """Random variables for images of size x size pixels: {"params", "batch_stats"}."""
    variables = model.init(key, jnp.zeros((1, size, size, 3)), train=False)
    return {"batch_stats": {}, **variables}


init = jax.jit(fresh_variables, static_argnames=("model", "size"), compiler_options=loop.QUICK_COMPILATION)


def augment(images, key, config):
    """Classical augmentation of uint8 [N, S, S]: flips left to right and shifts, the space left behind black."""
    flip_key, shift_key = jax.random.split(key)
    if config.flip:
        flipped = jax.random.bernoulli(flip_key, shape=(images.shape[0], 1, 1))
        images = jnp.where(flipped, images[:, :, ::-1], images)
    if config.shift:
        limit = config.shift
        padded = jnp.pad(images, ((0, 0), (limit, limit), (limit, limit)))
        corners = jax.random.randint(shift_key, (images.shape[0], 2), 0, 2 * limit + 1)
        images = jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, corner, images.shape[1:]))(padded, corners)
    return images


def train_step(state: TrainState, frozen: dict, examples, labels, key, rate, recipe: Recipe):
    """One step of SGD on softmax cross-entropy.

    Args:
      state: trained parameters, batch statistics, optimiser.
      frozen: {"params", "batch_stats"} that are not trained.
      examples: images, uint8 [N, S, S], or their features, float [N, ...], which are not augmented.
      labels: int32 [N].
      key: for augmentation and dropout.
      rate: the learning rate of this step.
      recipe: model, `config.classifier` and what is trained.

    Returns: (state, {"loss", "accuracy"}), means over the batch before the step.
    """
    augment_key, dropout_key = jax.random.split(key)
    if examples.dtype == jnp.uint8:
        images = augment(examples, augment_key, recipe.config)
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
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (logits, {"params": {}, "batch_stats": changed.get("batch_stats", {})})

    (loss, (logits, changed)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    updates, opt_state = optimizer(recipe.config).update(gradient, state.opt_state, state.params)
    multiples = finetune.rates_of(state.params, recipe.tuning)
    params = jax.tree.map(
        lambda param, update, multiple: param - rate * multiple * update, state.params, updates, multiples
    )
    batch_stats = finetune.split(changed, recipe.tuning)[0]["batch_stats"]
    metrics_ = TrainMetrics.single_from_model_output(loss=loss, logits=logits, labels=labels).compute()
    return TrainState(params, batch_stats, opt_state), metrics_


def rows_of_step(pool: loop.Pool, key, step, recipe: Recipe):
    """Inside jit: the images of the training step of number `step`, int32 [B]."""
    return loop.batch_of(pool, jax.random.split(key)[0], step, recipe.config.batch_size)


@partial(jax.jit, static_argnames="recipe")
def rows_of_steps(pool: loop.Pool, key, numbers, recipe: Recipe):
    """The images of the training steps of the numbers `numbers` [k], int32 [k, B]."""
    return jax.lax.map(lambda step: rows_of_step(pool, key, step, recipe), numbers)


def numbered_step(state, frozen, step, steps, table, labels, rows, key, recipe: Recipe):
    """The training step of number `step` out of `steps`, on the images at `rows` [B]."""
    examples, batch_labels = sharding.split_batch((table[rows], labels[rows]))
    rate = recipe.config.learning_rate * finetune.schedule(step, steps, recipe.config)
    step_key = jax.random.fold_in(jax.random.split(key)[1], step)
    return train_step(state, frozen, examples, batch_labels, step_key, rate, recipe)


@partial(jax.jit, static_argnames="recipe", donate_argnames="state")
def advance(state, frozen, numbers, steps, table, labels, rows, key, recipe: Recipe):
    """Training steps of the numbers `numbers` [k] out of `steps`, on the images at `rows` [k, B] of a table."""

    def one(state, numbered):
        step, rows = numbered
        return numbered_step(state, frozen, step, steps, table, labels, rows, key, recipe)

    return loop.scan(one, state, (numbers, rows))


@partial(jax.jit, static_argnames="recipe")
def logits_of(variables, table, indices, recipe: Recipe):
    """Logits float32 [B, K] of the images or features at `indices` [B], in evaluation mode."""
    examples = sharding.split_batch(table[indices])
    if examples.dtype == jnp.uint8:
        examples = features_of(recipe, variables, examples)
    return from_features(recipe, variables, examples, train=False).astype(jnp.float32)


def predict(variables, table, indices: np.ndarray, recipe: Recipe) -> np.ndarray:
    """Logits float32 [n, K] of the rows `indices` [n], each counted once however n divides into batches."""
    size = recipe.config.predict_batch_size
    whole = -(-len(indices) // size) * size
    rows = np.resize(indices, whole).reshape(-1, size)  # the last batch is filled up, then cut
    batches = stream.batches(table, len(rows), rows.__getitem__)
    logits = jax.device_get([logits_of(variables, *batch, recipe) for batch in batches])
    return np.concatenate([np.zeros((0, len(CLASSES)), np.float32), *logits])[: len(indices)]


def examples_of(recipe: Recipe, table, labels, pool: loop.Pool, key, steps: range) -> Callable:
    """A function that gives (images, labels, rows [k, B]) for the numbers of training steps [k], called in order.

    From a table on the device it chooses rows; from a stream the images come ahead of time.
    """
    if not isinstance(table, stream.Streamed):
        return lambda numbers: (table, labels, rows_of_steps(pool, key, numbers, recipe))

    @functools.lru_cache(ROWS_KEPT)  # drawn once, for the images ahead of time and for the labels with them
    def rows_of(step):
        return np.asarray(rows_of_steps(pool, key, np.array([step], np.int32), recipe)[0])

    batches = stream.batches(table, len(steps), lambda number: rows_of(steps[number]))

    def take(numbers):
        images = np.concatenate([next(batches)[0] for _ in numbers])
        rows = np.stack([rows_of(step) for step in numbers.tolist()])
        return images, labels[rows.ravel()], np.arange(rows.size, dtype=np.int32).reshape(rows.shape)

    return take


def fit(
    recipe: Recipe,
    trained: dict,
    frozen: dict,
    table,
    labels,
    pool: loop.Pool,
    steps: int,
    key,
    stage: str,
    workdir: Path,
    writer: Writer,
) -> TrainState:
    """Trains from given variables on the images of `pool`, going on from a checkpoint where there is one.

    Args:
      recipe: model, `config.classifier` and what is trained.
      trained: {"params", "batch_stats"} that training changes, to start from.
      frozen: the others.
      table: uint8 [N, S, S] on the device, or `stream.Streamed`.
      labels: int32 [N] on the device.
      pool: the training images.
      steps: optimiser steps.
      key: everything random is folded from it.
      stage: name of the stage, e.g. `trial0/clean/with_gan`.
      workdir: where checkpoints go.
      writer: where losses go.

    Returns: the state after the last step, which is the one to score.
    """
    feed = None

    def advance_fed(state, numbers):
        nonlocal feed
        if feed is None:  # from here on, wherever a checkpoint has it begin
            feed = examples_of(recipe, table, labels, pool, key, range(int(numbers[0]), steps))
        return advance(state, frozen, numbers, jnp.float32(steps), *feed(numbers), key, recipe)

    return loop.train(
        advance_fed,
        sharding.replicate(jax.tree.map(jnp.copy, start(recipe, trained))),  # `advance` takes its state's memory
        steps,
        per_dispatch=recipe.config.log_every,
        save_every=recipe.config.save_every,
        directory=workdir / "checkpoints" / stage,
        stages=(stage,),
        writer=writer,
    )
