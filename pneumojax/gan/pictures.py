"""Pictures of what GANs make, uint8 [H, W]: sheets with real images beside, animations, pairs; PNG and WebP of them.

Tiles are enlarged by whole factors alone and stand apart by gray gaps, so that black images have edges; white strips
above them say what they are.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from pneumojax.errors import BadInput, describe
from pneumojax.names import printable
from pneumojax.stage import Stage

TILE = 64  # pixels of a tile's side, at least
GAP, GUTTER, STRIP = 2, 14, 20  # pixels between tiles, between blocks of them, and of a caption's height
GRAY, WHITE = 128, 255
WIDTH = 1056  # pixels of all tiles of a row: what a page shows as it is
ROWS = 4  # of samples
FRAMES = 12  # of an animation, at most
PACE = 600  # milliseconds a frame; the last one stays three times as long


class Counts(NamedTuple):
    """Tiles of one class on a sheet."""

    generated: int  # in ROWS rows, as are the next
    real: int
    between: int  # in one row below them


def scale_of(size: int) -> int:
    """The whole factor that images of so many pixels are enlarged by."""
    return max(1, -(-TILE // size))


def columns_of(size: int) -> int:
    """Tiles of a row, 4 to 16."""
    return int(np.clip(WIDTH // (size * scale_of(size) + GAP), 4, 16))


def counts(size: int) -> Counts:
    """What a sheet holds of a class; a quarter of its columns are real images."""
    columns = columns_of(size)
    return Counts((columns - columns // 4) * ROWS, columns // 4 * ROWS, columns)


def tiled(images: np.ndarray, columns: int) -> np.ndarray:
    """uint8 [n, S, S] in rows of so many columns, enlarged, with gaps around each; what a last row lacks is gap."""
    size, scale = images.shape[1], scale_of(images.shape[1])
    side = size * scale + GAP
    picture = np.full((-(-len(images) // columns) * side + GAP, columns * side + GAP), GRAY, np.uint8)
    for index, image in enumerate(images.repeat(scale, 1).repeat(scale, 2)):
        top, left = (GAP + place * side for place in divmod(index, columns))
        picture[top : top + size * scale, left : left + size * scale] = image
    return picture


def ascii_of(text: str) -> str:
    r"""A text with backslash escapes, as `\xe4`, for what Pillow's own font may lack."""
    return printable(text).encode("ascii", "backslashreplace").decode()


def captioned(picture: np.ndarray, *texts: str) -> np.ndarray:
    """The picture below a strip of text; the first of the texts that fits, else the start of the last."""
    font, room = ImageFont.load_default(13), picture.shape[1] - 2 * GAP
    escaped = [ascii_of(text) for text in texts]
    fitting = [text for text in escaped if font.getlength(text) <= room]
    cut = (f"{escaped[-1][:end]}..." for end in range(len(escaped[-1]), -1, -1))
    text = fitting[0] if fitting else next((one for one in cut if font.getlength(one) <= room), "")
    strip = Image.new("L", (picture.shape[1], STRIP), WHITE)
    ImageDraw.Draw(strip).text((GAP, STRIP - 5), text, fill=0, font=font, anchor="ls")
    return np.concatenate([np.asarray(strip), picture])


def beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures from left to right, their tops in a line."""
    return below([picture.T for picture in pictures]).T


def below(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures from top to bottom, their left edges in a line."""
    width = max(picture.shape[1] for picture in pictures)
    last = len(pictures) - 1
    margins = [((0, GUTTER * (i < last)), (0, width - one.shape[1])) for i, one in enumerate(pictures)]
    padded = [np.pad(one, margin, constant_values=WHITE) for one, margin in zip(pictures, margins, strict=True)]
    return np.concatenate(padded)


