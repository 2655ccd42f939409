"""EDM, against closed forms for data whose best denoiser is known, and against the same network in PyTorch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ml_collections import FrozenConfigDict
from test_gan_contract import QUICK, same

from configs import default
from pneumojax.errors import BadInput
from pneumojax.gan import edm_small
from pneumojax.gan.edm_small import SIGMA_DATA, SIGMA_MAX, SIGMA_MIN


def config_of(**fields) -> FrozenConfigDict:
    """Images of 16 pixels, a network of one level, seeds as latents."""
    tiny = {"name": "edm_small", "image_size": 16, "filters": 4, "latent_dim": 5, "sampler_steps": 4, "dropout": 0.0}
    return FrozenConfigDict({**default.get_config().gan, **edm_small.DEFAULTS, **tiny, **fields})


def compiled(function):
    """In little time, which is most of what these tests take."""
    return jax.jit(function, static_argnames="config", compiler_options=QUICK)


init, step, sample = (compiled(function) for function in (edm_small.init, edm_small.step, edm_small.sample))


def rough(config) -> edm_small.State:
    """A first state with random numbers for all parameters, of which many are 0 else; the average is of others."""
    rng = np.random.default_rng(0)

    def drawn(path, leaf):
        around = jax.tree_util.keystr(path).endswith("['scale']")
        return jnp.asarray(around + 0.1 * rng.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree.map_with_path(drawn, jax.eval_shape(lambda: edm_small.init(jax.random.key(0), config)))


def images_of(count: int, size: int = 16):
    """Pixels of deviation SIGMA_DATA."""
    pixels = np.random.default_rng(1).uniform(-1, 1, (count, size, size, 1)) * SIGMA_DATA * np.sqrt(3)
    return jnp.asarray(pixels, jnp.float32)


def best_for_a_gaussian(noisy, sigma):
    """The denoiser of data from N(0, SIGMA_DATA²)."""
    return noisy * SIGMA_DATA**2 / (SIGMA_DATA**2 + sigma**2)


def growth_by_heun(steps: int) -> float:
    """By how much Heun's method multiplies x where the slope is x · sigma / (sigma² + SIGMA_DATA²), up to an image."""
    levels, growth = edm_small.sigmas(steps), SIGMA_MAX
    for now, then in zip(levels[:-1], levels[1:], strict=True):
        first, second = (sigma / (sigma**2 + SIGMA_DATA**2) for sigma in (now, then))
        growth *= 1 + (then - now) * (first + second * (1 + (then - now) * first)) / 2
    return best_for_a_gaussian(growth, SIGMA_MIN)


def end_for_a_gaussian(noise):
    """What the equation leads to from SIGMA_MAX to SIGMA_MIN, along which x² / (sigma² + SIGMA_DATA²) stays, and 0."""
    x = SIGMA_MAX * noise * np.sqrt((SIGMA_MIN**2 + SIGMA_DATA**2) / (SIGMA_MAX**2 + SIGMA_DATA**2))
    return best_for_a_gaussian(x, SIGMA_MIN)


def test_preconditioning_keeps_variances_at_one():
    sigma = np.exp(np.linspace(np.log(SIGMA_MIN), np.log(SIGMA_MAX), 9))
    c_skip, c_out, c_in, c_noise = (np.asarray(c, float) for c in edm_small.preconditioning(jnp.asarray(sigma)))
    np.testing.assert_allclose(c_in**2 * (sigma**2 + 0.5**2), 1, rtol=1e-5)  # of what the network is given
    wanted = (1 - c_skip) ** 2 * 0.5**2 + c_skip**2 * sigma**2  # of (image - c_skip · noisy), to be c_out · network
    np.testing.assert_allclose(c_out**2, wanted, rtol=1e-4)
    np.testing.assert_allclose(c_noise, np.log(sigma) / 4, rtol=1e-5)
    at_half = [float(c) for c in edm_small.preconditioning(jnp.float32(0.5))]
    assert at_half == pytest.approx([0.5, 0.5 / np.sqrt(2), np.sqrt(2), np.log(0.5) / 4])


