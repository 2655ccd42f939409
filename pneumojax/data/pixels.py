"""Pixels on the device: resizing, and the ranges that the networks see."""

import jax
import jax.numpy as jnp


def resized(images, size: int):
    """uint8 [N, S, S] → uint8 [N, size, size], antialiased bilinear, rounded."""
    if images.shape[1] == size:
        return images
    shape = (len(images), size, size)
    return jnp.round(jax.image.resize(images.astype(jnp.float32), shape, "linear", antialias=True)).astype(jnp.uint8)


def to_tanh_range(images):
    """uint8 [N, S, S] → float32 [N, S, S, 1] in [-1, 1], what a GAN sees."""
    return images[..., None].astype(jnp.float32) / 127.5 - 1


def from_tanh_range(images):
    """float [N, S, S, 1] in [-1, 1] → uint8 [N, S, S]."""
    return jnp.clip(jnp.round((images[..., 0] + 1) * 127.5), 0, 255).astype(jnp.uint8)


def normalise(images):
    """uint8 [N, S, S] → float32 [N, S, S, 3], gray in three channels under ImageNet's mean and deviation."""
    mean = jnp.array([0.485, 0.456, 0.406])
    std = jnp.array([0.229, 0.224, 0.225])
    return (images[..., None].astype(jnp.float32) / 255 - mean) / std
