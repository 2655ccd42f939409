"""GANs are made once: what an entry's name depends on, and studies that share what one of them has made."""

import importlib
import inspect
import shutil
import threading
import time

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict
from runs import finish, load

from configs import default
from pneumojax import checkpoint, data, gan, loop, metrics
from pneumojax.data.table import Table
from pneumojax.gan import cache, dcgan
from pneumojax.gan import train as gan_train
from pneumojax.gan.drawing import Order, Recipe
from pneumojax.loop import Place
from pneumojax.metrics import Writer
from pneumojax.stage import Stage
from pneumojax.timings import Timings

STAGE = Stage(0, "clean", gan="normal")
STUDIES = [("squeezenet", 63, 0.03), ("resnet18", 48, 0.01)]


def recipe(module=dcgan, **fields) -> Recipe:
    config = default.get_config().gan
    config.update({"filters": 2, "batch_size": 4, "steps": 2, "log_every": 1, "cache": "", **fields})
    return Recipe(module, FrozenConfigDict(config))


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return Table(jnp.asarray(rng.integers(0, 255, (8, 64, 64), np.uint8)), np.zeros(8, np.int32))


@pytest.fixture
def order():
    return Order(STAGE, np.arange(8), {0: 3}, seed=1, classes=data.CLASSES)


def changed(table: Table, **place) -> Table:
    """The table with one pixel, or one label, changed."""
    if "pixel" in place:
        return table._replace(examples=table.examples.at[place["pixel"]].add(1))
    labels = table.labels.copy()
    labels[place["label"]] += 1
    return table._replace(labels=labels)


def test_a_gan_of_the_same_everything_has_the_same_name(table, order):
    key = gan_train.content_key(recipe(), order, table)
    assert key == gan_train.content_key(recipe(), order, table._replace(examples=np.asarray(table.examples)))
    assert len(key) == 32
    for other in (
        recipe(save_every=7),  # on these nothing in an entry depends
        recipe(cache="/elsewhere"),
    ):
        assert gan_train.content_key(other, order, table) == key
    unseen = Table(jnp.concatenate([table.examples, table.examples]), np.zeros(16, np.int32))
    assert gan_train.content_key(recipe(), order, unseen) == key  # images that it does not see
    stage = Stage(1, "paper", gan="pneumonia")
    assert gan_train.content_key(recipe(), order._replace(stage=stage), table) == key  # nor where it is asked for


def test_whatever_its_images_depend_on_is_in_its_name(table, order, monkeypatch):
    keys = [gan_train.content_key(recipe(), order, table)]
    for fields in (
        *({"filters": 3}, {"steps": 3}, {"batch_size": 5}, {"generator_learning_rate": 1e-3}, {"flip": False}),
        *({"latent_dim": 50}, {"sample_every": 7}, {"log_every": 2}, {"name": "other"}),
    ):
        keys.append(gan_train.content_key(recipe(**fields), order, table))
    for one in (
        *(order._replace(seed=2), order._replace(wanted={0: 4}), order._replace(wanted={1: 3})),
        *(order._replace(rows=np.arange(7)), order._replace(rows=np.arange(8)[::-1])),
        order._replace(classes=("HEALTHY", "ILL")),  # whom its sheets name
    ):
        keys.append(gan_train.content_key(recipe(), one, table))
    keys.append(gan_train.content_key(recipe(), order, changed(table, pixel=(3, 5, 7))))
    keys.append(gan_train.content_key(recipe(), order, changed(table, label=2)))
    keys.append(gan_train.content_key(recipe(), order, table, spread=True))  # other bits than alone on all devices
    monkeypatch.setenv("XLA_FLAGS", "--xla_other=1")
    keys.append(gan_train.content_key(recipe(), order, table))
    monkeypatch.setattr(cache.importlib.metadata, "version", lambda name: "9")
    keys.append(gan_train.content_key(recipe(), order, table))
    assert len(set(keys)) == len(keys) == 1 + 9 + 6 + 5


def test_the_code_of_a_gan_is_all_that_it_imports_of_ours():
    assert cache.code_of(dcgan).keys() >= {
        *("pneumojax.gan.dcgan", "pneumojax.gan.parts.adversarial", "pneumojax.gan.parts.losses"),
        "pneumojax.gan.parts.layers",
    }
    assert not any(name.partition(".")[0] in ("jax", "flax", "optax", "numpy") for name in cache.code_of(dcgan))


@pytest.mark.parametrize("package", ["pneumojax.gan", "elsewhere"])
def test_a_changed_line_of_a_gans_code_makes_another_name(table, order, tmp_path, monkeypatch, package):
    """Also where it is changed in a module that the GAN imports from beside it."""
    folder = tmp_path
    if package == "pneumojax.gan":
        monkeypatch.setattr(gan, "__path__", [*gan.__path__, str(tmp_path)])
    else:
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").touch()
        monkeypatch.syspath_prepend(tmp_path)
    rates, mine = folder / "mine_rates.py", folder / "mine.py"
    rates.write_text("SLOPE = 0.2\n")
    body = inspect.getsource(dcgan).replace("0.2", "mine_rates.SLOPE")
    mine.write_text(body.replace("import flax", f"from {package} import mine_rates\nimport flax", 1))
    assert mine.read_text().count("mine_rates") == 3
    importlib.invalidate_caches()
    own = recipe(importlib.import_module(f"{package}.mine"))
    keys = [gan_train.content_key(own, order, table) for _ in range(2)]
    rates.write_text("SLOPE = 0.25\n")
    keys.append(gan_train.content_key(own, order, table))
    mine.write_text(mine.read_text().replace("momentum=0.9,", "momentum=0.95,"))
    keys.append(gan_train.content_key(own, order, table))
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.fixture
def make(table, order, tmp_path, monkeypatch):
    """Makes the GAN in a new workdir: (its images, its lines of metrics, its grids, dispatches that it took)."""
    dispatches, advance = [], loop.advance
    monkeypatch.setattr(loop, "advance", lambda *args: dispatches.append(args) or advance(*args))

    def of(**fields):
        workdir = tmp_path / f"run{len(list(tmp_path.glob('run*')))}"
        workdir.mkdir()
        place = Place(workdir, Writer(workdir, {}), Timings(workdir / ".timings.json"))
        dispatches.clear()
        images = gan_train.make(recipe(**fields), [order], table, place)[STAGE]
        place.writer.close()
        grids = {path.name: path.read_bytes() for path in (workdir / "samples").iterdir()}
        return (images, metrics.read(workdir), grids), len(dispatches), workdir

    return of


