"""Fine-tunes a classifier on indices into a table of images, and predicts."""

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

from pneumojax import loop, sharding
from pneumojax.data import CLASSES, pixels
from pneumojax.metrics import Writer


class TrainState(NamedTuple):
    """All that a training step changes."""

    params: dict
    batch_stats: dict  # empty for networks without batch norm
    opt_state: optax.OptState


@flax.struct.dataclass
class TrainMetrics(metrics.Collection):
    """What is logged of a training step."""

    loss: metrics.Average.from_output("loss")
    accuracy: metrics.Accuracy


def optimizer(config) -> optax.GradientTransformation:
    """SGD with momentum; weight decay (L2) on kernels only, as MATLAB's trainer does for its biases."""
    return optax.chain(
        optax.add_decayed_weights(config.weight_decay, lambda params: jax.tree.map(lambda p: p.ndim > 1, params)),
        optax.sgd(config.learning_rate, config.momentum),
    )


@partial(jax.jit, static_argnames=("model", "size"), compiler_options=loop.QUICK_COMPILATION)
def init(key, model: nn.Module, size: int):
    """Random variables for images of size x size pixels: {"params", "batch_stats"}."""
    variables = model.init(key, jnp.zeros((1, size, size, 3)), train=False)
    return {"batch_stats": {}, **variables}


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


def train_step(state: TrainState, images, labels, key, model: nn.Module, config):
    """One step of SGD on softmax cross-entropy.

    Args:
      state: parameters, batch statistics, optimiser.
      images: uint8 [N, S, S].
      labels: int32 [N].
      key: for augmentation and dropout.
      model: a `Model` of `pneumojax.models`.
      config: `config.classifier`, frozen.

    Returns: (state, {"loss", "accuracy"}), means over the batch before the step.
    """
    augment_key, dropout_key = jax.random.split(key)
    inputs = pixels.normalise(augment(images, augment_key, config))

    def loss_of(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, changed = model.apply(
            variables, inputs, train=True, mutable=["batch_stats"], rngs={"dropout": dropout_key}
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return losses.mean(), (logits, changed.get("batch_stats", {}))

    (loss, (logits, batch_stats)), gradient = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    updates, opt_state = optimizer(config).update(gradient, state.opt_state, state.params)
    state = TrainState(optax.apply_updates(state.params, updates), batch_stats, opt_state)
    return state, TrainMetrics.single_from_model_output(loss=loss, logits=logits, labels=labels).compute()


@partial(jax.jit, static_argnames=("model", "config"), donate_argnames="state")
def advance(state, steps, table, labels, pool: loop.Pool, key, model: nn.Module, config):
    """Training steps of the numbers `steps` [k], on a table of images on the device."""
    order_key, step_key = jax.random.split(key)

    def one(state, step):
        rows = loop.batch_of(pool, order_key, step, config.batch_size)
        images, batch_labels = sharding.split_batch((table[rows], labels[rows]))
        return train_step(state, images, batch_labels, jax.random.fold_in(step_key, step), model, config)

    return loop.scan(one, state, steps)


@partial(jax.jit, static_argnames="model")
def logits_of(variables, table, indices, model: nn.Module):
    """Logits [B, K] of the images at `indices` [B], in evaluation mode."""
    images = sharding.split_batch(table[indices])
    return model.apply(variables, pixels.normalise(images), train=False)


def predict(variables, table, indices: np.ndarray, model: nn.Module, batch_size: int) -> np.ndarray:
    """Logits float32 [n, K] of the images at `indices` [n], each counted once however n divides into batches."""
    whole = -(-len(indices) // batch_size) * batch_size
    batches = np.resize(indices, whole).reshape(-1, batch_size)  # the last batch is filled up, then cut
    logits = jax.device_get([logits_of(variables, table, batch, model) for batch in batches])
    return np.concatenate([np.zeros((0, len(CLASSES)), np.float32), *logits])[: len(indices)]


def fit(
    model: nn.Module,
    config,
    variables,
    table,
    labels,
    pool: loop.Pool,
    steps: int,
    key,
    stage: str,
    workdir: Path,
    writer: Writer,
):
    """Trains from given variables on the images of `pool`, going on from a checkpoint where there is one.

    Args:
      model: a `Model` of `pneumojax.models`.
      config: `config.classifier`, frozen.
      variables: {"params", "batch_stats"} to start from.
      table: uint8 [N, S, S] on the device.
      labels: int32 [N] on the device.
      pool: the training images.
      steps: optimiser steps.
      key: everything random is folded from it.
      stage: name of the stage, e.g. `trial0/clean/with_gan`.
      workdir: where checkpoints go.
      writer: where losses go.

    Returns: the variables after the last step, which are the ones to score.
    """
    state = TrainState(variables["params"], variables["batch_stats"], optimizer(config).init(variables["params"]))

    state = loop.train(
        lambda state, numbers: advance(state, numbers, table, labels, pool, key, model, config),
        sharding.replicate(jax.tree.map(jnp.copy, state)),  # `advance` takes its state's memory
        steps,
        per_dispatch=config.log_every,
        save_every=config.save_every,
        directory=workdir / "checkpoints" / stage,
        stage=stage,
        writer=writer,
    )
    return {"params": state.params, "batch_stats": state.batch_stats}
