"""DCGAN against PyTorch's layers and its own first edition; training and generating with any GAN."""

import hashlib
import importlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
import torch
from ml_collections import FrozenConfigDict
from PIL import Image
from runs import printed
from test_gan_contract import check

from configs import default
from pneumojax import config as configs
from pneumojax import data, gan, loop, metrics, sharding
from pneumojax.data import CLASSES
from pneumojax.data.table import Table
from pneumojax.errors import BadInput
from pneumojax.gan import dcgan, drawing
from pneumojax.gan import train as gan_train
from pneumojax.gan.drawing import Order, Recipe
from pneumojax.jobs import place_of
from pneumojax.loop import Place
from pneumojax.metrics import Writer
from pneumojax.stage import Stage
from pneumojax.timings import Timings

SMALL = {"filters": 4, "batch_size": 6, "steps": 6, "log_every": 2, "sample_every": 4, "save_every": 2, "cache": ""}
step, sample = (jax.jit(function, static_argnames="config") for function in (dcgan.step, dcgan.sample))


@pytest.fixture(scope="module")
def config():
    return FrozenConfigDict({**default.get_config().gan, **SMALL})


@pytest.fixture(scope="module")
def recipe(config):
    return Recipe(dcgan, config)


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


def test_one_dcgan_step_is_torchs(recipe):
    """Losses and the gradients' direction of one step, against the same networks written in PyTorch."""
    config, f, n = recipe.config, recipe.config.filters, 6
    state = gan_train.fresh(jax.random.key(0), recipe)
    images = np.random.default_rng(0).uniform(-1, 1, (n, 64, 64, 1)).astype(np.float32)
    key = jax.random.key(1)
    latents = np.asarray(jax.random.normal(key, (n, config.latent_dim)))
    _, found = step(state, images, np.zeros(n, np.int32), key, config=config)
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
    assert float(found["d_loss"]) == pytest.approx(float(loss(real, ones) + loss(fake, zeros)), rel=1e-4)
    assert float(found["g_loss"]) == pytest.approx(float(loss(fake, ones)), rel=1e-4)


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


def test_dcgan_steps_are_those_of_the_first_edition(recipe):
    """Three steps and a sample against what was written before the GAN was composed of parts: numbers, here bits."""
    config, rng = recipe.config, np.random.default_rng(0)
    state, found = gan_train.fresh(jax.random.key(0), recipe), {}
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


@pytest.mark.parametrize("size", [8, 16, 32, 128])
def test_dcgan_at_another_power_of_two_has_a_layer_less_or_more_for_each_half_or_double(config, size):
    c = FrozenConfigDict({**config, "image_size": size})
    state = jax.eval_shape(lambda: dcgan.init(jax.random.key(0), c))
    images = jax.eval_shape(lambda s: dcgan.sample(s, jnp.zeros((3, 100)), jnp.zeros(3, jnp.int32), config=c), state)
    assert images.shape == (3, size, size, 1)
    hidden = int(np.log2(size)) - 2  # layers between picture and 4x4 pixels; 4 at 64
    for network in (state.generator, state.discriminator):
        kernels = [leaf.shape for leaf in jax.tree.leaves(network["params"]) if leaf.ndim == 4]
        assert len(kernels) == hidden
        assert max(max(shape) for shape in kernels) == config.filters * 2 ** (hidden - 1)


@pytest.mark.parametrize(("size", "made"), [(2, 8), (4, 8), (30, 16), (63, 32), (100, 64)])
def test_image_size_that_dcgan_cannot_make(config, size, made):
    with pytest.raises(BadInput, match=rf"config.gan.image_size={size}: dcgan makes {made} pixels; use that"):
        gan_train.fresh(jax.random.key(0), Recipe(dcgan, FrozenConfigDict({**config, "image_size": size})))


def table(size: int = 64, classes: int = 2) -> Table:
    """20 pictures of noise, class after class in turn."""
    pictures = np.random.default_rng(0).integers(0, 255, (20, size, size), np.uint8)
    return Table(jnp.asarray(pictures), np.arange(20, dtype=np.int32) % classes)


def orders(module, classes, labels: np.ndarray, wanted: int = 3) -> list[Order]:
    """An order for each state that a GAN needs, of the first 18 rows."""
    return [
        Order(
            Stage(0, "clean", gan=name),
            np.flatnonzero(np.isin(labels[:18], of)),
            dict.fromkeys(of, wanted),
            seed,
            classes,
        )
        for seed, (name, of) in enumerate(gan.states(module, classes).items())
    ]


