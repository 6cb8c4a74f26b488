"""Helpers of the tests of training: images made of integers, a step that shows the
order of the data, and a small model of the images.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from support.cases import standard_promotion

from vaejax import (
    MLP,
    TrainState,
    binarize,
    gaussian_vae,
    init_train_state,
    make_train_epoch,
    make_train_step,
    mean_over_batch,
    negative_elbo,
    with_transform,
)


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


# a small model of the stripes

VAE = gaussian_vae(latent_size=4, encoder=MLP((32,)), decoder=MLP((32,), (14, 14)))
OPTIMIZER = standard_promotion(optax.adam(optax.cosine_decay_schedule(2e-3, 20)))
LOSS_FN = mean_over_batch(with_transform(partial(negative_elbo, VAE), binarize))
STEP = make_train_step(LOSS_FN, OPTIMIZER)
DATA = stripes(14)
EPOCH = jax.jit(make_train_epoch(STEP, 10))


@jax.jit
def start(seed):
    return init_train_state(VAE, OPTIMIZER, jax.random.key(seed), jnp.zeros((14, 14)))


def advance(epoch, state, num_calls, *, axis=0):
    """The state after some calls, and the metrics of all their steps along an axis."""
    metrics = []
    for _ in range(num_calls):
        state, one = epoch(state, DATA)
        metrics.append(one)
    return state, jax.tree.map(
        lambda *leaves: np.concatenate(leaves, axis=axis), *metrics
    )
