"""Paths, whatever they are: one rule for all that a user gives, and the blame where it belongs."""

import errno
import fcntl
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from runs import ROOT, call, error_of

from experiments import compare
from pneumojax import checkpoint, cli, config, loop, main, paths, predict, pretrained, sample
from pneumojax.data import audit, folder, given, prepare
from pneumojax.errors import BadInput, NotWritable
from pneumojax.gan import cache
from pneumojax.report import __main__ as report

CONFIG = f"{ROOT}/configs/demo.py"
COMMANDS = {  # every flag, argument and field that is a path, as PATH
    "main --workdir": (main.main, [f"--config={CONFIG}", "--workdir=PATH"]),
    "main --config": (main.main, ["--config=PATH"]),
    **{
        f"main {field}": (main.main, [f"--config={CONFIG}", f"--config.{field}=PATH"])
        for field in ("data.dir", "data.cache", "gan.cache", "model.cache", "model.weights")
    },
    "main data.external": (
        main.main,
        [f"--config={CONFIG}", "--config.data.external=({'name': 'a', 'dir': 'PATH'},)"],
    ),
    "report --workdir": (report.main, ["--workdir=PATH"]),
    "report --merge": (report.main, ["--workdir=new", "--merge", "PATH"]),
    "audit": (audit.main, ["PATH"]),
    "audit --out": (audit.main, [".", "--out=PATH"]),
    "prepare --from": (prepare.main, ["--out=.", "--from=PATH"]),
    "prepare --out": (prepare.main, ["--out=PATH"]),
    "pretrained --from": (pretrained.main, ["--model=resnet18", "--out=nosuch", "--from=PATH"]),
    "pretrained --out": (pretrained.main, ["--model=resnet18", "--out=PATH"]),
    "pretrained --cache": (pretrained.main, ["--model=resnet18", "--out=nosuch", "--cache=PATH"]),
    "compare": (compare.main, ["PATH"]),
    "predict": (predict.main, ["--workdir=.", "PATH"]),
    "predict --workdir": (predict.main, ["--workdir=PATH", CONFIG]),
    "sample --workdir": (sample.main, ["--workdir=PATH", "--out=nosuch"]),
    "sample --out": (sample.main, ["--workdir=.", "--out=PATH"]),
}
NO_PATHS = {
    "": "is an empty path",
    "~nosuchuser/x": "'~nosuchuser/x': no home folder of that user is known here",
    "a\0b": "'a\\x00b' can be no path: embedded null byte",
    300 * "a": "aa': File name too long; give a shorter path",
}


