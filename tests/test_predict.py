"""Answers of a finished run: what goes in, what is said of it and in which forms, what is flagged and what refused."""

import csv
import io
import json
import shutil
import zipfile

import numpy as np
import pytest
from answers import prediction
from hypothesis import given as drawn
from hypothesis import strategies as st
from invented import answers_of, run_of
from pictures import dicom, encoded, xray
from runs import call, error_of
from scipy.special import expit

from pneumojax import answering, checkpoint, novelty, predict, run, systems
from pneumojax import workdir as workdirs
from pneumojax.answering import Member
from pneumojax.data import given, phantom
from pneumojax.errors import BadInput
from pneumojax.evaluate import operating
from pneumojax.gan import pictures
from pneumojax.names import defused, escaped, unescaped
from pneumojax.stage import Stage

PROBE = "trial0/disjoint/without_gan"


def written(folder, *names: str):
    """X-ray-like pictures under these names."""
    for seed, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kinds = {".png": lambda image: encoded(image, "PNG"), ".jpg": encoded, ".dcm": dicom}
        path.write_bytes(kinds[path.suffix](xray(50, 40, seed)))
    return folder


def zipped(path, members: dict[str, bytes]):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def table(capsys) -> list[dict]:
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


# What goes in


def test_a_zip_is_answered_as_the_folder_it_was_made_of(whole, tmp_path, capsys):
    pytest.importorskip("pydicom")
    names = ("a/1.png", "a/2.jpg", "b/3.png", "b/4.dcm")
    written(tmp_path / "set", *names)
    members = {name: (tmp_path / "set" / name).read_bytes() for name in names}
    path = zipped(tmp_path / "set.zip", members | {"__MACOSX/a/._1.png": b"x", "notes.txt": b"x"})
    found = {}
    for place in (tmp_path / "set", path):
        assert call(predict.main, f"--workdir={whole}", "--json", place)[0] == 0
        rows = json.loads(capsys.readouterr().out)
        found[place] = {one["file"].removeprefix(f"{place}/"): one["logits"] for one in rows}
    assert list(found[path]) == [*names]
    assert found[path] == found[tmp_path / "set"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda path: zipped(path, {"../a.png": b"x"}), "would leave the folder: refused"),
        (lambda path: path.write_bytes(b"PK\3\4 cut"), "is not a whole zip"),
        (lambda path: path.write_bytes(b"no zip"), "is not a whole zip"),
        (lambda path: zipped(path, {"notes.txt": b"x"}), "is no image, nor a folder or zip with .jpeg"),
    ],
)
def test_a_zip_that_cannot_be_used_is_one_line(whole, tmp_path, content, words):
    content(tmp_path / "set.zip")
    [line] = error_of(call(predict.main, f"--workdir={whole}", tmp_path / "set.zip"), 2)
    assert words in line


def test_what_in_a_zip_cannot_be_read_is_named(whole, tmp_path, capsys):
    path = zipped(tmp_path / "set.zip", {"a.png": encoded(xray(50, 40), "PNG"), "b.png": b"no image"})
    error, detail = error_of(call(predict.main, f"--workdir={whole}", path), 2)
    assert error == "1 of 2 images cannot be read; the others are above"
    assert detail.startswith(f"{path}/b.png: neither JPEG")
    assert capsys.readouterr().out.startswith(f"{path}/a.png\t")


@pytest.mark.parametrize(("form", "out"), [("--csv", ""), ("--json", "[]\n")])
def test_where_none_can_be_read_nothing_is_said(whole, tmp_path, form, out, capsys):
    (tmp_path / "a.png").write_bytes(b"no image")
    error, _ = error_of(call(predict.main, f"--workdir={whole}", form, tmp_path / "a.png"), 2)
    assert error == "1 of 1 images cannot be read; nothing is said"
    assert capsys.readouterr().out == out


def test_a_zip_with_a_password_says_so(whole, tmp_path):
    path = zipped(tmp_path / "set.zip", {"a.png": b"x"})
    content = bytearray(path.read_bytes())
    for place in (6, content.index(b"PK\1\2") + 8):  # the flag, in both headers
        content[place] |= 1
    path.write_bytes(content)
    [line] = error_of(call(predict.main, f"--workdir={whole}", path), 2)
    assert line == f"{path}: its member 'a.png' is encrypted; unpack it with its password"


