"""What would be compiled for GPUs and TPUs, seen without one: steps are traced and lowered, not compiled."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from ml_collections import FrozenConfigDict

from configs import default
from pneumojax import classify, lookup, models, tuning
from pneumojax.jobs import Batch

# to trace, 10 to 40 seconds; test_inception.py and test_networks.py have their blocks
SLOW = {"densenet121", "densenet201", "inception_resnet_v2", "inception_v3", "xception"}
NAMES = [name for name in lookup.names("pneumojax.models", "Model") if name not in SLOW]
AUGMENTATION = {"flip": True, "shift": 5, "rotation": 10.0, "zoom": 0.1, "shear": 5.0}
BATCH, SIZE, WIDTH = 4, 64, 8


def trace(name: str, mode: str = "full", dtype: str = "float32", augmented: bool = False):
    """The training step of a narrow network, traced on shapes."""
    config = default.get_config().classifier
    config.update({"mode": mode} | (AUGMENTATION if augmented else {}))
    config = FrozenConfigDict(config)
    model = models.load(name)(num_classes=2, width=WIDTH)
    variables = jax.eval_shape(lambda key: classify.fresh_variables(key, model, SIZE), jax.random.key(0))
    recipe = classify.Recipe(model, config, tuning.choose(model, SIZE, variables, config, frozenset()), dtype)
    trained, frozen = tuning.split(variables, recipe.tuning)
    state = jax.eval_shape(lambda trained: classify.start(recipe, trained), trained)
    images = jax.ShapeDtypeStruct((BATCH, SIZE, SIZE), jnp.uint8)
    labels = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
    fields = dict.fromkeys(tuning.fields(1, config), jax.ShapeDtypeStruct((), jnp.float32))
    step = jax.jit(classify.train_step, static_argnames="recipe")
    return step.trace(state, Batch(images, labels, fields), jax.random.key(0), frozen, recipe=recipe)


def lowered(traced, *platforms: str) -> str:
    """One module; where platforms differ it holds the form of each."""
    return traced.lower(lowering_platforms=platforms).as_text()


@pytest.mark.parametrize("mode", ["full", "head"])
@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_lowers_without_select_and_scatter(name, mode):
    """Which is the gradient of flax's max pooling, and has no form on GPUs that adds in a fixed order."""
    text = lowered(trace(name, mode), "cuda", "tpu")
    assert "stablehlo.convolution" in text
    assert "select_and_scatter" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_step_in_bfloat16_with_all_augmentation_does_so_too(name):
    text = lowered(trace(name, dtype="bfloat16", augmented=True), "cuda", "tpu")
    convolutions = [line for line in text.splitlines() if "stablehlo.convolution" in line]
    assert convolutions
    assert all("xbf16>" in line and "xf32>" not in line for line in convolutions)
    assert "select_and_scatter" not in text


@pytest.mark.parametrize("platforms", [("cuda",), ("tpu",), ("cuda", "tpu")])
def test_what_is_looked_for_would_be_found(platforms):
    pool = jax.jit(jax.grad(lambda x: nn.max_pool(x, (3, 3), (2, 2)).sum()))
    text = lowered(pool.trace(jax.ShapeDtypeStruct((1, 9, 9, 1), jnp.float32)), *platforms)
    assert "select_and_scatter" in text
