"""Training as pure functions: a state, a step, an epoch. They know of a VAE only its
`init`.

Randomness is a function of the run's key and the step alone: the noise of step n, the
order of epoch e and the position in it follow from `TrainState.key` and
`TrainState.step`, so that a resumed run draws what the uninterrupted one would have.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from vaejax.base import (
    VAE,
    Array,
    Example,
    Key,
    Params,
    PyTree,
    batch_size_of,
    check_count,
)

# One stream of keys a purpose. Streams are folded apart before a step or an epoch is,
# so that equal counts never coincide.
INIT, NOISE, SHUFFLE = range(3)


class TrainState(NamedTuple):
    """All that a step changes, and all that a checkpoint needs.

    Attributes:
      params: the model's parameters.
      opt_state: the optimizer's state.
      key: the run's key; it never changes, every draw is folded from it.
      step: `int32`, steps taken.
      extra: what step modifiers keep; `()` where there are none.
    """

    params: Params
    opt_state: PyTree
    key: Key
    step: Array
    extra: PyTree = ()


class StepMetrics(NamedTuple):
    """What a step reports: the loss that was minimised, and the terms that its loss_fn
    returned with it.
    """

    loss: Array
    terms: PyTree


def init_train_state(
    vae: VAE, optimizer: optax.GradientTransformation, key: Key, x: Example
) -> TrainState:
    """The state before the first step.

    Args:
      vae: only its `init` is called.
      optimizer: any optax transformation.
      key: the run's key, from which parameters, noise and data order all follow.
      x: one example, as the model sees it (after any transform).

    Raises:
      TypeError: `key` is not a typed key.
    """
    if not jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"init_train_state: key has dtype {jnp.asarray(key).dtype}; make it with "
            "jax.random.key(seed)."
        )
    params = vae.init(jax.random.fold_in(key, INIT), x)
    return TrainState(params, optimizer.init(params), key, jnp.zeros((), jnp.int32))


def make_train_step(
    loss_fn: Callable,
    optimizer: optax.GradientTransformation,
    schedules: Mapping[str, Callable[[Array], Array]] | None = None,
) -> Callable[[TrainState, PyTree], tuple[TrainState, StepMetrics]]:
    """`step(state, batch) -> (state, metrics)`: gradient of the loss, optimizer, one
    step on. Not jitted.

    Args:
      loss_fn: `(params, key, batch, **schedules) -> (loss, terms)`, from
        `mean_over_batch` or `loss_of_means`.
      optimizer: any optax transformation; a learning-rate schedule lives in it.
      schedules: functions of the step, passed to `loss_fn` by name, such as `{"beta":
        optax.linear_schedule(0, 1, 1000)}`.
    """
    schedules = dict(schedules or {})

    def step(state: TrainState, batch: PyTree) -> tuple[TrainState, StepMetrics]:
        noise_key = jax.random.fold_in(jax.random.fold_in(state.key, NOISE), state.step)
        options = {name: schedule(state.step) for name, schedule in schedules.items()}
        value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
        (loss, terms), gradient = value_and_grad(
            state.params, noise_key, batch, **options
        )
        updates, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return state._replace(
            params=params, opt_state=opt_state, step=state.step + 1
        ), StepMetrics(loss, terms)

    return step


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
