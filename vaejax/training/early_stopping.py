"""Early stopping as a pure update of the state."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from vaejax._checks import check_count
from vaejax.base import Array, Params, PyTree
from vaejax.training._extra import _where, _with_extra
from vaejax.training.averaging import STOPPING, averaged_state
from vaejax.training.steps import TrainState


class EarlyStoppingState(NamedTuple):
    """What early stopping remembers.

    Attributes:
      best_loss: the smallest validation loss so far.
      best_params: the parameters that had it; the last ones where no loss was finite.
      best_step: `int32`, after how many steps.
      waited: `int32`, evaluations since.
      stopped: whether patience has run out; from then on nothing changes.
    """

    best_loss: Array
    best_params: Params
    best_step: Array
    waited: Array
    stopped: Array


def init_early_stopping(state: TrainState) -> TrainState:
    """The state with early stopping that has seen no loss yet."""
    zero = jnp.zeros((), jnp.int32)
    nothing = EarlyStoppingState(
        jnp.full((), jnp.inf), state.params, zero, zero, jnp.zeros((), bool)
    )
    return _with_extra(state, STOPPING, nothing)


def update_early_stopping(
    state: TrainState, loss: Array, *, patience: int
) -> TrainState:
    """The state after an evaluation: better than all before, or one more waited for,
    and stopped after `patience`.

    Args:
      state: as trained so far; its evaluated parameters are `averaged(state).params`.
      loss: on validation data, a scalar; a non-finite one is no better than any.
      patience: evaluations without improvement after which to stop.

    Raises:
      ValueError: `patience` is not a positive integer.
    """
    check_count("patience", patience)
    old = state.extra[STOPPING]
    better = (loss < old.best_loss) & ~old.stopped
    waited = jnp.where(better, 0, old.waited + 1)
    # A member that never had a finite loss must not end as the untrained one, which
    # would pass for a result.
    none_yet = ~jnp.isfinite(old.best_loss) & ~old.stopped
    new = EarlyStoppingState(
        best_loss=jnp.where(better, loss, old.best_loss),
        best_params=_where(
            better | none_yet, averaged_state(state).params, old.best_params
        ),
        best_step=jnp.where(better, state.step, old.best_step),
        waited=jnp.where(old.stopped, old.waited, waited),
        stopped=old.stopped | (waited >= patience),
    )
    return _with_extra(state, STOPPING, new)


def with_early_stopping(epoch: Callable) -> Callable:
    """The epoch, after which a stopped state is what it was before, but for its step:
    for members of one program.
    """

    def freezing(state: TrainState, data: PyTree) -> tuple[TrainState, PyTree]:
        after, metrics = epoch(state, data)
        old, new = ((s.params, s.opt_state, s.extra) for s in (state, after))
        params, opt_state, extra = _where(state.extra[STOPPING].stopped, old, new)
        return after._replace(params=params, opt_state=opt_state, extra=extra), metrics

    return freezing


def best_state(state: TrainState) -> TrainState:
    """The state with the best parameters in place of its own; `averaged(state)` where
    no stopping is kept.
    """
    if STOPPING not in (state.extra or {}):
        return averaged_state(state)
    return state._replace(params=state.extra[STOPPING].best_params)
