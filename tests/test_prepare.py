"""The published set: downloads that break, zips and folders in both namings, a prepared set that is a folder's twin."""

import hashlib
import http.server
import io
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from configs import default
from pneumojax import checkpoint, data
from pneumojax.data import download, files, folder, kermany, layout, prepare
from pneumojax.errors import BadInput

ROOT = Path(__file__).parents[1]
KAGGLE = [
    *(
        f"{part}/NORMAL/{kind}IM-{n:04d}-0001.jpeg"
        for part in ("train", "test")
        for kind in ("", "NORMAL2-")
        for n in (1, 2)
    ),
    *(f"train/PNEUMONIA/person{n}_{kind}_{n}.jpeg" for kind in ("bacteria", "virus") for n in range(3)),
    "test/PNEUMONIA/person9_virus_921_1.jpeg",
    "val/PNEUMONIA/person8_bacteria_37.jpeg",
]
MENDELEY = [
    *(f"{part}/NORMAL/NORMAL-100{n}-0001.jpeg" for part in ("train", "test") for n in range(3)),
    *(f"{part}/PNEUMONIA/BACTERIA-200{n}-000{n}.jpeg" for part in ("train", "test") for n in range(3)),
    "test/PNEUMONIA/VIRUS-300-0001.jpeg",
]


def pictures(names: list[str]) -> dict[str, bytes]:
    """A JPEG a name, gray or RGB."""
    rng = np.random.default_rng(0)
    made = {}
    for number, name in enumerate(names):
        gray = Image.fromarray(rng.integers(0, 255, (40 + number, 70 - number), np.uint8))
        content = io.BytesIO()
        (gray if number % 2 else gray.convert("RGB")).save(content, "JPEG", quality=90)
        made[name] = content.getvalue()
    return made


