"""The small FastGAN against the same networks in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from ml_collections import FrozenConfigDict
from test_gan_contract import QUICK, as_shapes
from torch.nn import functional

from configs import fastgan_small as shipped
from pneumojax.errors import BadInput
from pneumojax.gan import fastgan_small
from pneumojax.gan.parts import adversarial, noise

SECTION = {**fastgan_small.DEFAULTS, **shipped.get_config().gan, "filters": 4, "latent_dim": 6}


def config_of(**fields) -> FrozenConfigDict:
    return FrozenConfigDict({**SECTION, **fields})


def quick(function):
    return jax.jit(function, compiler_options=QUICK)


def to_torch(tree):
    """In float64, with gradients."""
    return jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf), dtype=torch.float64).requires_grad_(), tree)


def channels_first(x):
    return torch.tensor(np.asarray(x), dtype=torch.float64).permute(0, 3, 1, 2)


def states(size: int):
    """The shapes of a first state."""
    return jax.eval_shape(lambda: fastgan_small.init(jax.random.key(0), config_of(image_size=size)))


@pytest.mark.parametrize(("size", "links"), [(32, {4: 32}), (64, {4: 32, 8: 64}), (128, {4: 32, 8: 64, 16: 128})])
def test_a_small_size_excites_the_one_eight_times_as_large(size, links):
    params = states(size).generator["params"]
    wide = {side: 4 * size // side for side in (4, 8, 16, 32, 64, 128)}
    found = [params[name]["Dense_0"]["kernel"].shape for name in sorted(params) if name.startswith("Excitation")]
    assert found == [(4 * 4 * wide[small], wide[large]) for small, large in links.items()]


def test_other_sizes_are_refused():
    with pytest.raises(BadInput, match="image_size=48: fastgan_small makes 32 pixels; use that"):
        states(48)
    with pytest.raises(BadInput, match="image_size=16: fastgan_small makes 32 pixels; use that"):
        states(16)


def test_pieces_and_further_batches_for_d_are_taken_as_in_every_composition():
    """Each piece by `gradients_of`, of which only the shapes matter here."""
    config, seen = config_of(image_size=32, d_steps=2, accumulate=2), []
    parts = fastgan_small.compose(config)
    assert parts.gradients is fastgan_small.gradients_of

    def gradients_of(parts, state, images, labels, key, config):
        seen.append((len(images), len(labels)))
        networks = state.generator, state.discriminator
        others = [{"batch_stats": network["batch_stats"]} for network in networks]
        return [network["params"] for network in networks], others, (jnp.zeros((4, 5, 5)),) * 2, {"d_loss": 0.0}

    state = states(32)
    batch = jax.ShapeDtypeStruct((16, 32, 32, 1), jnp.float32), jax.ShapeDtypeStruct((16,), jnp.int32)
    parts = parts._replace(gradients=gradients_of)
    after = jax.eval_shape(lambda *inputs: adversarial.step(parts, *inputs, jax.random.key(0), config), state, *batch)
    assert as_shapes(after[0]) == as_shapes(state)
    assert seen == [(4, 4)] * 4


def torch_excitation(p, small):
    """Pooled to 4x4, a 4x4 convolution, swish, a 1x1 convolution, as the authors write it."""
    first = p["Dense_0"]["kernel"].reshape(4, 4, small.shape[1], -1).permute(3, 2, 0, 1)
    x = functional.silu(functional.conv2d(functional.adaptive_avg_pool2d(small, 4), first))
    return torch.sigmoid(functional.conv2d(x, p["Dense_1"]["kernel"].T[:, :, None, None]))


def test_excitation_and_its_gradients():
    rng = np.random.default_rng(0)
    block, small, large = fastgan_small.Excitation(5), rng.normal(size=(3, 8, 8, 4)), rng.normal(size=(3, 16, 16, 5))
    with jax.enable_x64(True):
        shapes = jax.eval_shape(lambda: block.init(jax.random.key(0), small))["params"]
        params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes)

        def total(params, small, large):
            y = large * block.apply({"params": params}, small)
            return (y**2).sum(), y

        gradients, y = quick(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(params, small, large)
    inputs = to_torch((params, small, large))
    expected = inputs[2] * torch_excitation(inputs[0], inputs[1].permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    (expected**2).sum().backward()
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(inputs), strict=True):
        np.testing.assert_allclose(ours, theirs.grad, rtol=1e-9, atol=1e-12)


def test_enlarging_is_nearest_pixels_and_a_convolution():
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 5, 5, 3)), rng.normal(size=(3, 3, 3, 4))

    def total(x, kernel):
        y = fastgan_small.enlarged(x, kernel)
        return (y**2).sum(), y

    with jax.enable_x64(True):
        gradients, y = quick(jax.grad(total, argnums=(0, 1), has_aux=True))(x, kernel)
    inputs = to_torch((x, kernel))
    near = functional.interpolate(inputs[0].permute(0, 3, 1, 2), scale_factor=2, mode="nearest")
    expected = functional.conv2d(near, inputs[1].permute(3, 2, 0, 1), padding=1).permute(0, 2, 3, 1)
    (expected**2).sum().backward()
    np.testing.assert_allclose(y, expected.detach(), rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(gradients, inputs, strict=True):
        np.testing.assert_allclose(ours, theirs.grad, rtol=1e-9, atol=1e-12)


def test_a_quarter_is_cut_out():
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 2)).astype(np.float32)
    found = fastgan_small.quarter(x, jax.nn.one_hot(jnp.arange(4), 4).reshape(4, 2, 2))
    expected = x[0, :3, :3], x[1, :3, 3:], x[2, 3:, :3], x[3, 3:, 3:]
    np.testing.assert_allclose(found, np.stack(expected), atol=1e-6)


def test_margins_are_random():
    key = jax.random.key(0)
    assert float(fastgan_small.beyond(jnp.full((50, 5, 5), -1.0), key)) == 0
    above = jax.vmap(lambda key: fastgan_small.beyond(jnp.full(1, 3.0), key))(jax.random.split(key, 200)) - 3
    assert 0.8 <= above.min() < 0.82
    assert 0.98 < above.max() <= 1
    assert float(above.mean()) == pytest.approx(0.9, abs=0.01)  # 2.4 deviations


def normed(p, x):
    """Batch norm of the batch itself, and the activation of D."""
    return functional.leaky_relu(batch_norm(p, x), 0.2)


def batch_norm(p, x):
    return functional.batch_norm(x, None, None, p["scale"], p["bias"], training=True, eps=1e-5)


def kernel_of(p):
    return p["kernel"].permute(3, 2, 0, 1).contiguous()


def divided(p, us, name):
    """A kernel by its singular value after one more power iteration, which no gradient goes through."""
    matrix = p[name]["kernel"].reshape(-1, p[name]["kernel"].shape[-1])
    with torch.no_grad():
        v = functional.normalize(us[name] @ matrix.T)
        us[name] = functional.normalize(v @ matrix)
    return kernel_of(p[name]) / (v @ matrix @ us[name].T)[0, 0]


def enlarged(p, x):
    return functional.conv2d(functional.interpolate(x, scale_factor=2), kernel_of(p), padding=1)


def torch_generator(p, latents, noises):
    """At 32 pixels: noise and a second convolution at 8 and 32, and the last size excited by the first."""
    x = (latents @ p["Dense_0"]["kernel"]).reshape(len(latents), 4, 4, -1).permute(0, 3, 1, 2)
    x = first = functional.glu(batch_norm(p["BatchNorm_0"], x), 1)
    for number in range(3):
        block, own = p[f"UpBlock_{number}"], noises[number]
        x = enlarged(block["Convolution_0"], x)
        if own:
            x = functional.glu(batch_norm(block["BatchNorm_0"], x + block["noise_strength_0"] * own[0]), 1)
            x = functional.conv2d(x, kernel_of(block["Convolution_1"]), padding=1) + block["noise_strength_1"] * own[1]
        x = functional.glu(batch_norm(block["BatchNorm_1" if own else "BatchNorm_0"], x), 1)
    x = x * torch_excitation(p["Excitation_0"], first)
    return torch.tanh(functional.conv2d(x, kernel_of(p["Convolution_0"]), padding=1))


def torch_decoder(p, x):
    """8x8 → 16x16."""
    block = p["UpBlock_0"]
    x = functional.glu(batch_norm(block["BatchNorm_0"], enlarged(block["Convolution_0"], x)), 1)
    return torch.tanh(functional.conv2d(x, kernel_of(p["Convolution_0"]), padding=1))


def torch_discriminator(p, us, x, quarters):
    """Logits, and what is drawn of the whole and of each image's quarter."""
    x = functional.leaky_relu(functional.conv2d(x, divided(p, us, "Conv_0"), padding=1), 0.2)
    for number in range(2):
        block, before = p[f"DownBlock_{number}"], x
        y = normed(block["BatchNorm_0"], functional.conv2d(x, kernel_of(block["Conv_0"]), stride=2, padding=1))
        y = normed(block["BatchNorm_1"], functional.conv2d(y, kernel_of(block["Convolution_0"]), padding=1))
        short = functional.conv2d(functional.avg_pool2d(x, 2), block["Dense_0"]["kernel"].T[:, :, None, None])
        x = (y + normed(block["BatchNorm_2"], short)) / 2
    y = normed(p["BatchNorm_0"], functional.conv2d(x, p["Dense_0"]["kernel"].T[:, :, None, None]))
    logits = functional.conv2d(y, divided(p, us, "Conv_1"))[:, 0]
    return logits, torch_decoder(p["Decoder_0"], x), torch_decoder(p["Decoder_1"], cut(before, quarters))


