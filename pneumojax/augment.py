"""Classical augmentation of a batch, on the device: flips, an affine map about the centre, shifts."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates


def used(config) -> bool:
    """Whether a `config.classifier` asks for any."""
    return any((config.flip, config.shift, config.rotation, config.zoom, config.shear))


def augment(images, key, config):
    """Each image its own way; a field that is 0 or false leaves images as they are.

    In this order: flipped left to right (`flip`, every other image); sheared, turned and zoomed about the centre, as
    one map sampled once (`affine`: uniformly up to `shear` and `rotation` degrees either way, by 1 - `zoom` to 1 +
    `zoom`); shifted by whole pixels (uniformly up to `shift` each way). It is torchvision's `RandomAffine(rotation,
    scale=(1 - zoom, 1 + zoom), shear=shear)` but for the shift, which is in pixels here.

    Args:
      images: uint8 [N, S, S].
      key: all is drawn from it; what befalls an image is a function of key and place in the batch.
      config: `config.classifier`.

    Returns: uint8 [N, S, S]; what moves in is black.
    """
    flip_key, shift_key, affine_key = jax.random.split(key, 3)
    if config.flip:
        flipped = jax.random.bernoulli(flip_key, shape=(images.shape[0], 1, 1))
        images = jnp.where(flipped, images[:, :, ::-1], images)
    limits = (config.rotation, config.zoom, config.shear)
    if any(limits):
        drawn = jax.random.uniform(affine_key, (images.shape[0], 3), minval=-1, maxval=1) * jnp.array(limits)
        images = jax.vmap(lambda image, d: warp(image, affine(d[0], 1 + d[1], d[2], len(image))))(images, drawn)
    if config.shift:
        limit = config.shift
        padded = jnp.pad(images, ((0, 0), (limit, limit), (limit, limit)))
        corners = jax.random.randint(shift_key, (images.shape[0], 2), 0, 2 * limit + 1)
        images = jax.vmap(lambda image, corner: jax.lax.dynamic_slice(image, corner, images.shape[1:]))(padded, corners)
    return images


class Slight(NamedTuple):
    """How copies of images are moved, for `augment`: by what changes no finding; a mirror image would have the heart on
    the right."""

    flip: bool = False
    shift: int = 0
    rotation: float = 5.0
    zoom: float = 0.05
    shear: float = 0.0


def copies(images, numbers):
    """Copies of images, turned and zoomed a little and shifted by up to a sixteenth of a side.

    Args:
      images: uint8 [N, S, S].
      numbers: int32 [N]; the same copy of an image for the same number.
    """
    settings = Slight(shift=images.shape[1] // 16)
    keys = jax.vmap(lambda number: jax.random.fold_in(jax.random.key(0), number))(numbers)
    return jax.vmap(lambda image, key: augment(image[None], key, settings)[0])(images, keys)


def affine(rotation, scale, shear, size: int):
    """Where the pixels of a picture come from that is sheared, then turned, then scaled about its centre.

    Rows count downwards, columns to the right. As torchvision's `affine` has it: a positive rotation is clockwise, a
    scale above 1 enlarges, a positive shear moves what is below the centre to the left, along the row.

    Args:
      rotation: degrees.
      scale: above 0.
      shear: degrees between -90 and 90.
      size: pixels a side.

    Returns: float32 [2, 3]: times (row, column, 1) of a pixel, (row, column) of its origin.
    """
    angle, slope = jnp.deg2rad(rotation), jnp.tan(jnp.deg2rad(shear))
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    linear = jnp.array([[cos, -sin], [sin + slope * cos, cos - slope * sin]]) / scale
    centre = (size - 1) / 2
    return jnp.column_stack([linear, centre - centre * linear.sum(1)])


def warp(image, matrix):
    """uint8 [H, W] sampled bilinearly at the origins that `matrix` [2, 3] gives; black outside."""
    row, column = jnp.indices(image.shape)
    # no matrix product: GPUs and TPUs take it in TF32 or bfloat16, which misplaces pixels
    origins = [down * row + right * column + offset for down, right, offset in matrix]
    return map_coordinates(image, origins, order=1, mode="constant")
