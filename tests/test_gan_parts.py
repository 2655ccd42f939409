"""What GANs are composed of, by variants as a researcher would write them, on networks of few layers."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_gan_contract import QUICK, check, same, small

from configs import default
from pneumojax import gan
from pneumojax.errors import BadInput
from pneumojax.gan.parts import adversarial, losses
from pneumojax.gan.parts.layers import UpConvolution, down_convolution


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
        return logits + (x * nn.Embed(self.classes, x.shape[1])(labels)).sum(1) if self.classes else logits


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


def test_losses_are_those_of_their_papers():
    real, fake = jnp.array([2.0, 0.5]), jnp.array([-3.0, 1.0])
    d, g = losses.hinge
    assert float(d(real, fake)) == pytest.approx(0.25 + 1.0)
    assert float(g(fake, real)) == pytest.approx(1.0)
    d, g = losses.non_saturating
    probability = jax.nn.sigmoid
    assert float(d(real, fake)) == pytest.approx(float(-jnp.log(probability(real) * (1 - probability(fake))).mean()))
    assert float(g(fake, real)) == pytest.approx(float(-jnp.log(probability(fake)).mean()))


def test_a_wasserstein_gan_takes_five_steps_of_its_critic_and_a_gradient_penalty():
    """Gulrajani et al. 2017, at 32 pixels, with a field of its own."""

    def wgan(config):
        def penalty(critic, real, fakes, key, extra):
            between = jax.random.uniform(key, (len(real), 1, 1, 1))
            gradients = jax.grad(lambda x: critic(x).sum())(between * real + (1 - between) * fakes)
            norms = jnp.sqrt((gradients**2).sum((1, 2, 3)) + 1e-12)
            return config.penalty * ((norms - 1) ** 2).mean()

        wasserstein = (lambda real, fake: fake.mean() - real.mean(), lambda fake, real: -fake.mean())
        return simple(config, losses=wasserstein, penalty=penalty)

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


def test_a_lazy_penalty_is_due_at_every_second_step_only():
    """R1 (Mescheder et al. 2018) on a relativistic GAN (Jolicoeur-Martineau 2018) at 128 pixels."""

    def lazy(config):
        def penalty(critic, real, fakes, key, extra):
            def r1():
                return config.gamma / 2 * (jax.grad(lambda x: critic(x).sum())(real) ** 2).sum((1, 2, 3)).mean()

            return jax.lax.cond(extra["step"] % 2 == 0, r1, lambda: jnp.float32(0))

        relativistic = (
            lambda real, fake: jax.nn.softplus(fake - real).mean(),
            lambda fake, real: jax.nn.softplus(real - fake).mean(),
        )
        return simple(
            config,
            losses=relativistic,
            penalty=penalty,
            extra={"step": jnp.int32(0)},
            remember=lambda extra, real, fake: {"step": extra["step"] + 1},
        )

    module, section = variant(lazy, image_size=128, gamma=0.5)
    tried = check(module, section)
    assert [int(state.extra["step"]) for state in tried.states] == [0, 1, 2, 3]
    assert [float(metrics["penalty"]) > 0 for metrics in tried.metrics] == [True, False, True]
    (images, labels), params = tried.batch, tried.states[0].discriminator
    by_hand = jax.grad(lambda x: Critic(4).apply(params, x, labels, train=True).sum())(images)
    assert float(tried.metrics[0]["penalty"]) == pytest.approx(0.25 * float((by_hand**2).sum()) / 6, rel=1e-5)


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

    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, images, labels, train: bool):
            x = nn.SpectralNorm(nn.Dense(8))(images.reshape(len(images), -1), update_stats=train)
            return nn.Dense(1)(nn.leaky_relu(x))[:, 0]

    def spectral(config):
        return simple(config)._replace(discriminator=Normalised())

    tried = check(*variant(spectral, image_size=32))
    norms = [state.discriminator["batch_stats"] for state in tried.states]
    assert not same(norms[0], norms[1])
