"""Early stopping as a pure update of the state, for one model or many in one program.

The loop on the host evaluates, calls `update_early_stopping` and ends when
`has_stopped` is true of every member; `with_early_stopping` freezes the members that
stopped before the others.
"""

from typing import NamedTuple

import jax.numpy as jnp

from vaejax._checks import check_count, check_function, check_state
from vaejax.base import Array, Params, PyTree
from vaejax.training._extra import select, with_extra
from vaejax.training.averaging import averaged_state
from vaejax.training.epochs import TrainEpoch
from vaejax.training.steps import TrainState

_STOPPING = "stopping"


class EarlyStoppingState(NamedTuple):
    """The record that early stopping keeps in `TrainState.extra["stopping"]`.

    Attributes:
      best_loss: The smallest validation loss so far; infinity before the first.
      best_params: The parameters that had it; the last evaluated ones as long as no
        loss was finite.
      best_step: The number of steps after which it was measured, `int32`.
      waited: The number of evaluations since, `int32`.
      stopped: True once patience has run out; from then on nothing changes.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.training import TrainState, init_early_stopping
      >>> state = TrainState(jnp.ones(3), (), jax.random.key(0), jnp.int32(0))
      >>> stopping = init_early_stopping(state).extra["stopping"]
      >>> float(stopping.best_loss), bool(stopping.stopped)
      (inf, False)
    """

    best_loss: Array
    best_params: Params
    best_step: Array
    waited: Array
    stopped: Array


def init_early_stopping(state: TrainState) -> TrainState:
    """Return the state with a record of early stopping that has seen no loss yet.

    Args:
      state: A state, such as `init_train_state` returns.

    Returns:
      The state with an `EarlyStoppingState` in `extra["stopping"]`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.training import TrainState, init_early_stopping
      >>> state = TrainState(jnp.ones(3), (), jax.random.key(0), jnp.int32(0))
      >>> list(init_early_stopping(state).extra)
      ['stopping']
    """
    check_state(state)
    zero = jnp.zeros((), jnp.int32)
    nothing = EarlyStoppingState(
        jnp.full((), jnp.inf), state.params, zero, zero, jnp.zeros((), bool)
    )
    return with_extra(state, _STOPPING, nothing)


def update_early_stopping(
    state: TrainState, loss: Array, *, patience: int
) -> TrainState:
    """Return the state after an evaluation on validation data.

    A loss below all before it is the new best; any other is one more evaluation waited
    for, and after `patience` of them the state is stopped.

    Args:
      state: The state as trained so far, which came through `init_early_stopping`. The
        evaluated parameters are those of `averaged_state(state)`.
      loss: The validation loss, a scalar; one that is not finite is no improvement.
      patience: The number of evaluations without improvement after which to stop, a
        positive integer.

    Returns:
      The state with an updated record of early stopping; nothing else changes.

    Raises:
      ValueError: The patience is not a positive integer.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.training import (
      ...     TrainState, has_stopped, init_early_stopping, update_early_stopping
      ... )
      >>> state = TrainState(jnp.ones(3), (), jax.random.key(0), jnp.int32(0))
      >>> state = init_early_stopping(state)
      >>> for loss in (3.0, 2.0, 2.5):
      ...     state = update_early_stopping(state, jnp.float32(loss), patience=1)
      >>> float(state.extra["stopping"].best_loss), bool(has_stopped(state))
      (2.0, True)
    """
    check_state(state)
    check_count("patience", patience)
    old = state.extra[_STOPPING]
    loss = jnp.asarray(loss).astype(old.best_loss.dtype)
    better = jnp.isfinite(loss) & (loss < old.best_loss) & ~old.stopped
    waited = jnp.where(better, 0, old.waited + 1)
    # A member that never had a finite loss must not end as the untrained one, which
    # would pass for a result.
    none_yet = ~jnp.isfinite(old.best_loss) & ~old.stopped
    new = EarlyStoppingState(
        best_loss=jnp.where(better, loss, old.best_loss),
        best_params=select(
            better | none_yet, averaged_state(state).params, old.best_params
        ),
        best_step=jnp.where(better, state.step, old.best_step),
        waited=jnp.where(old.stopped, old.waited, waited),
        stopped=old.stopped | (waited >= patience),
    )
    return with_extra(state, _STOPPING, new)


def with_early_stopping(epoch: TrainEpoch) -> TrainEpoch:
    """Return an epoch that leaves a stopped state as it was, but for its step.

    For several members in one program: those that have stopped are frozen while the
    others train on.

    Args:
      epoch: `(state, data) -> (state, metrics)`, as `make_train_epoch` returns it.

    Returns:
      An epoch for states that came through `init_early_stopping`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.training import (
      ...     TrainState, init_early_stopping, with_early_stopping
      ... )
      >>> def epoch(state, data):
      ...     return state._replace(params=state.params + 1, step=state.step + 5), ()
      >>> state = init_early_stopping(
      ...     TrainState(jnp.zeros(()), (), jax.random.key(0), jnp.int32(0))
      ... )
      >>> stopping = state.extra["stopping"]._replace(stopped=jnp.array(True))
      >>> state = state._replace(extra={"stopping": stopping})
      >>> after, _ = with_early_stopping(epoch)(state, None)
      >>> float(after.params), int(after.step)
      (0.0, 5)
    """
    check_function("with_early_stopping: epoch", epoch)

    def freezing(state: TrainState, data: PyTree) -> tuple[TrainState, PyTree]:
        after, metrics = epoch(state, data)
        old, new = ((s.params, s.opt_state, s.extra) for s in (state, after))
        params, opt_state, extra = select(state.extra[_STOPPING].stopped, old, new)
        return after._replace(params=params, opt_state=opt_state, extra=extra), metrics

    return freezing


def has_stopped(state: TrainState) -> Array:
    """Return true where early stopping has ended the training of a state.

    Args:
      state: A state, or stacked states, with or without early stopping.

    Returns:
      A boolean for each state, `[]` or `[members]`; false without early stopping.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.training import TrainState, has_stopped
      >>> state = TrainState(jnp.ones(3), (), jax.random.key(0), jnp.int32(0))
      >>> bool(has_stopped(state))
      False
    """
    check_state(state)
    if _STOPPING not in (state.extra or {}):
        return jnp.zeros(jnp.shape(state.step), bool)
    return state.extra[_STOPPING].stopped


def best_state(state: TrainState) -> TrainState:
    """Return the state with the parameters of the best evaluation, for evaluation.

    Args:
      state: A state, with or without early stopping.

    Returns:
      The state with the best parameters in place of its own; `averaged_state(state)`
      without early stopping.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.training import (
      ...     TrainState, best_state, init_early_stopping, update_early_stopping
      ... )
      >>> state = init_early_stopping(
      ...     TrainState(jnp.ones(()), (), jax.random.key(0), jnp.int32(0))
      ... )
      >>> state = update_early_stopping(state, jnp.float32(3.0), patience=2)
      >>> later = state._replace(params=jnp.array(7.0))
      >>> float(best_state(later).params)
      1.0
    """
    check_state(state)
    if _STOPPING not in (state.extra or {}):
        return averaged_state(state)
    return state._replace(params=state.extra[_STOPPING].best_params)