def cut(x, quarters):
    """Quarter 0, 1 (above), 2 or 3 (below) of each image."""
    half = x.shape[2] // 2
    corners = [divmod(int(quarter), 2) for quarter in quarters]
    return torch.stack(
        [one[:, half * a :, half * b :][:, :half, :half] for one, (a, b) in zip(x, corners, strict=True)]
    )


def test_a_steps_losses_and_gradients_are_those_of_the_same_networks_in_pytorch():
    """Real images first, then generated ones, each by batch statistics of their own."""
    config = config_of(image_size=32, policies=())
    state = quick(lambda: fastgan_small.init(jax.random.key(0), config))()
    rng = np.random.default_rng(1)

    def moved(network):  # so that noise and the scales of batch norms have a part
        params = jax.tree.map(lambda leaf: leaf + jnp.float32(rng.normal(size=leaf.shape) / 8), network["params"])
        return {**network, "params": params}

    state = state._replace(generator=moved(state.generator), discriminator=moved(state.discriminator))
    images = jnp.asarray(rng.uniform(-1, 1, (6, 32, 32, 1)), jnp.float32)
    key, parts = jax.random.key(5), fastgan_small.compose(config)
    latent_key, _, _, quarter_key, *margin_keys = jax.random.split(key, 6)

    def found(state):  # with the latents in the same program: one that differs in its last bit has other noise
        latents = jax.random.normal(latent_key, (6, 6))
        drawn = latents, noise.maps(latents, [8, 8, 32, 32])
        return fastgan_small.gradients_of(parts, state, images, jnp.zeros(6, jnp.int32), key, config), drawn

    (gradients, _, logits, metrics), (latents, noises) = quick(found)(state)

    noises = [channels_first(one) for one in noises]
    latents = torch.tensor(np.asarray(latents), dtype=torch.float64)
    quarters = jax.random.randint(quarter_key, 6, 0, 4)
    margins = [torch.tensor(np.asarray(jax.random.uniform(one, (6, 5, 5), minval=0.8))) for one in margin_keys]
    g, d = to_torch(state.generator["params"]), to_torch(state.discriminator["params"])
    powers = state.discriminator["batch_stats"]["SpectralNorm_0"], state.discriminator["batch_stats"]["SpectralNorm_1"]
    us = {
        f"Conv_{n}": torch.tensor(np.asarray(p[f"Conv_{n}/kernel/u"]), dtype=torch.float64)
        for n, p in enumerate(powers)
    }
    seen, again = channels_first(images), dict(us)
    fakes = torch_generator(g, latents, [noises[:2], (), noises[2:]])
    real, whole, part = torch_discriminator(d, us, seen, quarters)
    fake, *_ = torch_discriminator(d, us, fakes, quarters)
    np.testing.assert_allclose(logits[0], real.detach(), atol=1e-4)
    np.testing.assert_allclose(logits[1], fake.detach(), atol=1e-4)

    error = (whole - functional.avg_pool2d(seen, 2)).abs().mean() + (part - cut(seen, quarters)).abs().mean()
    d_loss = functional.relu(margins[0] - real).mean() + functional.relu(margins[1] + fake).mean() + error
    g_loss = -torch_discriminator(d, again, fakes, quarters)[0].mean()
    expected = {"d_loss": d_loss, "g_loss": g_loss, "reconstruction_loss": error}
    for name, value in expected.items():
        assert float(metrics[name]) == pytest.approx(value.item(), abs=1e-5)
    for ours, loss, network in zip(gradients, (g_loss, d_loss), (g, d), strict=True):
        leaves = jax.tree.leaves(network)
        theirs = torch.autograd.grad(loss, leaves, retain_graph=True)
        for one, other in zip(jax.tree.leaves(ours), theirs, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4 * max(1, float(other.abs().max())))
