"""Images that stay on disk give the bits that images on the device give."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from runs import ROOT, bits, finish, load, start, wait_for

from configs import default
from pneumojax import data, loop, run
from pneumojax.data import files, folder, pixels, prepare, stream
from pneumojax.data import table as tables
from pneumojax.data.table import Table
from pneumojax.errors import BadInput


@pytest.fixture
def flags(tiny_flags, xray_folder, tmp_path):
    """A small study on JPEGs, of one trial."""
    set_fields = {
        "data.name": "folder",
        "data.dir": xray_folder,
        "data.cache": tmp_path / "cache",
        "data.subset": "(10, 12)",
        "trials": "(0,)",
        "gan.batch_size": 4,
        "classifier.batch_size": 4,
    }
    return with_fields(tiny_flags, set_fields)


def with_fields(flags, fields) -> list[str]:
    """Flags with some fields set, each once: tuples that are given twice are joined."""
    own = [f"--config.{field}={value}" for field, value in fields.items()]
    return [flag for flag in flags if not flag.startswith(tuple(f"--config.{field}=" for field in fields))] + own


def same_but_for_residence(one, other):
    """Digests of two runs' files, less the config that tells them apart."""
    digests = [bits(workdir) for workdir in (one, other)]
    return [{name: value for name, value in found.items() if name != "config.json"} for found in digests]


@pytest.mark.slow
def test_a_study_from_disk_ends_in_the_same_bits(flags, tmp_path):
    """Also where it is killed in the middle, and where the images are too many for the memory allowed."""
    resident = finish(flags, tmp_path / "resident")
    small = with_fields(flags, {"data.memory": 1e-5})
    with pytest.raises(BadInput, match="give config.data.residence='stream'"):
        finish(small, tmp_path / "refused")
    assert not (tmp_path / "refused" / "config.json").exists()
    command, streamed = with_fields(small, {"data.residence": "stream"}), tmp_path / "streamed"
    process = start(command, streamed)
    wait_for((streamed / "checkpoints/trial0/clean/with_gan/4").exists, process)
    process.kill()
    process.wait()
    assert not (streamed / "results.json").exists()
    finish(command, streamed)
    one, other = same_but_for_residence(resident, streamed)
    assert one == other


@pytest.mark.parametrize("name", ["folder", "kermany"])
def test_order_position_and_generated_images(xray_folder, tmp_path, name):
    c = default.get_config().data
    c.name, c.dir, c.cache = name, str(xray_folder), str(tmp_path / "cache")
    if name == "kermany":
        c.dir = str(tmp_path / "prepared")
        prepare.prepare(folder.source(xray_folder), tmp_path / "prepared", {})
    resident = data.load(c, 40)
    c.residence = "stream"
    listed = data.load(c, 40)
    assert data.fingerprint(listed) == data.fingerprint(resident)
    assert listed._replace(pixels=0, labels=0) == resident._replace(pixels=0, labels=0)
    generated = np.random.default_rng(0).integers(0, 255, (6, 24, 24), np.uint8)
    labels, small = np.zeros(56, np.int32), jnp.asarray(generated)
    on_device = Table(jnp.asarray(resident.pixels), labels, small)
    streamed = Table(stream.Streamed(listed.pixels, 40, "stretch"), labels, small)
    rows = np.random.default_rng(1).integers(0, 56, (20, 7))
    for one, other in zip(tables.feed(on_device, rows), tables.feed(streamed, rows), strict=True):
        expected, given = (np.asarray(tables.take(examples, small, index)) for examples, index in (one, other))
        np.testing.assert_array_equal(given, expected)
    everything = np.concatenate([resident.pixels, np.asarray(pixels.resized(small, 40))])
    np.testing.assert_array_equal(tables.images(streamed, rows.ravel()), everything[rows.ravel()])
    examples, index = next(tables.feed(streamed, rows[15:]))  # as after a restart
    np.testing.assert_array_equal(tables.take(examples, small, index), everything[rows[15]])


def test_several_steps_and_jobs_at_a_time_get_the_batches_that_the_device_gets(xray_folder, tmp_path):
    """As on accelerators, where a dispatch is many steps, and on several of them, where it is of many jobs."""
    c = default.get_config().data
    c.dir, c.cache = str(xray_folder), str(tmp_path / "cache")
    resident = data.load(c, 24)
    c.residence = "stream"
    streamed = Table(stream.Streamed(data.load(c, 24).pixels, 24, "stretch"), resident.labels)
    rows = np.stack([loop.epochs(np.arange(3, 33), 4, 15, seed) for seed in range(2)], 1)
    pieces = [rows[5:8], rows[8:12], rows[12:13]]
    for piece, (examples, index) in zip(pieces, tables.feed(streamed, pieces), strict=True):
        assert index.places.shape == (len(piece), 2, 4)
        np.testing.assert_array_equal(examples[index.places], resident.pixels[piece])


def test_a_file_that_goes_while_it_is_read(xray_folder, tmp_path):
    source = folder.source(xray_folder)
    table = stream.Streamed(tuple((source, name) for name in source.names), 16, "stretch")
    (xray_folder / source.names[3]).unlink()
    with pytest.raises(BadInput, match=rf"{source.names[3]} was readable at the start and is not now"):
        list(table.read_ahead([np.arange(4), np.arange(4) + 1]))


