"""What tests of epochs share: images made of integers, and a step that shows the order
of the data.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from vaejax import TrainState


def stripes(size: int) -> np.ndarray:
    """Gray stripes in three places, from integers alone: five steps of ten an epoch,
    and five images left over.
    """
    index, row, column = np.ogrid[:55, :size, :size]
    return (100 * ((row // 3 + index) % 3) + 2 * column + index % 5).astype(np.uint8)


def seed_state(seed=0, step=0):
    return TrainState((), (), jax.random.key(seed), jnp.int32(step))


def report_batch(state, batch):
    """A step that trains nothing and shows the order of the data."""
    return state._replace(step=state.step + 1), batch


def one_device_sharding():
    mesh = jax.make_mesh((1,), ("batch",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("batch"))
