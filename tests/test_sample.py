"""Images drawn from the GANs of a finished run: which, of what they say, and what cannot be drawn."""

import errno
import io
import json
import os
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import FrozenConfigDict
from PIL import Image
from runs import call, error_of

from pneumojax import __version__, checkpoint, gan, report, sample
from pneumojax import run as runs
from pneumojax.data.table import Table
from pneumojax.gan import dcgan, drawing, pictures
from pneumojax.gan import train as gan_train
from pneumojax.jobs import Place
from pneumojax.metrics import Writer
from pneumojax.stage import Stage
from pneumojax.timings import Timings


def images_of(folder: Path, name: str) -> np.ndarray:
    """The images of a class in a folder, in their order: uint8 [n, S, S]."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.glob(f"generated-{name}-*.png"))])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def drawn(whole, tmp_path_factory) -> Path:
    """A folder of five images a class."""
    folder = tmp_path_factory.mktemp("drawn") / "below" / "out"
    assert call(sample.main, f"--workdir={whole}", "--gan=trial0/clean", "--count=5", f"--out={folder}")[0] == 0
    return folder


def test_a_png_an_image_and_a_sheet(drawn):
    names = [f"generated-{name}-{number:05d}.png" for name in ("NORMAL", "PNEUMONIA") for number in range(5)]
    assert sorted(contents(drawn)) == [*names, "sheet.png"]
    assert [path.name for path in drawn.parent.iterdir()] == ["out"]
    sheet = np.asarray(Image.open(drawn / "sheet.png"))
    assert sheet.shape == (20 + 68 + 14 + 20 + 68, 16 * 66 + 2)
    for label, name in enumerate(("NORMAL", "PNEUMONIA")):
        images = images_of(drawn, name)
        assert (images.shape, images.dtype) == ((5, 32, 32), np.uint8)
        assert len(np.unique(images.reshape(5, -1), axis=0)) == 5
        row = sheet[label * 102 + 22 : label * 102 + 86]
        np.testing.assert_array_equal(row[::2, 2:332].reshape(32, 5, 66)[:, :, :64:2].transpose(1, 0, 2), images)
    assert not np.array_equal(images_of(drawn, "NORMAL"), images_of(drawn, "PNEUMONIA"))


def test_each_picture_says_that_it_is_synthetic_and_what_has_made_it(drawn, whole):
    for path in drawn.iterdir():
        with Image.open(path) as picture:
            told = picture.text
        assert told["Description"].startswith("synthetic: made by a GAN")
        assert told["Software"] == f"pneumojax {__version__}"
        assert told["Seed"] == "0"
        assert told["GAN"].startswith("dcgan trial0/clean")
        assert str(whole) not in "".join(told.values())
    with Image.open(drawn / "generated-PNEUMONIA-00003.png") as picture:
        told = picture.text
    assert (told["Class"], told["Number"]) == ("PNEUMONIA", "3")
    saved = next((whole / "checkpoints/trial0/clean/gan_pneumonia/6").glob("record/metadata"))
    assert told["GAN"] == f"dcgan trial0/clean/gan_pneumonia, state {json.loads(saved.read_text())['digest'][:16]}"


def test_the_images_are_those_of_the_runs_generator_for_new_latents(drawn, whole):
    """Applied by hand, with the batch statistics that it has learnt; none of them is one of the study's."""
    run = runs.load(whole)
    [source] = sample.load(run, "trial0/clean", 0, "NORMAL")
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(source.order.seed), 3), 0)
    latents = jax.random.normal(key, (1, 128, 16))[0]
    generator = dcgan.Generator(run.config.gan.filters, 32)
    by_hand = jax.jit(lambda z: generator.apply(source.state.generator, z, None, train=False)[..., 0])(latents)
    found = images_of(drawn, "NORMAL")
    assert np.abs(np.asarray(by_hand[:5] + 1) * 127.5 - found).max() < 0.51
    studys = checkpoint.read_arrays(whole / "checkpoints/trial0/clean/gan_normal.npz")["images"]
    assert not {image.tobytes() for image in found} & {image.tobytes() for image in studys}


