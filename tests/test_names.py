"""Names of files, whatever is in them: one line of output an image, and none that a file has written."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from runs import ROOT, call, error_of

from pneumojax import cli, predict
from pneumojax import run as runs
from pneumojax import workdir as workdirs
from pneumojax.data import audit
from pneumojax.data.given import find
from pneumojax.names import escaped, printable, unescaped

NAMES = {  # as the disk has it → as it is printed
    b"bad\nerror: forged line.png": r"bad\nerror: forged line.png",
    b"tab\there.png": r"tab\there.png",
    b"return\rhere.png": r"return\rhere.png",
    b"red\x1b[31m.png": r"red\x1b[31m.png",
    b"\x7fdeleted.png": r"\x7fdeleted.png",
    b"latin-\xe9.png": r"latin-\udce9.png",
    "line\u2028end.png".encode(): r"line\u2028end.png",
    "gnp.\u202eexe.png".encode(): r"gnp.\u202eexe.png",
    b"back\\nslash.png": r"back\\nslash.png",
    "Röntgen 1.png".encode(): "Röntgen 1.png",
}


@pytest.fixture
def odd(tmp_path) -> Path:
    """A folder of pictures under all of NAMES."""
    directory = tmp_path / "odd"
    directory.mkdir()
    levels = np.random.default_rng(0)
    for name in NAMES:
        with open(os.path.join(os.fsencode(directory), name), "wb") as file:
            Image.fromarray(levels.integers(0, 255, (48, 48), np.uint8)).save(file, "PNG")
    return directory


@given(st.text(st.characters(exclude_characters="\0")))
def test_an_escaped_name_is_one_line_that_can_be_read_again(name):
    assert len(escaped(name).splitlines()) <= 1
    assert escaped(name).isprintable()
    assert unescaped(escaped(name)) == name
    assert printable(printable(name)) == printable(name)


@given(st.binary())
def test_names_of_any_bytes_come_back(content):
    name = content.decode("utf-8", "surrogateescape")
    assert unescaped(escaped(name)).encode("utf-8", "surrogateescape") == content


@pytest.mark.parametrize("settings", [pytest.param({}, marks=pytest.mark.slow), {"PYTHONIOENCODING": "ascii"}])
def test_every_line_of_predict_is_one_image(odd, whole, settings):
    """Also on a terminal that knows ASCII alone; the names can be read again from what it prints."""
    command = [sys.executable, "-m", "pneumojax.predict", f"--workdir={whole}", str(odd)]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | settings, capture_output=True)
    assert done.returncode == 0
    assert b"trained on phantoms" in done.stderr
    assert not [line for line in done.stderr.split(b"\n") if line.startswith(b"error")]
    lines = [line.split("\t") for line in done.stdout.decode("ascii" if settings else "utf-8").split("\n")]
    assert lines.pop() == [""]
    assert {len(line) for line in lines} == {3}
    assert sorted(os.fsencode(unescaped(line[0])) for line in lines) == sorted(
        os.fsencode(odd) + b"/" + name for name in NAMES
    )
    if not settings:
        assert {line[0] for line in lines} == {f"{escaped(odd)}/{text}" for text in NAMES.values()}


def test_json_holds_the_names_as_they_are(odd, whole, capsys):
    assert call(predict.main, f"--workdir={whole}", "--json", odd)[0] == 0
    answers = json.loads(capsys.readouterr().out)
    assert {os.fsencode(os.path.basename(one["file"])) for one in answers} == NAMES.keys()


def test_no_name_forges_an_error_line(tmp_path, whole):
    """Neither in the error itself nor in its details."""
    bad = tmp_path / "bad\nerror: forged line.png"
    [line] = error_of(call(predict.main, f"--workdir={whole}", bad), 2)
    assert r"bad\nerror: forged line.png is no image" in line
    bad.write_bytes(b"no image")
    _, detail = error_of(call(predict.main, f"--workdir={whole}", bad), 2)
    assert r"bad\nerror: forged line.png: neither JPEG" in detail
    [line] = error_of(call(predict.main, f"--workdir={tmp_path}/bad\nerror: forged", bad), 2)
    assert r"bad\nerror: forged is not the workdir" in line


def test_no_name_forges_a_line_of_the_log(odd, tmp_path, caplog):
    directory = tmp_path / "bad\nerror: forged"
    odd.rename(directory)
    (directory / "notes.txt").touch()
    cli.show_log()
    assert len(find([directory])) == len(NAMES)
    [message] = caplog.messages
    assert message == f"{tmp_path}/bad\\nerror: forged: 10 images; left out: no image by its name (1)"


def test_predictions_are_a_line_a_row_and_come_back(tmp_path):
    names = [os.fsdecode(name) for name in NAMES]
    columns = {name: ["x"] * len(names) for name in runs.COLUMNS} | {
        **{name: [0] * len(names) for name in runs.WHOLE},
        **{"name": names, "patient": names, "logit_a": [0.1] * len(names)},
    }
    content = workdirs.csv_of(columns)
    lines = content.decode().split("\n")
    assert len(lines) == len(names) + 2
    assert [row[6] for row in csv.reader(lines[1:-1])] == list(NAMES.values())
    (tmp_path / "predictions.csv").write_bytes(content)
    assert runs.read_predictions(tmp_path / "predictions.csv") == columns


def test_the_audits_page_shows_names_as_they_are_printed(odd, tmp_path, capsys):
    root = tmp_path / "set"
    for label in ("NORMAL", "PNEUMONIA"):
        (root / label).mkdir(parents=True)
        for path in odd.iterdir():
            (root / label / path.name).write_bytes(path.read_bytes() if label == "NORMAL" else b"")
    out = tmp_path / "out\nerror: forged"
    code, stderr = call(audit.main, root, f"--out={out}")
    assert code == 0, stderr
    assert not any(line.startswith("error:") for line in (stderr + capsys.readouterr().out).splitlines())
    page = (out / "audit.html").read_text()
    for text in NAMES.values():
        assert f"PNEUMONIA/{text.replace(chr(92) * 2, chr(92))}" in page
    assert not any(c in page for c in "\u202e\u2028\x1b\x7f\r\t")