def test_levels_of_noise_are_those_of_the_paper():
    levels = edm_small.sigmas(18)
    assert (levels[0], levels[-1]) == (pytest.approx(80), pytest.approx(0.002))
    assert levels[9] == pytest.approx((80 ** (1 / 7) + 9 / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7)


def test_the_first_loss_is_that_of_a_network_that_says_zero():
    config, key, images = config_of(), jax.random.key(3), images_of(4)
    labels = jnp.zeros(4, jnp.int32)
    _, metrics = step(init(key, config=config), images, labels, key, config=config)
    level_key, noise_key = jax.random.split(jax.random.split(key, 3)[0])
    sigma = np.exp(-1.2 + 1.2 * np.asarray(jax.random.normal(level_key, (4,)), float))[:, None, None, None]
    images, noise = np.asarray(images, float), sigma * np.asarray(jax.random.normal(noise_key, images.shape), float)
    error = (images + noise) * 0.25 / (0.25 + sigma**2) - images
    loss = np.mean((0.25 + sigma**2) / (0.5 * sigma) ** 2 * error**2)
    assert float(metrics["denoising_loss"]) == pytest.approx(loss, rel=1e-5)
    assert loss == pytest.approx(1, rel=0.1)  # the variance of what it is to learn


def torch_unet(params: dict, images, features):
    """`unet.UNet` of two levels in PyTorch: images [N, 1, 32, 32], features [N, K], without dropout."""

    def dense(p, x):
        return x @ p["kernel"] + p["bias"]

    def conv(p, x):
        return F.conv2d(x, p["kernel"].permute(3, 2, 0, 1), p["bias"], padding=1)

    def norm(p, x):
        return F.group_norm(x, int(np.gcd(x.shape[1], 8)), p["scale"], p["bias"], 1e-5)

    def block(p, x):
        y = conv(p["Conv_0"], F.silu(norm(p["GroupNorm_0"], x)))
        scale, shift = dense(p["Dense_0"], embedding)[:, :, None, None].chunk(2, 1)
        y = conv(p["Conv_1"], F.silu(norm(p["GroupNorm_1"], y) * (1 + scale) + shift))
        if "Dense_1" in p:
            x = torch.einsum("nchw,cf->nfhw", x, p["Dense_1"]["kernel"]) + p["Dense_1"]["bias"][:, None, None]
        return (x + y) / np.sqrt(2)

    p = params
    embedding = F.silu(dense(p["Dense_1"], F.silu(dense(p["Dense_0"], features))))
    wide = block(p["Block_0"], conv(p["Conv_0"], F.pixel_unshuffle(images, 2)))
    deep = block(p["Block_2"], block(p["Block_1"], F.avg_pool2d(wide, 2)))
    x = block(p["Block_3"], torch.cat([F.interpolate(deep, scale_factor=2, mode="nearest"), wide], 1))
    return F.pixel_shuffle(conv(p["Conv_1"], F.silu(norm(p["GroupNorm_0"], x))), 2)


def test_loss_and_gradients_are_those_of_the_same_network_in_pytorch():
    config, key, images = config_of(image_size=32), jax.random.key(3), images_of(4, 32)
    params = rough(config).network["params"]

    def loss_of(params):
        def denoiser(noisy, sigma):
            return edm_small.denoise(config, {"params": params}, noisy, sigma, train=True)

        return edm_small.loss_of(denoiser, images, key)

    loss, gradient = jax.jit(jax.value_and_grad(loss_of), compiler_options=QUICK)(params)

    params = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf), requires_grad=True), params)
    level_key, noise_key = jax.random.split(key)
    sigma = torch.exp(-1.2 + 1.2 * torch.tensor(np.asarray(jax.random.normal(level_key, (4,)))))
    noise = torch.tensor(np.asarray(jax.random.normal(noise_key, images.shape))).permute(0, 3, 1, 2)
    angles = torch.log(sigma)[:, None] / 4 * torch.tensor([1.0, 2, 4, 8, 16, 32])
    features = torch.cat([angles.cos(), angles.sin(), torch.zeros(4, 3)], 1)
    clean, wide = torch.tensor(np.asarray(images)).permute(0, 3, 1, 2), sigma[:, None, None, None]
    total = wide**2 + 0.25
    noisy = clean + wide * noise
    found = 0.25 / total * noisy + 0.5 * wide / total.sqrt() * torch_unet(params, noisy / total.sqrt(), features)
    expected = (total / (0.5 * wide) ** 2 * (found - clean) ** 2).mean()
    expected.backward()

    assert float(loss) == pytest.approx(expected.item(), rel=1e-5)
    for (path, ours), theirs in zip(jax.tree.leaves_with_path(gradient), jax.tree.leaves(params), strict=True):
        np.testing.assert_allclose(ours, theirs.grad, rtol=1e-3, atol=1e-4, err_msg=jax.tree_util.keystr(path))


def test_samples_of_a_gaussian_have_its_deviation():
    noise = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    found = edm_small.heun(best_for_a_gaussian, jnp.asarray(noise), 80)
    assert float(found.std() / noise.std()) == pytest.approx(SIGMA_DATA, rel=3e-3)
    for steps in (2, 18):
        np.testing.assert_allclose(
            edm_small.heun(best_for_a_gaussian, jnp.asarray(noise), steps), growth_by_heun(steps) * noise, rtol=1e-5
        )


def test_errors_of_the_sampler_fall_as_the_square_of_its_steps():
    noise = jnp.linspace(-2, 2, 5)
    errors = [
        float(jnp.abs(edm_small.heun(best_for_a_gaussian, noise, steps) - end_for_a_gaussian(noise)).max())
        for steps in (17, 33, 65)  # 16, 32, 64 intervals
    ]
    assert [errors[0] / errors[1], errors[1] / errors[2]] == pytest.approx([4, 4], rel=0.15)


def test_samples_of_two_points_are_these_points():
    noise = jnp.asarray(np.random.default_rng(0).standard_normal(1000), jnp.float32)
    found = edm_small.heun(lambda noisy, sigma: 0.5 * jnp.tanh(0.5 * noisy / sigma**2), noise, 12)
    np.testing.assert_allclose(found, 0.5 * np.sign(noise), atol=1e-3)


