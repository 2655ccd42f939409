"""What is checked of features and images where they enter, and how a quantity that does not exist is told."""

from typing import NamedTuple

import numpy as np

from pneumojax.errors import BadInput

LARGEST = 1e20  # the kernel is its sixth power, and the square of that still a float64; no network gives as much


class Undefined(BadInput):
    """A quantity that these images, though they are as they should be, do not have: `null` and a reason in JSON."""


class Measured(NamedTuple):
    """A value or the reason why there is none: one of the two is None."""

    value: object
    reason: str | None


def measured(function, *args, **kwargs) -> Measured:
    """The value of a function of this package, or why it is undefined.

    Errors: BadInput, as the function, for arrays of wrong shapes or that are not finite.
    """
    try:
        return Measured(function(*args, **kwargs), None)
    except Undefined as error:
        return Measured(None, str(error))


def features(**sets) -> tuple[np.ndarray, ...]:
    """Features by what they are of, float [n, d] each with one d → float64 arrays.

    Errors: BadInput for another shape, unequal d, and what is no finite number; Undefined for one image alone and for
    images that are all alike.
    """
    arrays = {name: numbers(name, values, 2, "[images, features]") for name, values in sets.items()}
    (first, reference), *others = arrays.items()
    for name, array in others:
        if array.shape[1] != reference.shape[1]:
            raise BadInput(
                f"{name} has {array.shape[1]} features an image and {first} {reference.shape[1]}; "
                "give those of one network for both"
            )
    for name, array in arrays.items():
        check_varied(name, array)
    return tuple(arrays.values())


def images(**sets) -> tuple[np.ndarray, ...]:
    """Images by what they are, uint8 [n, S, S] each, n above 0.

    Errors: BadInput for another shape or type, and for unequal sizes.
    """
    arrays = {name: np.asarray(values) for name, values in sets.items()}
    (first, reference), *_ = arrays.items()
    for name, array in arrays.items():
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[1] != array.shape[2] or array.size == 0:
            raise BadInput(f"{name} is {array.dtype} {list(array.shape)}; give gray images, uint8 [images, side, side]")
        if array.shape[1:] != reference.shape[1:]:
            raise BadInput(
                f"{name} has images of {array.shape[1]} pixels a side and {first} of {reference.shape[1]}; "
                "send both through the GAN's size"
            )
    return tuple(arrays.values())


def numbers(name: str, values, ndim: int, shape: str) -> np.ndarray:
    """Values as float64. Errors: BadInput where they are none, not finite, too large, or of other dimensions."""
    try:
        array = np.asarray(values, None if np.iscomplexobj(values) else np.float64)
    except (TypeError, ValueError, RuntimeError) as error:  # the last of a tensor of PyTorch that has a gradient
        raise BadInput(f"{name} is no array of numbers ({error}); give floats {shape}") from error
    if np.iscomplexobj(array):
        raise BadInput(f"{name} is {array.dtype}; give floats {shape}")
    if array.ndim != ndim or array.size == 0:
        raise BadInput(f"{name} is of shape {list(array.shape)}; give floats {shape}, one row an image")
    wrong = ~(np.abs(array) < LARGEST)  # so that NaN is
    if wrong.any():
        where = np.argwhere(wrong)[0]
        raise BadInput(
            f"{name}{where.tolist()} is {array[tuple(where)]}; give features of images of a GAN that has not diverged"
        )
    return array


def column(name: str, values, count: int) -> np.ndarray:
    """A label for each of `count` images, [count]. Errors: BadInput where there are more or fewer, or none for one."""
    array = np.asarray(values)
    if array.shape != (count,):
        raise BadInput(f"{name} is of shape {list(array.shape)} for {count} images; give one for each")
    absent = [row for row, label in enumerate(array.tolist()) if label is None or label != label]
    if absent:  # to numpy all NaN are one patient, and None is no label at all
        raise BadInput(f"{name}[{absent[0]}] is {array[absent[0]]}; give each image a label, of its own if need be")
    return array


def check_count(name: str, value, least: int, what: str) -> None:
    """Errors: BadInput for what is no whole number from `least`."""
    if not isinstance(value, int | np.integer) or value < least:
        raise BadInput(f"{name}={value!r}; give {what}, {least} or more")


def check_varied(name: str, array: np.ndarray) -> None:
    """Errors: Undefined for one image alone and for images that are all alike."""
    if len(array) < 2:
        raise Undefined(f"{name} is one image alone; two or more are needed")
    if (array == array[0]).all():
        raise Undefined(f"the {len(array)} images of {name} are all alike; look at them, no distance tells more")
