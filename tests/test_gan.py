"""DCGAN against PyTorch's layers and its own first edition; training and generating with any GAN."""

import hashlib
import importlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
import torch
from ml_collections import FrozenConfigDict
from test_gan_contract import check
from test_readme import printed

from configs import default
from pneumojax import config as config_module
from pneumojax import gan, loop
from pneumojax.data import CLASSES
from pneumojax.data.table import Table
from pneumojax.errors import BadInput
from pneumojax.gan import dcgan
from pneumojax.gan import train as gan_train
from pneumojax.jobs import Place
from pneumojax.metrics import Writer, read
from pneumojax.stage import Stage
from pneumojax.timings import Timings


@pytest.fixture(scope="module")
def config():
    c = default.get_config().gan
    c.update({"filters": 4, "batch_size": 6, "steps": 6, "log_every": 2, "sample_every": 4, "save_every": 2})
    return FrozenConfigDict(c)


def test_dcgan_is_found():
    assert gan.load("dcgan") is dcgan
    with pytest.raises(BadInput, match="use one of .*dcgan"):
        gan.load("train")


def test_up_convolution_is_torchs():
    rng = np.random.default_rng(0)
    x, weight = rng.normal(size=(2, 5, 5, 3)), rng.normal(size=(3, 7, 4, 4))  # torch: in, out, height, width
    g = rng.normal(size=(2, 10, 10, 7))
    layer = dcgan.UpConvolution(7)
    kernel = jnp.asarray(weight.transpose(2, 3, 0, 1), jnp.float32)
    y, pull_back = jax.vjp(lambda x, k: layer.apply({"params": {"kernel": k}}, x), jnp.asarray(x, jnp.float32), kernel)
    gradients = pull_back(jnp.asarray(g, jnp.float32))

    tx, tw = (torch.tensor(a, requires_grad=True) for a in (x.transpose(0, 3, 1, 2), weight))
    ty = torch.nn.functional.conv_transpose2d(tx, tw, stride=2, padding=1)
    ty.backward(torch.tensor(g.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(y, ty.detach().numpy().transpose(0, 2, 3, 1), atol=2e-5)
    np.testing.assert_allclose(gradients[0], tx.grad.numpy().transpose(0, 2, 3, 1), atol=2e-5)
    np.testing.assert_allclose(gradients[1], tw.grad.numpy().transpose(2, 3, 0, 1), atol=5e-5)


def test_layers_and_parameters_are_the_papers():
    c = FrozenConfigDict(default.get_config().gan)
    state = jax.eval_shape(lambda: dcgan.init(jax.random.key(0), c))

    def shapes(tree, name):
        return sorted(leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(tree) if path[-1].key == name)

    g, d = state.generator["params"], state.discriminator["params"]
    assert shapes(g, "kernel") == sorted(
        [(100, 16 * 512), (4, 4, 512, 256), (4, 4, 256, 128), (4, 4, 128, 64), (4, 4, 64, 1)]
    )
    assert shapes(d, "kernel") == sorted(
        [(4, 4, 1, 64), (4, 4, 64, 128), (4, 4, 128, 256), (4, 4, 256, 512), (16 * 512, 1)]
    )
    assert len(shapes(g, "scale")) == 4
    assert len(shapes(d, "scale")) == 3


def test_one_dcgan_step_is_torchs(config):
    """Losses and the gradients' direction of one step, against the same networks written in PyTorch."""
    f, n = config.filters, 6
    state = gan_train.fresh(jax.random.key(0), recipe_of(config))
    images = np.random.default_rng(0).uniform(-1, 1, (n, 64, 64, 1)).astype(np.float32)
    key = jax.random.key(1)
    latents = np.asarray(jax.random.normal(key, (n, config.latent_dim)))
    _, metrics = jax.jit(dcgan.step, static_argnames="config")(state, images, np.zeros(n, np.int32), key, config=config)
    g, d = (jax.tree.map(lambda a: torch.tensor(np.asarray(a)), s["params"]) for s in state[:2])
    functional = torch.nn.functional

    def norm(x):
        return functional.batch_norm(x, None, None, training=True, eps=1e-5)  # scale 1, bias 0 at the start

    x = (torch.tensor(latents) @ g["Dense_0"]["kernel"]).reshape(n, 4, 4, 8 * f).permute(0, 3, 1, 2)
    for index in range(4):
        kernel = g[f"UpConvolution_{index}"]["kernel"].permute(2, 3, 0, 1)
        x = functional.conv_transpose2d(functional.relu(norm(x)), kernel, stride=2, padding=1)
    fakes = torch.tanh(x)

    def judge(x):
        for index in range(4):
            x = functional.conv2d(x, d[f"Conv_{index}"]["kernel"].permute(3, 2, 0, 1), stride=2, padding=1)
            x = functional.leaky_relu(norm(x) if index else x, 0.2)
        return x.permute(0, 2, 3, 1).reshape(n, -1) @ d["Dense_0"]["kernel"][:, 0]

    real, fake = judge(torch.tensor(images).permute(0, 3, 1, 2)), judge(fakes)
    loss = functional.binary_cross_entropy_with_logits
    ones, zeros = torch.ones(n), torch.zeros(n)
    assert float(metrics["d_loss"]) == pytest.approx(float(loss(real, ones) + loss(fake, zeros)), rel=1e-4)
    assert float(metrics["g_loss"]) == pytest.approx(float(loss(fake, ones)), rel=1e-4)


GOLDEN = Path(__file__).parent / "golden" / "dcgan.json"


def machine() -> str:
    """What the bits of a float32 program depend on: the CPU, its cores, the compiler and its flags."""
    lines = [line.split(":") for line in Path("/proc/cpuinfo").read_text().splitlines() if line.count(":") == 1]
    about = {name.strip(): value.strip() for name, value in lines}
    cpu = " ".join(about.get(name, "?") for name in ("model name", "model", "stepping"))
    flags = os.environ["XLA_FLAGS"]
    return f"{cpu}, {len(os.sched_getaffinity(0))} cores, jaxlib {jaxlib.__version__} {flags}"


def facts(tree) -> dict:
    """Of a tree: the sha256 of all its bytes, and mean and norm of each leaf."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    numbers = [[float(leaf.mean()), float(np.linalg.norm(leaf.ravel()))] for leaf in leaves]
    return {"sha256": hashlib.sha256(b"".join(leaf.tobytes() for leaf in leaves)).hexdigest(), "numbers": numbers}


def test_dcgan_steps_are_those_of_the_first_edition(config):
    """Three steps and a sample against what was written before the GAN was composed of parts: numbers, here bits."""
    init, step, sample = (
        jax.jit(function, static_argnames="config") for function in (dcgan.init, dcgan.step, dcgan.sample)
    )
    rng = np.random.default_rng(0)
    state, found = init(jax.random.key(0), config=config), {}
    for number in range(3):
        images = jnp.asarray(rng.uniform(-1, 1, (6, 64, 64, 1)), jnp.float32)
        state, metrics = step(state, images, jnp.zeros(6, jnp.int32), jax.random.key(number), config=config)
        found |= {f"state{number + 1}": facts(state), f"metrics{number + 1}": facts(metrics)}
    latents = jax.random.normal(jax.random.key(9), (6, config.latent_dim))
    found["sample"] = facts(sample(state, latents, jnp.zeros(6, jnp.int32), config=config))

    golden = json.loads(GOLDEN.read_text())
    for name, expected in golden["facts"].items():
        np.testing.assert_allclose(found[name]["numbers"], expected["numbers"], rtol=1e-2, atol=1e-4, err_msg=name)
        if golden["machine"] == machine():
            assert found[name]["sha256"] == expected["sha256"], name


def recipe_of(config, **changes) -> gan_train.Recipe:
    return gan_train.Recipe(dcgan, FrozenConfigDict({**config, "cache": "", **changes}))


def test_image_size_that_dcgan_cannot_make(config):
    with pytest.raises(BadInput, match=r"config.gan.image_size=32"):
        gan_train.fresh(jax.random.key(0), recipe_of(config, image_size=32))


IMAGES = np.random.default_rng(0).integers(0, 255, (20, 64, 64), np.uint8)
LABELS = np.arange(20, dtype=np.int32) % 2


def orders(seed: int = 0, images: int = 6) -> list[gan_train.Order]:
    """A GAN a class on the first 18 images."""
    return [
        gan_train.Order(Stage(0, "clean", gan=name), rows, {label: images}, seed + label)
        for label, (name, rows) in enumerate({"normal": np.arange(0, 18, 2), "pneumonia": np.arange(1, 18, 2)}.items())
    ]


def make(config, workdir, table=None, wanted=None) -> dict:
    workdir.mkdir(exist_ok=True)
    place = Place(workdir, Writer(workdir, {}), Timings(workdir / ".timings.json"))
    made = gan_train.make(recipe_of(config), wanted or orders(), table or Table(jnp.asarray(IMAGES), LABELS), place)
    place.writer.close()
    return made


@pytest.fixture(scope="module")
def made(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("gan")
    return make(config, workdir), workdir


def test_one_state_for_each_class_with_losses_grids_and_images(made):
    images, workdir = made
    assert [stage.gan for stage in images] == ["normal", "pneumonia"]
    assert all(pictures.shape == (6, 64, 64) and pictures.dtype == np.uint8 for pictures in images.values())
    rows = [row for row in read(workdir) if "d_loss" in row]
    assert [(row["gan"], row["step"]) for row in rows] == [(n, s) for n in ("normal", "pneumonia") for s in (2, 4, 6)]
    assert sorted(path.name for path in (workdir / "samples").iterdir()) == [
        f"generated-trial0-clean-gan_{part}-{step:06d}.png" for part in ("normal", "pneumonia") for step in (4, 6)
    ]
    assert [row["grid"] for row in read(workdir) if "grid" in row] == [
        f"samples/generated-trial0-clean-gan_{part}-{step:06d}.png"
        for part in ("normal", "pneumonia")
        for step in (4, 6)
    ]


def test_a_gan_never_sees_images_outside_its_rows(made, config, tmp_path):
    """Images 18 and 19 are not among the rows; whatever they hold, the bits of the images stay."""
    others = IMAGES.copy()
    others[18:] = 0
    again = make(config, tmp_path, Table(jnp.asarray(others), LABELS))
    for stage, pictures in made[0].items():
        np.testing.assert_array_equal(pictures, again[stage])
    seen = IMAGES.copy()
    seen[16] = 0
    changed = make(config, tmp_path / "seen", Table(jnp.asarray(seen), LABELS), orders()[:1])
    assert not np.array_equal(changed[Stage(0, "clean", gan="normal")], made[0][Stage(0, "clean", gan="normal")])


def test_generated_counts(made, config):
    """Fewer images are the first ones of more; labels come one after the other."""
    recipe, [first, _] = recipe_of(config), orders()
    state = gan_train.fresh(jax.random.key(0), recipe)
    many = gan_train.generate(recipe, first._replace(wanted={1: 3, 0: 130}), state)
    assert many.shape == (133, 64, 64)
    assert many.dtype == np.uint8
    fewer = gan_train.generate(recipe, first._replace(wanted={0: 2, 1: 3}), state)
    np.testing.assert_array_equal(fewer, np.concatenate([many[:2], many[130:]]))
    assert gan_train.generate(recipe, first._replace(wanted={0: 0}), state).shape == (0, 64, 64)


def test_conditional_gans_train_one_state_on_all_classes():
    assert gan.states(SimpleNamespace(CONDITIONAL=True), ("A", "B", "C")) == {"all": (0, 1, 2)}
    assert gan.states(dcgan, CLASSES) == {"normal": (0,), "pneumonia": (1,)}


def test_a_critic_of_several_steps_is_given_as_many_batches(config, tmp_path):
    job = gan_train.job_of(recipe_of(config, d_steps=3, batch_size=3, steps=0, epochs=4), orders()[0], tmp_path)
    assert job.rows.shape == (4, 9)  # nine images, a step takes all of them
    assert set(job.rows[0].tolist()) == set(range(0, 18, 2))


def test_steps_of_one_dispatch_are_steps_one_by_one(config, tmp_path, monkeypatch):
    """What an accelerator runs under `lax.scan` against what a CPU runs."""
    make(config, tmp_path / "single", wanted=orders()[:1])
    monkeypatch.setattr(loop, "dispatches", lambda done, steps, every: [(0, 2), (2, 4), (4, 6)])
    make(config, tmp_path / "scanned", wanted=orders()[:1])
    one, other = ([row["d_loss"] for row in read(tmp_path / n) if "d_loss" in row] for n in ("single", "scanned"))
    np.testing.assert_allclose(one, other, rtol=1e-3)


def test_the_recipe_in_the_readme(tmp_path, monkeypatch):
    """'A GAN of your own' as it is printed keeps the contract, with its own field from a config and from a flag."""
    module, section = printed("A GAN of your own")
    (tmp_path / "mine.py").write_text(module)
    (tmp_path / "config.py").write_text(section)
    monkeypatch.setattr(gan, "__path__", [*gan.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    c = config_module.load(str(tmp_path / "config.py"), ["--config.gan.beta1=0.4"])
    assert (c.gan.gamma, c.gan.beta1) == (10.0, 0.4)
    assert config_module.load("configs/demo.py", ["--config.gan.name=mine"]).gan.gamma == 1.0
    check(gan.load("mine"), c.gan.to_dict())