def test_the_same_flags_give_the_same_bits_and_fewer_images_are_the_first_of_more(drawn, whole, tmp_path):
    (tmp_path / "again").mkdir()  # an empty one may be there
    for name, flags in {
        "again": ["--count=5"],
        "fewer": ["--count=2"],
        "one": ["--count=5", "--class=PNEUMONIA"],
        "seed": ["--count=5", "--seed=-1"],
        "trial": ["--count=5", "--gan=trial1/clean"],
        "protocol": ["--count=5", "--gan=trial0/paper"],
    }.items():
        assert call(sample.main, f"--workdir={whole}", *flags, f"--out={tmp_path / name}")[0] == 0
    first = contents(drawn)
    assert contents(tmp_path / "again") == first
    assert {name: first[name] for name in contents(tmp_path / "fewer") if name != "sheet.png"}.items() == {
        (name, content) for name, content in contents(tmp_path / "fewer").items() if name != "sheet.png"
    }
    assert contents(tmp_path / "one").keys() == {name for name in first if "NORMAL" not in name}
    for other, name in (("seed", "NORMAL"), ("trial", "NORMAL"), ("protocol", "PNEUMONIA")):
        both = {image.tobytes() for folder in (drawn, tmp_path / other) for image in images_of(folder, name)}
        assert len(both) == 10
    np.testing.assert_array_equal(images_of(tmp_path / "one", "PNEUMONIA"), images_of(drawn, "PNEUMONIA"))


def test_an_interpolation_goes_in_small_steps_from_one_image_to_another(whole, tmp_path):
    flags = [f"--workdir={whole}", "--count=1", "--interpolate", "--class=NORMAL", f"--out={tmp_path / 'out'}"]
    assert call(sample.main, *flags)[0] == 0
    picture = np.asarray(Image.open(tmp_path / "out/interpolation.png"))
    assert picture.shape == (20 + 4 * 66 + 2, 16 * 66 + 2)
    tiles = picture[22:, 2:].reshape(4, 66, 16, 66).transpose(0, 2, 1, 3)[:, :, :64, :64].astype(float)
    steps = np.abs(np.diff(tiles, axis=1)).mean((2, 3))
    whole_way = np.abs(tiles[:, -1] - tiles[:, 0]).mean((1, 2))
    assert (steps > 0).all()
    assert (steps.max(1) < whole_way / 4).all()


def test_latents_of_a_great_circle_are_from_the_gans_own_distribution_all_the_way():
    paths = drawing.great_circles(jax.random.key(0), 3000, 9, 10).reshape(3000, 9, 10)
    np.testing.assert_allclose(paths.std((0, 2)), 1, atol=0.02)  # in the middle of a straight line 0.71
    np.testing.assert_allclose(paths.mean((0, 2)), 0, atol=0.02)
    ends = paths[:, 0], paths[:, -1]
    for index, angle in enumerate(np.linspace(0, 90, 9)):
        expected = np.cos(np.radians(angle)) * ends[0] + np.sin(np.radians(angle)) * ends[1]
        np.testing.assert_allclose(paths[:, index], expected, atol=1e-5)
    assert abs((ends[0] * ends[1]).mean()) < 0.02


