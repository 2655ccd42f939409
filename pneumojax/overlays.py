"""Saliency maps over the images that they explain, uint8 [H, W, 3]; what stands above them is black on white."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from pneumojax.gan import pictures
from pneumojax.saliency import METHODS, Explained, checked

STRENGTH = 0.6  # of a map's colour where it is highest
CLIPPED = 99  # percentile of a signed map's size that has full colour: single pixels would hide the others
FOR, AGAINST = (np.array(colour, float) for colour in ((220, 30, 30), (30, 90, 220)))  # red, blue


def heat(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map float [h, w], 0 or more, over an image uint8 [S, S], from red to yellow; of zeros it changes nothing."""
    most = float(values.max())
    share = np.clip(resized(values / most if most > 0 else np.zeros_like(values), image.shape[0]), 0, 1)
    colour = 255 * np.stack([np.clip(2 * share, 0, 1), np.clip(2 * share - 1, 0, 1), np.zeros_like(share)], -1)
    return blended(image, colour, STRENGTH * share)


def signed(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A map float [S, S] over an image uint8 [S, S]: red speaks for the class, blue against it."""
    most = float(np.percentile(np.abs(values), CLIPPED)) or float(np.abs(values).max())
    share = np.clip(values / most, -1, 1) if most > 0 else np.zeros_like(values)
    return blended(image, np.where(share[..., None] > 0, FOR, AGAINST), np.abs(share))


def resized(values: np.ndarray, size: int) -> np.ndarray:
    """float [h, w] → float [size, size], bilinear."""
    picture = Image.fromarray(values.astype(np.float32))
    return np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR), float)


def blended(image: np.ndarray, colour: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Gray [S, S] and a colour [S, S, 3], of this a share [S, S]."""
    mixed = image[..., None] * (1 - share[..., None]) + colour * share[..., None]
    return np.clip(np.round(mixed), 0, 255).astype(np.uint8)


def triple(image: np.ndarray, explained: Explained, said: str) -> np.ndarray:
    """An image, Grad-CAM and integrated gradients over it, side by side below what is said of it.

    Where there is room, their rank correlations with those of the network whose head, and all of it, was drawn anew.
    """
    tiles = [np.repeat(image[..., None], 3, -1), signed(image, explained.integrated.values)]
    if explained.grad_cam:
        tiles.insert(1, heat(image, explained.grad_cam.values))
    own = [method for method in METHODS if getattr(explained, method)]
    checks = checked(explained)
    found = " | ".join("/".join(plain(value) for value in checks[method].values()) for method in own)

    def compose(planes: Sequence[np.ndarray]) -> np.ndarray:
        picture = pictures.tiled(np.stack(planes), len(planes))
        picture = pictures.captioned(
            picture, f"with that of head/all drawn anew: {found}", f"head/all anew: {found}", ""
        )
        names = " | ".join(["image", *(METHODS[method] for method in own)])
        picture = pictures.captioned(picture, names, names.removesuffix(" gradients"))
        return pictures.captioned(picture, said)

    return in_colour(compose, tiles)


def plain(value: float | None) -> str:
    """'0.12'; a dash where a map is the same everywhere."""
    return "-" if value is None else f"{value:z.2f}"


def sheet(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures uint8 [h, w, 3] of one size in rows, as many beside each other as a page has room for."""
    columns = max(1, (pictures.WIDTH + pictures.GUTTER) // (tiles[0].shape[1] + pictures.GUTTER))

    def compose(planes: Sequence[np.ndarray]) -> np.ndarray:
        rows = [planes[first : first + columns] for first in range(0, len(planes), columns)]
        return pictures.below([pictures.beside(row) for row in rows])

    return in_colour(compose, tiles)


def in_colour(compose: Callable[[Sequence[np.ndarray]], np.ndarray], parts: Sequence[np.ndarray]) -> np.ndarray:
    """What a function of gray pictures makes of coloured ones, channel by channel."""
    return np.stack([compose([part[..., channel] for part in parts]) for channel in range(3)], -1)
