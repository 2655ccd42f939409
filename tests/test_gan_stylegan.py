"""The small StyleGAN2 against its authors' forms in PyTorch: kernels of each image's own, transposed convolutions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from ml_collections import FrozenConfigDict
from test_gan_contract import QUICK
from torch.nn import functional

from configs import stylegan2_small as shipped
from pneumojax.gan import stylegan2_small
from pneumojax.gan.parts import adversarial, noise
from pneumojax.gan.parts.resampling import same

SMALL = {"image_size": 16, "filters": 4, "latent_dim": 6, "batch_size": 8, "policies": (), "gamma": 1.0}
CONFIG = FrozenConfigDict({**stylegan2_small.DEFAULTS, **shipped.get_config().gan, **SMALL})


def quick(function):
    return jax.jit(function, compiler_options=QUICK)


def to_torch(tree):
    """In float64, with gradients."""
    return jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf), dtype=torch.float64).requires_grad_(), tree)


def channels_first(x):
    return torch.tensor(np.asarray(x), dtype=torch.float64).permute(0, 3, 1, 2)


def fir(x, gain: float = 1.0, **kwargs):
    """The filter (1, 3, 3, 1) of each channel."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 8
    kernel = (gain * row[:, None] * row).expand(x.shape[1], 1, 4, 4)
    return functional.conv2d(x, kernel, groups=x.shape[1], **kwargs)


def up(x, kernel):
    """A transposed convolution of stride 2, then the filter; kernel [F, C, 3, 3]."""
    return fir(functional.conv_transpose2d(x, kernel.flip(2, 3).transpose(0, 1), stride=2), 4.0, padding=1)


def down(x, kernel):
    return functional.conv2d(fir(x, padding=2), kernel, stride=2)


def in_place(x, kernel):
    return functional.conv2d(x, kernel, padding=1)


def by_image(x, kernel, scales, convolve):
    """Each image by a kernel of its own, modulated and demodulated as in section 2.2 of the paper."""
    made = []
    for image, scale in zip(x, scales, strict=True):
        own = kernel.permute(3, 2, 0, 1) * scale[:, None, None]
        own = own / torch.sqrt((own**2).sum((1, 2, 3), keepdim=True) + 1e-8)
        made.append(convolve(image[None], own))
    return torch.cat(made)


@pytest.mark.parametrize(("ours", "theirs"), [(same, in_place), (stylegan2_small.larger, up)])
def test_scaling_before_and_after_is_a_kernel_of_each_images_own(ours, theirs):
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(3, 6, 6, 4)), rng.normal(size=(3, 3, 4, 5)), rng.normal(size=(3, 4)) + 1
    weights = rng.normal(size=(3, 12 if theirs is up else 6, 12 if theirs is up else 6, 5))

    def total(x, kernel, scales):
        y = stylegan2_small.modulated(x, kernel, scales, ours)
        return (weights * y).sum(), y

    with jax.enable_x64(True):
        gradients, y = quick(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(*inputs)
        assert y.dtype == jnp.float64
    x, kernel, scales = to_torch(inputs)
    expected = by_image(x.permute(0, 3, 1, 2), kernel, scales, theirs).permute(0, 2, 3, 1)
    (torch.tensor(weights) * expected).sum().backward()
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-9, atol=1e-12)
    for found, leaf in zip(gradients, (x, kernel, scales), strict=True):
        np.testing.assert_allclose(found, leaf.grad, rtol=1e-9, atol=1e-12)


