"""Layers as PyTorch computes them: what flax's own do otherwise, or slowly."""

import functools
from collections.abc import Callable
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp


def convolve(x, kernel, strides, padding, **kwargs):
    """`lax.conv_general_dilated` in the forms that are fast on CPU, where this changes nothing else.

    A 1x1 window is a matrix product, also when vmap stacks the kernels. A convolution with a stride takes a padded
    picture: its kernel's gradient is slow where it pads by itself. One of each channel alone is `depthwise`.
    """
    if kwargs.get("feature_group_count", 1) == x.shape[-1] > 1 and tuple(strides) == (1, 1):
        return depthwise(x, kernel, padding)
    if kernel.shape[:2] == (1, 1) and tuple(strides) == (1, 1):
        pixels = product(x.reshape(-1, x.shape[-1]), kernel[0, 0])
        return pixels.reshape(*x.shape[:-1], -1)
    if tuple(strides) != (1, 1) and padding != "VALID":
        x, padding = jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), *padding, (0, 0)))), "VALID"
    return jax.lax.conv_general_dilated(x, kernel, strides, padding, **kwargs)


@jax.custom_vjp
def product(x, kernel):
    """[n, c] @ [c, k], many rows. Where k is small, the kernel's gradient takes a tenth of the time on CPU if it is
    computed as [k, c]; the barrier keeps XLA from turning it round."""
    return x @ kernel


def product_backward(residuals, gradient):
    x, kernel = residuals
    if kernel.shape[1] >= kernel.shape[0]:
        return gradient @ kernel.T, x.T @ gradient
    return gradient @ kernel.T, jax.lax.optimization_barrier(gradient.T @ x).T


product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), product_backward)


def depthwise(x, kernel, padding):
    """Each channel with its own window, [h, w, 1, C], as products of shifted pictures; `padding` is a pair an axis.

    XLA's convolution of groups takes 8 to 20 times as long on a CPU, its gradient 6 to 30 times. Sums are of float32.
    """
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    x = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows = places_of(x, 1, kernel.shape[0], 1)
    terms = [
        place.astype(dtype) * kernel[i, j, 0].astype(dtype)
        for i, row in enumerate(rows)
        for j, place in enumerate(places_of(row, 2, kernel.shape[1], 1))
    ]
    return sum(terms).astype(x.dtype)


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
    return line_max(line_max(x, 2, window, stride), 1, window, stride)  # in rows first: PyTorch's order of equals


@partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def line_max(x, axis: int, window: int, stride: int):
    """The maximum of each window along one axis. XLA's own pooling is 5 times slower on CPU, its gradient 10 times."""
    return functools.reduce(jnp.maximum, places_of(x, axis, window, stride))


def places_of(x, axis: int, window: int, stride: int) -> list:
    """What stands in all windows, one array for each place in the window."""
    length = (x.shape[axis] - window) // stride * stride + 1
    return [jax.lax.slice_in_dim(x, place, place + length, stride, axis) for place in range(window)]


def line_max_forward(x, axis, window, stride):
    best, *others = places_of(x, axis, window, stride)
    chosen = jnp.zeros(best.shape, jnp.int8)
    for place, values in enumerate(others, 1):
        chosen = jnp.where(values > best, jnp.int8(place), chosen)  # of equals the first, as PyTorch takes it
        best = jnp.maximum(best, values)
    return best, (chosen, jnp.empty((0, *x.shape[1:])))  # the empty array tells the backward pass the picture's size


def line_max_backward(axis, window, stride, residuals, gradient):
    chosen, picture = residuals
    zero = jnp.zeros((), gradient.dtype)
    behind = picture.shape[axis] - (gradient.shape[axis] - 1) * stride - 1
    total = 0
    for place in range(window):
        edges = [(0, 0, 0)] * gradient.ndim
        edges[axis] = (place, behind - place, stride - 1)
        total += jax.lax.pad(jnp.where(chosen == place, gradient, zero), zero, edges)
    return (total,)


line_max.defvjp(line_max_forward, line_max_backward)


def average_pool(x, window: int, padding: int, count_padding: bool, stride: int = 1):
    """Average pooling. PyTorch counts the padding's zeros unless told otherwise, TensorFlow does not."""

    def sums(x):
        x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
        return sum(places_of(sum(places_of(x, 2, window, stride)), 1, window, stride))

    return sums(x) / (window**2 if count_padding else sums(jnp.ones((1, *x.shape[1:3], 1), x.dtype)))


def adaptive_average_pool(x, size: int):
    """PyTorch's AdaptiveAvgPool2d: bins from floor(i * H / size) to ceil((i + 1) * H / size)."""
    for axis in (1, 2):
        length = x.shape[axis]
        bins = [(i * length // size, -(-(i + 1) * length // size)) for i in range(size)]
        weights = jnp.array([[(a <= p < b) / (b - a) for p in range(length)] for a, b in bins], x.dtype)
        x = jnp.moveaxis(jnp.tensordot(weights, x, (1, axis)), 0, axis)
    return x


def inputs_of_tensorflow(x):
    """Images normalised by ImageNet's mean and deviation → in [-1, 1], as networks saw them that TensorFlow trained."""
    mean, std = jnp.array([0.485, 0.456, 0.406], x.dtype), jnp.array([0.229, 0.224, 0.225], x.dtype)
    return x * (std / 0.5) + (mean - 0.5) / 0.5


def channels_first(x):
    """[N, H, W, C] → [N, C * H * W], the order in which PyTorch flattens."""
    return x.transpose(0, 3, 1, 2).reshape(x.shape[0], -1)


class Dropout(nn.Module):
    """PyTorch's dropout. At a rate of 0.5 an element takes one random bit; flax's takes 32, which on a CPU was half the
    time of a step of SqueezeNet's head."""

    rate: float

    @nn.compact
    def __call__(self, x, train: bool):
        if not train:
            return x
        key = self.make_rng("dropout")
        if self.rate == 0.5:
            words = jax.random.bits(key, (-(-x.size // 32), 1), jnp.uint32)
            bits = (words >> jnp.arange(32, dtype=jnp.uint32)) & 1
            kept = bits.reshape(-1)[: x.size].reshape(x.shape) == 1
        else:
            kept = jax.random.bernoulli(key, 1 - self.rate, x.shape)
        return jnp.where(kept, x / (1 - self.rate), jnp.zeros((), x.dtype))


class BatchNorm(nn.Module):
    """Batch norm over all axes but the last.

    As in PyTorch the batch is normalised by its biased variance while the running variance takes the unbiased one,
    which flax's module does not. PyTorch's momentum 0.1 is 0.9 here. Statistics are float32 for bfloat16 inputs too.
    Under jit over a mesh they are those of the global batch.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9
    use_scale: bool = True

    @nn.compact
    def __call__(self, x, train: bool):
        channels, dtype = x.shape[-1], x.dtype
        x = x.astype(jnp.promote_types(dtype, jnp.float32))
        scale = self.param("scale", nn.initializers.ones, (channels,)) if self.use_scale else 1.0
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


class ConvBlock(nn.Module):
    """Convolution, batch norm, ReLU, as the networks of the Inception family have them."""

    features: int
    window: tuple[int, int]
    stride: int = 1
    padding: int | tuple = 0
    norm: Callable = partial(BatchNorm, epsilon=1e-3)

    @nn.compact
    def __call__(self, x, train: bool):
        stride = (self.stride, self.stride)
        x = convolution(self.features, self.window, stride, padding=self.padding, use_bias=False, name="conv")(x)
        return nn.relu(self.norm(name="bn")(x, train))
