"""The training epoch: one pass over data on the device, as one program.

The order of the data is a function of (key, step) alone, so that an epoch may start at
any step, and a resumed run sees the batches that the uninterrupted one would have.
"""

import math
import numbers
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_batch,
    check_count,
    check_function,
    check_key,
    check_state,
)
from vaejax.base import Array, Key, PyTree, TrainStep, batch_size_of
from vaejax.training.steps import _SHUFFLE, TrainState

#: `(state, data) -> (state, metrics)`; metrics of every step, stacked along axis 0.
TrainEpoch = Callable[[TrainState, PyTree], tuple[TrainState, PyTree]]


def steps_per_epoch(num_examples: int, batch_size: int) -> int:
    """Return the number of whole batches in an epoch.

    Args:
      num_examples: The number of examples in the data.
      batch_size: Examples per step, at most `num_examples`.

    Returns:
      `num_examples // batch_size`.

    Raises:
      ValueError: A count is not a positive integer, or the data hold less than one
        batch.

    Example:
      >>> from vaejax.training import steps_per_epoch
      >>> steps_per_epoch(1000, 128)
      7
    """
    check_count("batch_size", batch_size)
    if isinstance(num_examples, numbers.Integral) and num_examples < batch_size:
        raise ValueError(
            f"batch_size is {batch_size} and the data hold {num_examples} examples; "
            "give a smaller one."
        )
    check_count("num_examples", num_examples)
    return num_examples // batch_size


def epoch_order(key: Key, epoch: Array | int, num_examples: int) -> Array:
    """Return the order of the examples in an epoch: a permutation of their indices.

    Batch n of the epoch is the n-th run of batch_size indices; those left over at the
    end are not used.

    Args:
      key: The key of the run, `TrainState.key`.
      epoch: The number of the epoch, from 0; may be traced.
      num_examples: The number of examples in the data.

    Returns:
      The indices, `int32 [num_examples]`.

    Example:
      >>> import jax
      >>> from vaejax.training import epoch_order
      >>> order = epoch_order(jax.random.key(0), 0, 10)
      >>> order.shape, sorted(order.tolist()) == list(range(10))
      ((10,), True)
    """
    check_key(key)
    check_count("num_examples", num_examples)
    shuffle_key = jax.random.fold_in(key, _SHUFFLE)
    return _permutation(jax.random.fold_in(shuffle_key, epoch), num_examples)


def _permutation(key: Key, size: int) -> Array:
    """Return a uniform permutation of range(size), int32.

    A radix sort of random numbers of 3 log2(size) bits, so that two of them are equal
    with a probability below 1 / size. On CPU it takes a third of the time of
    `jax.random.permutation`, which sorts pairs.
    """
    index_bits = max(size - 1, 1).bit_length()
    digit_bits = 32 - index_bits
    if digit_bits < 8:
        return jax.random.permutation(key, size)
    order = positions = jnp.arange(size, dtype=jnp.uint32)
    for pass_key in jax.random.split(key, math.ceil(3 * index_bits / digit_bits)):
        # One word holds a digit and the position that it moves: words sort fast.
        digits = jax.random.bits(pass_key, (size,), jnp.uint32) << index_bits
        moved = jnp.sort(digits | positions) & jnp.uint32((1 << index_bits) - 1)
        order = order[moved]
    return order.astype(jnp.int32)