def same(one, other) -> bool:
    return np.array_equal(one[0], other[0]) and one[1:] == other[1:]


def test_what_an_entry_gives_is_what_was_made(make, tmp_path):
    kept = str(tmp_path / "kept")
    without, count, _ = make()
    made, count_made, first = make(cache=kept)
    found, count_found, second = make(cache=kept)
    assert (count, count_made, count_found) == (2, 2, 0)
    assert same(without, made)
    assert same(made, found)
    assert [path.name for path in tmp_path.iterdir() if path.name[:3] != "run"] == ["kept"]
    [entry] = (tmp_path / "kept" / "gan").iterdir()
    assert entry.name == entry.name.strip(".")
    for workdir in (first, second):
        assert checkpoint.has(workdir / "checkpoints" / STAGE.name, 2)


def test_who_wants_what_another_run_makes_waits_and_fetches_it(make, tmp_path, caplog):
    made, _, _ = make(cache=str(tmp_path / "elsewhere"))
    [entry] = (tmp_path / "elsewhere/gan").iterdir()
    ours, held = tmp_path / "kept/gan" / entry.name, threading.Event()

    def other_run():
        with cache.alone([ours]):
            held.set()
            while "waiting for them" not in caplog.text:
                time.sleep(0.01)
            shutil.copytree(entry, ours)

    other = threading.Thread(target=other_run)
    with caplog.at_level("INFO", logger="absl"):
        other.start()
        held.wait(60)
        found, count, _ = make(cache=str(tmp_path / "kept"))
    other.join()
    assert count == 0
    assert same(made, found)


@pytest.mark.parametrize("file", ["images.npz", "metrics.json", "checkpoint"])
def test_a_damaged_entry_is_made_anew_and_told(make, tmp_path, caplog, file):
    kept = str(tmp_path / "kept")
    made, *_ = make(cache=kept)
    [path] = (tmp_path / "kept").glob(f"gan/*/{file}")
    shutil.rmtree(path) if path.is_dir() else path.write_bytes(path.read_bytes()[:-40])
    again, count, _ = make(cache=kept)
    assert count == 2
    assert same(made, again)
    assert "is damaged" in caplog.text
    assert "trial0/clean/gan_normal is made anew" in caplog.text
    third, count, _ = make(cache=kept)
    assert count == 0
    assert same(made, third)


def test_a_cache_that_cannot_be_written_is_told_and_no_more(make, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    _, count, _ = make(cache=str(tmp_path / "file"))
    assert count == 2
    assert "GANs are not kept for other runs: config.gan.cache" in caplog.text


@pytest.mark.slow
def test_two_studies_make_their_gans_once(tiny_flags, tmp_path, monkeypatch):
    """Of two networks, at other image sizes than the GAN, which sees pixels decoded at its own."""
    trained, advance = [], loop.advance
    monkeypatch.setattr(loop, "advance", lambda *args: trained.append(type(args[5])) or advance(*args))
    loaded, load_data = [], data.load
    monkeypatch.setattr(data, "load", lambda config, size: loaded.append(size) or load_data(config, size))
    flags = [*tiny_flags, "--config.trials=(0,)", "--config.protocols=('clean',)", "--config.classifier.steps=2"]
    flags.append("--config.arms=('without_gan', 'with_gan')")
    runs = []
    for name, size, rate in STUDIES:
        own = [f"--config.model.name={name}", f"--config.model.image_size={size}"]
        own += [f"--config.classifier.learning_rate={rate}"]
        workdir = tmp_path / f"study{len(runs)}"
        runs.append(finish([*flags, *own, f"--config.gan.cache={tmp_path / 'kept'}"], workdir))
        assert trained.count(Recipe) == 2 * 6
        assert loaded == [size, 32]
        loaded.clear()
    alone = finish([*flags, *own, "--config.gan.cache="], tmp_path / "alone")
    assert trained.count(Recipe) == 2 * (2 * 6)
    for workdir in runs:
        assert load(workdir)["gan"] == load(alone)["gan"]
        of_gans = [[line for line in metrics.read(path) if "gan" in line] for path in (workdir, alone)]
        assert of_gans[0] == of_gans[1]
        for label in ("normal", "pneumonia"):
            both = (
                checkpoint.read_arrays(path / f"checkpoints/trial0/clean/gan_{label}.npz") for path in (workdir, alone)
            )
            np.testing.assert_array_equal(*(arrays["images"] for arrays in both))
        grids = [
            {
                path.name: path.read_bytes()
                for path in (run / "samples").iterdir()
                if path.name[:5] not in ("worst", "maps-")
            }
            for run in (workdir, alone)
        ]
        assert grids[0] == grids[1]
        assert len(grids[0]) == 4 + 2  # sheets, animations
    assert len(list((tmp_path / "kept/gan").iterdir())) == 2
