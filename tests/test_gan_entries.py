"""Entries of the cache of GANs in detail: all that a name depends on, damage of any kind, kills at any point.

On a GAN of one matrix, which is trained in a moment; `test_gan_cache.py` has DCGANs and whole studies.
"""

import errno
import importlib
import os
import shutil
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict

from configs import default
from pneumojax import checkpoint, gan, loop, metrics
from pneumojax.data import CLASSES
from pneumojax.data.table import Table
from pneumojax.errors import NotWritable
from pneumojax.gan import cache, dcgan, drawing
from pneumojax.gan import train as gan_train
from pneumojax.gan.drawing import Order, Recipe
from pneumojax.jobs import Place
from pneumojax.metrics import Writer
from pneumojax.stage import Stage
from pneumojax.timings import Timings

SMALL = {"image_size": 8, "latent_dim": 3, "batch_size": 4, "steps": 4, "log_every": 2, "sample_every": 2}
GAN = '''"""One matrix."""

import jax
import jax.numpy as jnp

CONDITIONAL = False


def init(key, config):
    return {"params": jax.random.normal(key, (config.latent_dim, config.image_size**2))}


def step(state, images, labels, key, config):
    w = state["params"]
    return {"params": w - 0.1 * (w - images.mean() - jax.random.normal(key, w.shape))}, {"w_loss": jnp.abs(w).mean()}


def sample(state, latents, labels, config):
    return jnp.tanh(latents @ state["params"]).reshape(-1, config.image_size, config.image_size, 1)
'''


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A GAN as people write them, in a folder of its own."""
    folder = tmp_path_factory.mktemp("gans")
    (folder / "one_matrix.py").write_text(GAN)
    before = list(gan.__path__)
    gan.__path__.append(str(folder))
    yield gan.load("one_matrix")
    gan.__path__[:] = before


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Of the cache, the same for all tests: programs that differ by nothing are compiled once."""
    return tmp_path_factory.mktemp("gans of all runs")


@pytest.fixture
def recipe(toy, folder):
    shutil.rmtree(folder, ignore_errors=True)
    section = {**default.get_config().gan, **SMALL, "name": "one_matrix", "cache": str(folder)}
    return Recipe(toy, FrozenConfigDict(section))


def table() -> Table:
    pictures = np.random.default_rng(0).integers(0, 255, (12, 8, 8), np.uint8)
    return Table(jnp.asarray(pictures), np.arange(12, dtype=np.int32) % 2)


def orders() -> list[Order]:
    """An order a class."""
    own = {"normal": 0, "pneumonia": 1}
    return [
        Order(Stage(0, "clean", gan=n), np.arange(v, 12, 2), {v: 3 + v}, seed=v, classes=CLASSES)
        for n, v in own.items()
    ]


def place_of(workdir: Path) -> Place:
    workdir.mkdir(exist_ok=True)
    return Place(workdir, Writer(workdir, {}), Timings(workdir / ".timings.json"))


def study(workdir: Path, recipe: Recipe) -> dict[str, np.ndarray]:
    """What the GANs of a run make, by class."""
    place = place_of(workdir)
    try:
        made = gan_train.make(recipe, orders(), table(), place)
    finally:
        place.writer.close()
    return {stage.gan: images for stage, images in made.items()}


def files(workdir: Path, *parts: str) -> dict[str, bytes]:
    """All that a run leaves but its times and TensorBoard's events."""
    found = {str(p.relative_to(workdir)): p.read_bytes() for p in workdir.rglob("*") if p.is_file()}
    parts = parts or ("metrics.jsonl", "samples", "checkpoints")
    return {name: content for name, content in found.items() if name.startswith(parts)}


def entries(recipe: Recipe) -> list[Path]:
    folder = Path(recipe.config.cache) / "gan"
    return sorted(folder.iterdir()) if folder.exists() else []


@pytest.fixture
def none_is_trained(monkeypatch):
    """From its call on, a step of training is an error."""

    def forbid():
        def advance(*args):
            raise AssertionError("a GAN is trained")

        monkeypatch.setattr(loop, "advance", advance)

    return forbid


