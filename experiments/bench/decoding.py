"""What decoding JPEGs at a reduced size changes, and which flipped bits are seen.

    python -m experiments.bench.decoding [--data DIR]

Prints both. Pictures are made of those below DIR, or of phantoms, as in `experiments.bench.data`.
"""

import argparse
import io
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.bench import data
from pneumojax.data import decode, folder


def closeness(originals: Path) -> np.ndarray:
    """|reduced - whole| in gray levels, of all pixels of all originals once resized."""
    source = folder.source(originals)
    differences = []
    for name in source.names:
        content = source.read(name)
        reduced, whole = (
            decode.resize(decode.read(content, name, at_least), data.SIZE, "stretch").astype(int)
            for at_least in (decode.REDUCED * data.SIZE, None)
        )
        differences.append(np.abs(reduced - whole))
    return np.concatenate(differences)


def flips(pictures: list[np.ndarray], name: str, count: int) -> Counter:
    """What becomes of files of 300 x 260 pixels in which one random bit is flipped."""
    rng, outcomes = np.random.default_rng(0), Counter()
    for number in range(count):
        content = io.BytesIO()
        picture = Image.fromarray(pictures[number % len(pictures)]).resize((300, 260), Image.Resampling.BICUBIC)
        picture.save(content, format=decode.FORMATS[Path(name).suffix], quality=90)
        damaged = bytearray(content.getvalue())
        damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
        whole = decode.read(content.getvalue(), name).gray.astype(int)
        try:
            gray = decode.read(bytes(damaged), name).gray.astype(int)
        except decode.Unreadable:
            outcomes["refused"] += 1
            continue
        if gray.shape == whole.shape and (gray == whole).all():
            outcomes["no pixel changed"] += 1
        elif gray.shape == whole.shape and np.abs(gray - whole).mean() < 1:
            outcomes["changed by less than a level in the mean"] += 1
        else:
            outcomes["changed by more"] += 1
    return outcomes


def main() -> None:
    """Prints how close reduced decoding is, and what becomes of flipped bits."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, help="pictures that originals are made of; phantoms if not given")
    parser.add_argument("--count", type=int, default=60, help="originals")
    parser.add_argument("--flips", type=int, default=1500)
    options = parser.parse_args()
    pictures = data.pictures_of(options.data)
    with tempfile.TemporaryDirectory() as root:
        data.make_originals(pictures, options.count, Path(root) / "originals")
        found = closeness(Path(root) / "originals")
    print(
        f"{options.count} originals at {data.SIZE} x {data.SIZE} pixels, reduced against whole: mean difference",
        end=" ",
    )
    print(f"{found.mean():.3f} gray levels, at most {found.max()}, {100 * np.mean(found <= 1):.2f}% within 1")
    for name in ("a.jpeg", "a.png"):
        outcomes = dict(flips(pictures, name, options.flips))
        print(f"{options.flips} flipped bits in {decode.FORMATS[Path(name).suffix]}: {outcomes}")


if __name__ == "__main__":
    main()
