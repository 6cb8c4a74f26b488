"""Layouts of batches, parameters and data over many devices; XLA moves the data.

A mesh has the one axis "batch". Data parallelism shards each batch over it and
replicates the state; fully sharded data parallelism (FSDP) shards the state too. Noise
and order follow from the state's key and step whatever the mesh, so that every example
draws the same noise on one device as on eight, and losses agree to the order of
summation. That is a property of Threefry, the default generator. Under `rbg` and
`unsafe_rbg` the keys that `jax.vmap` maps over draw from the first of them, so that an
example's noise depends on its batch; with the flag
`xla_tpu_spmd_rng_bit_generator_unsafe` it depends on the mesh too.
"""

from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from vaejax._checks import check_count, check_in_range, is_key
from vaejax.base import PyTree

_BATCH_AXIS = "batch"


def make_mesh(*, num_devices: int | None = None) -> Mesh:
    """Return a mesh with the one axis "batch" over the devices of all processes.

    Args:
      num_devices: The number of devices, from the first on; None takes all.

    Returns:
      A mesh whose axis is of type `Auto`: the compiler chooses where results lie.

    Raises:
      ValueError: There are fewer devices, or the number is not a positive integer.

    Example:
      >>> from vaejax.training import make_mesh
      >>> mesh = make_mesh(num_devices=1)
      >>> mesh.axis_names, mesh.size
      (('batch',), 1)
    """
    devices = jax.devices()
    num = len(devices) if num_devices is None else num_devices
    check_count("num_devices", num)
    if num > len(devices):
        raise ValueError(
            f"num_devices is {num} and there are {len(devices)}; give fewer."
        )
    return Mesh(np.array(devices[:num]), (_BATCH_AXIS,), axis_types=(AxisType.Auto,))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding that spreads the examples of a batch over the devices.

    Args:
      mesh: A mesh, as `make_mesh` returns it. The batch size is a multiple of its size.

    Returns:
      A sharding of the leading axis, for the argument `batch_sharding` of
      `make_train_epoch` and `make_streamed_epoch`.

    Example:
      >>> from vaejax.training import batch_sharding, make_mesh
      >>> batch_sharding(make_mesh(num_devices=1)).spec[0]
      'batch'
    """
    return NamedSharding(mesh, PartitionSpec(_BATCH_AXIS))


def replicated_sharding(mesh: Mesh) -> NamedSharding:
    """Return the sharding that keeps a whole array on every device.

    Args:
      mesh: A mesh, as `make_mesh` returns it.

    Returns:
      A sharding for a state or data, as `place_on_devices` takes it.

    Example:
      >>> from vaejax.training import make_mesh, replicated_sharding
      >>> replicated_sharding(make_mesh(num_devices=1)).is_fully_replicated
      True
    """
    return NamedSharding(mesh, PartitionSpec())


def fully_sharded(mesh: Mesh, tree: PyTree, *, min_size: int = 2**14) -> PyTree:
    """Return a sharding for each leaf that divides it over the devices (FSDP).

    A leaf is divided along its longest axis whose length is a multiple of the number of
    devices. The moments of an optimizer have the shapes of the parameters and are
    divided alike. Leaves that are small or have no such axis are replicated.

    Args:
      mesh: A mesh, as `make_mesh` returns it.
      tree: Arrays or their `jax.ShapeDtypeStruct`s, such as a `TrainState`.
      min_size: The number of elements below which a leaf is replicated, since moving it
        costs more than keeping it.

    Returns:
      A tree of shardings with the structure of `tree`.

    Raises:
      ValueError: `min_size` is negative or not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.training import fully_sharded, make_mesh
      >>> tree = {"kernel": jnp.zeros((256, 128)), "bias": jnp.zeros(128)}
      >>> shardings = fully_sharded(make_mesh(num_devices=1), tree)
      >>> shardings["kernel"].spec[0], shardings["bias"].is_fully_replicated
      ('batch', True)
    """
    check_in_range("fully_sharded: min_size", min_size, 0)

    def sharding_of(leaf: Any) -> NamedSharding:
        divisible = [
            axis for axis, length in enumerate(leaf.shape) if length % mesh.size == 0
        ]
        if leaf.size < min_size or not divisible:
            return replicated_sharding(mesh)
        longest = max(divisible, key=lambda axis: leaf.shape[axis])
        spec = [_BATCH_AXIS if axis == longest else None for axis in range(leaf.ndim)]
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(sharding_of, tree)


def place_on_devices(tree: PyTree, shardings: Any) -> PyTree:
    """Return the arrays of a tree, laid out over the devices.

    With several processes, each one holds the same tree and contributes the part of its
    devices.

    Args:
      tree: Arrays, typed keys included.
      shardings: One sharding for all leaves, or a tree of them, as `fully_sharded`
        returns it.

    Returns:
      The tree with its leaves on the devices.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.training import make_mesh, place_on_devices, replicated_sharding
      >>> sharding = replicated_sharding(make_mesh(num_devices=1))
      >>> place_on_devices(jnp.ones(3), sharding).sharding == sharding
      True
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

    def with_keys(on_host: PyTree) -> PyTree:
        return jax.tree.map(
            lambda data, name: (
                jax.random.wrap_key_data(data, impl=name) if name else data
            ),
            on_host,
            implementations,
        )

    return jax.jit(with_keys, out_shardings=shardings)(on_host)


def gather_from_devices(tree: PyTree, mesh: Mesh) -> PyTree:
    """Return the whole arrays of a tree on the first device of this process.

    A collective operation: with several processes, each process of the mesh calls it.

    Args:
      tree: Arrays laid out over the mesh, typed keys included.
      mesh: The mesh, as `make_mesh` returns it.

    Returns:
      The tree with its leaves on one device; the tree itself for a mesh of one device.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.training import gather_from_devices, make_mesh
      >>> mesh = make_mesh(num_devices=1)
      >>> gather_from_devices({"x": jnp.ones((4, 2))}, mesh)["x"].shape
      (4, 2)
    """
    if mesh.size == 1:
        return tree
    whole = jax.jit(_identity, out_shardings=replicated_sharding(mesh))(tree)
    return jax.tree.map(lambda leaf: leaf.addressable_data(0), whole)


def _identity(tree: PyTree) -> PyTree:
    # A function of the module: a new one would be compiled at every call.
    return tree
