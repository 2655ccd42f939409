"""Losses, penalties and the layers of critics, against PyTorch and against what can be worked out by hand."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from test_gan_contract import QUICK

from pneumojax.gan.parts import losses, penalties
from pneumojax.gan.parts.layers import halving, padded, projection, spectral


def test_losses_are_those_of_their_papers():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 1.0])
    functional, one = torch.nn.functional, torch.ones(2)
    entropy, error = functional.binary_cross_entropy_with_logits, functional.mse_loss
    expected = {
        "hinge": (1.25, 1.0),
        "non_saturating": (entropy(real, one) + entropy(fake, 0 * one), entropy(fake, one)),
        "least_squares": (error(real, one) / 2 + error(fake, 0 * one) / 2, error(fake, one) / 2),
        "wasserstein": (-1.0 - 1.25, 1.0),
        "relativistic": (entropy(real - fake, one), entropy(fake - real, one)),
    }
    for name, (of_d, of_g) in expected.items():
        d, g = getattr(losses, name)
        logits = jnp.asarray(real), jnp.asarray(fake)
        assert float(d(*logits)) == pytest.approx(float(of_d), rel=1e-6), name
        assert float(g(*logits[::-1])) == pytest.approx(float(of_g), rel=1e-6), name


PENALTIES = {
    "r1": (penalties.r1(0.7), lambda real, fake, between: 0.35 * real**2),
    "r1_r2": (penalties.r1_r2(0.7), lambda real, fake, between: 0.35 * (real**2 + fake**2)),
    "gradient_penalty": (penalties.gradient_penalty(10.0), lambda real, fake, between: 10 * (between - 1) ** 2),
}


@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_and_its_gradient_are_torchs(name):
    """The gradient of a gradient, through two strided convolutions, against PyTorch's in float64."""
    penalty, of_slopes = PENALTIES[name]
    rng = np.random.default_rng(0)
    real, fakes = rng.normal(size=(2, 3, 8, 8, 2))
    first, second = rng.normal(size=(4, 4, 2, 3)) / 4, rng.normal(size=(4, 4, 3, 5)) / 4
    key = jax.random.key(3)

    def of_params(params):
        def critic(images):
            for kernel in params:
                images = jnp.tanh(halving(kernel.shape[-1]).apply(conv(kernel), padded(images)))
            return images.sum((1, 2, 3))

        def conv(kernel):
            return {"params": {"kernel": kernel, "bias": jnp.zeros(kernel.shape[-1])}}

        return penalty(critic, *(jnp.asarray(x, jnp.float32) for x in (real, fakes)), key, ())

    kernels = [jnp.asarray(kernel, jnp.float32) for kernel in (first, second)]
    value, gradients = jax.jit(jax.value_and_grad(of_params), compiler_options=QUICK)(kernels)

    weights = [torch.tensor(kernel.transpose(3, 2, 0, 1), requires_grad=True) for kernel in (first, second)]

    def slopes(images):
        images = torch.tensor(images.transpose(0, 3, 1, 2), requires_grad=True)
        x = images
        for weight in weights:
            x = torch.tanh(torch.nn.functional.conv2d(x, weight, stride=2, padding=1))
        (found,) = torch.autograd.grad(x.sum(), images, create_graph=True)
        return found.flatten(1).norm(dim=1)

    share = np.asarray(jax.random.uniform(key, (3, 1, 1, 1)), np.float64)
    expected = of_slopes(*(slopes(x) for x in (real, fakes, share * real + (1 - share) * fakes))).mean()
    expected.backward()
    assert float(value) == pytest.approx(expected.item(), rel=1e-5)
    for gradient, weight in zip(gradients, weights, strict=True):
        scale = float(weight.grad.abs().max())
        np.testing.assert_allclose(gradient, weight.grad.numpy().transpose(2, 3, 1, 0), atol=1e-5 * scale)


def test_a_gradient_penalty_has_a_gradient_where_the_critic_has_none():
    images = jnp.zeros((2, 4, 4, 1))
    found = jax.grad(
        lambda w: penalties.gradient_penalty(10.0)(
            lambda x: w * x.sum((1, 2, 3)), images, images, jax.random.key(0), ()
        )
    )(0.0)
    assert np.isfinite(found)


def test_lazy_adam_is_torchs_with_settings_of_stylegan2():
    share, gradients = 16 / 17, [0.3, -2.0, 0.7]
    weight = torch.tensor([1.0], requires_grad=True)
    theirs = torch.optim.Adam([weight], 0.002 * share, (0.5**share, 0.99**share))
    optimizer, ours = penalties.lazy_adam(0.002, 0.5, 0.99, every=16), jnp.array([1.0])
    state = optimizer.init(ours)
    for gradient in gradients:
        weight.grad = torch.tensor([gradient])
        theirs.step()
        updates, state = optimizer.update(jnp.array([gradient]), state)
        ours = optax.apply_updates(ours, updates)
    assert float(ours[0]) == pytest.approx(weight.item(), abs=1e-6)


