"""The devices as a mesh: jobs along the axis `job`, or the batches of a single one along the axis `data`."""

import functools

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


@functools.cache
def mesh(spread: bool = False) -> jax.sharding.Mesh:
    """All devices of all processes: along `job` if jobs are spread over them, else along `data`."""
    devices = jax.device_count()
    return jax.make_mesh((devices, 1) if spread else (1, devices), ("job", "data"), axis_types=(AxisType.Auto,) * 2)


def replicate(tree):
    """Puts a tree of arrays whole on each device."""
    return jax.device_put(tree, NamedSharding(mesh(), PartitionSpec()))


def spread(tree):
    """Puts a tree of arrays on the devices, each its own rows of axis 0."""
    return jax.device_put(tree, NamedSharding(mesh(spread=True), PartitionSpec("job")))


def each_its_own(function):
    """`function(states, keys, inputs, shared)` of jobs as each device runs it on its own; nothing passes between them.

    States and keys have jobs along axis 0, inputs along axis 1 behind the steps; so have the results: states, metrics.
    """
    own, steps = PartitionSpec("job"), PartitionSpec(None, "job")
    specs = {"in_specs": (own, own, steps, PartitionSpec()), "out_specs": (own, steps)}
    return jax.shard_map(function, mesh=mesh(spread=True), check_vma=False, **specs)


def split_batch(batch):
    """Inside jit: splits axis 0 of the arrays of a tree over the mesh.

    XLA then computes each part where it lies and reduces over all of them, batch norm's statistics included. A
    batch that the devices do not divide stays whole: each device computes all of it.
    """

    def constrain(array):
        spec = PartitionSpec("data") if array.shape[0] % jax.device_count() == 0 else PartitionSpec()
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh(), spec))

    return jax.tree.map(constrain, batch)
