"""Batch norm as PyTorch computes it."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class BatchNorm(nn.Module):
    """Batch norm over all axes but the last.

    As in PyTorch the batch is normalised by its biased variance while the running variance takes the unbiased one,
    which flax's module does not. PyTorch's momentum 0.1 is 0.9 here. Under jit over a mesh the statistics are those of
    the global batch.
    """

    epsilon: float = 1e-5
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x, train: bool):
        channels = x.shape[-1]
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
        return (x - mean) * (jax.lax.rsqrt(var + self.epsilon) * scale) + bias
