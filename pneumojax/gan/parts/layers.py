"""4x4 convolutions that halve or double an image, in forms that are fast on every device."""

import flax.linen as nn
import jax
import jax.numpy as jnp

initializer = nn.initializers.glorot_uniform()


def padded(x):
    """A border of one pixel, [N, S, S, C] → [N, S + 2, S + 2, C]; XLA is slow at convolutions that pad themselves."""
    return jax.lax.optimization_barrier(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))))


def convolution(x, kernel, *how, **further):
    """`jax.lax.conv_general_dilated` for `nn.Conv(conv_general_dilated=…)` of what has a penalty on its gradients.

    A convolution, its gradient by the image and its gradient by the kernel are one trilinear form read in three ways:
    the derivatives of each are the other two. JAX derives them from each other as they are written, dilated, which
    XLA's CPU backend is slow at: a step of DCGAN with R1 took 7 times as long as without, now 1.6 times (32 filters, 64
    pixels, batch 32). First derivatives have the same bits as without. Not for forward mode.
    """

    def plain(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, *how, **further)

    of_image, of_kernel = jax.typeof(x), jax.typeof(kernel)
    forward = jax.custom_vjp(plain)
    by_image = jax.custom_vjp(lambda g, kernel: jax.linear_transpose(lambda x: plain(x, kernel), of_image)(g)[0])
    by_kernel = jax.custom_vjp(lambda x, g: jax.linear_transpose(lambda kernel: plain(x, kernel), of_kernel)(g)[0])
    for function, backward in (
        (forward, lambda saved, g: (by_image(g, saved[1]), by_kernel(saved[0], g))),
        (by_image, lambda saved, c: (forward(c, saved[1]), by_kernel(c, saved[0]))),
        (by_kernel, lambda saved, c: (by_image(saved[1], c), forward(saved[0], c))),
    ):
        function.defvjp(lambda *inputs, function=function: (function(*inputs), inputs), backward)
    return forward(x, kernel)


def halving(features: int, **kwargs) -> nn.Conv:
    """4x4 convolution, stride 2, of what is `padded`."""
    return nn.Conv(
        features, (4, 4), (2, 2), "VALID", kernel_init=initializer, conv_general_dilated=convolution, **kwargs
    )


def down_convolution(x, features: int, **kwargs):
    """4x4 convolution, stride 2, padding 1: [N, 2S, 2S, C] → [N, S, S, F]. An `nn.Conv` of the module that calls it."""
    return halving(features, **kwargs)(padded(x))


class UpConvolution(nn.Module):
    """Transposed 4x4 convolution, stride 2, padding 1: [N, S, S, C] → [N, 2S, 2S, F].

    Written in sub-pixel form: a 2x2 convolution makes the four pixels that each input pixel becomes, then they are
    interleaved. It is the same linear map, several times faster where XLA is slow at dilated inputs.
    """

    features: int
    use_bias: bool = False

    @nn.compact
    def __call__(self, x):
        n, size, _, channels = x.shape
        kernel = self.param("kernel", initializer, (4, 4, channels, self.features))
        # Output pixel 2i + a sums kernel rows 3 - a - 2u over input rows i + a - 1 + u, u = 0, 1.
        flipped = kernel[::-1, ::-1].reshape(2, 2, 2, 2, channels, self.features)
        phases = flipped.transpose(0, 2, 4, 1, 3, 5).reshape(2, 2, channels, 4 * self.features)
        y = jax.lax.conv_general_dilated(
            padded(x), phases, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ).reshape(n, size + 1, size + 1, 2, 2, self.features)
        rows = jnp.stack((y[:, :-1, :, 0], y[:, 1:, :, 1]), 2)
        pixels = jnp.stack((rows[:, :, :, :-1, 0], rows[:, :, :, 1:, 1]), 4)
        y = pixels.reshape(n, 2 * size, 2 * size, self.features)
        return y + self.param("bias", nn.initializers.zeros, (self.features,)) if self.use_bias else y


def projection(features, labels, classes: int):
    """What a label adds to a logit: <its embedding, features>, [N] for features [N, F] and labels int32 [N].

    Miyato and Koyama 2018, equation 3. The embeddings are a kernel [classes, F] of the module that calls it. A matrix
    product, since the gradient of a look-up is a scatter-add.
    """
    known = jax.nn.one_hot(labels, classes, dtype=features.dtype)
    embedded = nn.Dense(features.shape[1], use_bias=False, kernel_init=initializer, name="embedding")(known)
    return (embedded * features).sum(1)


def spectral(layer: nn.Module, x, train: bool):
    """A layer's output with its kernel divided by the kernel's largest singular value (Miyato et al. 2018, section 2).

    One step of power iteration in training. Its vector stands in `batch_stats` and is float32: without `dtype` what is
    in bfloat16 would be float32 from here on.
    """
    return nn.SpectralNorm(layer, dtype=x.dtype)(x, update_stats=train)
