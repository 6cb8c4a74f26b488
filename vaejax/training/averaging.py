"""Moving average of the parameters, kept in `TrainState.extra` beside what is trained.

It composes with early stopping, `vmap`s over states and is checkpointed. What acts on
gradients, such as clipping and skipping non-finite ones, is optax's:
`optax.clip_by_global_norm`, `optax.apply_if_finite`.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import check_function, check_in_range, check_state, is_traced
from vaejax._reals import at_least_single
from vaejax.base import Array, PyTree, TrainStep
from vaejax.training._extra import with_extra
from vaejax.training.steps import TrainState

_AVERAGE = "average"


def init_average(state: TrainState) -> TrainState:
    """Return the state with an average that starts at its parameters.

    Args:
      state: A state, such as `init_train_state` returns.

    Returns:
      The state with the average in `extra["average"]`, in float32 for parameters of
      half precision.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.training import TrainState, init_average
      >>> state = TrainState(jnp.ones(3), (), jax.random.key(0), jnp.int32(0))
      >>> init_average(state).extra["average"].shape
      (3,)
    """
    check_state(state)
    # In half precision, a thousandth of the difference would be rounded away.
    return with_extra(state, _AVERAGE, jax.tree.map(at_least_single, state.params))


def with_average(step: TrainStep, decay: float | Array) -> TrainStep:
    """Return a step that also moves the average of the parameters.

    After the step, average <- decay * average + (1 - decay) * params. Training itself
    does not change; evaluate with `averaged_state(state)`.

    Args:
      step: `(state, batch) -> (state, metrics)`.
      decay: The weight of the old average, in [0, 1), such as 0.999; may be traced.

    Returns:
      A step for states that came through `init_average`.

    Raises:
      ValueError: The decay is a number outside [0, 1), or rounds to 1 in float32.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax import TrainState
      >>> from vaejax.training import averaged_state, init_average, with_average
      >>> def step(state, batch):
      ...     return state._replace(params=state.params + batch), ()
      >>> state = TrainState(jnp.zeros(()), (), jax.random.key(0), jnp.int32(0))
      >>> state, _ = with_average(step, 0.75)(init_average(state), 1.0)
      >>> float(state.params), float(averaged_state(state).params)
      (1.0, 0.25)

    Source: Polyak & Juditsky 1992; exponential, as in Song et al. 2021, appendix C.
    """
    check_in_range("with_average: decay", decay, 0, 1, open_high=True)
    if not is_traced(decay) and np.any(np.float32(decay) == 1):
        raise ValueError(
            f"with_average: decay is {decay}, which is 1 in float32, so that the "
            "average would never move; give 0.9999999 at most."
        )

    check_function("with_average: step", step)

    def averaging(state: TrainState, batch: PyTree) -> tuple[TrainState, PyTree]:
        after, metrics = step(state, batch)

        def move(average: Array, param: Array) -> Array:
            if not jnp.issubdtype(jnp.result_type(average), jnp.floating):
                return param
            old = jnp.asarray(decay, jnp.result_type(average))
            return old * average + (1 - old) * jnp.asarray(param, old.dtype)

        average = jax.tree.map(move, state.extra[_AVERAGE], after.params)
        return with_extra(after, _AVERAGE, average), metrics

    return averaging


def averaged_state(state: TrainState) -> TrainState:
    """Return the state with the average in place of its parameters, for evaluation.

    Args:
      state: A state, with or without an average.

    Returns:
      The state with the averaged parameters; the state itself without an average.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.training import TrainState, averaged_state
      >>> state = TrainState(jnp.ones(3), (), jax.random.key(0), jnp.int32(0))
      >>> averaged_state(state) is state
      True
    """
    check_state(state)
    if _AVERAGE not in (state.extra or {}):
        return state

    def narrowed(average: Any, param: Any) -> Any:
        dtype = jnp.result_type(param)
        return (
            average
            if jnp.result_type(average) == dtype
            else jnp.asarray(average, dtype)
        )

    params = jax.tree.map(narrowed, state.extra[_AVERAGE], state.params)
    return state._replace(params=params)
