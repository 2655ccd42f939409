"""DCGAN's conditional and spectrally normalised kin and R3GAN, against the same networks in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from ml_collections import FrozenConfigDict
from test_gan_contract import QUICK
from torch.nn import functional

from configs import default
from pneumojax.errors import BadInput
from pneumojax.gan import dcgan, dcgan_conditional, hinge_sn, r3gan_small


def config_of(module, **fields) -> FrozenConfigDict:
    name = module.__name__.rpartition(".")[2]
    return FrozenConfigDict({**default.get_config().gan, **getattr(module, "DEFAULTS", {}), "name": name, **fields})


def quick(function):
    return jax.jit(function, compiler_options=QUICK)


def to_torch(tree):
    return jax.tree.map(lambda a: torch.tensor(np.asarray(a)), tree)


def channels_first(x):
    return torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)


def channels_last(x) -> np.ndarray:
    return x.detach().permute(0, 2, 3, 1).numpy()


def drawn(tree, seed: int = 0):
    """A tree with the same shapes of small random numbers."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / 4, jnp.float32), tree)


@pytest.mark.parametrize("module", [dcgan_conditional, hinge_sn, r3gan_small])
def test_powers_of_two_are_made_and_others_refused(module):
    def made(size):
        return jax.eval_shape(lambda: module.init(jax.random.key(0), config_of(module, image_size=size)))

    assert made(16).generator["params"]
    assert made(128).generator["params"]
    with pytest.raises(BadInput, match="image_size=48: .* makes 32 pixels; use that"):
        made(48)


LABELS = np.array([0, 1, 1, 0, 1], np.int32)


def test_a_label_adds_its_projection_to_a_logit():
    """DCGAN's discriminator and an embedding in PyTorch, where each label is tried on each image."""
    judge = dcgan.Discriminator(filters=4, classes=2)
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (5, 16, 16, 1)), jnp.float32)
    variables = quick(lambda: judge.init(jax.random.key(0), images, LABELS, train=True))()
    params = to_torch(variables["params"])

    x = channels_first(images)
    for index in range(2):
        x = functional.conv2d(x, params[f"Conv_{index}"]["kernel"].permute(3, 2, 0, 1), stride=2, padding=1)
        x = functional.leaky_relu(functional.batch_norm(x, None, None, training=True) if index else x, 0.2)
    features = x.permute(0, 2, 3, 1).reshape(5, -1)
    plain = features @ params["Dense_0"]["kernel"][:, 0]
    logits = quick(lambda labels: judge.apply(variables, images, labels, train=True, mutable=["batch_stats"])[0])
    for labels in (LABELS, 1 - LABELS):
        embedded = functional.embedding(torch.tensor(labels, dtype=torch.long), params["embedding"]["kernel"])
        added = (embedded * features).sum(1)
        assert float(added.abs().min()) > 0.01
        np.testing.assert_allclose(logits(labels), (plain + added).numpy(), atol=1e-5)


def test_batch_norms_have_a_scale_and_a_bias_for_each_class():
    """Batch norm in PyTorch and embeddings; running statistics are of all classes together."""
    norm = dcgan_conditional.ConditionalBatchNorm(classes=2)
    x = jnp.asarray(np.random.default_rng(0).normal(3, 2, (5, 4, 4, 6)), jnp.float32)
    variables = norm.init(jax.random.key(0), x, LABELS, train=True)
    params = drawn(variables["params"])
    out, others = norm.apply({**variables, "params": params}, x, LABELS, train=True, mutable=["batch_stats"])

    theirs = torch.nn.BatchNorm2d(6, affine=False)
    scale, bias = (
        functional.embedding(torch.tensor(LABELS, dtype=torch.long), to_torch(params[name]["kernel"]))[..., None, None]
        for name in ("scale", "bias")
    )
    np.testing.assert_allclose(out, channels_last(theirs(channels_first(x)) * scale + bias), atol=1e-5)
    mean = others["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(mean, theirs.running_mean.numpy(), atol=1e-6)
    plain = norm.apply(variables, x, LABELS, train=True, mutable=["batch_stats"])[0]
    np.testing.assert_allclose(plain, channels_last(theirs(channels_first(x))), atol=1e-5)


def test_a_label_changes_an_image_once_its_scales_differ():
    config = config_of(dcgan_conditional, image_size=16, filters=4, latent_dim=6)
    state = quick(lambda: dcgan_conditional.init(jax.random.key(0), config))()
    sample = quick(lambda g, labels: dcgan_conditional.sample(state._replace(generator=g), latents, labels, config))
    latents = jax.random.normal(jax.random.key(1), (5, 6))
    assert np.array_equal(sample(state.generator, LABELS), sample(state.generator, 1 - LABELS))
    g = {**state.generator, "params": drawn(state.generator["params"])}
    images, others = sample(g, LABELS), sample(g, 1 - LABELS)
    assert float(jnp.abs(images - others).max(axis=(1, 2, 3)).min()) > 1e-3


def test_the_critics_kernels_have_norm_one():
    """Logits after many power iterations are those of kernels that NumPy's SVD divides, in PyTorch."""
    critic = hinge_sn.Critic(filters=4)
    images = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (5, 32, 32, 1)), jnp.float32)
    variables = quick(lambda: critic.init(jax.random.key(0), images, None, train=True))()
    train = quick(lambda v: {**v, **critic.apply(v, images, None, train=True, mutable=["batch_stats"])[1]})
    for _ in range(300):
        variables = train(variables)

    def divided(kernel):
        kernel = np.asarray(kernel)
        return torch.tensor(kernel / np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]))[1][0])

    x, params = channels_first(images), variables["params"]
    for index in range(3):
        kernel = divided(params[f"Conv_{index}"]["kernel"]).permute(3, 2, 0, 1)
        x = functional.leaky_relu(functional.conv2d(x, kernel, stride=2, padding=1), 0.1)
    logits = x.permute(0, 2, 3, 1).reshape(5, -1) @ divided(params["Dense_0"]["kernel"])[:, 0]
    found = quick(lambda v: critic.apply(v, images, None, train=False))(variables)
    assert float(logits.std()) > 1e-3
    np.testing.assert_allclose(found, logits.numpy(), atol=1e-5)


