"""Studies that are killed at random, again and again, and otherwise disturbed: do they end in the same bits?

    python -m experiments.chaos [--kills=50] [--seed=0]

Prints Markdown. A small study of phantoms runs undisturbed. Then others like it are killed (SIGKILL) five times each,
in or shortly after a call that is drawn at random among those that the undisturbed one made, and run to their end. A
row counts the kills in a place and those after which the study was the same: results.json but for times and
environment, splits, predictions, losses, and every picture, byte for byte. Below: SIGTERM with 30 seconds to end, a
disk that fills up (root alone can mount one), a file system without locks, a clock that jumps back.
"""

import argparse
import errno
import hashlib
import importlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from pneumojax import runtime

GRACE = 30  # seconds between SIGTERM and SIGKILL, as clusters have it
KILLS_EACH = 5  # of one study
DISK = 3  # megabytes that the study does not fit into
FLAGS = [
    "--config=configs/demo.py",
    "--config.trials=(0,)",
    "--config.data.phantom_images=(50, 80)",
    "--config.data.subset=(12, 20)",
    "--config.enlarge=2.0",
    *(f"--config.gan.{field}={value}" for field, value in {"filters": 4, "batch_size": 6, "steps": 6}.items()),
    *(f"--config.gan.{field}={value}" for field, value in {"log_every": 2, "sample_every": 4, "save_every": 4}.items()),
    "--config.model.image_size=48",
    "--config.model.width=4",
    *(f"--config.classifier.{field}={value}" for field, value in {"batch_size": 6, "steps": 6}.items()),
    *(f"--config.classifier.{field}={value}" for field, value in {"log_every": 2, "save_every": 4}.items()),
]
PLACES = {  # what is called → where, and how many seconds after the call it may be killed at most
    "a step of a GAN or classifier": ("pneumojax.loop", "advance", 0.02),
    "a checkpoint's write": ("pneumojax.checkpoint", "save", 0.1),
    "a file's write": ("pneumojax.checkpoint", "written", 0.01),
    "the cache, in": ("pneumojax.gan.cache", "deliver", 0.05),
    "the cache, out": ("pneumojax.gan.cache", "fetch", 0.05),
    "losses and sheets": ("pneumojax.metrics", "Writer.flush", 0.01),
    "between stages": ("pneumojax.study", "classify", 0.01),
    "scores": ("pneumojax.results", "scored", 0.5),
    "the page": ("pneumojax.report", "write", 0.5),
}
COMPARED = ("splits.json", "predictions.csv", "metrics.jsonl")


def bits(workdir: Path) -> str:
    """A digest of all that must not differ."""
    results = json.loads((workdir / "results.json").read_text())
    del results["timings_s"], results["environment"]
    digest = hashlib.sha256(json.dumps(results).encode())
    for path in [*(workdir / name for name in COMPARED), *sorted((workdir / "samples").iterdir())]:
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


# In the child.


def wrapped(place: str, before) -> None:
    """Lets `before()` be called whenever a place is come to."""
    module, name, _ = PLACES[place]
    *classes, name = name.split(".")
    owner = importlib.import_module(module)
    for one in classes:
        owner = getattr(owner, one)
    original = getattr(owner, name)

    def called(*args, **kwargs):
        before()
        return original(*args, **kwargs)

    setattr(owner, name, called)


def die(place: str, number: int, after: float) -> None:
    """Kills this process so many seconds after that call of a place."""
    calls = 0

    def before():
        nonlocal calls
        calls += 1
        if calls == number:
            threading.Timer(after, os.kill, (os.getpid(), signal.SIGKILL)).start()

    wrapped(place, before)


def count(path: str) -> None:
    """Leaves in a file, at the end, how often each place was come to."""
    calls = dict.fromkeys(PLACES, 0)

    def counting(place):
        def before():
            calls[place] += 1
            Path(path).write_text(json.dumps(calls))

        return before

    for place in PLACES:
        wrapped(place, counting(place))


def without_locks() -> None:
    """A file system that has none."""
    import fcntl

    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.flock = flock


def clock_jumps(number: int) -> None:
    """The clock goes back by an hour at that look at it."""
    looks, now = 0, time.time

    def then():
        nonlocal looks
        looks += 1
        return now() - (3600 if looks > number else 0)

    time.time = then


DISTURBED = {"die": die, "count": count, "without_locks": without_locks, "clock_jumps": clock_jumps}


def child(disturbance: str, flags: list[str]) -> None:
    """A study in this process, disturbed: `disturbance` is JSON, [name, arguments…], or empty."""
    runtime.configure()
    from pneumojax import main

    if disturbance:
        name, *arguments = json.loads(disturbance)
        DISTURBED[name](*arguments)
    main.main(flags)


# In the parent.


