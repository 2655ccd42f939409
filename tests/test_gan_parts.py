"""What GANs are composed of, by variants as a researcher would write them, on networks of few layers."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import FrozenConfigDict
from test_gan_contract import QUICK, as_shapes, check, same, small

from configs import default
from pneumojax import gan
from pneumojax.errors import BadInput
from pneumojax.gan.parts import adversarial, augment, ema, losses, penalties
from pneumojax.gan.parts.layers import UpConvolution, down_convolution, projection, spectral


class Generator(nn.Module):
    """4x4 → 8x8 → … → size, without batch statistics; classes > 0 makes it conditional."""

    filters: int
    size: int
    classes: int = 0

    @nn.compact
    def __call__(self, latents, labels, train: bool):
        x = nn.Dense(16 * self.filters)(latents)
        if self.classes:
            x += nn.Embed(self.classes, 16 * self.filters)(labels)
        x = x.reshape(-1, 4, 4, self.filters)
        while x.shape[1] < self.size // 2:
            x = nn.relu(nn.LayerNorm()(UpConvolution(self.filters)(x)))
        return jnp.tanh(UpConvolution(1)(x))


class Critic(nn.Module):
    """size → … → 4x4 → a logit, by projection of the label where classes > 0 (Miyato and Koyama 2018)."""

    filters: int
    classes: int = 0

    @nn.compact
    def __call__(self, images, labels, train: bool):
        x = images
        while x.shape[1] > 4:
            x = nn.leaky_relu(down_convolution(x, self.filters), 0.2)
        x = x.reshape(len(x), -1)
        logits = nn.Dense(1)(x)[:, 0]
        return logits + projection(x, labels, self.classes) if self.classes else logits


def variant(compose, conditional: bool = False, **fields):
    """A module of one's own, and the GAN section of a config for it: the fields that are not the default's are its."""
    section = dict(default.get_config().gan, name=compose.__name__)
    own = {name: value for name, value in fields.items() if name not in section}
    init, step, sample = adversarial.functions(compose)
    module = SimpleNamespace(CONDITIONAL=conditional, DEFAULTS=own, init=init, step=step, sample=sample)
    return module, {**section, **{name: value for name, value in fields.items() if name in section}}


def simple(config, classes: int = 0, **parts) -> adversarial.Parts:
    """Both networks with hinge losses, unless `parts` say something else."""
    adam = optax.adam(1e-3, 0, 0.9)
    networks = Generator(config.filters, config.image_size, classes), Critic(config.filters, classes)
    return adversarial.Parts(*networks, (adam, adam), **{"losses": losses.hinge, **parts})


def test_a_hinge_gan_is_ten_lines(tmp_path, monkeypatch):
    code = '''"""DCGAN with hinge losses."""

from pneumojax.gan import dcgan
from pneumojax.gan.parts import adversarial, losses

CONDITIONAL = False


def compose(config):
    return dcgan.compose(config)._replace(losses=losses.hinge)


init, step, sample = adversarial.functions(compose)
'''
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 10
    (tmp_path / "ten_lines.py").write_text(code)
    monkeypatch.setattr(gan, "__path__", [*gan.__path__, str(tmp_path)])
    module = gan.load("ten_lines")
    config = small(module, default.get_config().gan)
    step = jax.jit(module.step, static_argnames="config", compiler_options=QUICK)
    state = jax.jit(module.init, static_argnames="config", compiler_options=QUICK)(jax.random.key(0), config=config)
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (6, 64, 64, 1)), jnp.float32)
    for number in range(2):
        state, metrics = step(state, images, jnp.zeros(6, jnp.int32), jax.random.key(number), config=config)
    assert optax.tree.get(state.generator_opt, "count") == 2
    assert all(np.isfinite(value) for value in metrics.values())


def test_a_module_that_lacks_functions_is_told_which(tmp_path, monkeypatch):
    (tmp_path / "half_a_gan.py").write_text("CONDITIONAL = False\n\n\ndef init(key, config): ...\n")
    monkeypatch.setattr(gan, "__path__", [*gan.__path__, str(tmp_path)])
    with pytest.raises(BadInput, match=r"config.gan.name='half_a_gan'.* lacks step, sample; .*dcgan"):
        gan.load("half_a_gan")


def test_parts_that_remember_stand_side_by_side():
    parts = adversarial.Parts(None, None, (), ())
    lazy = penalties.lazy(lambda *inputs: jnp.float32(1), every=2)
    dark = {"augmentation": lambda images, key, extra: images - extra["by"], "extra": {"by": 1.0}}
    both = adversarial.with_memory(
        parts._replace(penalty=lambda *inputs: 10.0), lazy, penalties.lecam(), augment.adaptive(), dark
    )
    assert set(both.extra) == {"by"} | {
        *("lazy_updates", "lecam_real", "lecam_fake", "lecam_updates", "ada_p", "ada_signs", "ada_updates")
    }
    assert both.watched == ("ada_p",)
    extra, totals = both.extra, []
    for _ in range(4):
        totals.append(float(both.penalty(None, None, None, None, extra)))
        extra = both.remember(extra, jnp.ones(1000), jnp.zeros(1000))
    assert totals == [12.0, 10.0, 12.0, 10.0]
    assert (int(extra["lazy_updates"]), float(extra["lecam_real"])) == (4, 1.0)
    assert float(extra["ada_p"]) == pytest.approx(0.04)
    assert float(both.augmentation(jnp.zeros((1, 4, 4, 1)), jax.random.key(0), both.extra).max()) == -1


def test_a_wasserstein_gan_takes_five_steps_of_its_critic_and_a_gradient_penalty():
    """Gulrajani et al. 2017, at 32 pixels, with a field of its own."""

    def wgan(config):
        return simple(config, losses=losses.wasserstein, penalty=penalties.gradient_penalty(config.penalty))

    module, section = variant(wgan, image_size=32, d_steps=5, penalty=10.0)
    tried = check(module, section)
    assert tried.config.penalty == 10
    assert tried.batch[0].shape == (30, 32, 32, 1)
    assert [int(optax.tree.get(tried.states[1][index], "count")) for index in (2, 3)] == [1, 5]
    assert all(metrics["penalty"] > 0 for metrics in tried.metrics)
    images, labels = tried.batch  # each of the five batches counts
    assert not any(
        same(tried.step(tried.states[0], images.at[row].set(0), labels, jax.random.key(0))[0], tried.states[1])
        for row in range(5)
    )


def test_a_lazy_penalty_is_due_at_every_second_step_only_and_counts_twice():
    """R1 (Mescheder et al. 2018) on a relativistic GAN (Jolicoeur-Martineau 2018) at 128 pixels."""

    def lazy(config):
        parts = simple(config, losses=losses.relativistic)
        return adversarial.with_memory(parts, penalties.lazy(penalties.r1(config.gamma), every=2))

    module, section = variant(lazy, image_size=128, gamma=0.5)
    tried = check(module, section)
    assert [int(state.extra["lazy_updates"]) for state in tried.states] == [0, 1, 2, 3]
    assert [float(metrics["penalty"]) > 0 for metrics in tried.metrics] == [True, False, True]
    (images, labels), params = tried.batch, tried.states[0].discriminator
    by_hand = jax.grad(lambda x: Critic(4).apply(params, x, labels, train=True).sum())(images)
    assert float(tried.metrics[0]["penalty"]) == pytest.approx(2 * 0.25 * float((by_hand**2).sum()) / 6, rel=1e-5)


def test_an_augmentation_whose_probability_moves_every_fourth_step():
    """As ADA (Karras et al. 2020): D sees nothing but augmented images, in both networks' losses."""

    def ada(config):
        def augmentation(images, key, extra):
            hidden = jax.random.bernoulli(key, extra["p"], (len(images), 1, 1, 1))
            return jnp.where(hidden, -1, images)

        def remember(extra, real, fake):
            signs, step = extra["signs"] + jnp.sign(real).mean(), extra["step"] + 1
            due = step % 4 == 0
            p = jnp.clip(extra["p"] + jnp.where(due, 0.1 * signs / 4 + 0.1, 0), 0, 1)
            return {"p": p, "signs": jnp.where(due, 0, signs), "step": step}

        extra = {"p": jnp.float32(0.5), "signs": jnp.float32(0), "step": jnp.int32(0)}
        return simple(config, augmentation=augmentation, extra=extra, remember=remember)

    module, section = variant(ada, image_size=32)
    tried = check(module, section)
    state, probabilities = tried.states[0], []
    for number in range(9):
        state, _ = tried.step(state, *tried.batch, jax.random.key(number))
        probabilities.append(float(state.extra["p"]))
    first, second = probabilities[3], probabilities[7]
    assert len({0.5, first, second}) == 3
    assert probabilities == [0.5] * 3 + [first] * 4 + [second] * 2

    blind = tried.states[0]._replace(extra={**tried.states[0].extra, "p": jnp.float32(1)})
    after, metrics = tried.step(blind, *tried.batch, jax.random.key(0))
    assert float(metrics["d_real"]) == pytest.approx(float(metrics["d_fake"]), rel=1e-6)
    assert same(after.generator, blind.generator)