def test_an_untrained_network_makes_gaussian_noise_of_the_latents_that_are_noise():
    config = config_of(latent_dim=16 * 16)
    latents = jax.random.normal(jax.random.key(1), (1, 16 * 16))
    state = init(jax.random.key(0), config=config_of())
    images = sample(state, latents, jnp.zeros(1, jnp.int32), config=config)
    expected = np.clip(growth_by_heun(4) * np.asarray(latents), -1, 1).reshape(1, 16, 16, 1)
    np.testing.assert_allclose(images, expected, atol=1e-5)


def test_any_other_latent_is_a_seed_that_alone_decides_its_image():
    config = config_of()
    state = rough(config)
    latents = jax.random.normal(jax.random.key(1), (3, 5))
    latents = latents.at[2].set(latents[0]).at[2, 4].set(jnp.nextafter(latents[0, 4], 9.0))  # one bit apart
    noise = edm_small.noise_from(latents, (64, 64))
    np.testing.assert_array_equal(edm_small.noise_from(latents[1:], (64, 64)), noise[1:])
    np.testing.assert_allclose(np.corrcoef(np.asarray(noise).reshape(3, -1)), np.eye(3), atol=0.06)
    assert (float(noise.mean()), float(noise.std())) == (pytest.approx(0, abs=0.03), pytest.approx(1, abs=0.03))
    images = sample(state, latents, jnp.zeros(3, jnp.int32), config=config)
    alone = sample(state, latents[1:2], jnp.ones(1, jnp.int32), config=config)
    np.testing.assert_allclose(images[1:2], alone, atol=1e-4)
    assert float(jnp.abs(images[0] - images[2]).mean()) > 0.1


def test_samples_are_those_of_the_average():
    config, latents, labels = config_of(), jnp.ones((1, 5)), jnp.zeros(1, jnp.int32)
    state = rough(config)
    images = sample(state, latents, labels, config=config)
    assert same(sample(state._replace(network=state.average.network), latents, labels, config=config), images)
    average = state.average._replace(network=state.network)
    assert not np.allclose(sample(state._replace(average=average), latents, labels, config=config), images)


def test_a_denoiser_in_bfloat16_is_near():
    def found(dtype):
        config = config_of(dtype=dtype)
        denoise = jax.jit(edm_small.denoise, static_argnames=("config", "train"), compiler_options=QUICK)
        images = denoise(config, rough(config).network, images_of(4), jnp.array([0.01, 0.1, 1, 10]), train=False)
        assert images.dtype == jnp.float32
        return images

    exact, near = found("float32"), found("bfloat16")
    assert 1e-4 < float(jnp.abs(exact - near).max()) < 0.02


def test_a_transformed_image_is_where_its_numbers_say():
    """A bright spot on black: its centre moves by the shift, and from the middle by the scale."""
    places = np.indices((32, 32)) + 0.5
    spot = np.exp(-((places[0] - 18) ** 2 + (places[1] - 13) ** 2) / 8)
    images = jnp.asarray(np.tile(2 * spot - 1, (8, 1, 1))[..., None], jnp.float32)
    moved, drawn = edm_small.transform(images, 1.0, jax.random.key(2))
    light, drawn = np.asarray(moved[..., 0], float) + 1, np.asarray(drawn, float)
    centres = np.stack([(light * place).sum((1, 2)) / light.sum((1, 2)) for place in places], 1)
    scale = 2 ** (0.2 * drawn[:, :1])
    expected = 16 + scale * ([2, -3]) + 4 * drawn[:, 1:]
    inside = (np.abs(expected - 16) < 8).all(1)
    assert inside.sum() >= 4
    np.testing.assert_allclose(centres[inside], expected[inside], atol=0.05)
    assert light[inside, 0, 0] == pytest.approx(0, abs=1e-3)  # black where nothing is left


def test_images_are_transformed_as_often_as_asked():
    images = images_of(400, 4)
    moved, drawn = edm_small.transform(images, 0.25, jax.random.key(0))
    chosen = np.asarray(drawn) != 0
    np.testing.assert_allclose(chosen.mean(0), 0.25, atol=0.07)
    np.testing.assert_array_equal(chosen[:, 1], chosen[:, 2])
    untouched = ~chosen.any(1)
    np.testing.assert_allclose(moved[untouched], images[untouched], atol=1e-6)
    name = "denoising_loss"
    losses = [
        float(step(rough(config), images_of(4), jnp.zeros(4, jnp.int32), jax.random.key(1), config=config)[1][name])
        for config in (config_of(), config_of(augment=1.0))
    ]
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("field", "value"),
    [("image_size", 33), ("d_steps", 2), ("accumulate", 2), ("sampler_steps", 1), ("dropout", 1.0), ("augment", 1.5)],
)
def test_what_it_cannot_do_is_refused(field, value):
    with pytest.raises(BadInput, match=rf"config\.gan\.{field}={value}: .*give "):
        edm_small.init(jax.random.key(0), config_of(**{field: value}))