def test_halving_filters_first():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 8, 8, 3)), rng.normal(size=(3, 3, 3, 4))
    with jax.enable_x64(True):
        y = quick(stylegan2_small.smaller)(x, kernel)
    expected = down(channels_first(x), torch.tensor(kernel).permute(3, 2, 0, 1))
    np.testing.assert_allclose(y, expected.permute(0, 2, 3, 1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("images", "size"), [(8, 4), (12, 4), (6, 2), (5, 1)])
def test_the_deviation_of_a_group_is_a_feature_of_its_images(images, size):
    """The mean over pixels and features of the standard deviation over the images of a group."""
    x = np.random.default_rng(0).normal(size=(images, 4, 4, 3)).astype(np.float32)
    found = stylegan2_small.deviation(jnp.asarray(x))
    assert found.shape == (images, 4, 4, 1)
    for first in range(0, images, size):
        expected = max(x[first : first + size].std(0).mean(), 1e-4)
        np.testing.assert_allclose(found[first : first + size], expected, rtol=1e-5)


def test_noise_is_a_function_of_the_latent():
    latents = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    small, large = quick(lambda latents: noise.maps(latents, [4, 16]))(latents)
    assert small.shape == (64, 4, 4, 1)
    assert large.shape == (64, 16, 16, 1)
    assert float(large.mean()) == pytest.approx(0, abs=0.03)  # 4 deviations of a mean of 16,384
    assert float(large.std()) == pytest.approx(1, abs=0.03)
    correlations = np.corrcoef(np.concatenate([small.reshape(64, -1), large.reshape(64, -1)], 1))
    assert np.abs(correlations - np.eye(64)).max() < 0.3  # 5 deviations of a correlation of 272

    changed = latents[[3, 3, 3, 3]]
    changed[1, ::-1] = changed[1].copy()  # the same numbers in another order
    changed[2, 5] = np.nextafter(changed[2, 5], np.float32(9))
    changed[3, 0] *= -1
    again, *others = quick(lambda latents: noise.maps(latents, [4, 16])[1])(changed)
    assert np.array_equal(again, large[3])
    for other in others:
        assert abs(np.corrcoef(again.ravel(), other.ravel())[0, 1]) < 0.3


@pytest.fixture(scope="module")
def state():
    """At first, but every number moved, so that noise and biases have a part in what is made."""
    made = quick(lambda: stylegan2_small.init(jax.random.key(0), CONFIG))()
    rng = np.random.default_rng(1)
    networks = {
        name: jax.tree.map(lambda leaf: leaf + jnp.asarray(rng.normal(size=leaf.shape) / 4, jnp.float32), network)
        for name, network in (("generator", made.generator), ("discriminator", made.discriminator))
    }
    return made._replace(**networks, average=made.average._replace(network=networks["generator"]))


def test_an_image_is_the_same_wherever_its_latent_stands_and_noise_is_in_it(state):
    latents = jax.random.normal(jax.random.key(1), (5, 6))
    sample = quick(lambda state, latents: stylegan2_small.sample(state, latents, None, CONFIG))
    images = sample(state, latents)
    np.testing.assert_allclose(sample(state, latents[::-1])[::-1], images, atol=1e-6)

    def silent(path, leaf):
        return leaf * (path[-1].key != "noise_strength")

    quiet = state._replace(average=jax.tree_util.tree_map_with_path(silent, state.average.network))
    quiet = state._replace(average=state.average._replace(network=quiet.average))
    assert float(jnp.abs(sample(quiet, latents) - images).max(axis=(1, 2, 3)).min()) > 0.05


def dense(p, x, rate: float = 1.0):
    y = x @ p["kernel"] * rate / p["kernel"].shape[0] ** 0.5
    return y + rate * p["bias"] if "bias" in p else y


def activated(x):
    return functional.leaky_relu(x, 0.2) * 2**0.5


def scaled(p):
    return p["kernel"] / (9 * p["kernel"].shape[2]) ** 0.5


def one_by_one(p, x):
    return dense(p, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def torch_generator(p, latents, noises):
    style = latents / torch.sqrt((latents**2).mean(1, keepdim=True) + 1e-8)
    for name in ("Dense_0", "Dense_1"):
        style = activated(dense(p[name], style, 0.01))
    x, images = p["start"].permute(2, 0, 1).expand(len(latents), -1, -1, -1), None
    for number, own in enumerate(noises):
        layer = p[f"StyledConvolution_{number}"]
        x = by_image(x, scaled(layer), dense(layer["Dense_0"], style), up if number % 2 else in_place)
        x = activated(x + layer["noise_strength"] * own + layer["bias"][:, None, None])
        if number % 2 == 0:
            layer = p[f"ToGray_{number // 2}"]
            gray = one_by_one(layer["Dense_1"], x * dense(layer["Dense_0"], style)[:, :, None, None])
            images = gray if images is None else gray + doubled(images)
    return images


def doubled(images):
    """Zeros between the pixels, then the filter."""
    sparse = torch.zeros(len(images), 1, 2 * images.shape[2], 2 * images.shape[3], dtype=images.dtype)
    sparse[:, :, ::2, ::2] = images
    return fir(functional.pad(sparse, (2, 1, 2, 1)), 4.0)


def torch_discriminator(p, images):
    x = activated(one_by_one(p["Dense_0"], images))
    convolutions = [p[f"Convolution_{number}"] for number in range(5)]

    def convolved(x, layer, convolve):
        return activated(convolve(x, scaled(layer).permute(3, 2, 0, 1)) + layer["bias"][:, None, None])

    for block in range(2):
        y = convolved(convolved(x, convolutions[2 * block], in_place), convolutions[2 * block + 1], down)
        x = (y + one_by_one(p[f"Dense_{block + 1}"], fir(x, padding=1)[:, :, ::2, ::2])) / 2**0.5
    groups = x.reshape(-1, 4, *x.shape[1:])
    found = torch.sqrt(groups.var(1, correction=0) + 1e-8).mean((1, 2, 3)).repeat_interleave(4)
    x = torch.cat([x, found[:, None, None, None].expand(-1, 1, 4, 4)], 1)
    x = convolved(x, convolutions[4], in_place).permute(0, 2, 3, 1).reshape(len(x), -1)
    return dense(p["Dense_4"], activated(dense(p["Dense_3"], x)))[:, 0]


def test_a_steps_losses_and_gradients_are_those_of_the_same_networks_in_pytorch(state):
    """R1, and so the gradient of a gradient through all of D, included."""
    images = jnp.asarray(np.random.default_rng(2).uniform(-1, 1, (8, 16, 16, 1)), jnp.float32)
    key, parts = jax.random.key(5), stylegan2_small.compose(CONFIG)

    def found(state):  # with the latents in the same program: one that differs in its last bit has other noise
        latents = jax.random.normal(key, (8, 6))
        drawn = latents, noise.maps(latents, [4, 8, 8, 16, 16])
        return adversarial.gradients_of(parts, state, images, jnp.zeros(8, jnp.int32), key, CONFIG), drawn

    (gradients, _, logits, metrics), (latents, noises) = quick(found)(state)
    noises = [channels_first(one) for one in noises]
    g, d = to_torch(state.generator["params"]), to_torch(state.discriminator["params"])
    fakes = torch_generator(g, torch.tensor(np.asarray(latents), dtype=torch.float64), noises)
    seen = channels_first(images).requires_grad_()
    real, fake = torch_discriminator(d, seen), torch_discriminator(d, fakes)
    np.testing.assert_allclose(logits[0], real.detach(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits[1], fake.detach(), rtol=1e-4, atol=1e-4)

    (slope,) = torch.autograd.grad(torch_discriminator(d, seen[:4]).sum(), seen, create_graph=True)
    penalty = 16**2 / 8 / 2 * (slope**2).sum() / 4
    d_loss = functional.softplus(-real).mean() + functional.softplus(fake).mean() + penalty
    g_loss = functional.softplus(-fake).mean()
    expected = {"penalty": penalty, "d_loss": d_loss, "g_loss": g_loss}
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value.item(), rel=1e-4)
    assert penalty.item() > 0.1
    for found, loss, network in zip(gradients, (g_loss, d_loss), (g, d), strict=True):
        leaves = jax.tree.leaves(network)
        for ours, theirs in zip(
            jax.tree.leaves(found), torch.autograd.grad(loss, leaves, retain_graph=True), strict=True
        ):
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))
