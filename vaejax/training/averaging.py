"""Care around a step, as pure functions over `TrainState.extra`: a moving average of
the parameters, early stopping.

`extra` is a dict with one entry for each of them, so that they compose, `vmap` over
states and are checkpointed. What acts on gradients (clipping, skipping non-finite ones)
is optax's: `clip_by_global_norm`, `apply_if_finite`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax.base import Array, Params, PyTree, check_count
from vaejax.training import TrainState

AVERAGE, STOPPING = "average", "stopping"


def start_average(state: TrainState) -> TrainState:
    """The state with the average of its parameters so far: the parameters themselves."""
    return _with_extra(state, AVERAGE, state.params)


def with_average(step: Callable, decay: float | Array) -> Callable:
    """The step, which then moves the average: a <- decay a + (1 - decay) params.
    `decay` may be traced.

    The state must have come through `start_average`. Evaluate with `averaged(state)`.

    Raises:
      ValueError: `decay` is a number outside [0, 1).

    Source: Polyak & Juditsky 1992; exponential, as in Song et al. 2021, appendix C.
    """
    if isinstance(decay, float | int) and not 0 <= decay < 1:
        raise ValueError(
            f"with_average: decay is {decay}; give a number in [0, 1), such as 0.999."
        )

    def averaging(state: TrainState, batch: PyTree) -> tuple[TrainState, PyTree]:
        after, metrics = step(state, batch)
        average = jax.tree.map(
            lambda a, p: decay * a + (1 - decay) * p, state.extra[AVERAGE], after.params
        )
        return _with_extra(after, AVERAGE, average), metrics

    return averaging


def averaged(state: TrainState) -> TrainState:
    """The state with the average in place of its parameters; itself where none is kept."""
    return (
        state._replace(params=state.extra[AVERAGE])
        if AVERAGE in (state.extra or {})
        else state
    )


class Stopping(NamedTuple):
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


def start_stopping(state: TrainState) -> TrainState:
    """The state with early stopping that has seen no loss yet."""
    zero = jnp.zeros((), jnp.int32)
    nothing = Stopping(
        jnp.full((), jnp.inf), state.params, zero, zero, jnp.zeros((), bool)
    )
    return _with_extra(state, STOPPING, nothing)


def update_stopping(state: TrainState, loss: Array, *, patience: int) -> TrainState:
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
    new = Stopping(
        best_loss=jnp.where(better, loss, old.best_loss),
        best_params=_where(better | none_yet, averaged(state).params, old.best_params),
        best_step=jnp.where(better, state.step, old.best_step),
        waited=jnp.where(old.stopped, old.waited, waited),
        stopped=old.stopped | (waited >= patience),
    )
    return _with_extra(state, STOPPING, new)


def freeze_stopped(epoch: Callable) -> Callable:
    """The epoch, after which a stopped state is what it was before, but for its step:
    for members of one program.
    """

    def freezing(state: TrainState, data: PyTree) -> tuple[TrainState, PyTree]:
        after, metrics = epoch(state, data)
        old, new = ((s.params, s.opt_state, s.extra) for s in (state, after))
        params, opt_state, extra = _where(state.extra[STOPPING].stopped, old, new)
        return after._replace(params=params, opt_state=opt_state, extra=extra), metrics

    return freezing


def best(state: TrainState) -> TrainState:
    """The state with the best parameters in place of its own; `averaged(state)` where
    no stopping is kept.
    """
    if STOPPING not in (state.extra or {}):
        return averaged(state)
    return state._replace(params=state.extra[STOPPING].best_params)


def _where(condition: Array, one: PyTree, other: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def _with_extra(state: TrainState, name: str, value: PyTree) -> TrainState:
    return state._replace(extra=dict(state.extra or {}) | {name: value})
