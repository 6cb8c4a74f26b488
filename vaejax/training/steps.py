"""Training as pure functions: a state, a step, an epoch. They know of a VAE only its
`init`.

Randomness is a function of the run's key and the step alone: the noise of step n, the
order of epoch e and the position in it follow from `TrainState.key` and
`TrainState.step`, so that a resumed run draws what the uninterrupted one would have.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vaejax.base import VAE, Array, Example, Key, Params, PyTree

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
    """What a step reports: the loss that was minimized, and the terms that its loss_fn
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