def test_lecam_follows_mean_logits_and_pulls_towards_the_other_kinds():
    """Against a loop in NumPy; the averages are plain means until `decay` forgets faster."""
    part, rng, seen = penalties.lecam(weight=0.3, decay=0.75), np.random.default_rng(0), []
    extra = part["extra"]
    assert float(part["regularizer"](jnp.array([5.0]), jnp.array([-5.0]), extra)) == 0
    for update in range(8):
        logits = rng.normal((1, -1), size=(6, 2)).T.astype(np.float32)
        means = logits.mean(1)
        seen = means if update == 0 else seen + max(0.25, 1 / (update + 1)) * (means - seen)
        extra = part["remember"](extra, *map(jnp.asarray, logits))
        np.testing.assert_allclose([extra["lecam_real"], extra["lecam_fake"]], seen, rtol=1e-5)
    real, fake = jnp.array([seen[1] + 2, seen[1] - 1]), jnp.array([seen[0] - 3, seen[0] + 1])
    value, gradients = jax.value_and_grad(part["regularizer"], (0, 1))(real, fake, extra)
    assert float(value) == pytest.approx(0.3 * (4 / 2 + 9 / 2), rel=1e-5)
    np.testing.assert_allclose(gradients, [[0.3 * 2, 0], [-0.3 * 3, 0]], rtol=1e-5)


def test_a_projection_is_an_inner_product_with_the_labels_row():
    rng, labels = np.random.default_rng(0), np.array([2, 0, 2, 1])
    features, table = rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=(3, 5)).astype(np.float32)

    class Projection(nn.Module):
        @nn.compact
        def __call__(self, features, labels):
            return projection(features, labels, 3)

    params = {"params": {"embedding": {"kernel": table}}}
    found = Projection().apply(params, features, labels)
    np.testing.assert_allclose(found, (table[labels] * features).sum(1), rtol=1e-5, atol=1e-6)
    assert (
        "scatter"
        not in jax.jit(jax.grad(lambda p: Projection().apply(p, features, labels).sum())).lower(params).as_text()
    )


class Normalised(nn.Module):
    """A convolution with a spectral norm."""

    @nn.compact
    def __call__(self, x, train: bool):
        return spectral(halving(6), padded(x), train)


def test_a_spectral_norm_is_torchs():
    """Outputs, gradients and the vector that is kept, over three steps in training."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 8, 8, 3)).astype(np.float32)
    variables = Normalised().init(jax.random.key(0), x, train=True)
    [(path, vector)] = [
        (path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(variables["batch_stats"]) if leaf.ndim
    ]
    theirs = torch.nn.utils.spectral_norm(torch.nn.Conv2d(3, 6, 4, 2, 1))
    [kernel] = [leaf for leaf in jax.tree.leaves(variables["params"]) if leaf.ndim == 4]
    with torch.no_grad():
        theirs.weight_orig.copy_(torch.tensor(np.asarray(kernel).transpose(3, 2, 0, 1)))
        theirs.weight_u.copy_(torch.tensor(np.asarray(vector)[0] / np.linalg.norm(vector)))
        theirs.bias.zero_()

    def loss(params, others):
        y, others = Normalised().apply({"params": params, **others}, x, train=True, mutable=["batch_stats"])
        return (y**2).sum(), (y, others)

    others = {"batch_stats": variables["batch_stats"]}
    for _ in range(3):
        gradient, (y, others) = jax.grad(loss, has_aux=True)(variables["params"], others)
        theirs.zero_grad()
        ty = theirs(torch.tensor(x.transpose(0, 3, 1, 2)))
        (ty**2).sum().backward()
        np.testing.assert_allclose(y, ty.detach().numpy().transpose(0, 2, 3, 1), atol=1e-5)
        [found] = [leaf for leaf in jax.tree.leaves(gradient) if leaf.ndim == 4]
        np.testing.assert_allclose(found, theirs.weight_orig.grad.numpy().transpose(2, 3, 1, 0), rtol=1e-3, atol=1e-3)
        [vector] = [leaf for leaf in jax.tree.leaves(others) if leaf.ndim]
        np.testing.assert_allclose(vector[0], theirs.weight_u.numpy(), atol=1e-5)


def test_a_spectral_norm_computes_in_the_precision_of_its_input():
    x = jnp.zeros((2, 8, 8, 3), jnp.bfloat16)
    variables = jax.eval_shape(lambda: Normalised().init(jax.random.key(0), x, train=True))
    halves = {**variables, "params": jax.tree.map(lambda leaf: leaf.update(dtype=jnp.bfloat16), variables["params"])}
    y, others = jax.eval_shape(lambda v: Normalised().apply(v, x, train=True, mutable=["batch_stats"]), halves)
    assert y.dtype == jnp.bfloat16
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(others))