def test_a_zip_is_known_by_its_first_bytes_as_well(tmp_path):
    path = zipped(tmp_path / "set", {"a.png": b"x"})
    assert [one.file for one in given.find([path])] == [f"{path}/a.png"]


# What is said


def member(temperature=1.0, threshold=np.nan):
    return Member(Stage(0, "clean", arm="with_gan"), temperature, "", threshold)


def test_a_temperature_divides_the_logits():
    logits = np.array([[[0.0, 3.0], [2.0, 0.0]]])
    said = answering.said([member(temperature=2.0)], logits)
    assert said.labels.tolist() == [1, 0]
    np.testing.assert_allclose(said.chances[:, 1], expit([1.5, -1.0]))
    np.testing.assert_allclose(said.each, [expit([1.5, 1.0])])


def test_several_classifiers_are_their_mean_and_its_spread():
    logits = np.array([[[0.0, 2.0]], [[0.0, -1.0]], [[0.0, 0.5]]])
    said = answering.said([member()] * 3, logits)
    chances = expit([2.0, -1.0, 0.5])
    assert said.chances[0, 1] == pytest.approx(chances.mean())
    assert answering.spread(said.each[:, 0]) == {
        "std": pytest.approx(np.std(chances, ddof=1)),
        "min": pytest.approx(chances.min()),
        "max": pytest.approx(chances.max()),
    }
    assert answering.spread(said.each[:1, 0]) is None


def test_the_class_at_a_probability_and_at_a_point_of_the_inner_part():
    logits = np.array([[[0.0, -1.0], [0.0, -2.0]]])
    assert answering.said([member()], logits, float(expit(-1.5))).labels.tolist() == [1, 0]
    assert answering.said([member(threshold=-1.5)], logits, "sens95").labels.tolist() == [1, 0]
    far = np.array([[[0.0, 90.0], [0.0, 100.0]]])  # both are probabilities of 1
    assert answering.said([member(threshold=95.0)], far, "spec95").labels.tolist() == [0, 1]
    both = [member(threshold=-3.0, temperature=2.0), member(threshold=1.0)]
    assert answering.probability(both) == pytest.approx((expit(-1.5) + expit(1.0)) / 2)
    mean = float(np.mean(expit([-0.5, -1.0])))
    assert answering.said(both, np.concatenate([logits, logits]), "sens95").labels[0] == int(
        mean > answering.probability(both)
    )


def test_a_members_temperature_and_threshold_are_those_of_its_own_inner_part(tmp_path):
    made = run_of(tmp_path / "run", answers_of())
    stage = Stage(1, "clean", arm="with_gan")
    found = answering.member(made, stage, "sens90")
    [own] = [p for p in run.predictions_of(made) if (p.trial, p.arm, p.part) == (1, "with_gan", "inner")]
    margin = own.margins[1]
    kept = (margin[own.labels == 1] > found.threshold).mean()
    assert 0.9 <= kept < 0.9 + 1 / (own.labels == 1).sum()
    steps = np.linspace(0.9, 1.1, 5) * found.temperature
    losses = [np.logaddexp(0, np.where(own.labels == 1, -1, 1) * margin / heat).sum() for heat in steps]
    assert np.argmin(losses) == 2
    told = made.results["protocols"]["clean"]["with_gan"]["unseen"]["operating"]["sens90"]["threshold"]
    all_three = [answering.member(made, stage._replace(trial=trial), "sens90").threshold for trial in range(3)]
    assert told == pytest.approx(expit(all_three).mean())


@pytest.mark.parametrize("text", ["sens80", "0", "1", "-0.5", "nan", "inf", "", "<script>", "0,5"])
def test_a_threshold_that_is_none_is_one_line(whole, tmp_path, text):
    written(tmp_path, "a.png")
    [line] = error_of(call(predict.main, f"--workdir={whole}", f"--threshold={text}", tmp_path / "a.png"), 2)
    assert line.startswith(f"--threshold={text!r}: give one of {', '.join(operating.POINTS)}, or a number")


