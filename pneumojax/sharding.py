"""The devices as a mesh: jobs along the axis `job`, or the batches of a single one along the axis `data`."""

import functools

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec


@functools.cache
def mesh(spread: bool = False) -> jax.sharding.Mesh:
    """All devices of all processes: along `job` if jobs are spread over them, else along `data`."""
    devices = jax.device_count()
    return jax.make_mesh((devices, 1) if spread else (1, devices), ("job", "data"), axis_types=(AxisType.Auto,) * 2)


def replicate(tree):
    """Puts a tree of arrays whole on each device."""
    return put(tree, NamedSharding(mesh(), PartitionSpec()))


def spread(tree):
    """Puts a tree of arrays on the devices, each its own rows of axis 0."""
    return put(tree, NamedSharding(mesh(spread=True), PartitionSpec("job")))


def put(tree, where: NamedSharding):
    """Puts a tree of arrays, which all processes have alike, on the devices of all of them."""
    if jax.process_count() == 1:
        return jax.device_put(tree, where)
    if all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(tree)):  # device_put would send it round to compare
        return jax.tree.map(lambda leaf: placed(leaf, where), tree)
    return jax.jit(_same, out_shardings=where)(tree)


def placed(array: np.ndarray, where: NamedSharding) -> jax.Array:
    """An array that each process has in its memory; nothing passes between them."""
    array = array.astype(jax.dtypes.canonicalize_dtype(array.dtype), copy=False)
    return jax.make_array_from_callback(array.shape, where, lambda index: array[index])


def _same(tree):
    return tree


def described(tree):
    """Shapes and dtypes of a tree of arrays that are to be whole on each device."""
    where = NamedSharding(mesh(), PartitionSpec())
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), tree)


def fetched(tree):
    """A tree of arrays in the host's memory, those of other processes as well: then all processes have to ask."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if isinstance(leaf, jax.Array)]
    if not all(leaf.is_fully_addressable or leaf.is_fully_replicated for leaf in leaves):
        whole_ones = jax.jit(_same, out_shardings=NamedSharding(mesh(), PartitionSpec()))
        tree = jax.block_until_ready(whole_ones(tree))
    return jax.device_get(tree)


def local(tree):
    """The same tree where arrays that are whole on each device are this process's own: what is made of them is too."""

    def own(leaf):
        spans = isinstance(leaf, jax.Array) and not leaf.is_fully_addressable
        return leaf.addressable_data(0) if spans else leaf

    return jax.tree.map(own, tree)


def whole(tree):
    """Inside jit: where there are several processes each device has all of the arrays, as whoever writes them needs."""
    if jax.process_count() == 1:
        return tree
    return jax.lax.with_sharding_constraint(tree, NamedSharding(mesh(), PartitionSpec()))


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
