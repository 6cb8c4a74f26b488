"""One epoch as one program."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import check_count
from vaejax.base import Array, Key, PyTree, batch_size_of
from vaejax.training.steps import SHUFFLE, TrainState


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Whole batches in an epoch; ValueError where there is none."""
    if num_examples < batch_size:
        raise ValueError(
            f"batch_size is {batch_size} and the data hold {num_examples} examples; "
            "give a smaller one."
        )
    return num_examples // batch_size


def epoch_order(key: Key, epoch: Array | int, num_examples: int) -> Array:
    """The order of the examples in an epoch, counted from 0: their indices, `int32
    [num_examples]`.

    Batch n of the epoch is the n-th run of batch_size indices; those left over at the
    end are not used.

    Args:
      key: `TrainState.key`.
    """
    shuffle_key = jax.random.fold_in(key, SHUFFLE)
    return jax.random.permutation(jax.random.fold_in(shuffle_key, epoch), num_examples)


def make_train_epoch(
    step: Callable,
    batch_size: int,
    *,
    batch_sharding: jax.sharding.Sharding | None = None,
    steps_per_dispatch: int | None = None,
) -> Callable[[TrainState, PyTree], tuple[TrainState, PyTree]]:
    """`epoch(state, data) -> (state, metrics)`: one pass over the data in a fresh
    order, as one program. Not jitted.

    Each epoch permutes the data anew and takes `len(data) // batch_size` batches; the
    examples left over take their turn in another epoch's order. The batch of a step is
    a function of (key, step) alone, so the call may start anywhere, mid-epoch too. It
    `vmap`s over states: `jax.vmap(epoch, in_axes=(0, None))` trains many seeds on one
    copy of the data.

    Args:
      step: `(state, batch) -> (state, metrics)`.
      batch_size: examples a step.
      batch_sharding: how a batch is laid out over devices; None leaves it to the
        compiler.
      steps_per_dispatch: take that many steps a call, not a whole epoch, unrolled into
        one program without a loop. For convolutions on CPU, which are several times
        slower inside a loop.

    Returns:
      The function; its metrics are those of every step, stacked along a leading axis
      `[steps]`.

    Raises:
      ValueError: a count is not positive; or, when traced, the data are fewer than one
        batch.
    """
    check_count("batch_size", batch_size)
    if steps_per_dispatch is not None:
        check_count("steps_per_dispatch", steps_per_dispatch)

    def epoch(state: TrainState, data: PyTree) -> tuple[TrainState, PyTree]:
        num_examples = batch_size_of(data)
        num_batches = steps_per_epoch(num_examples, batch_size)
        num_steps = steps_per_dispatch or num_batches
        if num_steps > num_batches:
            raise ValueError(
                f"steps_per_dispatch is {num_steps} and an epoch has {num_batches} "
                "steps; give fewer."
            )
        first_epoch = state.step // num_batches
        # As data: under `vmap`, `cond` selects among what its branches take, which
        # would count as a use of the key.
        key_data, implementation = (
            jax.random.key_data(state.key),
            jax.random.key_impl(state.key),
        )

        def batches_of(epoch: Array) -> Array:
            key = jax.random.wrap_key_data(key_data, impl=implementation)
            return epoch_order(key, epoch, num_examples)[
                : num_batches * batch_size
            ].reshape(-1, batch_size)

        batches = batches_of(first_epoch)
        if num_steps > 1:
            # A call that starts inside an epoch runs into the next one, never past it;
            # else one order is enough.
            aligned = state.step % num_batches == 0
            following = jax.lax.cond(
                aligned, lambda: batches, lambda: batches_of(first_epoch + 1)
            )
            batches = jnp.concatenate([batches, following])

        def body(state: TrainState, _: Any) -> tuple[TrainState, PyTree]:
            indices = batches[state.step - first_epoch * num_batches]
            batch = jax.tree.map(lambda leaf: leaf[indices], data)
            if batch_sharding is not None:
                batch = jax.lax.with_sharding_constraint(batch, batch_sharding)
            return step(state, batch)

        return jax.lax.scan(
            body, state, length=num_steps, unroll=num_steps if steps_per_dispatch else 1
        )

    return epoch