def test_a_conditional_gan_gives_labels_to_both_networks():
    def conditional(config):
        return simple(config, classes=config.labels, losses=losses.non_saturating)

    check(*variant(conditional, conditional=True, image_size=32, labels=2))


def test_spectral_norm_keeps_variables_of_its_own():
    """Miyato et al. 2018; one power iteration for each batch that D is trained on."""

    class OfUnitNorm(nn.Module):
        @nn.compact
        def __call__(self, images, labels, train: bool):
            x = spectral(nn.Dense(8), images.reshape(len(images), -1), train)
            return nn.Dense(1)(nn.leaky_relu(x))[:, 0]

    def normalised(config):
        return simple(config)._replace(discriminator=OfUnitNorm())

    tried = check(*variant(normalised, image_size=32))
    norms = [state.discriminator["batch_stats"] for state in tried.states]
    assert not same(norms[0], norms[1])


def test_an_average_is_a_sum_over_steps_whose_half_life_grows():
    """Against weights worked out from the definition: half of it is older than 0.05 of the images seen, 60 at most."""
    rng, batch = np.random.default_rng(0), 16
    networks = rng.normal(size=(101, 3)).astype(np.float32)
    average = ema.begin({"params": {"w": jnp.asarray(networks[0])}})
    decay = ema.half_life(60, 0.05)
    for new in networks[1:]:
        average = ema.follow(average, {"params": {"w": jnp.asarray(new)}}, batch, decay)
    decays = np.array([0.5 ** (batch / min(60, 0.05 * batch * step)) for step in range(1, 101)])
    weights = np.array([1, *(1 - decays)]) * np.append(np.cumprod(decays[::-1])[::-1], 1)
    assert int(average.seen) == 1600
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(average.network["params"]["w"], weights @ networks, atol=1e-6)