def make_train_epoch(
    step: TrainStep,
    batch_size: int,
    *,
    batch_sharding: jax.sharding.Sharding | None = None,
    steps_per_dispatch: int | None = None,
) -> TrainEpoch:
    """Return an epoch: a scan of the step over the data in a new random order.

    An epoch takes `len(data) // batch_size` batches; the examples left over take their
    turn in the order of another epoch. The batch of a step is a function of (key, step)
    alone, so a call may start anywhere, also inside an epoch. An epoch compiles once
    per shape. Wrap it in `jax.jit` with `donate_argnums=0` to update the state in
    place, or map it over stacked states with `jax.vmap(epoch, in_axes=(0, None))`,
    which trains many seeds on one copy of the data.

    Args:
      step: `(state, batch) -> (state, metrics)`, as `make_train_step` returns it.
      batch_size: Examples per step, a positive integer.
      batch_sharding: The layout of a batch over devices, as `batch_sharding(mesh)`
        returns it; None leaves it to the compiler.
      steps_per_dispatch: The number of steps per call, unrolled into one program
        without a loop, at most those of an epoch; None takes a whole epoch. Meant for
        `jax.lax.conv_general_dilated` on CPU, which is several times slower inside a
        loop; the convolutions of `vaejax.networks` are matrix products there.

    Returns:
      `epoch(state, data) -> (state, metrics)`. The data are a pytree of arrays
      `[examples, ...]`; the metrics are those of every step, `[steps, ...]`. When
      called, it raises a ValueError if the data hold less than one batch or an epoch
      has fewer than `steps_per_dispatch` steps.

    Raises:
      ValueError: A count is not a positive integer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax import TrainState, make_train_epoch
      >>> def step(state, batch):
      ...     return state._replace(step=state.step + 1), batch.shape[0]
      >>> epoch = make_train_epoch(step, 4)
      >>> state = TrainState((), (), jax.random.key(0), jnp.int32(0))
      >>> state, sizes = epoch(state, jnp.zeros((10, 3)))
      >>> int(state.step), sizes.tolist()
      (2, [4, 4])
    """
    check_function("make_train_epoch: step", step)
    check_count("batch_size", batch_size)
    if steps_per_dispatch is not None:
        check_count("steps_per_dispatch", steps_per_dispatch)

    def epoch(state: TrainState, data: PyTree) -> tuple[TrainState, PyTree]:
        check_state(state)
        check_batch(data)
        return compiled(state, data)

    @partial(jax.jit, inline=True)
    def compiled(state: TrainState, data: PyTree) -> tuple[TrainState, PyTree]:
        num_examples = batch_size_of(data)
        num_batches = steps_per_epoch(num_examples, batch_size)
        num_steps = steps_per_dispatch or num_batches
        if num_steps > num_batches:
            raise ValueError(
                f"steps_per_dispatch is {num_steps} and an epoch has {num_batches} "
                "steps; give fewer."
            )
        first_epoch = state.step // num_batches
        batches = _batches_from(
            state, first_epoch, num_examples, num_batches, batch_size, num_steps
        )

        def body(state: TrainState, _: Any) -> tuple[TrainState, PyTree]:
            indices = batches[state.step - first_epoch * num_batches]
            batch = jax.tree.map(lambda leaf: _take(leaf, indices), data)
            if batch_sharding is not None:
                batch = jax.lax.with_sharding_constraint(batch, batch_sharding)
            return step(state, batch)

        return jax.lax.scan(
            body, state, length=num_steps, unroll=num_steps if steps_per_dispatch else 1
        )

    return epoch


def _take(leaf: Array, indices: Array) -> Array:
    """Return leaf[indices], gathered as rows."""
    # On CPU a gather of rows takes half the time of one of images.
    rows = leaf.reshape(len(leaf), -1) if leaf.ndim > 2 else leaf
    taken = rows.at[indices].get(mode="promise_in_bounds")
    return taken.reshape(len(indices), *leaf.shape[1:])


def _batches_from(
    state: TrainState,
    first_epoch: Array,
    num_examples: int,
    num_batches: int,
    batch_size: int,
    num_steps: int,
) -> Array:
    """Return the indices of the batches of an epoch and, if needed, of the next one."""
    # As data: under `vmap`, `cond` selects among what its branches take, which would
    # count as a use of the key.
    key_data = jax.random.key_data(state.key)
    implementation = jax.random.key_impl(state.key)

    def batches_of(epoch: Array) -> Array:
        key = jax.random.wrap_key_data(key_data, impl=implementation)
        used = epoch_order(key, epoch, num_examples)[: num_batches * batch_size]
        return used.reshape(-1, batch_size)

    batches = batches_of(first_epoch)
    if num_steps == 1:
        return batches
    # A call that starts inside an epoch runs into the next one, never past it; one that
    # starts with it needs no second order.
    aligned = state.step % num_batches == 0
    following = jax.lax.cond(
        aligned, lambda: batches, lambda: batches_of(first_epoch + 1)
    )
    return jnp.concatenate([batches, following])
