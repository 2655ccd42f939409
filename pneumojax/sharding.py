"""One mesh over all devices: state and images replicated, batches split along the axis `data`."""

import functools

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


@functools.cache
def mesh() -> jax.sharding.Mesh:
    """All devices of all processes along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))


def replicated() -> NamedSharding:
    """Everything on each device."""
    return NamedSharding(mesh(), PartitionSpec())


def replicate(tree):
    """Puts a tree of arrays whole on each device."""
    return jax.device_put(tree, replicated())


def split_batch(batch):
    """Inside jit: splits axis 0 of the arrays of a tree over the mesh.

    XLA then computes each part where it lies and reduces over all of them, batch norm's statistics included. A
    batch that the devices do not divide stays whole: each device computes all of it.
    """
    devices = jax.device_count()

    def constrain(array):
        spec = PartitionSpec("data") if array.shape[0] % devices == 0 else PartitionSpec()
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh(), spec))

    return jax.tree.map(constrain, batch)
