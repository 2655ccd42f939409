"""Training steps and predictions of a classifier."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from ml_collections import FrozenConfigDict
from runs import fields_at

from configs import default
from pneumojax import classify, loop, models, tuning
from pneumojax.data import pixels
from pneumojax.data import table as tables
from pneumojax.data.table import Table
from pneumojax.jobs import Batch, Job
from pneumojax.stage import Stage

quick = partial(jax.jit, compiler_options=loop.QUICK_COMPILATION)


@pytest.fixture(scope="module")
def parts():
    config = default.get_config().classifier
    config.update({"batch_size": 8, "learning_rate": 0.05, "log_every": 5, "save_every": 20, "predict_batch_size": 4})
    model = models.load("resnet18")(num_classes=2, width=4)
    rng = np.random.default_rng(0)
    labels = np.arange(40, dtype=np.int32) % 2
    table = (rng.integers(0, 120, (40, 48, 48)) + 100 * labels[:, None, None]).astype(np.uint8)
    variables = classify.init(jax.random.key(0), model, 48)
    config = FrozenConfigDict(config)
    recipe = classify.Recipe(model, config, tuning.choose(model, 48, variables, config, frozenset()))
    return recipe, variables, table, labels


def test_predict_counts_each_image_once_also_in_a_short_last_batch(parts):
    recipe, variables, table, _ = parts
    indices = np.array([3, 1, 4, 15, 9, 26, 5, 35, 8, 9, 7], np.int32)
    whole = Table(jnp.asarray(table), np.zeros(40, np.int32))
    logits = classify.predict(variables, whole, indices, recipe)
    assert logits.shape == (11, 2)
    direct = quick(recipe.model.apply)(variables, pixels.normalise(jnp.asarray(table[indices])))
    np.testing.assert_allclose(logits, direct, atol=1e-5)
    np.testing.assert_array_equal(logits[4], logits[9])
    alone = classify.predict(variables, whole, indices[-1:], recipe)
    np.testing.assert_array_equal(alone[0], logits[-1])
    assert classify.predict(variables, whole, indices[:0], recipe).shape == (0, 2)


def test_generated_images_are_rows_behind_the_real_ones(parts):
    """Resized to the size of the others as they are taken."""
    recipe, variables, table, _ = parts
    small = np.random.default_rng(1).integers(0, 255, (6, 24, 24), np.uint8)
    both = Table(jnp.asarray(table), np.zeros(46, np.int32), jnp.asarray(small))
    rows = np.array([2, 45, 7, 40, 39])
    images = np.concatenate([table, pixels.resized(jnp.asarray(small), 48)])
    np.testing.assert_array_equal(tables.images(both, rows), images[rows])
    expected = classify.predict(variables, Table(jnp.asarray(images), both.labels), rows, recipe)
    np.testing.assert_allclose(classify.predict(variables, both, rows, recipe), expected, atol=1e-6)


def test_it_learns_what_is_to_be_learned_and_starts_from_given_variables(parts, place):
    recipe, variables, table, labels = parts
    before = jax.tree.map(np.array, variables)
    trained, frozen = tuning.split(variables, recipe.tuning)
    job = Job(
        stage=Stage(0, "clean", arm="plain"),
        start=lambda: classify.start(recipe, trained),
        rows=loop.epochs(np.arange(30), 8, 40, 0),
        key=jax.random.key(1),
        place=place,
        fields=tuning.fields(40, recipe.config),
    )
    whole = Table(jnp.asarray(table), labels)
    [(_, state)] = loop.train(classify.train_step, [job], whole, frozen, recipe)
    jax.tree.map(np.testing.assert_array_equal, before, variables)  # the given ones are not taken
    logits = classify.predict(classify.variables_of(state, frozen), whole, np.arange(30, 40), recipe)
    assert (np.argmax(logits, 1) == labels[30:]).all()


def test_a_step_is_sgd_with_momentum_and_decay_of_kernels_alone(parts):
    recipe, variables, table, labels = parts
    trained, frozen = tuning.split(variables, recipe.tuning)
    state = classify.start(recipe, trained)
    images, target = jnp.asarray(table[:8]), jnp.asarray(labels[:8])
    step = quick(classify.train_step, static_argnames="recipe")
    batch = Batch(images, target, fields_at(recipe.config, 0.05))
    after, metrics = step(state, batch, jax.random.key(0), frozen, recipe=recipe)

    def loss_of(params):
        logits, _ = recipe.model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            pixels.normalise(images),
            train=True,
            mutable=["batch_stats"],
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, target).mean()

    loss, gradient = quick(jax.value_and_grad(loss_of))(variables["params"])
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
    for layer, leaf, decay in (("fc", "kernel", 1e-4), ("fc", "bias", 0.0), ("bn1", "scale", 0.0)):
        old, g = variables["params"][layer][leaf], gradient[layer][leaf]
        np.testing.assert_allclose(after.params[layer][leaf], old - 0.05 * (g + decay * old), atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimisers_are_torchs(name):
    """Over ten steps of a quadratic; the decay is on kernels alone, as parameter groups have it there."""
    config = FrozenConfigDict({**default.get_config().classifier, "optimizer": name, "weight_decay": 0.1})
    rng, rate = np.random.default_rng(0), 0.05
    target = {"kernel": rng.normal(size=(3, 2)), "bias": rng.normal(size=2)}
    params = jax.tree.map(lambda leaf: leaf * 0.5 + 1, target)
    theirs = {key: torch.tensor(leaf, requires_grad=True) for key, leaf in params.items()}
    groups = [{"params": [theirs["kernel"]], "weight_decay": 0.1}, {"params": [theirs["bias"]], "weight_decay": 0.0}]
    kinds = {
        "sgd": (torch.optim.SGD, {"momentum": 0.9}),
        "adam": (torch.optim.Adam, {}),
        "adamw": (torch.optim.AdamW, {}),
    }
    kind, options = kinds[name]
    optimizer = kind(groups, lr=rate, **options)
    rule = classify.optimizer(config, config.momentum, config.weight_decay)
    with jax.enable_x64(True):  # in float32 Adam's 1 - 0.999 ** t has five digits, of which the root is taken
        state = rule.init(jax.tree.map(jnp.asarray, params))
        for _ in range(10):
            gradient = jax.tree.map(lambda p, t: 2 * (p - t), params, target)
            updates, state = rule.update(gradient, state, params)
            params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
            optimizer.zero_grad()
            sum(((p - torch.tensor(target[key])) ** 2).sum() for key, p in theirs.items()).backward()
            optimizer.step()
    for key, leaf in params.items():
        np.testing.assert_allclose(leaf, theirs[key].detach().numpy(), rtol=1e-7)