def test_a_point_that_no_inner_part_has_chosen_is_one_line(whole, tmp_path):
    written(tmp_path, "a.png")
    [line] = error_of(call(predict.main, f"--workdir={whole}", "--threshold=sens95", tmp_path / "a.png"), 2)
    assert line == (
        f"--threshold=sens95: {whole}, trial0/clean/with_gan: no part of the training patients was kept from this "
        "network; give a number between 0 and 1, or a run with config.evaluate.inner above 0 under a protocol other "
        "than paper"
    )


def test_three_classes_have_neither_temperature_nor_threshold(tmp_path):
    made = run_of(tmp_path / "run", answers_of(("A", "B", "C"), images=30), ("A", "B", "C"))
    stage = Stage(0, "clean", arm="with_gan")
    assert answering.member(made, stage) == Member(stage, 1.0, answering.TWO, pytest.approx(np.nan, nan_ok=True))
    with pytest.raises(BadInput, match=r"--threshold=0.5: .* has 3 classes, a threshold takes two"):
        answering.member(made, stage, 0.5)


def test_what_a_run_was_trained_on_is_said(tmp_path):
    def of(name: str, directory: str, *files: str) -> str:
        made = run_of(tmp_path / "run", [prediction([0, 1], [0.0, 1.0])], data__name=name, data__dir=directory)
        return answering.trained_on(made._replace(splits={"trials": [{"trial": 0, "clean": {"subset": [*files]}}]}))

    assert of("phantom", "", "NORMAL/IM-phantom0001-0.png").startswith("phantoms, pictures that a program drew")
    assert of("kermany", "", "any.png").startswith("children of one hospital (Kermany")
    assert of("kermany", "/data/ours", "any.png").startswith(
        "images whose origin is not known: "
    )  # it reads whatever folder that is
    published = ("train/NORMAL/IM-0115-0001.jpeg", "test/PNEUMONIA/person1_virus_6.jpeg")
    assert of("folder", "/data/chest_xray", *published).startswith("children of one hospital")
    assert of("folder", "/data/x", *published, "train/NORMAL/x.png").startswith("images whose origin is not known: ")


# A whole run


def test_every_form_says_what_it_was_trained_on_and_how_far_an_image_is(whole, tmp_path, capsys, caplog):
    written(tmp_path / "set", "a.png", "b.png")
    arguments = (f"--workdir={whole}", "--classifier=trial*/clean/with_gan", tmp_path / "set")
    assert call(predict.main, *arguments)[0] == 0
    assert "trained on phantoms, pictures that a program drew" in caplog.text
    plain = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert call(predict.main, "--json", *arguments)[0] == 0
    told = json.loads(capsys.readouterr().out)
    assert call(predict.main, "--csv", *arguments)[0] == 0
    rows = table(capsys)
    stages = [f"trial{trial}/clean/with_gan" for trial in range(3)]
    for line, one, row in zip(plain, told, rows, strict=True):
        assert [line[0], line[1], float(line[2])] == [one["file"], one["class"], round(one["probability"], 4)]
        assert (row["file"], row["class"]) == (one["file"], one["class"])
        assert float(row["probability"]) == pytest.approx(one["probability"])
        assert float(row["probability_std"]) == pytest.approx(one["spread"]["std"])
        assert one["spread"]["min"] <= one["probability"] <= one["spread"]["max"]
        assert one["classifiers"] == row["classifiers"].split(" ") == stages
        assert one["trained_on"] == row["trained_on"] == answering.trained_on(run.load(whole))
        assert (one["calibrated"], row["calibrated"], row["threshold"]) == (False, "False", "")
        assert one["unlike"] == (one["distance"] > one["novelty"]["threshold"]) == (row["unlike"] == "True")
        assert float(row["false_alarms"]) == pytest.approx(one["novelty"]["false_alarms"])
        assert int(row["false_alarms_of_images"]) == one["novelty"]["images"] > 20


def test_at_an_operating_point_with_a_temperature(probed, tmp_path, capsys):
    written(tmp_path / "set", "a.png", "b.png", "c.png")
    done = run.load(probed)
    [stage] = predict.chosen(done, [PROBE])
    own = answering.member(done, stage, "sens90")
    arguments = (f"--workdir={probed}", f"--classifier={PROBE}", "--json", tmp_path / "set")
    assert call(predict.main, "--threshold=sens90", *arguments)[0] == 0
    for one in json.loads(capsys.readouterr().out):
        margin = one["logits"]["PNEUMONIA"] - one["logits"]["NORMAL"]
        assert (one["calibrated"], one["operating_point"]) == (True, "sens90")
        assert one["threshold"] == pytest.approx(expit(own.threshold / own.temperature))
        assert one["probabilities"]["PNEUMONIA"] == pytest.approx(expit(margin / own.temperature))
        assert one["class"] == ("PNEUMONIA" if margin > own.threshold else "NORMAL")
    assert call(predict.main, "--threshold=1e-9", *arguments)[0] == 0
    assert {one["class"] for one in json.loads(capsys.readouterr().out)} == {"PNEUMONIA"}