def make(workdir: Path, recipe: Recipe, orders: list[Order], table: Table) -> dict:
    """What `gan_train.make` gives in a run of its own."""
    workdir.mkdir(exist_ok=True)
    place = Place(workdir, Writer(workdir, {}), Timings(workdir / ".timings.json"))
    try:
        return gan_train.make(recipe, orders, table, place)
    finally:
        place.writer.close()


def state_of(workdir: Path, order: Order, recipe: Recipe):
    """The last state of a stage, from its checkpoint."""
    place = Place(workdir, None, None)
    return loop.newest(place.checkpoints(order.stage), gan_train.fresh(jax.random.key(0), recipe))


@pytest.fixture(scope="module")
def trained(recipe, tmp_path_factory):
    """(orders, images by stage, workdir) of a DCGAN a class."""
    workdir, own = tmp_path_factory.mktemp("gan"), orders(dcgan, CLASSES, table().labels)
    return own, make(workdir, recipe, own, table()), workdir


def test_one_state_for_each_class_with_losses_and_grids(trained, recipe):
    _, made, workdir = trained
    assert [stage.gan for stage in made] == [name.lower() for name in CLASSES]
    assert all(images.shape == (3, 64, 64) and images.dtype == np.uint8 for images in made.values())
    lines = [metrics.parted(row) for row in metrics.read(workdir)]
    for stage in made:
        own = [(step, values) for step, of, values in lines if of == stage]
        assert [step for step, values in own if {"d_loss", "g_loss"} <= values.keys()] == [2, 4, 6]
        grids = [values["grid"] for _, values in own if "grid" in values]
        assert grids == [f"samples/generated-trial0-clean-gan_{stage.gan}-{step:06d}.png" for step in (4, 6)]
    assert sorted(path.name for path in (workdir / "samples").iterdir()) == [
        *(f"generated-trial0-clean-gan_{part}-{step:06d}.png" for part in ("normal", "pneumonia") for step in (4, 6)),
        *(f"progress-trial0-clean-gan_{part}.webp" for part in ("normal", "pneumonia")),
    ]
    for path in (workdir / "samples").glob("*.png"):
        with Image.open(path) as picture:
            assert (picture.mode, picture.size) == ("L", (1074, 388))
    for path in (workdir / "samples").glob("*.webp"):
        with Image.open(path) as picture:
            assert (picture.n_frames, picture.size) == (2, (530, 154))
    one, other = (state_of(workdir, order, recipe) for order in trained[0])
    assert not np.array_equal(*(state.generator["params"]["Dense_0"]["kernel"] for state in (one, other)))


def test_a_gan_never_sees_images_outside_its_rows(trained, recipe, tmp_path):
    """Images 18 and 19 are not among the rows, nor those of the other class; whatever they hold, the bits stay."""
    own, made, workdir = trained
    order = own[0]
    images = np.array(table().examples)
    images[np.setdiff1d(np.arange(20), order.rows)] = 0
    again = make(tmp_path, recipe, [order], table()._replace(examples=jnp.asarray(images)))
    np.testing.assert_array_equal(again[order.stage], made[order.stage])
    states = (state_of(path, order, recipe) for path in (workdir, tmp_path))
    jax.tree.map(np.testing.assert_array_equal, *states)
    lines = [row for row in metrics.read(workdir) if row["gan"] == "normal"]
    assert metrics.read(tmp_path) == lines


def test_generated_counts(trained, recipe):
    """Fewer images are the first ones of more."""
    (order, _), made, workdir = trained
    state = state_of(workdir, order, recipe)
    images = drawing.generate(recipe, order._replace(wanted={0: 130, 1: 3}), state)
    assert {label: drawn.shape for label, drawn in images.items()} == {0: (130, 64, 64), 1: (3, 64, 64)}
    assert images[0].dtype == np.uint8
    assert len(np.unique(images[0].reshape(130, -1), axis=0)) == 130
    fewer = drawing.generate(recipe, order._replace(wanted={1: 3, 0: 2}), state)
    np.testing.assert_array_equal(fewer[0], images[0][:2])
    np.testing.assert_array_equal(fewer[1], images[1])
    np.testing.assert_array_equal(made[order.stage], images[0][:3])
    assert drawing.generate(recipe, order._replace(wanted={0: 0}), state)[0].shape == (0, 64, 64)


