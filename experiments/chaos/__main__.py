"""Studies that are killed at random, again and again, and otherwise disturbed: do they end in the same bits?

    python -m experiments.chaos [--kills=50] [--seed=0]

Prints Markdown. A small study of phantoms runs undisturbed. Then others like it are killed (SIGKILL) five times each,
in or shortly after a call that is drawn at random among those that the undisturbed one made, and run to their end. A
row counts the kills in a place and those after which the study was the same: results.json but for times and
environment, splits, predictions, losses, and every picture, byte for byte. A tenth of the kills hit a sweep of that
study alone while it writes its manifest. Below: SIGTERM with 30 seconds to end, a disk that fills up (root alone can
mount one), a file system without locks, a clock that jumps back.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from experiments.chaos.child import PLACES

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
MANIFEST = "a sweep's manifest"
IN_STUDIES = [place for place in PLACES if place != MANIFEST]
COMPARED = ("splits.json", "predictions.csv", "results.csv", "metrics.jsonl")


def bits(workdir: Path) -> str:
    """A digest of all that must not differ."""
    results = json.loads((workdir / "results.json").read_text())
    del results["timings_s"], results["environment"]
    digest = hashlib.sha256(json.dumps(results).encode())
    for path in [*(workdir / name for name in COMPARED), *sorted((workdir / "samples").iterdir())]:
        digest.update(f"\0{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def begin(workdir: Path, *disturbance) -> subprocess.Popen:
    """A study with a cache of its own beside its workdir."""
    module, where = "pneumojax.main", [f"--workdir={workdir}"]
    if workdir.name == "sweep":
        module, where = "experiments.sweep.__main__", [f"--out={workdir}", "--sweep=seed=0"]
    flags = [*FLAGS, *where, f"--config.gan.cache={workdir.parent / 'cache'}"]
    command = [
        sys.executable,
        "-m",
        "experiments.chaos.child",
        module,
        json.dumps(disturbance) if disturbance else "",
        *flags,
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


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


def killed_in_manifest(rng: random.Random, folder: Path, kills: int) -> tuple[int, Path]:
    """A sweep of the study, killed in or shortly after its manifest's write: how often it died, and the workdir.

    Members outlive a sweep that is killed, and hold its folder until they have ended: then it is begun again.
    """
    died = 0
    for number in range(kills + 1):
        disturbance = ("die", MANIFEST, 1, rng.uniform(0, PLACES[MANIFEST][2])) if number < kills else ()
        while (ending := ended(folder / "sweep", *disturbance))[0] == 2 and "in use by" in ending[1]:
            time.sleep(1)
        code, said = ending
        died += code == -signal.SIGKILL
        if code not in (0, -signal.SIGKILL):
            sys.exit(f"error: a sweep killed {died} times ended with {code}:\n{said[-2000:]}")
    [results] = (folder / "sweep").glob("*/results.json")
    return died, results.parent


def terminated(rng: random.Random, folder: Path, whole: str) -> str:
    """SIGTERM after some seconds."""
    process = begin(folder / "run")
    time.sleep(rng.uniform(3, 10))
    started = time.monotonic()
    process.terminate()
    try:
        said = process.communicate(timeout=GRACE)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        return f"no end within {GRACE} s"
    took, code = time.monotonic() - started, process.returncode
    if code not in (0, 128 + signal.SIGTERM):  # 0: it was whole before
        return f"ended with {code} after {took:.1f} s: {said.splitlines()[-1:]}"
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
    options = parser.parse_args()
    rng, different = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as folder:
        calls = Path(folder, "calls.json")
        code, said = ended(Path(folder, "whole", "run"), "count", str(calls))
        if code:
            sys.exit(f"error: undisturbed, it ended with {code}:\n{said[-2000:]}")
        counts, whole = json.loads(calls.read_text()), bits(Path(folder, "whole", "run"))
        died, workdir = killed_in_manifest(rng, Path(tempfile.mkdtemp(dir=folder)), options.kills // 10)
        alike = bits(workdir) == whole
        different += not alike
        rows = {place: [0, 0] for place in IN_STUDIES} | {MANIFEST: [died, died * alike]}
        while (left := options.kills - sum(tried for tried, _ in rows.values())) > 0:
            own = Path(tempfile.mkdtemp(dir=folder))
            fewest = sorted(IN_STUDIES, key=lambda place: (rows[place][0], rng.random()))[: min(KILLS_EACH, left)]
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