def sheet(name: str, step: int, generated: np.ndarray, real: np.ndarray, between: np.ndarray) -> np.ndarray:
    """One class: samples beside real images, and a row from one latent to another below, so many as `counts` says.

    Args:
      name: of the class, any text.
      step: of training, which the samples are of.
      generated: uint8 [n, S, S].
      real: uint8 [m, S, S], training images; there may be fewer than their place holds.
      between: uint8 [columns, S, S].
    """
    columns, size = columns_of(generated.shape[1]), generated.shape[1]
    space = np.full((counts(size).real - len(real), size, size), GRAY, np.uint8)
    samples = tiled(generated, columns - columns // 4)
    trained_on = tiled(np.concatenate([real, space]), columns // 4)
    upper = [
        captioned(samples, f"{name}: synthetic, step {step}"),
        captioned(trained_on, f"{name}: real, of its training images", f"{name}: real", "real"),
    ]
    return below([beside(upper), interpolation(name, between)])


def interpolation(name: str, between: np.ndarray) -> np.ndarray:
    """Rows of a class, uint8 [rows * columns, S, S], each from one latent to another."""
    return captioned(
        tiled(between, columns_of(between.shape[1])),
        f"{name}: synthetic, from one latent, left, to another, right, in equal angles",
        f"{name}: synthetic, from left to right",
    )


def samples(name: str, generated: np.ndarray) -> np.ndarray:
    """Images of one class, uint8 [n, S, S], alone: the first ones, as many as have their places in ROWS rows."""
    columns = columns_of(generated.shape[1])
    return captioned(tiled(generated[: ROWS * columns], columns), f"{name}: synthetic")


def frame(sheets: np.ndarray, size: int, classes: int) -> np.ndarray:
    """Of sheets of as many classes, one below the other, the first samples: two rows of half the columns of each."""
    side = size * scale_of(size) + GAP
    pitch = (len(sheets) + GUTTER) // classes
    height, width = STRIP + 2 * side + GAP, columns_of(size) // 2 * side + GAP
    return below([sheets[first : first + height, :width] for first in range(0, classes * pitch, pitch)])


def nearest_pairs(generated: np.ndarray, training: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Generated images, each with the training image nearest to it at its right, and their distance above.

    Args:
      generated: uint8 [n, S, S], n > 0.
      training: uint8 [n, S, S].
      distances: float [n], in the order in which pairs are to be shown.
    """
    pairs = [
        captioned(tiled(np.stack(pair), 2), f"distance {distance:.3g}", f"{distance:.3g}")
        for *pair, distance in zip(generated, training, distances, strict=True)
    ]
    columns = max(1, (WIDTH + GUTTER) // (pairs[0].shape[1] + GUTTER))
    rows = [beside(pairs[first : first + columns]) for first in range(0, len(pairs), columns)]
    return captioned(below(rows), "left synthetic, right the nearest training image", "synthetic | real")


def png(picture: np.ndarray, texts: Mapping[str, str] | None = None) -> bytes:
    """uint8 [H, W] as a PNG, with texts by keyword (tEXt)."""
    content, info = io.BytesIO(), PngInfo()
    for keyword, text in (texts or {}).items():
        info.add_text(keyword, ascii_of(text))
    Image.fromarray(picture).save(content, "PNG", optimize=True, pnginfo=info)
    return content.getvalue()


def webp(pictures: Sequence[np.ndarray], quality: int) -> bytes:
    """uint8 [H, W] each, one picture or the frames of an animation that repeats, at most FRAMES of them; lossy.

    A third of a PNG's size for one picture and, for an animation, a fifth of a GIF's.
    """
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(FRAMES, len(pictures))).round().astype(int))
    first, *others = (Image.fromarray(pictures[index]) for index in chosen)
    content = io.BytesIO()
    pace = [*[PACE] * len(others), 3 * PACE]
    first.save(
        content,
        "WEBP",
        quality=quality,
        **({"save_all": True, "append_images": others, "duration": pace, "loop": 0} if others else {}),
    )
    return content.getvalue()


def read(path: Path) -> np.ndarray:
    """A picture at rest, uint8 [H, W]. Errors: BadInput where it cannot be read."""
    with opened(path) as picture:
        return np.asarray(picture.convert("L"))


def texts_of(path: Path) -> dict[str, str]:
    """The texts in a PNG. Errors: BadInput where it cannot be read."""
    with opened(path) as picture:
        return dict(getattr(picture, "text", {}))


@contextmanager
def opened(path: Path):
    """Gives Pillow's picture of a file. Errors: BadInput where it cannot be read."""
    try:
        with Image.open(path) as picture:
            yield picture
    except (OSError, SyntaxError, ValueError) as error:  # which Pillow raises of damaged files
        raise BadInput(f"{path} cannot be read ({describe(error)}); bring it back or remove it") from error


def progress_name(stage: Stage) -> str:
    """What the animation of a stage's sheets is called, beside these."""
    return f"progress-{stage.name.replace('/', '-')}.webp"