def test_steps_of_one_dispatch_are_steps_one_by_one(recipe):
    """What an accelerator runs under `lax.scan` against what a CPU runs."""
    data, rows = table(), loop.epochs(np.arange(18), 6, 3, 0)
    assert loop.dispatches(0, 3, 3) == [(0, 1), (1, 2), (2, 3)]  # on a CPU

    def run(pieces):
        states = sharding.replicate(loop.stack([gan_train.fresh(jax.random.key(0), recipe)]))
        keys, losses = sharding.replicate(loop.stack([jax.random.key(1)])), []
        for begin, end in pieces:
            own = rows[begin:end, None]
            inputs = {
                "number": np.arange(begin, end, dtype=np.int32)[:, None],
                "index": loop.tables.index_of(data, own),
                "labels": data.labels[own],
                "fields": {},
            }
            layout = loop.Layout(together=False, spread=False)
            shared = (data.examples, None, {})
            states, found = loop.advance(states, keys, inputs, shared, gan_train.step, recipe, layout)
            losses.append(found["d_loss"][:, 0])
        return np.concatenate(losses)

    np.testing.assert_allclose(run([(0, 3)]), run([(0, 1), (1, 2), (2, 3)]), rtol=1e-3)


TOY = '''"""A matrix a class: what it was given is told by its metrics, and the label of an image by its brightness."""

import jax
import jax.numpy as jnp

CONDITIONAL = {conditional}
DEFAULTS = {{"labels": 3}}


def init(key, config):
    return {{"params": jax.random.normal(key, (config.labels, config.latent_dim, config.image_size**2))}}


def step(state, images, labels, key, config):
    counts = {{f"images_{{label}}": (labels == label).sum() for label in range(config.labels)}}
    mean = images.mean()
    moved = jax.tree.map(lambda w: w - 0.1 * (w - mean), state)
    return moved, {{"some_loss": jnp.abs(moved["params"]).mean(), "mean": mean, **counts}}


def sample(state, latents, labels, config):
    noise = jnp.einsum("nz,nzp->np", latents, state["params"][labels])
    images = (labels[:, None] + 0.5) / config.labels * 2 - 1 + 0.1 * jnp.tanh(noise)
    return images.reshape(-1, config.image_size, config.image_size, 1)
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """Makes a recipe of a toy GAN at 8 pixels, a module as people write them."""
    (tmp_path / "gans").mkdir()
    monkeypatch.setattr(gan, "__path__", [*gan.__path__, str(tmp_path / "gans")])

    def recipe_of(conditional: bool, **fields) -> Recipe:
        name = f"toy_{str(conditional).lower()}"
        (tmp_path / "gans" / f"{name}.py").write_text(TOY.format(conditional=conditional))
        module = gan.load(name)
        section = {**default.get_config().gan, **module.DEFAULTS, **SMALL, "image_size": 8, "latent_dim": 5}
        return Recipe(module, FrozenConfigDict({**section, "name": name, **fields}))

    return recipe_of


THREE = ("NORMAL", "BACTERIA", "VIRUS")


def test_conditional_gans_train_one_state_on_all_classes(toy, tmp_path):
    recipe = toy(conditional=True)
    assert gan.states(recipe.gan, CLASSES) == {"all": (0, 1)}
    assert gan.states(recipe.gan, THREE) == {"all": (0, 1, 2)}
    assert gan.states(dcgan, CLASSES) == {"normal": (0,), "pneumonia": (1,)}

    data = table(8, classes=3)
    [order] = orders(recipe.gan, THREE, data.labels)
    order = order._replace(wanted={2: 1, 0: 2, 1: 140})
    images = make(tmp_path / "run", recipe, [order], data)[order.stage]
    assert images.shape == (143, 8, 8)
    brightness = np.array([1 / 6, 3 / 6, 5 / 6]) * 255
    told = np.abs(images.mean((1, 2))[:, None] - brightness).argmin(1)
    assert told.tolist() == [0] * 2 + [1] * 140 + [2]
    seen = [row for row in metrics.read(tmp_path / "run") if "some_loss" in row]
    assert [row["step"] for row in seen] == [2, 4, 6]
    assert {row["gan"] for row in seen} == {"all"}
    epoch = sum(2 * np.array([row[f"images_{label}"] for label in range(3)]) for row in seen)
    assert epoch.tolist() == [12, 12, 12]  # 6 steps of 6 are two epochs of 18 images

    with Image.open(tmp_path / "run" / "samples" / "generated-trial0-clean-gan_all-000006.png") as picture:
        sheets = np.asarray(picture)
    assert sheets.shape == (3 * 388 + 2 * 14, 1074)
    for label, sheet in enumerate(np.split(np.pad(sheets, ((0, 14), (0, 0))), 3)):
        generated, real = tiles_of(sheet[20:], 4, 12), tiles_of(sheet[20:, 794 + 14 :], 4, 4)
        between = tiles_of(sheet[20 + 266 + 14 + 20 :], 1, 16)
        for tiles in (generated, between):
            assert (np.abs(tiles.mean((1, 2))[:, None] - brightness).argmin(1) == label).all()
            assert len(np.unique(tiles.reshape(len(tiles), -1), axis=0)) == len(tiles)
        own = np.asarray(data.examples)[:18][data.labels[:18] == label]
        assert sorted(map(bytes, real[:6])) == sorted(map(bytes, own.repeat(8, 1).repeat(8, 2)))
        assert (real[6:] == 128).all()  # there are six


def tiles_of(picture: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The tiles of 64 pixels at the top left of a picture, two apart: [rows * columns, 64, 64]."""
    apart = picture[2 : 2 + 66 * rows, 2 : 2 + 66 * columns].reshape(rows, 66, columns, 66)
    return apart.transpose(0, 2, 1, 3)[:, :, :64, :64].reshape(-1, 64, 64)


def test_three_classes_have_three_states(toy, tmp_path):
    recipe, data = toy(conditional=False), table(8, classes=3)
    own = orders(recipe.gan, THREE, data.labels)
    assert [order.stage.gan for order in own] == ["normal", "bacteria", "virus"]
    made = make(tmp_path / "run", recipe, own, data)
    assert [images.shape for images in made.values()] == [(3, 8, 8)] * 3
    seen = [row for row in metrics.read(tmp_path / "run") if "some_loss" in row]
    assert Counter(row["gan"] for row in seen) == {"normal": 3, "bacteria": 3, "virus": 3}
    for row in seen:
        of = ["normal", "bacteria", "virus"].index(row["gan"])
        assert [row[f"images_{label}"] for label in range(3)] == [6 * (label == of) for label in range(3)]
    assert len(list((tmp_path / "run" / "samples").glob("*.png"))) == 6


def test_a_step_is_given_d_steps_batches(toy, tmp_path):
    """So that an epoch has fewer steps."""
    recipe, data = toy(conditional=True, d_steps=2, batch_size=4, steps=0, epochs=3, log_every=1), table(8, classes=3)
    [order] = orders(recipe.gan, THREE, data.labels)
    rows = gan_train.job_of(recipe, order, place_of(tmp_path)).rows
    assert rows.shape == (3 * (18 // 8), 2 * 4)
    make(tmp_path / "run", recipe, [order], data)
    seen = [row for row in metrics.read(tmp_path / "run") if "some_loss" in row]
    assert [row["step"] for row in seen] == [1, 2, 3, 4, 5, 6]
    counts = [[row[f"images_{label}"] for label in range(3)] for row in seen]
    assert counts == [[(data.labels[one] == label).sum() for label in range(3)] for one in rows]


def test_the_batches_of_a_step_need_not_be_of_one_epoch(toy, tmp_path):
    """A critic of five batches trains on fewer images than five batches hold; at least one step is made."""
    recipe, data = toy(conditional=True, d_steps=5, batch_size=4, steps=0, epochs=4), table(8, classes=3)
    [order] = orders(recipe.gan, THREE, data.labels)
    rows = gan_train.job_of(recipe, order._replace(rows=order.rows[:9]), place_of(tmp_path)).rows
    assert rows.shape == (2, 5 * 4)  # of 4 epochs of two batches, and half an epoch more
    assert all(len(set(batch)) == 4 for batch in rows.reshape(-1, 4))
    assert all(Counter(epoch).most_common(1)[0][1] == 1 for epoch in rows.reshape(-1, 8))
    few = recipe._replace(config=FrozenConfigDict({**recipe.config, "epochs": 1}))
    assert len(gan_train.job_of(few, order._replace(rows=order.rows[:9]), place_of(tmp_path)).rows) == 1


def test_real_images_are_flipped_where_the_config_says_so(config):
    """Each by itself, left to right; else they are as they are. All are in the range of tanh."""
    batch, key = loop.Batch(table(8).examples, table(8).labels, {}), jax.random.key(0)

    def seen(flip: bool) -> np.ndarray:
        unchanged = SimpleNamespace(step=lambda state, images, labels, key, config: (images, {"g_loss": 0.0}))
        recipe = Recipe(unchanged, FrozenConfigDict({**config, "flip": flip}))
        return np.asarray(gan_train.step(jnp.zeros((20, 8, 8, 1)), batch, key, {}, recipe)[0])[..., 0]

    plain, flipped = seen(False), seen(True)
    np.testing.assert_allclose(plain, np.asarray(batch.examples) / 127.5 - 1, atol=1e-6)
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, plain, strict=True)]
    as_they_are = [np.array_equal(a, b) for a, b in zip(flipped, plain, strict=True)]
    assert np.array_equal(mirrored, np.logical_not(as_they_are))
    assert 3 < sum(mirrored) < 17


def test_the_gan_of_ones_own_in_the_readme_is_as_it_is_printed(tmp_path, monkeypatch):
    """Its module keeps the contract, its config is read, and its field can be set by a flag and changes the loss."""
    module, config = printed("A GAN of your own")
    (tmp_path / "gan").mkdir()
    (tmp_path / "gan" / "mine.py").write_text(module)
    (tmp_path / "mine_config.py").write_text(config)
    monkeypatch.setattr(gan, "__path__", [*gan.__path__, str(tmp_path / "gan")])
    monkeypatch.delitem(sys.modules, "pneumojax.gan.mine", raising=False)  # other tests write one of this name
    importlib.invalidate_caches()

    file = str(tmp_path / "mine_config.py")
    assert configs.load(file).gan.gamma == 10.0
    own = configs.load(file, ["--config.gan.gamma=5"]).gan
    assert (own.name, own.gamma) == ("mine", 5.0)
    with pytest.raises(BadInput, match=r"config.gan.gama is not a field; did you mean config.gan.gamma\?"):
        configs.load(file, ["--config.gan.gama=5"])

    tried = check(gan.load("mine"), own)
    assert tried.config.gamma == 5.0
    critic, (images, labels) = tried.states[0].discriminator, tried.batch
    judge = dcgan.Discriminator(tried.config.filters).apply
    by_hand = jax.grad(lambda x: judge(critic, x, labels, train=True, mutable=["batch_stats"])[0].sum())(images)
    expected = 5.0 / 2 * float((by_hand**2).sum()) / len(images)
    assert float(tried.metrics[0]["penalty"]) == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("label", [0, 1])
def test_what_the_demos_gan_draws_is_recognised_as_a_phantom_and_is_not_always_the_same(label, tmp_path):
    """Against phantoms of other patients: noise correlates with their mean by 0, the mean itself does not vary."""
    c = configs.load("configs/demo.py", ["--config.gan.cache=", "--config.data.phantom_images=(240, 240)"])
    images = data.load(c.data, c.gan.image_size)
    rows = np.flatnonzero(images.labels == label)
    order = Order(Stage(0, "clean", gan="one"), rows[:48], {label: 64}, 0, CLASSES)  # 48: what a trial has of NORMAL
    [drawn] = make(
        tmp_path / "run",
        Recipe(dcgan, FrozenConfigDict(c.gan)),
        [order],
        Table(jnp.asarray(images.pixels), images.labels),
    ).values()
    phantoms = images.pixels[rows[52:]]  # a patient has four pictures at most

    correlations = np.corrcoef(phantoms.mean(0).ravel(), drawn.reshape(64, -1))[0, 1:]
    assert np.quantile(correlations, 0.05) > 0.8  # of phantoms 0.9

    def spread(pictures):
        return pictures.reshape(len(pictures), 8, 4, 8, 4).mean((2, 4)).std(0).mean()

    assert 0.5 < spread(drawn) / spread(phantoms) < 1.5
