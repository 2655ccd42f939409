"""Networks that compute in another precision than their parameters are kept in."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def cast(tree, dtype: str):
    """A tree with its floating-point arrays in `dtype`, whole numbers as they are."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf, tree)


def applied(network: nn.Module, variables: dict, *inputs, dtype: str, **kwargs):
    """`network.apply` on parameters and inputs in `dtype` (float32, bfloat16); what it gives is float32 again.

    Batch statistics and whatever else stands beside the parameters stay as they are. Errors: those of the network.
    """
    variables = {**variables, "params": cast(variables["params"], dtype)}
    return cast(network.apply(variables, *cast(inputs, dtype), **kwargs), "float32")