def test_r3gan_has_the_authors_shape():
    """FFHQ-64 and the last six stages of FFHQ-256, an eighth as wide: 768 and 384, then 192 filters."""
    assert r3gan_small.stages(48, 64) == [(4, 96), (8, 96), (16, 96), (32, 96), (64, 48)]
    assert r3gan_small.stages(24, 128) == [(4, 96), (8, 96), (16, 96), (32, 96), (64, 48), (128, 24)]
    assert r3gan_small.stages(24, 32) == [(4, 24), (8, 24), (16, 24), (32, 24)]


def torch_block(p, x):
    """R3GAN's residual block on channels-first images."""

    def one_by_one(x, layer):
        return functional.conv2d(x, layer["kernel"].T[:, :, None, None], layer.get("bias"))

    y = functional.leaky_relu(one_by_one(x, p["Dense_0"]), 0.2)
    kernel, bias = p["Grouped_0"]["kernel"].permute(3, 2, 0, 1), p["Grouped_0"]["bias"]
    y = functional.leaky_relu(functional.conv2d(y, kernel, bias, padding=1, groups=2), 0.2)
    return x + one_by_one(y, p["Dense_1"])


def test_a_block_its_slope_and_the_slopes_slope_are_torchs():
    """What R1 needs: the gradient of a squared gradient."""
    block = r3gan_small.Block(blocks=10)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 6)), jnp.float32)
    params = drawn(jax.eval_shape(lambda: block.init(jax.random.key(0), x))["params"])

    def penalty(params, x):
        y, pull_back = jax.vjp(lambda x: block.apply({"params": params}, x), x)
        (slope,) = pull_back(1 - jnp.tanh(y) ** 2)
        return (slope**2).sum(), (y, slope)

    gradients, (out, slope) = quick(jax.grad(penalty, argnums=(0, 1), has_aux=True))(params, x)

    p = jax.tree.map(lambda a: a.requires_grad_(), to_torch(params))
    tx = channels_first(x).requires_grad_()
    y = torch_block(p, tx)
    (t_slope,) = torch.autograd.grad(torch.tanh(y).sum(), tx, create_graph=True)
    (t_slope**2).sum().backward()
    np.testing.assert_allclose(out, channels_last(y), atol=1e-5)
    np.testing.assert_allclose(slope, channels_last(t_slope), atol=1e-5)
    np.testing.assert_allclose(gradients[1], channels_last(tx.grad), atol=1e-5 * float(tx.grad.abs().max()))
    for ours, theirs in zip(jax.tree.leaves(gradients[0]), jax.tree.leaves(p), strict=True):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), atol=1e-5 * float(theirs.grad.abs().max()))


def test_a_block_is_the_identity_at_first():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 8, 8, 48)), jnp.float32)
    block = r3gan_small.Block(blocks=16)
    variables = quick(lambda: block.init(jax.random.key(0), x))()
    assert np.array_equal(quick(lambda x: block.apply(variables, x))(x), x)
    first = variables["params"]["Dense_0"]["kernel"]  # std: sqrt(2 / 1.04) · 16^(-1/4) / sqrt(48)
    assert float(first.std()) == pytest.approx((2 / 1.04) ** 0.5 / 2 / 48**0.5, rel=0.03)


def test_resampling_is_bilinear():
    """The authors' kernel (1, 3, 3, 1) in PyTorch's convolutions; away from the border it is bilinear doubling."""
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    tx = channels_first(x)
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = (row[:, None] * row / 64).expand(3, 1, 4, 4)
    up = r3gan_small.resampled(x, r3gan_small.bilinear(8, np.float32))
    np.testing.assert_allclose(
        up, channels_last(functional.conv_transpose2d(tx, 4 * kernel, stride=2, padding=1, groups=3)), atol=1e-6
    )
    bilinear = channels_last(functional.interpolate(tx, scale_factor=2, mode="bilinear"))
    np.testing.assert_allclose(up[:, 1:-1, 1:-1], bilinear[:, 1:-1, 1:-1], atol=1e-6)
    down = r3gan_small.resampled(x, r3gan_small.bilinear(4, np.float32).T / 2)
    np.testing.assert_allclose(
        down, channels_last(functional.conv2d(tx, kernel, stride=2, padding=1, groups=3)), atol=1e-6
    )