@pytest.fixture
def library(tmp_path, monkeypatch):
    """Files of a package of one's own; imports its module `mine`."""
    root = tmp_path / "lab"
    sources = {
        "__init__": "",
        "mine": "from lab.rates import RATE\nfrom . import layers\nimport lab.deep.blocks\n\nWIDTH = 4\n",
        "rates": "RATE = 0.1\n",
        "layers": "import numpy\n\n\ndef later():\n    from lab import lazy\n",
        "lazy": "SLOW = 1\n",
        "beside": "OTHER = 1\n",
        "deep/__init__": "",
        "deep/blocks": "DEPTH = 2\n",
    }
    for name, source in sources.items():
        (root / f"{name}.py").parent.mkdir(exist_ok=True, parents=True)
        (root / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("lab.lazy")
    importlib.import_module("lab.beside")
    yield root, importlib.import_module("lab.mine")
    for name in [name for name in sys.modules if name.partition(".")[0] == "lab"]:
        del sys.modules[name]


def test_the_code_of_a_gan_is_all_that_it_imports_of_its_package(library):
    assert cache.code_of(dcgan).keys() == {
        "pneumojax.gan.dcgan",
        "pneumojax.gan.parts.adversarial",
        "pneumojax.gan.parts.ema",
        "pneumojax.gan.parts.precision",
        "pneumojax.gan.parts.losses",
        "pneumojax.gan.parts.layers",
        "pneumojax.errors",
    }
    assert cache.code_of(library[1]).keys() == {"lab.mine", "lab.rates", "lab.layers", "lab.lazy", "lab.deep.blocks"}


@pytest.mark.parametrize("name", ["mine", "rates", "layers", "lazy", "deep/blocks", "beside"])
def test_a_changed_line_of_code_is_another_entry(library, recipe, name):
    """Of the module or of what it imports, be it a number; not of what lies beside it."""
    root, module = library
    before = cache.key_of(module, recipe.config, gan_train, {})
    assert cache.key_of(module, recipe.config, gan_train, {}) == before
    with (root / f"{name}.py").open("a") as file:
        file.write("NEW = 1\n")
    assert (cache.key_of(module, recipe.config, gan_train, {}) != before) == (name != "beside")


def test_a_changed_field_is_another_entry(recipe):
    """Each of them, but for those that nothing in an entry depends on."""

    def key(**changed) -> str:
        return cache.key_of(recipe.gan, FrozenConfigDict({**recipe.config, **changed}), gan_train, {})

    other = {bool: lambda v: not v, str: lambda v: f"{v}x", int: lambda v: v + 1, float: lambda v: v / 2 + 0.1}
    changed = {name: other[type(value)](value) for name, value in recipe.config.items()}
    assert {name for name in changed if key(**{name: changed[name]}) == key()} == {"save_every", "cache", "seeds"}
    assert key(own_field=1) != key()


def test_the_devices_count(recipe, monkeypatch):
    before = cache.key_of(recipe.gan, recipe.config, gan_train, {})
    monkeypatch.setattr(jax, "devices", lambda: jax.local_devices() * 2)
    assert cache.key_of(recipe.gan, recipe.config, gan_train, {}) != before


def test_the_same_pixels_at_other_rows_are_the_same(recipe):
    order, data = orders()[0], table()
    behind = Table(jnp.concatenate([data.examples[:1], data.examples]), np.append(np.int32(1), data.labels))
    keys = [
        gan_train.content_key(recipe, own, there)
        for own, there in ((order, data), (order._replace(rows=order.rows + 1), behind), (order, behind))
    ]
    assert keys[0] == keys[1] != keys[2]


def test_a_second_run_gets_what_the_first_has_made(tmp_path, recipe, none_is_trained):
    """The same images, lines of metrics, grids and checkpoints, to the bit; nothing is trained."""
    first = study(tmp_path / "a", recipe)
    assert len(entries(recipe)) == 2
    none_is_trained()
    second = study(tmp_path / "b", recipe)
    assert {name: images.shape for name, images in first.items()} == {"normal": (3, 8, 8), "pneumonia": (4, 8, 8)}
    for name, images in first.items():
        np.testing.assert_array_equal(second[name], images)
    assert files(tmp_path / "b") == files(tmp_path / "a")
    assert [row["step"] for row in metrics.read(tmp_path / "b")] == [2, 2, 4, 4] * 2
    assert len(list((tmp_path / "b" / "samples").iterdir())) == 2 * (2 + 1)  # sheets, animations
    [events] = (tmp_path / "b").glob("events.out.tfevents.*")
    assert b"trial0/clean/gan_normal/generated" in events.read_bytes()
    state = loop.newest(
        place_of(tmp_path / "b").checkpoints(orders()[0].stage), gan_train.fresh(jax.random.key(0), recipe)
    )
    images = drawing.generate(recipe, orders()[0], state)
    np.testing.assert_array_equal(images[0], first["normal"])  # so `sample` can make more


def test_a_run_that_was_stopped_goes_over_to_an_entry(tmp_path, recipe, none_is_trained, monkeypatch):
    """Another run has made meanwhile what it had begun: its own checkpoint and lines give way, and none is doubled."""
    advance = loop.advance

    def stopped(states, keys, inputs, *rest):
        if inputs["number"].max() >= 3:
            raise SystemExit(143)
        return advance(states, keys, inputs, *rest)

    own = Recipe(recipe.gan, FrozenConfigDict({**recipe.config, "save_every": 2}))
    monkeypatch.setattr(loop, "advance", stopped)
    with pytest.raises(SystemExit):
        study(tmp_path / "b", own)
    monkeypatch.setattr(loop, "advance", advance)
    assert metrics.read(tmp_path / "b") != []
    study(tmp_path / "a", recipe)
    none_is_trained()
    study(tmp_path / "b", own)
    assert files(tmp_path / "b") == files(tmp_path / "a")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "half of the images": lambda entry: cut(entry / "images.npz"),
    "empty images": lambda entry: (entry / "images.npz").write_bytes(b""),
    "an array of another name": lambda entry: checkpoint.write_arrays(entry / "images.npz", other=np.zeros(3)),
    "half of the metrics": lambda entry: cut(entry / "metrics.json"),
    "no metrics": lambda entry: (entry / "metrics.json").unlink(),
    "no lines": lambda entry: (entry / "metrics.json").write_text("[]"),
    "no grid": lambda entry: (entry / "4.png").unlink(),
    "no checkpoint": lambda entry: shutil.rmtree(entry / "checkpoint"),
    "a checkpoint that cannot be read": lambda entry: (entry / "checkpoint/x").symlink_to("/nowhere"),
    "an empty folder": lambda entry: [shutil.rmtree(entry), entry.mkdir()],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_made_anew_with_a_warning(tmp_path, recipe, none_is_trained, caplog, damage):
    first = study(tmp_path / "a", recipe)
    damaged, whole = entries(recipe)
    DAMAGES[damage](damaged)
    second = study(tmp_path / "b", recipe)
    [warning] = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith(f"{damaged} is damaged (")
    assert warning.endswith("is made anew")
    none_is_trained()
    third = study(tmp_path / "c", recipe)  # the entry is whole again
    for name, images in first.items():
        np.testing.assert_array_equal(second[name], images)
        np.testing.assert_array_equal(third[name], images)
    for workdir in (tmp_path / "b", tmp_path / "c"):
        assert files(workdir, "metrics.jsonl", "samples") == files(tmp_path / "a", "metrics.jsonl", "samples")
    assert entries(recipe) == [damaged, whole]


def test_a_home_is_found(recipe, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")
    config = FrozenConfigDict({**recipe.config, "cache": "~/.cache/pneumojax"})
    assert cache.entry_of(config, "key") == Path("/home/somebody/.cache/pneumojax/gan/key")


@pytest.mark.parametrize("where", ["/proc/nowhere", "a file", "a link to nothing"])
def test_a_cache_that_cannot_be_written_is_a_warning(tmp_path, recipe, caplog, where):
    (tmp_path / "a file").write_text("")
    (tmp_path / "a link to nothing").symlink_to("/proc/nowhere")
    own = Recipe(recipe.gan, FrozenConfigDict({**recipe.config, "cache": str(tmp_path / where)}))
    made = study(tmp_path / "run", own)
    assert {name: len(images) for name, images in made.items()} == {"normal": 3, "pneumonia": 4}
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 2
    assert all(text.startswith("GANs are not kept for other runs: config.gan.cache: [Errno ") for text in warnings)


def test_a_disk_that_is_full_where_an_entry_goes_is_the_workdirs_fault(tmp_path, recipe, monkeypatch):
    study(tmp_path / "a", recipe)

    def full(source, target):
        raise shutil.Error([(source, target, "[Errno 28] No space left on device")])

    monkeypatch.setattr(cache.shutil, "copytree", full)
    with pytest.raises(NotWritable, match="No space left on device.*free space there or choose another --workdir"):
        study(tmp_path / "b", recipe)


def test_a_disk_that_is_full_leaves_no_half_of_an_entry(tmp_path, recipe, caplog, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.shutil, "copy", full)
    study(tmp_path / "run", recipe)
    assert "config.gan.cache: [Errno 28] No space left on device" in caplog.messages[-1]
    assert entries(recipe) == []


@pytest.mark.parametrize("when", ["before", "within"])
def test_a_kill_between_making_and_delivering_neither_loses_nor_doubles(
    tmp_path, recipe, none_is_trained, monkeypatch, when
):
    """The run that goes on delivers what it had made, and trains the rest."""
    whole = Recipe(recipe.gan, FrozenConfigDict({**recipe.config, "cache": ""}))
    undisturbed = study(tmp_path / "undisturbed", whole)

    def killed(*args):
        raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(*((cache, "deliver") if when == "before" else (cache.shutil, "copy")), killed)
        with pytest.raises(SystemExit):
            study(tmp_path / "a", recipe)
    assert entries(recipe) == []
    assert [order.stage.gan for order in orders() if gan_train.images_path(tmp_path / "a", order.stage).exists()] == [
        "normal"
    ]
    again = study(tmp_path / "a", recipe)
    assert len(entries(recipe)) == 2
    none_is_trained()
    fetched = study(tmp_path / "b", recipe)
    for name, images in undisturbed.items():
        np.testing.assert_array_equal(again[name], images)
        np.testing.assert_array_equal(fetched[name], images)
    for workdir in (tmp_path / "a", tmp_path / "b"):
        own, expected = (files(path, "metrics.jsonl", "samples") for path in (workdir, tmp_path / "undisturbed"))
        assert own == expected


def test_a_kill_while_an_entry_is_fetched_is_gone_on_with(tmp_path, recipe, none_is_trained, monkeypatch):
    """After any of its writes; also where the cache is gone by then."""
    study(tmp_path / "a", recipe)
    before, written = files(tmp_path / "a"), checkpoint.written
    none_is_trained()
    for count in range(8):  # two sheets, the images and the animation of each GAN
        left = [count]

        def killed(path, left=left):
            if not left[0]:
                raise SystemExit(143)
            left[0] -= 1
            return written(path)

        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "written", killed)
            with pytest.raises(SystemExit):
                study(tmp_path / f"b{count}", recipe)
        study(tmp_path / f"b{count}", recipe)
        assert files(tmp_path / f"b{count}") == before


def test_half_of_a_copied_checkpoint_is_never_gone_on_with(tmp_path, recipe, monkeypatch):
    """A kill within the copy, and a cache that is gone when the run is begun again."""
    first = study(tmp_path / "a", recipe)

    def killed(source, target):
        (target / "4" / "state").mkdir(parents=True)
        raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(cache.shutil, "copytree", killed)
        with pytest.raises(SystemExit):
            study(tmp_path / "b", recipe)
    shutil.rmtree(recipe.config.cache)
    second = study(tmp_path / "b", recipe)
    for name, images in first.items():
        np.testing.assert_array_equal(second[name], images)


def test_two_runs_that_deliver_the_same_entry_at_once_leave_one(tmp_path, recipe, caplog, monkeypatch):
    """The other one is faster, by a moment: it delivers between this one's last file and its renaming.

    Where the file system has locks it would have waited.
    """
    write_json, others = checkpoint.write_json, [tmp_path / "b"]

    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(cache.fcntl, "flock", flock)

    def overtaken(path, value):
        write_json(path, value)
        if path.name == "metrics.json" and others:
            study(others.pop(), recipe)

    monkeypatch.setattr(checkpoint, "write_json", overtaken)
    study(tmp_path / "a", recipe)
    assert others == []
    assert [record for record in caplog.records if record.levelname == "WARNING"] == []
    assert len(entries(recipe)) == 2
    assert all(not path.name.startswith(".") for path in entries(recipe))
    study(tmp_path / "c", recipe)
    names = ("metrics.jsonl", "samples")
    assert files(tmp_path / "a", *names) == files(tmp_path / "b", *names) == files(tmp_path / "c", *names)
