"""Care around a step, as pure functions over `TrainState.extra`: a moving average of
the parameters, early stopping.

`extra` is a dict with one entry for each of them, so that they compose, `vmap` over
states and are checkpointed. What acts on gradients (clipping, skipping non-finite ones)
is optax's: `clip_by_global_norm`, `apply_if_finite`.
"""

from collections.abc import Callable

import jax

from vaejax.base import Array, PyTree
from vaejax.training._extra import _with_extra
from vaejax.training.steps import TrainState

AVERAGE, STOPPING = "average", "stopping"


def init_average(state: TrainState) -> TrainState:
    """The state with the average of its parameters so far: the parameters themselves."""
    return _with_extra(state, AVERAGE, state.params)


def with_average(step: Callable, decay: float | Array) -> Callable:
    """The step, which then moves the average: a <- decay a + (1 - decay) params.
    `decay` may be traced.

    The state must have come through `init_average`. Evaluate with `averaged(state)`.

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


def averaged_state(state: TrainState) -> TrainState:
    """The state with the average in place of its parameters; itself where none is kept."""
    return (
        state._replace(params=state.extra[AVERAGE])
        if AVERAGE in (state.extra or {})
        else state
    )