def told(command: str, text: str) -> str:
    """The one line of a command that is given a path."""
    function, arguments = COMMANDS[command]
    return error_of(call(function, *(one.replace("PATH", text) for one in arguments)), 2)[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_can_be_no_path_is_one_line_of_every_command(command, tmp_path, monkeypatch):
    """An empty one is none but where that is said to mean something; a NUL cannot stand in a tuple of a flag."""
    monkeypatch.chdir(tmp_path)
    for text, words in NO_PATHS.items():
        allowed = {"": ("main data.dir", "main gan.cache", "main --config"), "a\0b": ("main data.external",)}
        if command not in allowed.get(text, ()):
            assert words in told(command, text)


def test_a_name_that_is_too_long_below_a_folder_that_is_not_there(tmp_path):
    """The system tells it late: when the folder is made."""
    long = tmp_path / "new" / (300 * "a")
    line = error_of(call(main.main, f"--config={CONFIG}", f"--workdir={long}"), 2)[0]
    assert line == f"{long}: File name too long; give a shorter path"


@pytest.mark.parametrize("kind", ["through a file", "a loop of links"])
def test_paths_that_lead_nowhere(kind, tmp_path, monkeypatch):
    """2 where it is read, 4 where it is written."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    text = str(tmp_path / {"through a file": "file/x", "a loop of links": "loop"}[kind])
    read = [
        *("main --config", "report --workdir", "report --merge", "audit", "prepare --from", "pretrained --from"),
        *("compare", "predict", "predict --workdir"),
    ]
    for command in read:
        assert text in told(command, text)
    assert text in error_of(call(main.main, f"--config={CONFIG}", f"--workdir={text}"), 4)[0]
    assert text in error_of(call(prepare.main, f"--out={text}", "--from=."), 4)[0]


def test_a_home_is_expanded_everywhere(whole, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(whole.parent))
    assert call(compare.main, f"~/{whole.name}")[0] == 0
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    pictures(tmp_path, "x.png")
    assert call(predict.main, f"--workdir={whole}", "~/x.png")[0] == 0
    assert f"{tmp_path}/x.png\t" in capsys.readouterr().out
    for command in ("audit", "prepare --from", "report --workdir", "predict --workdir"):
        assert f"{tmp_path}/nosuch" in told(command, "~/nosuch")
    shutil.copy(CONFIG, tmp_path / "own.py")
    assert config.load("~/own.py").model.name == "resnet18"
    assert not (tmp_path / "~").exists()


@pytest.fixture
def homeless(monkeypatch):
    """A user id that no account has, without HOME, as in containers."""

    def nobody(*_):
        raise KeyError("uid not found")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    paths.say_once.cache_clear()


def test_without_a_home_caches_are_none_and_that_is_said(homeless, xray_folder, caplog):
    c = config.load("configs/resnet18_cpu.py", [f"--config.data.dir={xray_folder}"])
    for _ in range(2):
        assert len(folder.load(c.data, 16).names) == 50
        assert cache.entry_of(c.gan, "key") is None
    messages = [text for text in caplog.messages if "no home folder" in text]
    assert [text.partition("=")[0] for text in messages] == ["config.data.cache", "config.gan.cache"]


def test_without_a_home_the_field_to_set_is_named_where_a_folder_is_wanted(homeless, tmp_path):
    def line(function, *arguments):
        return error_of(call(function, *arguments), 2)[0]

    out = f"--out={tmp_path / 'weights'}"
    assert line(pretrained.main, "--model=resnet18", out).startswith("--cache='~/.cache/pneumojax': no home folder")
    assert line(prepare.main, "--from=x.zip").startswith("argument --out: '~/.cache/pneumojax/tfds': no home folder")
    flags = ["--config=configs/resnet18.py", f"--workdir={tmp_path / 'run'}"]
    assert line(main.main, *flags).startswith("config.model.cache='~/.cache/pneumojax': no home folder")
    flags = ["--config=configs/resnet18_cpu.py", "--config.data.name=kermany", f"--workdir={tmp_path / 'run'}"]
    assert line(main.main, *flags).startswith("config.data.cache='~/.cache/pneumojax': no home folder")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_said_and_no_more(tmp_path, monkeypatch, caplog, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with checkpoint.held(tmp_path, "--workdir"):
        assert (tmp_path / ".lock").exists()
    [message] = caplog.messages
    assert f"{tmp_path}: its file system has no locks ({os.strerror(number)})" in message


def test_a_lock_that_another_holds_or_that_fails_is_an_error(tmp_path, monkeypatch):
    with (
        checkpoint.held(tmp_path, "--out"),
        pytest.raises(BadInput, match="is in use by another process"),
        checkpoint.held(tmp_path, "--out"),
    ):
        pass

    def flock(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match=r"Input/output error: '.*/\.lock'"), checkpoint.held(tmp_path, "--out"):
        pass


PLACE = Path("/data/runs/one")


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        ((errno.EACCES, "/data/runs/one/x"), NotWritable, "/data/runs/one/x: Permission denied; free space there or"),
        ((errno.EACCES, "/data/runs"), NotWritable, "/data/runs: Permission denied"),
        ((errno.EACCES, "/data/runs/two"), BadInput, "/data/runs/two: Permission denied; give this user the right"),
        ((errno.EIO, "/data/images/x.png"), BadInput, "/data/images/x.png: Input/output error"),
        ((errno.ESTALE, "/data/images/x.png"), BadInput, "/data/images/x.png: Stale file handle"),
        ((errno.EEXIST, "/data/runs/one"), NotWritable, "/data/runs/one: File exists; choose another --workdir"),
        ((errno.ENOTDIR, "/data/runs"), NotWritable, "/data/runs: Not a directory; choose another --workdir"),
        ((errno.ENOENT, "/data/runs"), NotWritable, "/data/runs: No such file or directory; choose another --workdir"),
        ((errno.ENOSPC, None), NotWritable, "/data/runs/one: No space left on device; free space there or choose"),
        ((errno.ENOSPC, "/tmp/x"), NotWritable, "/tmp/x: No space left on device; free space there"),
        ((errno.EIO, None), NotWritable, "/data/runs/one: Input/output error"),
        ((errno.ENAMETOOLONG, "/data/runs/one/x"), BadInput, "/data/runs/one/x: File name too long"),
        ((errno.ECONNRESET, None), type(None), ""),
    ],
)
def test_the_path_of_an_error_says_whose_fault_it_is(error, kind, words):
    number, path = error
    blamed = cli.blame(OSError(number, os.strerror(number), path), PLACE, "--workdir")
    assert type(blamed) is kind
    assert str(blamed or "").startswith(words)


def pictures(directory: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        levels = np.random.default_rng(number).integers(0, 255, (48, 48), np.uint8)
        Image.fromarray(levels).save(directory / name, "PNG")


@pytest.fixture
def unprivileged():
    """A folder of a user who is not root, as whom this process acts."""
    directory = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        os.chown(directory, 65534, 65534)
        os.setegid(65534)
        os.seteuid(65534)
    yield directory
    if os.getuid() == 0:
        os.seteuid(0)
        os.setegid(0)
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o700)
    shutil.rmtree(directory)


def test_what_may_not_be_read_is_2_and_what_may_not_be_written_is_4(unprivileged):
    home = unprivileged
    for name in ("locked", "above/set", "open"):
        pictures(home / name, "NORMAL/a.png", "PNEUMONIA/b.png")
    for name in ("locked", "above"):
        (home / name).chmod(0)
    out, flags = f"--out={home / 'out'}", ["--config=configs/resnet18_cpu.py", f"--config.data.cache={home / 'c'}"]
    for path in (home / "locked", home / "above/set"):
        for ended in (
            call(audit.main, path, out),
            call(predict.main, "--workdir=.", path),
            call(prepare.main, f"--from={path}", out),
            call(main.main, *flags, f"--config.data.dir={path}", f"--workdir={home / 'run'}"),
        ):
            line = error_of(ended, 2)[0]
            assert str(path) in line
            assert "Permission denied" in line
            assert "free space" not in line
        for ended in (
            call(main.main, *flags, f"--workdir={path / 'run'}"),
            call(prepare.main, f"--from={home / 'open'}", f"--out={path / 'new'}"),
        ):
            line = error_of(ended, 4)[0]
            assert f"{path}" in line
            assert "Permission denied; free space there or choose another --" in line


def test_a_checkpoint_that_may_not_be_read_is_not_called_damaged_nor_missing(unprivileged):
    own = unprivileged / "own"
    with checkpoint.open_manager(own) as manager:
        checkpoint.save(manager, 7, {"w": jnp.arange(3.0)})
    for locked in (own, own / "7", own / "7/state", own / "7/state/_METADATA"):
        mode = locked.stat().st_mode
        locked.chmod(0)
        with pytest.raises(BadInput, match="Permission denied; give this user the right") as error:
            checkpoint.read(own, {"w": jnp.zeros(3)})
        assert str(locked) in str(error.value)
        locked.chmod(mode)
    assert checkpoint.read(own, {"w": jnp.zeros(3)})["w"].tolist() == [0.0, 1.0, 2.0]


def test_a_disk_that_fails_while_it_is_read_is_the_images_fault(tmp_path, monkeypatch, whole):
    pictures(tmp_path, "a.png")

    def failing(path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "read_bytes", failing)
    with pytest.raises(OSError, match=f"Input/output error: '{tmp_path}/a.png'"):
        folder.read(tmp_path / "a.png")
    _, detail = error_of(call(predict.main, f"--workdir={whole}", tmp_path / "a.png"), 2)
    assert detail.startswith(f"{tmp_path}/a.png: Input/output error")


def test_the_images_of_a_folder_are_those_of_training(tmp_path, caplog):
    """Links are followed, loops seen; what is hidden or a system's own is none, nor what is none by its name."""
    root = tmp_path / "set"
    pictures(root, "NORMAL/a.PNG", "NORMAL/._a.png", "NORMAL/.b.png", "NORMAL/__MACOSX/c.png", "PNEUMONIA/d.png")
    pictures(tmp_path / "elsewhere", "deep/e.png")
    (root / "NORMAL/notes.txt").touch()
    (root / "PNEUMONIA/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(root)
    found = [str(one.name.relative_to(root)) for one in given.find([root])]
    assert found == ["NORMAL/a.PNG", "PNEUMONIA/d.png", "PNEUMONIA/link/deep/e.png"]
    assert found == list(folder.source(root).names)
    assert caplog.messages[0].endswith("3 images; left out: no image by its name (1), hidden or a system's own (3)"), (
        caplog.messages
    )


def test_an_image_that_is_given_more_than_once_is_answered_once(tmp_path, monkeypatch, caplog):
    pictures(tmp_path, "a.png", "b.png")
    monkeypatch.chdir(tmp_path)
    found = given.find([Path("b.png"), tmp_path / "b.png", Path(".")])
    assert [one.name for one in found] == [Path("b.png"), Path("a.png")]
    assert caplog.messages == ["2 images were given more than once: they are answered once"]


def test_a_file_that_is_given_is_an_image_whatever_its_name(tmp_path, whole):
    pictures(tmp_path, "x.bmp", ".hidden.png")
    assert call(predict.main, f"--workdir={whole}", tmp_path / ".hidden.png")[0] == 0
    _, detail = error_of(call(predict.main, f"--workdir={whole}", tmp_path / "x.bmp"), 2)
    assert detail == f"{tmp_path}/x.bmp: a PNG file by its content, not .bmp: rename it"


@pytest.mark.parametrize(
    "name", ["", ".", "trial0", "trial0/clean", "trial0/clean/", "trial0/clean/gan_normal", "..", "trial9/clean/x"]
)
def test_a_classifier_that_is_none_is_told_with_those_there_are(name, whole, tmp_path):
    pictures(tmp_path, "a.png")
    [line] = error_of(call(predict.main, f"--workdir={whole}", f"--classifier={name}", tmp_path / "a.png"), 2)
    assert f"no classifier {name!r}; give one of trial0/clean/without_gan, " in line


def test_a_checkpoint_must_be_there_unless_training_begins(tmp_path):
    state = {"w": jnp.zeros(3)}
    with checkpoint.open_manager(tmp_path / "own") as manager:
        with pytest.raises(BadInput, match="own holds no checkpoint"):
            checkpoint.restore(manager, state)
        step, begun, record = checkpoint.restore(manager, state, begin=True)
        assert (step, record) == (0, {})
        assert begun is state
        checkpoint.save(manager, 7, {"w": jnp.arange(3.0)}, {"a": 1})
        step, restored, record = checkpoint.restore(manager, state)
        assert (step, restored["w"].tolist(), record) == (7, [0.0, 1.0, 2.0], {"a": 1})
    assert loop.newest(tmp_path / "own", state)["w"].tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(BadInput, match="none holds no checkpoint"):
        loop.newest(tmp_path / "none", state)
    assert not (tmp_path / "none").exists()
    with pytest.raises(BadInput, match="own/7 is damaged"):
        loop.newest(tmp_path / "own", {"other": jnp.zeros((2, 2))})
    for path in (tmp_path / "own/7").rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(BadInput, match="own/7 is damaged"):
        loop.newest(tmp_path / "own", state)


@pytest.fixture
def run(whole, tmp_path) -> Path:
    """A copy of a whole run, less the checkpoints of others than one classifier."""
    shutil.copytree(whole, tmp_path / "run", ignore=shutil.ignore_patterns("trial[12]", "paper", "gan_*", "*_epochs"))
    return tmp_path / "run"


def test_what_a_killed_command_left_beside_a_new_folder_goes_with_the_next(tmp_path, monkeypatch):
    """But nothing of one that still runs, of another machine, or for another folder."""
    monkeypatch.setattr(paths.platform, "node", lambda: "here")
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, check=True, text=True).stdout.strip()
    kept = {f".out.here-{os.getppid()}.partial", f".out.there-{gone}.partial", f".out2.here-{gone}.partial"}
    for name in (f".out.here-{gone}.partial", *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text("half")
    with paths.new_folder(tmp_path / "out") as partial:
        (partial / "README.md").write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == kept | {"out"}
    assert (tmp_path / "out/README.md").read_text() == "whole"


DAMAGE = {
    "no results": (lambda run: (run / "results.json").unlink(), "results.json: No such file or directory"),
    "a list": (lambda run: (run / "results.json").write_text("[]"), "results.json is damaged"),
    "no protocols": (lambda run: (run / "results.json").write_text('{"schema": 2}'), "results.json is damaged"),
    "older": (
        lambda run: (run / "results.json").write_text('{"schema": 1}'),
        "another version of pneumojax (schema 1)",
    ),
    "half a config": (lambda run: os.truncate(run / "config.json", 300), "config.json is damaged"),
    "no config": (lambda run: (run / "config.json").write_text("{}"), "config.json is damaged"),
    "half the splits": (lambda run: os.truncate(run / "splits.json", 300), "splits.json is damaged"),
    "no predictions": (lambda run: os.truncate(run / "predictions.csv", 0), "predictions.csv is damaged"),
    "half the predictions": (lambda run: os.truncate(run / "predictions.csv", 999), "predictions.csv is damaged"),
    "a number": (lambda run: (run / "metrics.jsonl").write_text("3\n"), "metrics.jsonl is damaged"),
    "no checkpoint": (lambda run: shutil.rmtree(run / "checkpoints/trial0/clean/with_gan"), "holds no checkpoint"),
    "a bad checkpoint": (
        lambda run: [p.write_bytes(b"") for p in run.glob("checkpoints/trial0/clean/with_gan/*/state/_METADATA")],
        "is damaged; bring it back",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_run_that_is_not_whole_answers_nothing(damage, run, tmp_path):
    pictures(tmp_path, "a.png")
    spoil, words = DAMAGE[damage]
    assert call(predict.main, f"--workdir={run}", tmp_path / "a.png")[0] == 0
    spoil(run)
    before = sorted(run.rglob("*"))
    [line] = error_of(call(predict.main, f"--workdir={run}", tmp_path / "a.png"), 2)
    assert words in line
    assert str(run) in line
    assert sorted(run.rglob("*")) == before  # nothing is made in it


def test_a_config_in_the_workdir_that_is_damaged(run, tiny_flags):
    for content in ((run / "config.json").read_text()[:300], "[]", "{", '{"data": 5}'):
        (run / "config.json").write_text(content)
        [line, *_] = error_of(call(main.main, *tiny_flags, f"--workdir={run}"), 2)
        assert f"{run}/config.json is " in line
        assert "choose another --workdir" in line


PRINTING = [
    (predict.main, "--workdir=RUN", "SET"),
    (predict.main, "--workdir=RUN", "--json", "SET"),
    (predict.main, "--help"),
    (compare.main, "RUN"),
    (report.main, "--workdir=RUN"),
    (audit.main, "SET", "--out=RUN"),
]


@pytest.mark.parametrize("command", PRINTING)
def test_output_that_cannot_be_written_is_4_and_that_nobody_reads_ends_quietly(command, run, tmp_path, monkeypatch):
    """Nobody: 141, as a shell sees a program that SIGPIPE ends."""
    pictures(tmp_path / "set", *(f"{label}/{i}.png" for label in ("NORMAL", "PNEUMONIA") for i in range(4)))
    function, *arguments = command
    arguments = [one.replace("RUN", str(run)).replace("SET", str(tmp_path / "set")) for one in arguments]

    def ended(output) -> tuple[int, str]:
        with open(output, "w") as stdout, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stdout)
            return call(function, *arguments)

    assert error_of(ended("/dev/full"), 4) == ["standard output: No space left on device; free space there"]
    reading, writing = os.pipe()
    os.close(reading)
    code, stderr = ended(writing)
    assert code == 141
    assert "error" not in stderr


def test_a_reader_that_goes_is_not_complained_of_when_the_process_ends(whole):
    command = [sys.executable, "-m", "experiments.compare", str(whole)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 141)
