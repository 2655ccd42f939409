"""Decoding, epochs and streaming against what PyTorch users write.

    python -m experiments.bench.data [--data DIR]

Prints Markdown. Originals are made of the pictures below DIR, or of phantoms: enlarged to 900 to 1900 pixels with
grain, as gray JPEGs of quality 90. The other side is Pillow in a torch DataLoader with 2 workers
(torchvision.io has no decoder in the CPU build that can be had here).
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from experiments.bench import paired

SIZE = 224  # pixels, after decoding
BATCH = 32
WORKERS = 2


def make_originals(pictures: list[np.ndarray], count: int, root: Path) -> None:
    """Writes `count` JPEGs of the size of originals, half of each class."""
    from PIL import Image

    from pneumojax.data import CLASSES, files

    for label in CLASSES:
        (root / "train" / label).mkdir(parents=True)

    def write(number: int) -> None:
        rng = np.random.default_rng(number)
        width = int(rng.integers(900, 1900))
        shape = (width, int(width * rng.uniform(0.6, 0.85)))
        picture = Image.fromarray(pictures[number % len(pictures)]).resize(shape, Image.Resampling.BICUBIC)
        grain = np.asarray(picture, np.float32) + 3 * rng.standard_normal((shape[1], shape[0]), np.float32)
        gray = Image.fromarray(np.clip(grain, 0, 255).astype(np.uint8))
        gray.save(root / "train" / CLASSES[number % 2] / f"{number:05d}.jpeg", quality=90)

    list(files.in_parallel(write, range(count)))


def pictures_of(folder: Path | None) -> list[np.ndarray]:
    """What originals are made of: uint8 [S, S] each."""
    from PIL import Image

    from configs import default
    from pneumojax.data import phantom

    if folder is None:
        config = default.get_config().data
        config.phantom_images = (20, 20)
        return list(phantom.load(config, 512).pixels)
    return [np.asarray(Image.open(path).convert("L")) for path in sorted(folder.rglob("*.jpeg"))[::20]]


def ours(task: str, originals: Path, small: Path):
    """pneumojax: a function that runs `task` and returns how many images it has dealt with."""
    from pneumojax import runtime

    runtime.configure()
    import jax

    from configs import default
    from pneumojax import data, sharding
    from pneumojax.data import folder, pixels, stream
    from pneumojax.data import table as tables
    from pneumojax.data.table import Table

    config = default.get_config().data
    config.cache = tempfile.mkdtemp(dir=originals.parent)  # which goes when all is done

    def decode():
        shutil.rmtree(config.cache, ignore_errors=True)
        config.dir = str(originals)
        return len(data.load(config, SIZE).names)

    config.dir = str(small)
    images = data.load(config, SIZE)
    source = folder.source(small)
    resident = Table(sharding.replicate(images.pixels), images.labels)
    streamed = Table(stream.Streamed(tuple((source, name) for name in source.names), SIZE, "stretch"), images.labels)
    prepared = jax.jit(lambda examples, index: pixels.normalise(tables.take(examples, None, index)).mean())

    def epoch(table):
        count = len(source.names) // BATCH
        order = np.random.default_rng(0).permutation(len(source.names))[: count * BATCH].reshape(count, BATCH)
        means = [prepared(*batch) for batch in tables.feed(table, order)]
        jax.block_until_ready(means)
        return count * BATCH

    return {
        "decode and cache": decode,
        "epoch, resident": lambda: epoch(resident),
        "epoch, streamed": lambda: epoch(streamed),
    }[task]


class Files:
    """JPEGs of a folder, gray, resized: a torch Dataset."""

    def __init__(self, root: Path):
        self.paths = sorted(root.rglob("*.jpeg"))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        import torch
        from PIL import Image

        with Image.open(self.paths[index]) as file:
            gray = file.convert("L").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(gray))


def theirs(task: str, originals: Path, small: Path):
    """A torch DataLoader over files, as its users write it: decoded anew in each epoch."""
    import torch

    mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    whole = task == "decode and cache"
    loader = torch.utils.data.DataLoader(
        Files(originals if whole else small),
        BATCH,
        shuffle=True,
        drop_last=not whole,
        num_workers=WORKERS,
        multiprocessing_context="fork",
    )

    def epoch():
        done = 0
        for batch in loader:
            ((batch[:, None].float() / 255 - mean) / std).mean().item()
            done += len(batch)
        return done

    return epoch


def resident(task: str, originals: Path, small: Path):
    """The other side of the last row: images on the device."""
    return ours("epoch, resident", originals, small)


def starts(originals: Path) -> tuple[float, float]:
    """Seconds of a study's first start, which decodes, and of its second."""
    from configs import default
    from pneumojax import data

    config = default.get_config().data
    config.dir = str(originals)
    seconds = []
    with tempfile.TemporaryDirectory() as config.cache:
        for _ in range(2):
            began = time.perf_counter()
            data.fingerprint(data.load(config, SIZE))
            seconds.append(time.perf_counter() - began)
    return tuple(seconds)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, help="pictures that originals are made of; phantoms if not given")
    parser.add_argument("--count", type=int, default=600, help="originals")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        originals, small = Path(folder) / "originals", Path(folder) / "small"
        make_originals(pictures_of(options.data), options.count, originals)
        shrink(originals, small)
        kilobytes = sum(path.stat().st_size for path in originals.rglob("*.jpeg")) / options.count / 1e3
        print(
            f"{options.count} originals of {kilobytes:.0f} kB on average; epochs over them at {SIZE} x {SIZE} pixels."
        )
        first, second = starts(originals)
        print(f"First start {first:.1f} s, second {second:.2f} s.\n")
        print(
            "| task | pneumojax, images/s | the other, images/s | ratio of rounds, median [range] |\n|---|---|---|---|"
        )
        for task, other, name in (
            ("decode and cache", theirs, "DataLoader, Pillow"),
            ("epoch, resident", theirs, "DataLoader, Pillow"),
            ("epoch, streamed", theirs, "DataLoader, Pillow"),
            ("epoch, streamed", resident, "resident"),
        ):
            rates = paired.compare(ours, other, (task, originals, small), options.rounds)
            print(f"| {task}, against {name} | {rates.row()} |", flush=True)


def shrink(originals: Path, small: Path) -> None:
    """The same pictures at the size that the networks see."""
    from PIL import Image

    for path in originals.rglob("*.jpeg"):
        target = small / path.relative_to(originals)
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).resize((SIZE, SIZE), Image.Resampling.BILINEAR).save(target, quality=90)


if __name__ == "__main__":
    main()