WRONG = {
    "trial": (["--gan=trial9/clean"], "has no GAN 'trial9/clean'; give --gan=trial0/clean or trial0/paper or trial1/"),
    "stage": (["--gan=trial0/clean/gan_normal"], "has no GAN 'trial0/clean/gan_normal'; give --gan=trial0/clean or "),
    "nothing": (["--gan="], "has no GAN ''; give --gan=trial0/clean or "),
    "class": (["--class=normal"], "trial0/clean makes no class 'normal'; give --class=NORMAL or PNEUMONIA"),
    "none": (["--count=0"], "argument --count: '0': give a whole number from 1 to 50000"),
    "less": (["--count=-3"], "argument --count: '-3': give a whole number from 1 to 50000"),
    "huge": (["--count=50001"], "argument --count: '50001': give a whole number from 1 to 50000"),
    "digits": ([f"--count={5000 * '9'}"], "give a whole number from 1 to 50000"),
    "half": (["--count=1.5"], "argument --count: '1.5': give a whole number from 1 to 50000"),
    "seed": (["--seed=x"], "argument --seed: invalid int value: 'x'"),
    "workdir": (["--workdir=nowhere"], "nowhere is not the workdir of a finished run"),
    "path": (["--out="], "argument --out: '' is an empty path"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_drawn_is_told_in_one_line(wrong, whole, tmp_path):
    flags, words = WRONG[wrong]
    ended = call(sample.main, f"--workdir={whole}", f"--out={tmp_path / 'out'}", *flags)
    [line] = error_of(ended, 2)
    assert words in line
    assert not list(tmp_path.iterdir())


def linked(whole: Path, workdir: Path) -> Path:
    """A copy of a run whose checkpoints can be changed, of those of trial 0 in clean alone."""
    workdir.mkdir()
    for name in ("config.json", "splits.json", "results.json", "metrics.jsonl", "predictions.csv"):
        (workdir / name).symlink_to(whole / name)
    (workdir / "samples").symlink_to(whole / "samples")
    for path in (whole / "checkpoints/trial0/clean").glob("gan_*"):
        (workdir / "checkpoints/trial0/clean").mkdir(parents=True, exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copy)(path, workdir / "checkpoints/trial0/clean" / path.name)
    return workdir


def test_gans_that_diverged_are_lost_or_never_were_are_told(whole, tmp_path):
    workdir = linked(whole, tmp_path / "run")
    stages = workdir / "checkpoints/trial0/clean"
    flags = [f"--workdir={workdir}", "--count=1"]
    assert "give --gan=trial0/clean" in error_of(call(sample.main, *flags, "--gan=trial1/clean", "--out=out"), 2)[0]

    checkpoint.write_json(stages / "gan_normal.diverged.json", {"step": 4, "metric": "d_loss", "checkpoint": None})
    [line] = error_of(call(sample.main, *flags, f"--out={tmp_path / 'out'}"), 2)
    assert "trial0/clean/gan_normal diverged (d_loss after step 4); give another --gan" in line
    assert call(sample.main, *flags, "--class=PNEUMONIA", f"--out={tmp_path / 'other'}")[0] == 0

    shutil.rmtree(stages / "gan_pneumonia" / "6")
    [line] = error_of(call(sample.main, *flags, "--class=PNEUMONIA", f"--out={tmp_path / 'out'}"), 2)
    assert "gan_pneumonia holds no checkpoint; bring it back or run anew" in line
    shutil.rmtree(stages / "gan_pneumonia")  # its images are there: it is not a class that nobody asked for
    [line] = error_of(call(sample.main, *flags, "--class=PNEUMONIA", f"--out={tmp_path / 'out'}"), 2)
    assert "gan_pneumonia holds no checkpoint; bring it back or run anew" in line

    shutil.rmtree(stages)
    [line] = error_of(call(sample.main, *flags, f"--out={tmp_path / 'out'}"), 2)
    assert line == f"{workdir} has no GAN: none was trained, or its checkpoints are elsewhere"
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_written_is_4_and_one_that_holds_files_2(whole, tmp_path, monkeypatch):
    flags = [f"--workdir={whole}", "--count=1", "--class=NORMAL"]
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file/below", Path("/proc/here/below")):
        assert "another --out" in error_of(call(sample.main, *flags, f"--out={out}"), 4)[0]
    assert (tmp_path / "file").read_text() == "in the way"
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine.png").write_text("mine")
    line = error_of(call(sample.main, *flags, f"--out={tmp_path / 'full'}"), 2)[0]
    assert line == f"{tmp_path / 'full'} holds files already; choose another --out or empty it"
    assert contents(tmp_path / "full") == {"mine.png": b"mine"}

    def fill(path, content, write=Path.write_bytes):
        if path.name == "sheet.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fill)
    assert "No space left on device" in error_of(call(sample.main, *flags, f"--out={tmp_path / 'out'}"), 4)[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]  # nothing half is left


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("NORMAL", "NORMAL"),
        ("..", ".."),
        ("a/b c\\", "a%2Fb%20c%5C"),
        ("肺炎", "%E8%82%BA%E7%82%8E"),
        ("\udcff\n", "%ED%B3%BF%0A"),
        (80 * "肺", "class1"),
    ],
)
def test_a_file_may_be_made_of_any_class(name, called, tmp_path):
    order = gan_train.Order(Stage(0, "clean", gan="all"), np.zeros(0, int), {}, 0, ("other", name))
    file = sample.file_name(sample.Source(order, 1, None, ""), 12)
    assert file == f"generated-{called}-00012.png"
    (tmp_path / file).touch()
    assert [path.name for path in tmp_path.iterdir()] == [file]


LABELS = '''"""Images as bright as their labels."""

import jax.numpy as jnp

CONDITIONAL = True


def init(key, config):
    return {"steps": jnp.zeros(())}


def step(state, images, labels, key, config):
    return {"steps": state["steps"] + 1}, {"some_loss": images.mean()}


def sample(state, latents, labels, config):
    brightness = (labels * 100 + jnp.tanh(latents[:, 0])) / 127.5 - 0.5
    return jnp.broadcast_to(brightness[:, None, None, None], (len(latents), 8, 8, 1))
'''


