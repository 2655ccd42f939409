"""The contract of `pneumojax.gan`, kept by every GAN of the folder and by the GAN of every config.

`check(module, fields)` runs all of it on one pair.
"""

import contextlib
import importlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from configs import default
from pneumojax import gan, lookup
from pneumojax.errors import BadInput

SMALL = {"filters": 4, "batch_size": 6, "epochs": 1, "steps": 3, "log_every": 1, "sample_every": 1, "save_every": 1}
SMALL |= {"flip": False}  # images are flipped before a GAN sees them: by it no step differs
QUICK = {"xla_backend_optimization_level": 0}  # programs that run a few times on few pixels


class Tried(NamedTuple):
    """What a GAN did: its first state, then states and metrics of three steps in a chain."""

    module: ModuleType | SimpleNamespace
    config: FrozenConfigDict
    step: Callable  # compiled: (state, images, labels, key)
    sample: Callable  # compiled: (state, latents, labels)
    traced: tuple  # step and sample
    batch: tuple  # images, labels
    states: list
    metrics: list


def small(module, fields) -> FrozenConfigDict:
    """A config's GAN section with the module's own fields, at the smallest sizes that mean something."""
    return FrozenConfigDict({**getattr(module, "DEFAULTS", {}), **fields, **SMALL})


def try_out(module, config) -> Tried:
    """Compiles a GAN and trains it for three steps."""

    def traced(function, *inputs):
        return jax.jit(function, static_argnames="config").trace(*inputs, config=config)

    def compiled(traced):
        return traced.lower().compile(QUICK)

    count, size, key = config.d_steps * config.batch_size, config.image_size, jax.random.key
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (count, size, size, 1)), jnp.float32)
    batch = images, jnp.arange(count, dtype=jnp.int32) % 2
    states, metrics = [compiled(traced(module.init, key(0)))(key(0))], []
    step_traced = traced(module.step, states[0], *batch, key(1))
    sample_traced = traced(module.sample, states[0], *latents_and_labels(config))
    assert as_shapes(step_traced.out_info[0]) == as_shapes(states[0]), "step changes structure, shapes or dtypes"
    step, sample = compiled(step_traced), compiled(sample_traced)
    for number in range(3):
        state, named = step(states[-1], *batch, key(number))
        states, metrics = [*states, state], [*metrics, named]
    return Tried(module, config, step, sample, (step_traced, sample_traced), batch, states, metrics)


def latents_and_labels(config) -> tuple[jax.Array, jax.Array]:
    """What six images are drawn from."""
    return jax.random.normal(jax.random.key(7), (6, config.latent_dim)), jnp.array([0, 0, 0, 1, 1, 1], jnp.int32)


def as_shapes(tree):
    """Structure, shapes and dtypes of a tree."""
    return jax.tree.structure(tree), [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)]


def same(a, b) -> bool:
    """Whether two trees are equal to the bit."""
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def networks_of(state) -> dict[str, list]:
    """Where the parameters of each network stand in a state → their arrays."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        keys = [jax.tree_util.keystr((key,), simple=True) for key in path]
        if "params" in keys:
            found.setdefault("/".join(keys[: keys.index("params")]), []).append(leaf)
    return found


def a_state_is_a_tree_of_finite_arrays(tried):
    for state in tried.states:
        leaves = jax.tree.leaves(state)
        assert leaves
        assert all(isinstance(leaf, jax.Array) for leaf in leaves)
        numbers = [np.asarray(leaf) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating)]
        assert all(np.isfinite(leaf.astype(np.float32)).all() for leaf in numbers)  # or each shape is a program


def a_step_is_deterministic(tried):
    again = tried.step(tried.states[0], *tried.batch, jax.random.key(0))
    assert same(again, (tried.states[1], tried.metrics[0]))


def metrics_are_finite_scalars_with_a_loss(tried):
    for metrics in tried.metrics:
        assert any(name.endswith("_loss") for name in metrics)
        assert all(value.shape == () and bool(jnp.isfinite(value)) for value in metrics.values())


def each_step_changes_something_and_three_all_networks(tried):
    assert not any(same(a, b) for a, b in zip(tried.states[:-1], tried.states[1:], strict=True))
    first, last = networks_of(tried.states[0]), networks_of(tried.states[-1])
    assert [name for name in first if same(first[name], last[name])] == []


def samples_are_images(tried):
    size = tried.config.image_size
    images = tried.sample(tried.states[-1], *latents_and_labels(tried.config))
    assert images.shape == (6, size, size, tried.batch[0].shape[-1])
    assert images.dtype == jnp.float32
    assert float(jnp.abs(images).max()) <= 1
    assert same(images, tried.sample(tried.states[-1], *latents_and_labels(tried.config)))


def an_image_depends_on_its_own_latent_and_label(tried):
    latents, labels = latents_and_labels(tried.config)
    images = tried.sample(tried.states[-1], latents, labels)
    others = tried.sample(tried.states[-1], latents.at[1:].set(0), 1 - labels.at[0].set(1))
    np.testing.assert_allclose(images[0], others[0], atol=1e-6)
    assert not np.allclose(images[0], images[1])


def labels_matter_where_it_is_conditional(tried):
    latents, labels = latents_and_labels(tried.config)
    drawn = [tried.sample(tried.states[-1], latents, one) for one in (labels, 1 - labels)]
    images, own = tried.batch
    trained = [tried.step(tried.states[0], images, one, jax.random.key(0)) for one in (own, 1 - own)]
    assert same(*drawn) != tried.module.CONDITIONAL
    assert same(*trained) != tried.module.CONDITIONAL


def other_sizes_are_made_or_refused(tried):
    config = FrozenConfigDict({**tried.config, "image_size": 30})
    with contextlib.suppress(BadInput):
        state = jax.eval_shape(lambda: tried.module.init(jax.random.key(0), config))
        images = jax.eval_shape(lambda s: tried.module.sample(s, *latents_and_labels(config), config=config), state)
        assert images.shape[1:3] == (30, 30)


def it_makes_64_and_128_pixels_in_the_shapes_of_the_contract(tried):
    if isinstance(tried.module, ModuleType):  # a shipped one
        for size in (64, 128):
            gan.check(tried.module, FrozenConfigDict({**tried.config, "image_size": size}))


def it_lowers_for_gpus_and_tpus(tried):
    for traced in tried.traced:
        text = traced.lower(lowering_platforms=("cuda", "tpu")).as_text()  # the forms of both, where they differ
        assert "select_and_scatter" not in text  # it has no deterministic form on GPUs


CHECKS = (
    a_state_is_a_tree_of_finite_arrays,
    a_step_is_deterministic,
    metrics_are_finite_scalars_with_a_loss,
    each_step_changes_something_and_three_all_networks,
    samples_are_images,
    an_image_depends_on_its_own_latent_and_label,
    labels_matter_where_it_is_conditional,
    other_sizes_are_made_or_refused,
    it_makes_64_and_128_pixels_in_the_shapes_of_the_contract,
    it_lowers_for_gpus_and_tpus,
)


def check(module, fields) -> Tried:
    """The whole contract for a GAN and the `gan` section of a config."""
    tried = try_out(module, small(module, fields))
    for one in CHECKS:
        one(tried)
    return tried


def shipped() -> dict[FrozenConfigDict, str]:
    """The GAN sections of all configs, and the default one for each GAN that none names → the first config's name."""
    stems = sorted(file.stem for file in (Path(__file__).parents[1] / "configs").glob("*.py"))
    sections = [(stem, dict(importlib.import_module(f"configs.{stem}").get_config().gan)) for stem in stems]
    named = {section["name"] for _, section in sections}
    for name in lookup.names("pneumojax.gan", "CONDITIONAL"):
        if name not in named:
            sections.append(("default", {**default.get_config().gan, "name": name}))
    found = {}
    for stem, section in sections:
        found.setdefault(FrozenConfigDict({**section, **SMALL}), stem)
    return found


