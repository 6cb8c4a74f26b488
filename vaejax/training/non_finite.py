"""Steps that are not finite: undone, and counted in `TrainState.extra`.

One overflow in a gradient makes every parameter NaN for good. Unlike
`optax.apply_if_finite`, which looks at gradients, this looks at the loss and at all
that the step leaves behind, so that it holds for any optimizer.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_function, check_state
from vaejax.base import Array, PyTree, TrainStep
from vaejax.training._extra import select, with_extra
from vaejax.training.steps import TrainState

_SKIPPED = "skipped"


class SkippedSteps(NamedTuple):
    """The counts that `with_skipped_steps` keeps in `TrainState.extra["skipped"]`.

    Attributes:
      total: The number of skipped steps, `int32`.
      in_a_row: The number of them since the last step that was finite, `int32`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.training import TrainState, init_skipped_steps
      >>> state = TrainState(jnp.ones(3), (), jax.random.key(0), jnp.int32(0))
      >>> int(init_skipped_steps(state).extra["skipped"].total)
      0
    """

    total: Array
    in_a_row: Array


class NonFiniteError(ArithmeticError):
    """The error for training whose steps are no longer finite.

    Attributes:
      state: The last state that was finite.
      history: The records of the epochs before.

    Example:
      >>> from vaejax.training import NonFiniteError
      >>> error = NonFiniteError("the loss is nan", state=None, history=[])
      >>> str(error), error.history
      ('the loss is nan', [])
    """

    def __init__(self, message: str, state: Any, history: list[Any]):
        super().__init__(message)
        self.state = state
        self.history = history


def init_skipped_steps(state: TrainState) -> TrainState:
    """Return the state with counts of skipped steps, at zero.

    Args:
      state: A state, such as `init_train_state` returns.

    Returns:
      The state with a `SkippedSteps` in `extra["skipped"]`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.training import TrainState, init_skipped_steps
      >>> state = TrainState(jnp.ones(3), (), jax.random.key(0), jnp.int32(0))
      >>> list(init_skipped_steps(state).extra)
      ['skipped']
    """
    check_state(state)
    zero = jnp.zeros((), jnp.int32)
    return with_extra(state, _SKIPPED, SkippedSteps(zero, zero))


def with_skipped_steps(step: TrainStep) -> TrainStep:
    """Return a step that leaves the state as it was where the step is not finite.

    A step is finite if its loss and the parameters after it are, and if it makes no
    number of the optimizer's state NaN or infinite. One that is not changes nothing but
    `state.step` and the counts; its metrics are returned as they are. The check reads
    the whole state at every step; `fit` runs it only in epochs that need it.

    Args:
      step: `(state, batch) -> (state, metrics)`, whose metrics are a `StepMetrics`.

    Returns:
      A step for states that came through `init_skipped_steps`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.training import (
      ...     StepMetrics, TrainState, init_skipped_steps, with_skipped_steps
      ... )
      >>> def step(state, batch):
      ...     after = state._replace(params=batch * state.params, step=state.step + 1)
      ...     return after, StepMetrics(state.params, ())
      >>> state = init_skipped_steps(
      ...     TrainState(jnp.array(3.0), (), jax.random.key(0), jnp.int32(0))
      ... )
      >>> for batch in (2.0, jnp.nan):
      ...     state, _ = with_skipped_steps(step)(state, batch)
      >>> float(state.params), int(state.step), int(state.extra["skipped"].total)
      (6.0, 2, 1)
    """
    check_function("with_skipped_steps: step", step)

    def skipping(state: TrainState, batch: PyTree) -> tuple[TrainState, PyTree]:
        after, metrics = step(state, batch)
        finite = is_finite(state, after, metrics.loss)
        params, opt_state, extra = select(
            finite,
            (after.params, after.opt_state, after.extra),
            (state.params, state.opt_state, state.extra),
        )
        total, in_a_row = state.extra[_SKIPPED]
        counts = SkippedSteps(
            jnp.where(finite, total, total + 1), jnp.where(finite, 0, in_a_row + 1)
        )
        kept = after._replace(params=params, opt_state=opt_state, extra=extra)
        return with_extra(kept, _SKIPPED, counts), metrics

    return skipping


def is_finite(before: TrainState, after: TrainState, loss: Array) -> Array:
    """Return whether losses are finite and have left the state finite, a boolean."""
    checks = [jnp.all(jnp.isfinite(loss))]
    checks += [jnp.all(jnp.isfinite(leaf)) for leaf in _floating(after.params)]
    # Some optimizers start from an infinite "best value so far".
    checks += [
        jnp.all(jnp.isfinite(new) | ~jnp.isfinite(old))
        for old, new in zip(
            _floating(before.opt_state), _floating(after.opt_state), strict=True
        )
    ]
    return jnp.all(jnp.stack(checks))


def _floating(tree: PyTree) -> list[Array]:
    return [
        leaf
        for leaf in jax.tree.leaves(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
