"""Moving average of the parameters, kept in `TrainState.extra` beside what is trained.

It composes with early stopping, `vmap`s over states and is checkpointed. What acts on
gradients, such as clipping and skipping non-finite ones, is optax's:
`optax.clip_by_global_norm`, `optax.apply_if_finite`.
"""

import jax

from vaejax.base import Array, PyTree, TrainStep
from vaejax.training._extra import with_extra
from vaejax.training.steps import TrainState

_AVERAGE = "average"


def init_average(state: TrainState) -> TrainState:
    """Return the state with an average that starts at its parameters.

    Args:
      state: A state, such as `init_train_state` returns.

    Returns:
      The state with the average in `extra["average"]`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.training import TrainState, init_average
      >>> state = TrainState(jnp.ones(3), (), jax.random.key(0), jnp.int32(0))
      >>> init_average(state).extra["average"].shape
      (3,)
    """
    return with_extra(state, _AVERAGE, state.params)


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
      ValueError: The decay is a number outside [0, 1).

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
    if isinstance(decay, float | int) and not 0 <= decay < 1:
        raise ValueError(
            f"with_average: decay is {decay}; give a number in [0, 1), such as 0.999."
        )

    def averaging(state: TrainState, batch: PyTree) -> tuple[TrainState, PyTree]:
        after, metrics = step(state, batch)
        average = jax.tree.map(
            lambda a, p: decay * a + (1 - decay) * p,
            state.extra[_AVERAGE],
            after.params,
        )
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
    if _AVERAGE not in (state.extra or {}):
        return state
    return state._replace(params=state.extra[_AVERAGE])