def test_a_pattern_and_names_mean_each_classifier_once(whole):
    done = run.load(whole)
    wanted = ["trial*/clean/with_gan", "trial1/clean/with_gan", "trial0/paper/without_gan"]
    found = ["trial0/clean/with_gan", "trial0/paper/without_gan", "trial1/clean/with_gan", "trial2/clean/with_gan"]
    assert sorted(stage.name for stage in predict.chosen(done, wanted)) == found
    with pytest.raises(BadInput, match=r"has no classifier 'trial\*/none'; give one of trial0/clean/without_gan"):
        predict.chosen(done, [*wanted, "trial*/none"])


def test_a_checkpoint_of_another_network_is_one_line(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "checkpoints/trial0/clean/with_gan")
    with checkpoint.open_manager(folder / "checkpoints/trial0/clean/with_gan") as manager:
        checkpoint.save(manager, 6, {"params": np.zeros(3)})
    written(tmp_path, "a.png")
    [line] = error_of(call(predict.main, f"--workdir={folder}", tmp_path / "a.png"), 2)
    assert f"{folder}/checkpoints/trial0/clean/with_gan/6 is damaged; bring it back or run anew" in line


# Names in a spreadsheet

NAMES = (
    "=cmd()|'x'!A1.png",
    "+1.png",
    "-1.png",
    "@x.png",
    "a;=1+1.png",
    "<script>alert(1)</script>.png",
    "line\nend.png",
)


def test_no_name_is_a_formula_in_a_csv_and_each_comes_back(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(written(tmp_path / "set", *NAMES))
    assert call(predict.main, f"--workdir={whole}", "--csv", "--", *NAMES)[0] == 0
    text = capsys.readouterr().out
    lines = list(csv.reader(io.StringIO(text)))
    assert len(text.splitlines()) == len(lines) == len(NAMES) + 1
    assert [unescaped(line[0]) for line in lines[1:]] == [*NAMES]
    assert not [cell for line in lines for cell in line if cell[:1] in "=+-@" and cell]
    assert lines[1][0] == "\\x3dcmd()|'x'!A1.png"


@drawn(st.text(st.characters(exclude_characters="\0")))
def test_a_defused_name_begins_no_formula_and_can_be_read_again(name):
    text = defused(escaped(name))
    assert text[:1] not in {*"=+-@\t\r＝＋－＠"}
    assert unescaped(text) == name


def test_names_in_predictions_are_defused_and_read_back(tmp_path):
    columns = {name: ["x"] * len(NAMES) for name in run.COLUMNS} | {name: [0] * len(NAMES) for name in run.WHOLE}
    columns |= {"name": [*NAMES], "logit_a": [-0.5] * len(NAMES)}
    (tmp_path / "predictions.csv").write_bytes(workdirs.csv_of(columns))
    assert run.read_predictions(tmp_path / "predictions.csv") == columns
    rows = list(csv.reader((tmp_path / "predictions.csv").open()))
    assert not [row for row in rows for cell in row[:9] if cell[:1] in {*"=+-@"}]
    assert {row[9] for row in rows[1:]} == {"-0.5"}  # a number is one


# Images unlike those trained on


def test_distances_are_to_the_fifth_nearest_of_unit_length():
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(7, 6)), 3 * rng.normal(size=(40, 6))
    unit = [rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (one, other)]
    expected = np.sort(np.linalg.norm(unit[0][:, None] - unit[1][None], axis=2), axis=1)[:, 4]
    np.testing.assert_allclose(novelty.distances(one, other), expected, atol=1e-7)


