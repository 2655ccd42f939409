"""Training steps and predictions of a classifier."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import FrozenConfigDict

from configs import default
from pneumojax import classify, finetune, loop, models
from pneumojax.data import pixels
from pneumojax.metrics import Writer


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
    recipe = classify.Recipe(model, config, finetune.choose(model, 48, variables, config, frozenset()))
    return recipe, variables, table, labels


def test_predict_counts_each_image_once_also_in_a_short_last_batch(parts):
    recipe, variables, table, _ = parts
    indices = np.array([3, 1, 4, 15, 9, 26, 5, 35, 8, 9, 7], np.int32)
    logits = classify.predict(variables, jnp.asarray(table), indices, recipe)
    assert logits.shape == (11, 2)
    direct = recipe.model.apply(variables, pixels.normalise(jnp.asarray(table[indices])))
    np.testing.assert_allclose(logits, direct, atol=1e-5)
    np.testing.assert_array_equal(logits[4], logits[9])
    alone = classify.predict(variables, jnp.asarray(table), indices[-1:], recipe)
    np.testing.assert_array_equal(alone[0], logits[-1])
    assert classify.predict(variables, jnp.asarray(table), indices[:0], recipe).shape == (0, 2)


def test_it_learns_what_is_to_be_learned_and_starts_from_given_variables(parts, tmp_path):
    recipe, variables, table, labels = parts
    writer = Writer(tmp_path)
    pool = loop.make_pool(np.arange(30, dtype=np.int32), 40)
    before = jax.tree.map(np.array, variables)
    trained, frozen = finetune.split(variables, recipe.tuning)
    state = classify.fit(
        recipe,
        trained,
        frozen,
        jnp.asarray(table),
        jnp.asarray(labels),
        pool,
        40,
        jax.random.key(1),
        "stage",
        tmp_path,
        writer,
    )
    writer.close()
    jax.tree.map(np.testing.assert_array_equal, before, variables)  # the given ones are not taken
    fitted = classify.variables_of(state, frozen)
    logits = classify.predict(fitted, jnp.asarray(table), np.arange(30, 40), recipe)
    assert (np.argmax(logits, 1) == labels[30:]).all()


def test_a_step_is_sgd_with_momentum_and_decay_of_kernels_alone(parts):
    recipe, variables, table, labels = parts
    trained, frozen = finetune.split(variables, recipe.tuning)
    state = classify.start(recipe, trained)
    images, target = jnp.asarray(table[:8]), jnp.asarray(labels[:8])
    step = jax.jit(classify.train_step, static_argnames="recipe")
    after, metrics = step(state, frozen, images, target, jax.random.key(0), 0.05, recipe=recipe)

    def loss_of(params):
        logits, _ = recipe.model.apply(
            {"params": params, "batch_stats": state.batch_stats},
            pixels.normalise(images),
            train=True,
            mutable=["batch_stats"],
        )
        return optax.softmax_cross_entropy_with_integer_labels(logits, target).mean()

    loss, gradient = jax.jit(jax.value_and_grad(loss_of))(variables["params"])
    assert float(metrics["loss"]) == pytest.approx(float(loss), rel=1e-5)
    for layer, leaf, decay in (("fc", "kernel", 1e-4), ("fc", "bias", 0.0), ("bn1", "scale", 0.0)):
        old, g = variables["params"][layer][leaf], gradient[layer][leaf]
        np.testing.assert_allclose(after.params[layer][leaf], old - 0.05 * (g + decay * old), atol=1e-6)


def test_augmentation_moves_pictures_and_leaves_black(parts):
    config = FrozenConfigDict({**parts[0].config, "flip": True, "shift": 3})
    images = jnp.full((64, 16, 16), 200, jnp.uint8).at[:, :, :4].set(100)
    moved = np.asarray(classify.augment(images, jax.random.key(0), config))
    assert moved.shape == images.shape
    assert moved.dtype == np.uint8
    assert set(np.unique(moved)) == {0, 100, 200}
    offsets = {(int((m[:, 8] == 0).sum()), int((m[8] == 0).sum())) for m in moved}
    assert {rows for rows, _ in offsets} == {0, 1, 2, 3}
    assert {columns for _, columns in offsets} == {0, 1, 2, 3}
    sides = {bool(np.flatnonzero(m[8] == 100).mean() < 8) for m in moved}
    assert sides == {True, False}
    plain = FrozenConfigDict({**parts[0].config, "flip": False, "shift": 0})
    np.testing.assert_array_equal(classify.augment(images, jax.random.key(0), plain), images)
