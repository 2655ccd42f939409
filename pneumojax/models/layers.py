"""Layers as PyTorch computes them: what flax's own do otherwise, or slowly."""

import functools
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp


def convolve(x, kernel, strides, padding, **kwargs):
    """`lax.conv_general_dilated`; a 1x1 window is a matrix product, also when vmap stacks the kernels."""
    if kernel.shape[:2] == (1, 1) and tuple(strides) == (1, 1):
        pixels = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
        return pixels.reshape(*x.shape[:-1], -1)
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **kwargs)


convolution = partial(
    nn.Conv,
    padding="VALID",
    conv_general_dilated=convolve,
    # torchvision's networks initialise convolutions by the fan-out, for ReLU
    kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
)


def linear_init(key, shape, dtype=jnp.float32):
    """PyTorch's default for a linear layer's weights: uniform within 1 / sqrt(inputs)."""
    bound = shape[0] ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def pad(x, amount: int, value: float = 0.0):
    """Pads height and width. Apart from the layer that needs it: a convolution that pads itself is slow on CPU."""
    return jax.lax.optimization_barrier(
        jnp.pad(x, ((0, 0), (amount, amount), (amount, amount), (0, 0)), constant_values=value)
    )


def max_pool(x, window: int, stride: int, padding: int = 0, ceil: bool = False):
    """Max pooling; with `ceil` the last window may reach beyond the picture, as PyTorch's ceil_mode lets it."""
    pads = []
    for size in x.shape[1:3]:
        reach = size + 2 * padding - window
        windows = -(-reach // stride) + 1 if ceil else reach // stride + 1
        if (windows - 1) * stride >= size + padding:
            windows -= 1  # PyTorch has no window that begins in the padding on the right
        if windows < 1:
            raise ValueError(f"a max pool of {window} pixels has nothing to pool in {size}")
        pads.append((padding, max((windows - 1) * stride + window - size - padding, 0)))
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    return windows_max(x, window, stride)


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def windows_max(x, window: int, stride: int):
    """The maximum of each window. XLA's own forward is 5 times and its gradient 6 times slower on CPU."""
    return functools.reduce(jnp.maximum, pixels_of_windows(x, window, stride))


def pixels_of_windows(x, window: int, stride: int) -> list:
    """The pixels of all windows, one array for each place in the window."""
    height, width = ((size - window) // stride * stride + 1 for size in x.shape[1:3])
    return [x[:, i : i + height : stride, j : j + width : stride] for i in range(window) for j in range(window)]


def windows_max_forward(x, window, stride):
    best, *others = pixels_of_windows(x, window, stride)
    place = jnp.zeros(best.shape, jnp.int8)
    for index, pixels in enumerate(others, 1):
        place = jnp.where(pixels > best, jnp.int8(index), place)  # of equals the first, as PyTorch takes it
        best = jnp.maximum(best, pixels)
    return best, (place, jnp.empty((0, *x.shape[1:3])))  # the empty array tells the backward pass the picture's size


def windows_max_backward(window, stride, residuals, gradient):
    place, picture = residuals
    total = 0
    for index in range(window**2):
        edges = []
        for start, size, count in zip(divmod(index, window), picture.shape[1:], gradient.shape[1:3], strict=True):
            edges.append((start, size - start - (count - 1) * stride - 1, stride - 1))
        zero = jnp.zeros((), gradient.dtype)
        total += jax.lax.pad(jnp.where(place == index, gradient, zero), zero, ((0, 0, 0), *edges, (0, 0, 0)))
    return (total,)


windows_max.defvjp(windows_max_forward, windows_max_backward)


def adaptive_average_pool(x, size: int):
    """PyTorch's AdaptiveAvgPool2d: bins from floor(i * H / size) to ceil((i + 1) * H / size)."""
    for axis in (1, 2):
        length = x.shape[axis]
        bins = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        weights = jnp.array([[(a <= p < b) / (b - a) for p in range(length)] for a, b in bins], x.dtype)
        x = jnp.moveaxis(jnp.tensordot(weights, x, (1, axis)), 0, axis)
    return x


def channels_first(x):
    """[N, H, W, C] → [N, C * H * W], the order in which PyTorch flattens."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


class BatchNorm(nn.Module):
    """Batch norm over all axes but the last.

    As in PyTorch the batch is normalised by its biased variance while the running variance takes the unbiased one,
    which flax's module does not. PyTorch's momentum 0.1 is 0.9 here. Statistics are float32 for bfloat16 inputs too.
    Under jit over a mesh they are those of the global batch.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x, train: bool):
        channels, dtype = x.shape[-1], x.dtype
        x = x.astype(jnp.promote_types(dtype, jnp.float32))
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        if train:
            axes = tuple(range(x.ndim - 1))
            mean = jnp.mean(x, axes)
            var = jnp.maximum(jnp.mean(x * x, axes) - mean * mean, 0)
            if not self.is_initializing():
                count = x.size // channels
                unbiased = var * (count / (count - 1))
                for running, value in ((running_mean, mean), (running_var, unbiased)):
                    running.value = self.momentum * running.value + (1 - self.momentum) * value
        else:
            mean, var = running_mean.value, running_var.value
        return ((x - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias).astype(dtype)