def test_a_conditional_gan_draws_each_of_its_classes(whole, tmp_path, monkeypatch):
    monkeypatch.setattr(gan, "__path__", [*gan.__path__, str(tmp_path)])
    (tmp_path / "label_gan.py").write_text(LABELS)
    run = runs.load(whole)
    fields = {"name": "label_gan", "image_size": 8, "batch_size": 2, "steps": 2, "log_every": 1, "cache": ""}
    config = FrozenConfigDict({**run.config.to_dict(), "gan": {**run.config.gan.to_dict(), **fields}})
    run = run._replace(workdir=tmp_path / "run", config=config)
    run.workdir.mkdir()
    place = Place(run.workdir, Writer(run.workdir, {}), Timings(run.workdir / ".timings.json"))
    order = gan_train.Order(Stage(0, "clean", gan="all"), np.arange(6), {0: 1, 1: 1}, 0, config.data.classes)
    table = Table(jnp.zeros((6, 8, 8), jnp.uint8), np.arange(6, dtype=np.int32) % 2)
    gan_train.make(sample.recipe_of(run), [order], table, place)
    place.writer.close()

    assert sample.gans(run) == {"trial0/clean": {order.stage: (0, 1)}}
    sources = sample.load(run, "trial0/clean", 0)
    assert [source.name for source in sources] == ["NORMAL", "PNEUMONIA"]
    for source in sources:
        images = sample.draw(source, sample.recipe_of(run), 3)
        assert (np.abs(images - (64.0 + 100 * source.label)) < 2).all()
    assert [source.label for source in sample.load(run, "trial0/clean", 0, "PNEUMONIA")] == [1]


def test_the_page_shows_sheets_and_the_progress_of_one_trial(whole, tmp_path):
    run = runs.load(whole)
    section = report.samples.section(run)
    pictured = [caption for block in section["blocks"] for caption, _ in block.get("pictures", [])]
    stages = [f"trial{n}/{p}/gan_{c}" for n in range(3) for p in ("clean", "paper") for c in ("normal", "pneumonia")]
    assert pictured == [*stages, "progress: trial0/clean/gan_normal", "progress: trial0/clean/gan_pneumonia"]
    assert section["blocks"][0]["note"].startswith("Synthetic")
    assert report.samples.section(run._replace(grids={})) is None

    alone = {stage: shutil.copy(path, tmp_path) for stage, path in run.grids.items()}
    without = report.samples.section(run._replace(grids={stage: Path(path) for stage, path in alone.items()}))
    assert [len(block.get("pictures", [])) for block in without["blocks"]] == [0, 12]


@pytest.mark.parametrize(("noise", "size"), [(0, 64), (10, 64), (10, 128), (60, 128)])
def test_a_sheet_on_the_page_has_a_hundred_kilobytes_where_that_can_be(noise, size):
    """The finer its grain, the coarser; what is all noise stays a picture nevertheless."""
    rng, (generated, real, between) = np.random.default_rng(0), pictures.counts(size)
    y, x = np.mgrid[:size, :size] / size
    tiles = 128 + 80 * np.sin(6 * x) * np.cos(5 * y) + rng.normal(0, noise, (generated + real + between, size, size))
    parts = np.split(np.clip(tiles, 0, 255).astype(np.uint8), (generated, generated + real))
    sheet = pictures.sheet("NORMAL", 1, *parts)
    content = report.samples.smaller(sheet)
    assert noise == 60 or len(content) <= 100_000
    found = np.asarray(Image.open(io.BytesIO(content)).convert("L"), int)
    assert np.abs(found - sheet).mean() < 2 + noise / 1.25  # of Gaussian noise itself the mean is 0.8


def test_the_animation_in_samples_is_that_of_its_sheets(whole):
    sheets = [pictures.read(path) for path in sorted((whole / "samples").glob("*trial1-paper-gan_normal-*.png"))]
    with Image.open(whole / "samples/progress-trial1-paper-gan_normal.webp") as animation:
        assert animation.n_frames == len(sheets) == 2
        for index, sheet in enumerate(sheets):
            animation.seek(index)
            expected = pictures.frame(sheet, 32, 1).astype(int)
            assert np.abs(np.asarray(animation.convert("L")) - expected).mean() < 6
            assert np.abs(np.asarray(animation.convert("L")) - expected[::-1]).mean() > 20