def test_false_alarms_are_counted_on_patients_who_did_not_set_the_threshold():
    rng = np.random.default_rng(1)
    patients = [f"p{number // 2:04d}" for number in range(800)]
    made = novelty.fitted(rng.normal(size=(100, 8)), rng.normal(size=(800, 8)), patients)
    assert (made.images, made.patients) == (400, 200)
    assert 0.02 < made.false_alarms < 0.09  # 5% but for chance
    others = np.full((50, 8), [9.0, *[0.0] * 7]) + 0.01 * rng.normal(size=(50, 8))
    assert (novelty.distances(-others, rng.normal(size=(100, 8)) + others.mean(0)) > made.threshold).all()


def test_noise_is_unlike_phantoms_and_phantoms_are_not(probed):
    done = run.load(probed)
    [stage] = predict.chosen(done, [PROBE])
    opened = predict.restored(done, stage).opened
    reference, why = novelty.of_run(done, stage, opened)
    assert why == ""
    trained_on, held_out = novelty.names_of(done, stage)
    assert not {*trained_on} & {*held_out}
    assert reference.false_alarms <= 0.25
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (20, 48, 48)).astype(np.uint8)
    images = phantom.load(done.config.data, 48)
    row_of = {name: row for row, name in enumerate(images.names)}
    like = images.pixels[[row_of[name] for name in held_out]]
    flagged = [
        (novelty.distances(novelty.features_of(opened, some), reference.features) > reference.threshold).mean()
        for some in (noise, like)
    ]
    assert flagged[0] == 1.0
    assert flagged[1] < 0.2


def test_a_reference_is_kept_and_not_believed_where_it_is_of_another_network(probed, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    shutil.copytree(probed, folder)
    done = run.load(folder)
    [stage] = predict.chosen(done, [PROBE])
    opened = predict.restored(done, stage).opened
    first, _ = novelty.of_run(done, stage, opened)
    path = folder / f"checkpoints/{PROBE}.reference.npz"
    monkeypatch.setattr(novelty, "images_of", lambda *_: pytest.fail("it was kept"))
    again, _ = novelty.of_run(done, stage, opened)
    assert again.threshold == first.threshold
    np.testing.assert_array_equal(again.features, first.features)
    monkeypatch.undo()
    monkeypatch.setattr(novelty, "key_of", lambda *_: "another")
    assert novelty.kept(path, "another") is None
    path.write_bytes(path.read_bytes()[:100])
    assert novelty.of_run(done, stage, opened)[0].threshold == first.threshold  # damaged: made anew
    assert novelty.kept(path, "another") is not None


def test_without_the_runs_images_it_is_not_known_and_said(probed, tmp_path, monkeypatch, capsys, caplog):
    folder = tmp_path / "run"
    shutil.copytree(probed, folder)
    (folder / f"checkpoints/{PROBE}.reference.npz").unlink(missing_ok=True)
    monkeypatch.setattr(novelty.data, "fingerprint", lambda _: "another")
    written(tmp_path, "a.png")
    assert call(predict.main, f"--workdir={folder}", f"--classifier={PROBE}", "--csv", tmp_path / "a.png")[0] == 0
    assert "whether images are like those trained on is not known: the run's own images cannot be had" in caplog.text
    [row] = table(capsys)
    assert (row["unlike"], row["distance"], row["false_alarms"]) == ("", "", "")


def test_a_system_that_opens_no_network_tells_no_distance(probed):
    done = run.load(probed)
    [stage] = predict.chosen(done, [PROBE])
    assert novelty.of_run(done, stage, None) == (None, "its system tells no features")


def test_each_network_is_read_once(probed, tmp_path, monkeypatch):
    system, read = systems.load("frozen_probe"), []
    kept = system.kept
    monkeypatch.setattr(system, "kept", lambda run, stage: read.append(stage.name) or kept(run, stage))
    others = "trial0/disjoint/duplicated"
    arguments = (f"--workdir={probed}", f"--classifier={PROBE}", f"--classifier={others}")
    assert call(predict.main, *arguments, f"--explain={tmp_path / 'maps'}", written(tmp_path / "set", "a.png"))[0] == 0
    assert sorted(read) == [others, PROBE]
    [path] = (tmp_path / "maps").iterdir()
    about = pictures.texts_of(path)["Description"]  # what stands there is not what the first one says
    assert f" by the mean of {PROBE}, {others}, maps of {PROBE}, trained on phantoms" in about