def test_phantoms_are_not_streamed(tiny_flags, tmp_path):
    with pytest.raises(BadInput, match=r"config.data.residence='stream': phantom is drawn in memory"):
        finish(with_fields(tiny_flags, {"data.residence": "stream"}), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
@pytest.mark.long
def test_protocols_and_external_sets(flags, xray_folder, tmp_path, caplog):
    """One study by published folders and by folds, of half of the patients, with external sets and a damaged file.

    One of the sets has names of its own, and a pattern for them.
    """
    shutil.copytree(xray_folder / "test", tmp_path / "same")  # images of the study
    other = tmp_path / "other" / "PNEUMONIA"
    other.mkdir(parents=True)
    for number, path in enumerate(sorted((xray_folder / "val" / "PNEUMONIA").glob("*"))):
        shutil.copy(path, other / f"person1_{number // 2}_{number}.jpeg")  # to the study's own pattern one patient
    shutil.rmtree(xray_folder / "val")
    (xray_folder / "test" / "PNEUMONIA").mkdir()
    for path in sorted((xray_folder / "train" / "PNEUMONIA").glob("person[67]*")):
        path.rename(xray_folder / "test" / "PNEUMONIA" / path.name)
    (xray_folder / "train" / "NORMAL" / "IM-0099-0001.jpeg").write_bytes(b"\xff\xd8\xff broken off")
    sets = [{"name": "same", "dir": "same"}, {"name": "other", "dir": "other", "patient_pattern": r"person1_(\d+)"}]
    external = tuple(one | {"dir": str(tmp_path / one["dir"])} for one in sets)
    extra = {
        "protocols": "('official','patient_kfold')",
        "trials": "(0,1)",
        "data.folds": 2,
        "data.fraction": 0.5,
        "data.external": external,
        "data.on_bad": "skip",
        "gan.batch_size": 2,
        "classifier.batch_size": 2,
    }
    workdir = finish(with_fields(flags, extra), tmp_path / "run")
    results, plan = load(workdir), json.loads((workdir / "splits.json").read_text())
    assert results["data"]["external"] == {"same": 0, "other": 10}
    assert "same: 8 images are in the study too" in caplog.text
    assert results["data"]["left_out"] == {"unreadable": 1, "external/same/in the study too": 8}
    predictions = run.load(workdir).predictions
    patients = {p for part, p in zip(predictions["part"], predictions["patient"], strict=True) if "other" in part}
    assert patients == {f"external/other/{number}" for number in range(5)}
    assert [line.split(":")[0] for line in results["data"]["skipped"]] == ["train/NORMAL/IM-0099-0001.jpeg"]
    folds = []
    for trial in plan["trials"]:
        official, fold = trial["official"], trial["patient_kfold"]
        assert all(name.startswith("test/") for name in official["test"])
        assert all(name.startswith("train/") for name in official["train"] + official["not_used"])
        for record in (official, fold):
            assert record["unseen"] == []
            assert sorted(record["train"] + record["not_used"] + record["test"]) == record["subset"]
            patients = [
                {files.patient_key(n, data.PATIENT_PATTERN) for n in record[side]} for side in ("train", "test")
            ]
            assert not patients[0] & patients[1]
        folds.append(set(fold["test"]))
    assert not folds[0] & folds[1]
    assert len(folds[0] | folds[1]) == results["data"]["images"] == 40
    for arms in results["protocols"].values():
        for arm in arms.values():
            assert [trial["external/other"]["images"] for trial in arm["trials"]] == [10, 10]
            assert "unseen" not in arm
            assert "unseen" not in arm["trials"][0]
    assert {row["protocol"] for row in results["contrasts"]} == {"official", "patient_kfold"}
    assert all("p_holm" in row for row in results["contrasts"])
    kfold = results["protocols"]["patient_kfold"]["without_gan"]["trials"][0]
    assert kfold["test/train"]["images"] + kfold["test/test"]["images"] == kfold["test"]
    page = (workdir / "report.html").read_text()
    assert "external/other" in page
    assert "1 unreadable images were left out" in page
    assert "unseen real" not in page


PEAK = """
import re, sys
from pathlib import Path
from pneumojax import runtime
runtime.configure()
import jax
from pneumojax import config, study
from pneumojax.timings import Timings

def kept(what):
    return int(re.search(rf"{what}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

c = config.frozen(config.load("configs/demo.py", sys.argv[1:]))
jax.numpy.zeros(3).block_until_ready()
Path("/proc/self/clear_refs").write_text("5")  # the peak starts from here
before = kept("VmRSS")
loaded = study.load(c, Timings(Path(c.data.cache) / "timings"))
study.seen_by_gans(loaded)
print(kept("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="tells no peak")
def test_data_memory_counts_no_less_than_is_held_at_the_peak(tmp_path):
    """For an image more, where files are decoded for the first time and GANs see them at another size."""
    held, gray, few, many = {}, Image.effect_noise((16, 16), 50), 200, 2600
    for count in (few, many):
        folder = tmp_path / f"{count}"
        for n in range(count):
            path = folder / ("NORMAL", "PNEUMONIA")[n % 2] / f"IM-{n}-1.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            gray.save(path)
        fields = {"data.name": "folder", "data.dir": folder, "data.cache": folder / "cache", "model.image_size": 256}
        command = [sys.executable, "-c", PEAK, *(f"--config.{name}={value}" for name, value in fields.items())]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        held[count] = int(done.stdout)
    gigabytes = (held[many] - held[few]) / 1e9
    counts = {256: many - few, 64: many - few}
    data.check_memory(counts, ConfigDict({"memory": 2.1 * gigabytes}))  # jax may do without a copy of its own
    with pytest.raises(BadInput, match="images of 256 x 256 pixels.* take .* gigabytes"):
        data.check_memory(counts, ConfigDict({"memory": 0.95 * gigabytes}))
