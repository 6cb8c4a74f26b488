"""One program on many devices: where batches, parameters and data lie. XLA moves the
rest.

A mesh has the one axis "batch". Data parallelism shards each batch over it and
replicates the state; fully sharded data parallelism (FSDP) shards the state too. Noise
and order follow from the state's key and step whatever the mesh, so that every example
draws the same noise on one device as on eight, and losses agree to the order of
summation.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vaejax._checks import check_count, is_key
from vaejax.base import PyTree

BATCH_AXIS = "batch"


def make_mesh(num_devices: int | None = None) -> Mesh:
    """A mesh of the one axis "batch" over the first `num_devices` devices of all
    processes, by default all.

    Raises:
      ValueError: there are not that many.
    """
    devices = jax.devices()
    num = len(devices) if num_devices is None else num_devices
    check_count("num_devices", num)
    if num > len(devices):
        raise ValueError(
            f"num_devices is {num} and there are {len(devices)}; give fewer."
        )
    return Mesh(np.array(devices[:num]), (BATCH_AXIS,), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Examples spread over the devices: the `batch_sharding` of `make_train_epoch`."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXIS))


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def fully_sharded(mesh: Mesh, tree: PyTree, *, min_size: int = 2**14) -> PyTree:
    """A sharding for each leaf, along its longest axis that the devices divide; small
    ones are replicated.

    Args:
      mesh: of `make_mesh`.
      tree: arrays or their shapes, such as a `TrainState`: parameters and the moments
        of an optimizer, which have the parameters' shapes, are sharded alike.
      min_size: leaves of fewer elements are replicated, since moving them costs more
        than keeping them.

    Source: Rajbhandari et al. 2020 (ZeRO), section 5.
    """

    def of_leaf(leaf: Any) -> NamedSharding:
        divisible = [
            axis for axis, length in enumerate(leaf.shape) if length % mesh.size == 0
        ]
        if leaf.size < min_size or not divisible:
            return replicated_sharding(mesh)
        longest = max(divisible, key=lambda axis: leaf.shape[axis])
        return NamedSharding(
            mesh,
            PartitionSpec(
                *[BATCH_AXIS if axis == longest else None for axis in range(leaf.ndim)]
            ),
        )

    return jax.tree.map(of_leaf, tree)


def place_on_devices(tree: PyTree, shardings: Any) -> PyTree:
    """The tree laid out; with several processes, each holds the same tree and
    contributes its devices' part.

    Args:
      tree: of arrays, typed keys among them.
      shardings: one for all leaves, or a tree of them.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)
    # A program takes arrays of the host as equal in every process, and lays them out
    # over all of them.
    implementations = jax.tree.map(
        lambda leaf: str(jax.random.key_impl(leaf)) if is_key(leaf) else "", tree
    )
    on_host = jax.tree.map(
        lambda leaf: np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf),
        tree,
    )

    def whole(on_host: PyTree) -> PyTree:
        return jax.tree.map(
            lambda data, name: (
                jax.random.wrap_key_data(data, impl=name) if name else data
            ),
            on_host,
            implementations,
        )

    return jax.jit(whole, out_shardings=shardings)(on_host)


def gather_from_devices(tree: PyTree, mesh: Mesh) -> PyTree:
    """The tree whole, on this process's first device; every process of the mesh must
    ask for it.
    """
    if mesh.size == 1:
        return tree
    whole = jax.jit(_same, out_shardings=replicated_sharding(mesh))(tree)
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), whole)


def _same(tree: PyTree) -> PyTree:
    # A function of the module: a fresh one would be compiled at every call.
    return tree