def begin(workdir: Path, *disturbance) -> subprocess.Popen:
    """A study with a cache of its own beside its workdir."""
    flags = [*FLAGS, f"--workdir={workdir}", f"--config.gan.cache={workdir.parent / 'cache'}"]
    given = json.dumps(disturbance) if disturbance else ""
    command = [sys.executable, "-m", "experiments.chaos", f"--child={given}", "--", *flags]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def ended(workdir: Path, *disturbance) -> tuple[int, str]:
    """Its exit code and what it said."""
    process = begin(workdir, *disturbance)
    said = process.communicate()[1]
    return process.returncode, said


def killed(rng: random.Random, folder: Path, places: list[str], calls: dict[str, int]) -> tuple[list[str], Path]:
    """One study, killed in each of some places and then left alone: the places where it died, and its workdir."""
    workdir, found = folder / "run", []
    for place in places:
        number, after = rng.randint(1, max(calls[place], 1)), rng.uniform(0, PLACES[place][2])
        code, said = ended(workdir, "die", place, number, after)
        if code == -signal.SIGKILL:
            found.append(place)
        elif code:
            sys.exit(f"error: killed in {found}, it ended with {code} and not whole:\n{said[-2000:]}")
    code, said = ended(workdir)
    if code:
        sys.exit(f"error: killed in {found}, it ended with {code}:\n{said[-2000:]}")
    return found, workdir


def terminated(rng: random.Random, folder: Path, whole: str) -> str:
    """SIGTERM after some seconds."""
    process = begin(folder / "run")
    time.sleep(rng.uniform(3, 10))
    started = time.monotonic()
    process.terminate()
    try:
        process.communicate(timeout=GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return f"no end within {GRACE} s"
    took, code = time.monotonic() - started, process.returncode
    return f"ended with {code} after {took:.1f} s, then {same(folder / 'run', whole)}"


def disk_full(rng: random.Random, folder: Path, whole: str) -> str:
    """A disk that is too small, and is then made larger."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        return "not run: only root can mount a small disk"
    try:
        code, said = ended(folder / "run")
        lines = [line for line in said.splitlines() if line.startswith("error: ")]
        subprocess.run(["mount", "-o", "remount,size=500m", str(folder)], check=True)
        return f"ended with {code} and {len(lines)} `error:` line, then {same(folder / 'run', whole)}"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def same(workdir: Path, whole: str, *disturbance) -> str:
    """What comes of a study that is run to its end."""
    code, said = ended(workdir, *disturbance)
    if code:
        return f"ended with {code}: {said.splitlines()[-1:]}"
    return "the same bits" if bits(workdir) == whole else "OTHER BITS"


def locks(rng: random.Random, folder: Path, whole: str) -> str:
    return same(folder / "run", whole, "without_locks")


def clock(rng: random.Random, folder: Path, whole: str) -> str:
    return same(folder / "run", whole, "clock_jumps", rng.randint(50, 2000))


OTHERS = {
    f"SIGTERM, {GRACE} s of grace": terminated,
    "the disk is full": disk_full,
    "no locks": locks,
    "the clock jumps back by an hour": clock,
}


def main() -> None:
    """Prints both tables; exit code 1 where anything differs."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("flags", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        child(options.child, options.flags)
        return
    rng, different = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        calls = Path(folder, "calls.json")
        code, said = ended(Path(folder, "whole", "run"), "count", str(calls))
        if code:
            sys.exit(f"error: undisturbed, it ended with {code}:\n{said[-2000:]}")
        counts, whole = json.loads(calls.read_text()), bits(Path(folder, "whole", "run"))
        rows = {place: [0, 0] for place in PLACES}
        while (left := options.kills - sum(tried for tried, _ in rows.values())) > 0:
            own = Path(tempfile.mkdtemp(dir=folder))
            fewest = sorted(PLACES, key=lambda place: (rows[place][0], rng.random()))[: min(KILLS_EACH, left)]
            rng.shuffle(fewest)
            found, workdir = killed(rng, own, fewest, counts)
            alike = bits(workdir) == whole
            different += not alike
            for place in found:
                rows[place] = [rows[place][0] + 1, rows[place][1] + alike]
            print(f"{sum(tried for tried, _ in rows.values())} kills", file=sys.stderr, flush=True)
        print("| killed in or shortly after | kills | the same bits |\n|---|---|---|")
        for place, (tried, alike) in (
            rows | {"all": [sum(column) for column in zip(*rows.values(), strict=True)]}
        ).items():
            print(f"| {place} | {tried} | {alike} |")
        print("\n| disturbed by | it |\n|---|---|")
        for name, disturb in OTHERS.items():
            told = disturb(rng, Path(tempfile.mkdtemp(dir=folder)), whole)
            different += "same bits" not in told and "not run" not in told
            print(f"| {name} | {told} |", flush=True)
    sys.exit(int(different > 0))


if __name__ == "__main__":
    main()