@pytest.fixture(scope="module", params=[pytest.param(c, id=f"{c.name}-{stem}") for c, stem in shipped().items()])
def tried(request):
    module = gan.load(request.param.name)
    return try_out(module, small(module, request.param))


@pytest.mark.parametrize("kept", CHECKS, ids=lambda function: function.__name__)
def test_the_contract(tried, kept):
    kept(tried)


GOLDEN = Path(__file__).parent / "golden" / "first_steps.json"


def first_step(tried) -> dict[str, float]:
    """Metrics of the first step, norms of the networks before and after it, and of what is then drawn."""
    found = {name: float(value) for name, value in tried.metrics[0].items()}
    for when, state in zip(("before", "after"), tried.states, strict=False):
        for network, leaves in networks_of(state).items():
            found[f"{network} {when}"] = float(np.sqrt(sum(np.square(leaf, dtype=float).sum() for leaf in leaves)))
    drawn = tried.sample(tried.states[1], *latents_and_labels(tried.config))
    return found | {"drawn": float(np.linalg.norm(drawn))}


def test_the_first_step_is_the_golden_one(tried, request):
    """A change of a GAN, or of what it is composed of, shows here; if it is meant, write it into the file."""
    golden = json.loads(GOLDEN.read_text())[request.node.callspec.id]
    found = first_step(tried)
    assert found.keys() == golden.keys()
    for name, value in golden.items():
        assert found[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name


def toy(**broken):
    """A GAN with one matrix that composes nothing; `broken` replaces what it does."""

    def init(key, config):
        return {"g": {"params": jax.random.normal(key, (config.latent_dim, config.image_size**2))}}

    def step(state, images, labels, key, config):
        better = jax.tree.map(lambda w: w - 0.1 * (w - images.mean()), state)
        return better, {"whatever_loss": jnp.abs(better["g"]["params"]).mean()}

    def sample(state, latents, labels, config):
        return jnp.tanh(latents @ state["g"]["params"]).reshape(-1, config.image_size, config.image_size, 1)

    functions = {"init": init, "step": step, "sample": sample} | {
        name: partial(change, {"step": step, "sample": sample}[name]) for name, change in broken.items()
    }
    return SimpleNamespace(CONDITIONAL=False, **functions)


def halved(step, state, *inputs, config):
    state, metrics = step(state, *inputs, config)
    return jax.tree.map(lambda w: w.astype(jnp.float16), state), metrics


def without_losses(step, *inputs, config):
    state, _ = step(*inputs, config)
    return state, {"loss_of_g": jnp.float32(0)}


def idle(step, state, *inputs, config):
    return state, step(state, *inputs, config)[1]


def with_labels(sample, state, latents, labels, config):
    return sample(state, latents + labels[:, None], labels, config)


def with_batch_statistics(sample, state, latents, labels, config):
    return sample(state, latents - latents.mean(0), labels, config)


def beyond_white(sample, *inputs, config):
    return 1.5 * sample(*inputs, config)


def test_a_gan_that_composes_nothing_keeps_the_contract():
    check(toy(), {**default.get_config().gan, "image_size": 12})


@pytest.mark.parametrize("change", [halved, without_losses, idle, with_labels, with_batch_statistics, beyond_white])
def test_the_contract_finds_what_breaks_it(change):
    name = "step" if change in (halved, without_losses, idle) else "sample"
    with pytest.raises(AssertionError):
        check(toy(**{name: change}), {**default.get_config().gan, "image_size": 12})