class Drawn(nn.Module):
    """A generator that draws the same pictures from whatever latents, so that batches can be compared."""

    size: int

    @nn.compact
    def __call__(self, latents, labels, train: bool):
        pictures = nn.Dense(self.size**2)(jax.nn.one_hot(labels, 2, dtype=latents.dtype))
        return jnp.tanh(pictures).reshape(-1, self.size, self.size, 1)


@pytest.fixture(scope="module")
def one_update():
    """The state before, and a function: fields of the config → state, metrics and jaxpr of one update."""
    base = small(SimpleNamespace(), {**default.get_config().gan, "image_size": 16})
    sgd = optax.sgd(0.1)
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.uniform(-1, 1, (6, 16, 16, 1)), jnp.float32)
    labels = jnp.asarray([0, 1, 1, 0, 1, 0], jnp.int32)

    def parts(config):
        return simple(config, penalty=penalties.r1(1.0))._replace(generator=Drawn(16), optimizers=(sgd, sgd))

    before = adversarial.init(parts(base), jax.random.key(0), base)

    def update(**fields):
        config = FrozenConfigDict({**base, **fields})
        function = jax.jit(
            lambda state: adversarial.step(parts(config), state, images, labels, jax.random.key(1), config),
            compiler_options=QUICK,
        )
        return *function(before), function.trace(before).jaxpr

    return before, update