def zipped(members: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return content.getvalue()


def unpacked(root: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


@pytest.fixture
def home(tmp_path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def run(home, capsys):
    """Runs the command and returns (exit code, what it printed, its error)."""

    def command(*arguments) -> tuple[int, str, str]:
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        code = 0
        try:
            prepare.main([f"--out={home}", *map(str, arguments)])
        except SystemExit as end:
            code = end.code
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        printed = capsys.readouterr()
        errors = [line for line in printed.err.splitlines() if line.startswith("error:")]
        assert len(errors) == (code != 0)
        return code, printed.out, "".join(errors)

    return command


def settings(directory: Path | str, cache: Path):
    config = default.get_config().data
    config.name, config.dir, config.cache = "kermany", str(directory), str(cache)
    return config


def same(one: data.Images, other: data.Images) -> None:
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one[2:] == other[2:]
    assert data.fingerprint(one) == data.fingerprint(other)


def test_the_zip_of_kaggle_its_folder_and_a_plain_folder_are_twins(run, home, tmp_path, monkeypatch):
    members = pictures(KAGGLE)
    nested = {f"chest_xray/chest_xray/{name}": content for name, content in members.items()}
    litter = {"__MACOSX/chest_xray/train/NORMAL/._IM-0001-0001.jpeg": b"Mac OS X", "chest_xray/.DS_Store": b"x"}
    litter |= {f"__MACOSX/{name}": b"Mac OS X" for name in nested}
    everything = {f"chest_xray/{name}": content for name, content in members.items()} | nested | litter
    archive = tmp_path / "archive.zip"
    archive.write_bytes(zipped(everything))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    code, out, _ = run(f"--from={archive}")
    assert code == 0
    assert f"SHA-256 of archive.zip: {digest}" in out
    assert f"{len(KAGGLE)} images; the published set has 5856" in out
    assert archive.exists()

    builder = kermany.Kermany(data_dir=home)
    assert (builder.info.metadata["origin"], builder.info.metadata["sha256"]) == ("archive.zip", digest)
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 10,
        "test": 5,
        "val": 1,
    }
    assert builder.info.redistribution_info.license == "CC BY 4.0"
    assert "10.17632/rscbjbr9sj" in builder.info.citation
    assert builder.info.homepage == "https://doi.org/10.17632/rscbjbr9sj"
    for name, example in zip(
        sorted(n for n in KAGGLE if n[:5] == "train"), builder.as_data_source("train"), strict=True
    ):
        assert example["name"].decode() == name
        told = layout.tell(name)
        assert example["label"] == told.label == int("PNEUMONIA" in name)
        assert kermany.SUBTYPES[example["subtype"]] == told.subtype
        assert example["patient"].decode() == files.patient_key(name, data.PATIENT_PATTERN)
        with Image.open(io.BytesIO(members[name])) as file:
            np.testing.assert_array_equal(example["image"], np.asarray(file.convert("RGB")))

    config = settings(home, tmp_path / "cache")
    loaded = data.load(config, 24)
    plain = settings(unpacked(tmp_path / "plain", members), tmp_path / "other cache")
    plain.name = "folder"
    same(loaded, data.load(plain, 24))
    assert loaded.names == tuple(sorted(KAGGLE))
    plain.name = "kermany"  # a folder given where nothing is prepared
    same(loaded, data.load(plain, 24))
    monkeypatch.setattr(files, "decode", lambda *_: pytest.fail("decoded again"))
    same(loaded, data.load(config, 24))
    monkeypatch.undo()

    code, out, _ = run()
    assert code == 0
    assert "is prepared" in out
    shutil.rmtree(home)
    assert run(f"--from={tmp_path / 'plain'}")[0] == 0
    same(loaded, data.load(config, 24))


def test_mendeleys_zip_by_its_default_place(run, home, tmp_path):
    members = pictures(MENDELEY)
    archive = tmp_path / "ChestXRay2017.zip"
    archive.write_bytes(zipped({f"chest_xray/{name}": content for name, content in members.items()}))
    cache = tmp_path / "cache"
    code, _, _ = run(f"--from={archive}", f"--out={cache / kermany.PREPARED}")
    assert code == 0
    loaded = data.load(settings("", cache), 16)
    assert loaded.names == tuple(sorted(MENDELEY))
    row = loaded.names.index("test/PNEUMONIA/BACTERIA-2001-0001.jpeg")
    assert (loaded.labels[row], loaded.patients[row]) == (1, "-2001")
    examples = kermany.Kermany(data_dir=cache / kermany.PREPARED).as_data_source("test")
    assert [kermany.SUBTYPES[example["subtype"]] for example in examples] == [""] * 3 + ["bacteria"] * 3 + ["virus"]


def test_images_keep_their_places_over_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(kermany, "SHARD", 3)
    root = unpacked(tmp_path / "plain", pictures(KAGGLE))
    builder = prepare.prepare(folder.source(root), tmp_path / "home", {})
    assert builder.info.splits["train"].num_shards == 4
    source = kermany.source(builder)
    assert (
        list(files.in_parallel(source.read, source.names * 50)) == [(root / n).read_bytes() for n in source.names] * 50
    )


def test_without_a_prepared_set_the_remedy_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"python -m pneumojax.data.prepare \(with --from"):
        data.load(settings("", tmp_path), 16)
    with pytest.raises(BadInput, match="is not a directory"):
        data.load(settings(tmp_path / "nowhere", tmp_path), 16)


def test_a_prepared_set_that_a_disk_damaged(home, tmp_path):
    builder = prepare.prepare(folder.source(unpacked(tmp_path / "plain", pictures(KAGGLE))), home, {})
    config = settings(home, tmp_path / "cache")
    whole = data.load(config, 16)
    [records] = builder.data_path.glob("*test*")
    content = records.read_bytes()
    filled = np.flatnonzero(np.frombuffer(content, np.uint8))
    at = filled[len(filled) // 3]  # in one of the images
    for damaged, count in (
        (content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :], 1),
        (content[: len(content) // 2], 5),
        (b"", 5),
    ):
        records.write_bytes(damaged)
        config.on_bad = "error"
        with pytest.raises(BadInput, match=f"{count} of 16 images .* cannot be read") as caught:
            data.load(config, 16)
        assert all("prepare anew" in line for line in caught.value.details)
        config.on_bad = "skip"
        assert len(data.load(config, 16).names) == 16 - count
    records.write_bytes(content)
    metadata = builder.data_path / "metadata.json"
    text = metadata.read_text()
    metadata.write_text(text.replace("person9_virus", "person8_virus"))
    assert data.load(config, 16).skipped == (
        "test/PNEUMONIA/person8_virus_921_1.jpeg: not in its place in the prepared set: remove it and prepare anew",
    )
    for broken in (text[:-9], "{}"):
        metadata.write_text(broken)
        with pytest.raises(BadInput, match="is damaged .*remove it and prepare it anew"):
            data.load(config, 16)
    metadata.write_text(text)
    same(whole, data.load(config, 16))


@pytest.mark.parametrize(
    ("spoil", "message"),
    {
        "above": (lambda m: m | {"../evil.jpeg": b""}, "'../evil.jpeg' would leave the folder: refused"),
        "inside": (lambda m: m | {"train/NORMAL/../../../evil.jpeg": b""}, "would leave the folder: refused"),
        "backslashes": (lambda m: m | {"train\\..\\..\\evil.jpeg": b""}, "would leave the folder: refused"),
        "absolute": (lambda m: m | {"/etc/evil.jpeg": b""}, "'/etc/evil.jpeg' would leave the folder: refused"),
        "a drive": (lambda m: m | {"C:/evil.jpeg": b""}, "would leave the folder: refused"),
        "no test": (lambda m: {n: c for n, c in m.items() if n[:4] != "test"}, "train, val and not train and test"),
        "no images": (lambda m: {"readme.txt": b"x"}, "no images in"),
        "other folders": (
            lambda m: {n.replace("NORMAL/", "healthy/"): m[n] for n in m if "NORMAL/" in n},
            "no images in",
        ),
    }.values(),
)
def test_zips_that_are_refused(run, home, tmp_path, spoil, message):
    archive = tmp_path / "set.zip"
    archive.write_bytes(zipped(spoil(pictures(KAGGLE))))
    code, _, error = run(f"--from={archive}")
    assert code == 2
    assert message in error
    assert not kermany.is_prepared(kermany.Kermany(data_dir=home))
    assert not list(tmp_path.rglob("*evil*"))


def test_other_spellings_and_other_classes_of_a_prepared_set(run, home, tmp_path):
    def respelled(name: str) -> str:
        return name.replace("train/PNEUMONIA", "Train/pneumonia").replace("val/", "valid/").replace("/", "\\")

    archive = tmp_path / "set.zip"
    members = {respelled(name): content for name, content in pictures(KAGGLE).items()}
    archive.write_bytes(zipped(members | {"train\\COVID19\\1.png": b""}))
    code, out, _ = run(f"--from={archive}")
    assert code == 0
    assert "left out: no class: train/COVID19 (1)" in out
    assert set(kermany.Kermany(data_dir=home).info.splits) == {"train", "test", "val"}
    config = settings(home, tmp_path / "cache")
    for classes, counts in ((("NORMAL", "PNEUMONIA"), [8, 8]), (("normal", "virus", "BACTERIA"), [8, 4, 4])):
        config.classes = classes
        images = data.load(config, 16)
        assert np.bincount(images.labels).tolist() == counts
        assert Counter(images.parts) == {"train": 10, "test": 5, "val": 1}
        assert Counter(images.subtypes) == {"": 8, "bacteria": 4, "virus": 4}
    config.classes = ("NORMAL", "VIRUS")
    images = data.load(config, 16)
    assert images.left_out == {"no class: Train/pneumonia": 3, "no class: valid/PNEUMONIA": 1}
    config.classes = ("HEALTHY", "ILL")
    with pytest.raises(BadInput, match="no images in .* of HEALTHY, ILL"):
        data.load(config, 16)


def with_field(content: bytes, name: str, offset: int, value: bytes) -> bytes:
    """A zip in whose directory the entry of `name` has another field."""
    at = content.rindex(b"PK\1\2", 0, content.rindex(name.encode())) + offset
    return content[:at] + value + content[at + len(value) :]


def test_zips_that_are_damaged(run, home, tmp_path):
    members = pictures(KAGGLE)
    name = "train/PNEUMONIA/person1_virus_1.jpeg"
    whole = zipped(members)
    at = whole.index(members[name]) + 700
    cases = {
        whole[: len(whole) // 2]: "is not a whole zip",
        b"": "is not a whole zip",
        b"<html>": "is not a whole zip",
        whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :]: f"{name}: damaged or encrypted in set.zip (Bad CRC-32",
        with_field(whole, name, 8, b"\1\0"): f"'{name}' is encrypted; unpack it with its password",
        with_field(whole, name, 24, b"\xf0\xff\xff\xff"): f"'{name}' has 4,294,967,280 bytes, more than",
        with_field(whole, name, 24, b"\x10\0\0\0"): f"{name}: damaged or encrypted in set.zip",
        with_field(whole, name, 46, b"tsain"): "is damaged or encrypted (",
    }
    archive = tmp_path / "set.zip"
    for content, words in cases.items():
        archive.write_bytes(content)
        code, _, error = run(f"--from={archive}")
        assert code == 2
        assert words in error
        assert not kermany.is_prepared(kermany.Kermany(data_dir=home))
        assert not list(home.rglob("incomplete*"))
    archive.write_bytes(whole)
    assert run(f"--from={archive}")[0] == 0


def test_a_pinned_hash_holds_for_a_zip_of_ones_own(run, home, tmp_path):
    archive = tmp_path / "set.zip"
    archive.write_bytes(zipped(pictures(KAGGLE)))
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    code, _, error = run(f"--from={archive}", f"--sha256={'0' * 64}")
    assert code == 2
    assert f"has the SHA-256 {digest} and not {'0' * 64}: not used" in error
    assert archive.exists()
    assert run(f"--from={archive}", f"--sha256={digest.upper()}")[0] == 0


def test_flags_and_folders_that_cannot_be_used(run, home, tmp_path, monkeypatch):
    assert "--from=nowhere.zip is not there" in run("--from=nowhere.zip")[2]
    assert "unrecognized arguments: --form=x" in run("--form=x")[2]
    root = unpacked(tmp_path / "plain", pictures(KAGGLE))
    weird = Path(os.fsdecode(os.fsencode(root) + b"/train/NORMAL/IM-\xff.jpeg"))
    shutil.copy(root / KAGGLE[0], weird)
    assert "is no name in UTF-8; rename it" in run(f"--from={root}")[2]
    weird.unlink()
    (root / "train/NORMAL/loop.jpeg").symlink_to("loop.jpeg")
    code, _, error = run(f"--from={root}")
    assert code == 2
    assert "train/NORMAL/loop.jpeg: [Errno 40] Too many levels of symbolic links" in error
    (root / "train/NORMAL/loop.jpeg").unlink()
    with checkpoint.held(home, "--out"):
        assert "is in use by another process" in run(f"--from={root}")[2]
    (tmp_path / "file").touch()
    code, _, error = run(f"--from={root}", f"--out={tmp_path / 'file'}")
    assert code == 4
    assert "choose another --out" in error
    assert run(f"--from={root}")[0] == 0


SLOW = """
import sys, time
from pneumojax.data import folder, prepare
read = folder.read
def slowly(path):
    time.sleep(0.2)
    return read(path)
folder.read = slowly
prepare.main(sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_preparation_that_is_killed_leaves_nothing_that_counts(run, home, tmp_path, number):
    root = unpacked(tmp_path / "plain", pictures(KAGGLE))
    command = [sys.executable, "-c", SLOW, f"--from={root}", f"--out={home}"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not list(home.rglob("*array_record*")):
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(60) in (-9, 143)
    assert b"error:" not in process.stderr.read()
    assert not kermany.is_prepared(kermany.Kermany(data_dir=home))
    with pytest.raises(BadInput, match="no images in"):
        data.load(settings(home, tmp_path / "cache"), 16)
    assert run(f"--from={root}")[0] == 0
    assert len(data.load(settings(home, tmp_path / "cache"), 16).names) == len(KAGGLE)
    assert [path.name for path in (home / "kermany").iterdir()] == ["1.0.0"]


def test_it_imports_neither_tensorflow_nor_torch():
    program = (
        "import sys; from pneumojax.data import prepare\n"
        "print([name for name in ('tensorflow', 'torch', 'pydicom') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Served:
    """What a loopback server does, and what it was asked."""

    def __init__(self):
        self.content = b""
        self.tag: str | None = '"one"'
        self.ranges = True
        self.status = 200
        self.claimed: int | None = None  # Content-Length, where it is a lie; -1: none
        self.break_after: list[int] = []  # bytes of each answer's body, then whole ones
        self.stall = False
        self.asked: list[str | None] = []  # Range of each request


@pytest.fixture
def server(monkeypatch):
    """A loopback server that can misbehave: (what it does, its address)."""
    served = Served()
    monkeypatch.setattr(download, "TIMEOUT", 0.5)
    monkeypatch.setattr(download, "PAUSE", 0.0)
    stop = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked = self.headers["Range"]
            served.asked.append(asked)
            body, status, begin = served.content, served.status, 0
            if asked and served.ranges and self.headers["If-Range"] == served.tag:
                begin = int(asked.removeprefix("bytes=").rstrip("-"))
                status = 206 if begin < len(body) else 416
            self.send_response(status)
            if served.tag:
                self.send_header("ETag", served.tag)
            if status == 206:
                self.send_header("Content-Range", f"bytes {begin}-{len(body) - 1}/{len(body)}")
            if status == 416:
                self.send_header("Content-Range", f"bytes */{len(body)}")
                body = b""
            body = body[begin:]
            if served.claimed != -1:
                self.send_header("Content-Length", str(len(body) if served.claimed is None else served.claimed))
            self.end_headers()
            if served.break_after:
                body = body[: served.break_after.pop(0)]
            self.wfile.write(body)
            if served.stall:
                self.wfile.flush()
                stop.wait(5)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True).start()
        yield served, f"http://127.0.0.1:{httpd.server_port}/file"
        stop.set()
        httpd.shutdown()


CONTENT = np.random.default_rng(0).bytes(300_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def left(path: Path) -> list[str]:
    return sorted(p.name for p in path.parent.iterdir())


def test_a_download_goes_on_where_it_broke_off(server, tmp_path):
    served, url = server
    served.content, served.break_after = CONTENT, [100_000, 50_000, 0, 0, 100_000]
    path = tmp_path / "set.zip"
    assert download.fetch(url, path, DIGEST) == DIGEST
    assert path.read_bytes() == CONTENT
    assert served.asked == [None, "bytes=100000-", *["bytes=150000-"] * 3, "bytes=250000-"]
    assert left(path) == ["set.zip"]
    assert download.fetch(url, path) == DIGEST  # there already
    assert len(served.asked) == 6


@pytest.mark.parametrize("change", [{}, {"tag": '"two"'}, {"ranges": False}])
def test_another_process_goes_on_unless_the_file_changed(server, tmp_path, change):
    served, url = server
    path, partial = tmp_path / "set.zip", tmp_path / "set.zip.partial"
    served.content = CONTENT[::-1] if change else CONTENT
    served.break_after, served.stall = [100_000], True
    program = (
        f"from pathlib import Path; from pneumojax.data import download\ndownload.fetch({url!r}, Path({str(path)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stderr=subprocess.DEVNULL)
    while not (partial.exists() and partial.stat().st_size == 100_000):
        time.sleep(0.02)
    process.kill()
    process.wait()
    served.__dict__.update(change, content=CONTENT, stall=False)
    assert download.fetch(url, path) == DIGEST
    assert served.asked == [None, "bytes=100000-"]  # which the server heeds only where nothing changed
    assert left(path) == ["set.zip"]


def test_without_an_etag_it_begins_anew(server, tmp_path):
    served, url = server
    served.content, served.break_after, served.tag = CONTENT, [200_000, 100_000], None
    assert download.fetch(url, tmp_path / "set.zip") == DIGEST
    assert served.asked == [None, None, None]


def test_what_was_whole_already_when_the_process_was_killed(server, tmp_path):
    served, url = server
    path = tmp_path / "set.zip"
    for kept in (CONTENT, CONTENT + b"more"):
        served.content = CONTENT
        (tmp_path / "set.zip.partial").write_bytes(kept)
        (tmp_path / "set.zip.partial.etag").write_text('"one"')
        assert download.fetch(url, path) == DIGEST
        assert left(path) == ["set.zip"]
        path.unlink()
    assert served.asked == ["bytes=300000-", "bytes=300004-", None]


def lie(**what):
    return lambda served: [setattr(served, name, value) for name, value in what.items()]


@pytest.mark.parametrize(
    ("lies", "message", "requests"),
    {
        "not there": (lie(status=404), "404", 1),
        "forbidden": (lie(status=403), "403", 1),
        "down": (lie(status=503), "503.*5 times in a row", 5),
        "nothing": (lie(content=b""), "broke off, 5 times in a row", 5),
        "nothing and no length": (lie(content=b"", claimed=-1), "broke off, 5 times in a row", 5),
        "too short": (lie(claimed=400_000, ranges=False), "broke off, 5 times in a row", 6),
        "too short and no tag": (lie(claimed=400_000, tag=None), "broke off, 5 times in a row", 6),
        "no number": (lie(claimed="many"), "many", 1),
        "stalls": (lie(stall=True, claimed=400_000, ranges=False), "timed out, 5 times in a row", 6),
        "too long": (lie(claimed=200_000), "has the SHA-256 .* and not", 1),
        "another file": (lie(content=CONTENT[::-1]), "has the SHA-256 .* and not", 1),
        "another file and no length": (lie(content=CONTENT[:-1], claimed=-1), "has the SHA-256 .* and not", 1),
    }.values(),
)
def test_servers_that_lie_stall_or_have_nothing(server, tmp_path, lies, message, requests, monkeypatch):
    served, url = server
    served.content = CONTENT
    lies(served)
    path = tmp_path / "set.zip"
    with pytest.raises(BadInput, match=message) as caught:
        download.fetch(url, path, DIGEST)
    assert "--from=FILE" in str(caught.value) or "--url" in str(caught.value)
    assert len(served.asked) == requests
    assert not path.exists()
    if "SHA-256" in message:
        assert left(path) == []
    honest = Served()
    served.__dict__.update(honest.__dict__, content=CONTENT, tag='"two"')
    assert download.fetch(url, path, DIGEST) == DIGEST


def test_urls_that_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0.0)
    for url, message in {
        "http://127.0.0.1:9/file": "refused.*5 times in a row.*--from=FILE",
        "no address": "unknown url type.*--url",
        "http://127.0.0.1:port/": "nonnumeric port.*--url",
    }.items():
        with pytest.raises(BadInput, match=message):
            download.fetch(url, tmp_path / "set.zip")


def test_the_command_downloads_prints_and_records_the_hash(run, home, server, tmp_path):
    served, url = server
    members = pictures(MENDELEY)
    served.content = zipped({f"chest_xray/{name}": content for name, content in members.items()})
    digest = hashlib.sha256(served.content).hexdigest()
    code, _, error = run(f"--url={url}", f"--sha256={'0' * 64}")
    assert code == 2
    assert f"has the SHA-256 {digest} and not {'0' * 64}: removed" in error
    assert not [path for path in (home / "downloads").rglob("*") if path.is_file()]
    served.break_after = [5000]
    code, out, _ = run(f"--url={url}")
    assert code == 0
    assert f"SHA-256 of {url}: {digest} (pin it: --sha256)" in out
    assert served.asked == [None, None, "bytes=5000-"]
    metadata = kermany.Kermany(data_dir=home).info.metadata
    assert (metadata["origin"], metadata["sha256"]) == (url, digest)
    assert not list(home.rglob("*.zip*"))
    assert data.load(settings(home, tmp_path / "cache"), 16).names == tuple(sorted(MENDELEY))


def test_a_download_that_is_no_zip(run, home, server):
    served, url = server
    served.content = b"<html>sign in first</html>"
    code, _, error = run(f"--url={url}")
    assert code == 2
    assert "is not a whole zip" in error
    served.content = zipped(pictures(MENDELEY))
    assert run(f"--url={url}")[0] == 0
