"""The adaptive median filter (Hwang and Haddad 1995): takes salt and pepper out of a picture and leaves its edges.

Wu et al. (2020) filter with an improved one; what they improved is not known here, so this is the plain one.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

SMALLEST = 3  # pixels a side of the first window


def filtered(images: np.ndarray, largest: int) -> np.ndarray:
    """Replaces pixels that are the darkest or brightest of their surroundings by the median there.

    A pixel's window grows from 3 pixels a side by 2 until its median is neither its minimum nor its maximum. Then the
    pixel stays if it is neither as well, and else becomes the median. Where no window up to the largest is such a one,
    as in an area of one gray level, the pixel becomes the median of the largest. Beyond the edge pictures are mirrored,
    the pixel at the edge included.

    Args:
      images: uint8 [N, H, W].
      largest: pixels a side of the largest window, odd, 3 or more.

    Returns: uint8 [N, H, W].
    """
    return np.stack([filtered_one(image, largest) for image in images]) if len(images) else images.copy()


def filtered_one(image: np.ndarray, largest: int) -> np.ndarray:
    """`filtered` for one image, uint8 [H, W]."""
    result, (rows, columns) = image.copy(), map(np.ravel, np.indices(image.shape))
    for side in range(SMALLEST, largest + 1, 2):
        windows = sliding_window_view(np.pad(image, side // 2, mode="symmetric"), (side, side))
        ordered = np.sort(windows[rows, columns].reshape(len(rows), side * side))
        lowest, median, highest = ordered[:, 0], ordered[:, side * side // 2], ordered[:, -1]
        pixel = image[rows, columns]
        settled = (lowest < median) & (median < highest)
        stays = settled & (lowest < pixel) & (pixel < highest)
        result[rows, columns] = np.where(stays, pixel, median)  # of a larger window, where that is settled later
        rows, columns = rows[~settled], columns[~settled]
    return result