def test_pieces_of_a_batch_make_the_same_step_as_the_whole(one_update):
    _, update = one_update
    whole, metrics, _ = update()
    pieces, same_metrics, _ = update(accumulate=3)
    for a, b in zip(jax.tree.leaves((whole, metrics)), jax.tree.leaves((pieces, same_metrics)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_step_in_bfloat16_is_near_one_in_float32_and_keeps_its_parameters_in_float32(one_update):
    before, update = one_update
    exact, exact_metrics, _ = update()
    near, metrics, jaxpr = update(dtype="bfloat16")
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves((near, metrics)))
    operations = [line for line in str(jaxpr).splitlines() if "conv_general_dilated" in line and " = " in line]
    assert operations
    assert all("bf16[" in line.split(" = ")[0] for line in operations)
    for name, value in exact_metrics.items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=0.02, abs=0.02), name
    for network in ("generator", "discriminator"):
        steps = [jax.tree.map(jnp.subtract, getattr(one, network), getattr(before, network)) for one in (near, exact)]
        found, expected = (np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(one)]) for one in steps)
        assert np.linalg.norm(found - expected) < 0.05 * np.linalg.norm(expected)
        assert not np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["lsgan", "wgan_gp", "dcgan_diffaug", "dcgan_ada"])
def test_a_variant_of_dcgan_is_made_at_128_pixels(name):
    module = gan.load(name)
    config = small(module, {**default.get_config().gan, "image_size": 128})
    state = jax.eval_shape(lambda: module.init(jax.random.key(0), config))
    batch = jax.ShapeDtypeStruct((6, 128, 128, 1), jnp.float32), jax.ShapeDtypeStruct((6,), jnp.int32)
    after, metrics = jax.eval_shape(lambda *inputs: module.step(*inputs, jax.random.key(1), config), state, *batch)
    assert as_shapes(after) == as_shapes(state)
    assert ("penalty" in metrics, "ada_p" in metrics) == (name == "wgan_gp", name == "dcgan_ada")
    latents = jnp.zeros((2, config.latent_dim)), jnp.zeros(2, jnp.int32)
    assert jax.eval_shape(lambda s: module.sample(s, *latents, config), state).shape == (2, 128, 128, 1)


def test_ada_over_no_images_is_refused():
    section = {**default.get_config().gan, **gan.load("dcgan_ada").DEFAULTS, "ada_images": 0}
    with pytest.raises(BadInput, match=r"config.gan.ada_images=0: give 1 or more"):
        gan.load("dcgan_ada").compose(FrozenConfigDict(section))


def test_lsgan_and_the_augmented_ones_are_dcgan_but_for_what_they_say():
    """The same networks and optimisers; D of WGAN-GP has no batch statistics."""
    config = small(gan.load("dcgan"), default.get_config().gan)
    states = {}
    for name in ("dcgan", "lsgan", "dcgan_diffaug", "dcgan_ada", "wgan_gp"):
        module = gan.load(name)
        own = FrozenConfigDict({**config, **getattr(module, "DEFAULTS", {})})
        states[name] = jax.eval_shape(lambda m=module, c=own: m.init(jax.random.key(0), c))
    for name in ("lsgan", "dcgan_diffaug", "dcgan_ada"):
        assert as_shapes(states[name][:4]) == as_shapes(states["dcgan"][:4])
    assert as_shapes(states["wgan_gp"].generator) == as_shapes(states["dcgan"].generator)
    assert set(states["wgan_gp"].discriminator) == {"params"}
