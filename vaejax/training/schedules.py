"""Schedules of an argument of an objective, such as beta, for `make_train_step`.

A schedule is a function of the step, which is traced. Any optax schedule is one
(`optax.linear_schedule`, `optax.cosine_decay_schedule`, `optax.join_schedules`); here
is what optax lacks. Their values may be traced, so that a sweep can vary them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vaejax._checks import check_count
from vaejax.base import Array

#: `step -> value`: a function of the number of steps taken, such as an optax schedule.
Schedule = Callable[[Array], Array]


def warm_up(value: float | Array, num_steps: int) -> Schedule:
    """Return a schedule that rises from 0 to a value in a straight line, then stays.

    value * min(step / num_steps, 1). With 0 steps it is the value from the start.

    Args:
      value: The final value; may be traced.
      num_steps: The number of steps of the rise, 0 or a positive integer.

    Returns:
      A function of the step, for `make_train_step` or optax.

    Raises:
      ValueError: The number of steps is neither 0 nor a positive integer.

    Example:
      >>> from vaejax.training import warm_up
      >>> beta = warm_up(4.0, 10)
      >>> [float(beta(step)) for step in (0, 5, 10, 99)]
      [0.0, 2.0, 4.0, 4.0]

    Source: Sønderby et al. 2016, section 2.3.
    """
    if num_steps != 0:
        check_count("num_steps", num_steps)
    lowest, length = (1.0, 1) if num_steps == 0 else (0.0, num_steps)
    return lambda step: value * jnp.clip(_as_float(step) / length, lowest, 1.0)


def logistic_warm_up(
    value: float | Array, num_steps: int, *, steepness: float = 10.0
) -> Schedule:
    """Return a schedule that rises to a value along a logistic curve.

    value / (1 + exp(-steepness (step / num_steps - 1/2))): half of the value after half
    of the steps. It neither starts at 0 nor ends at the value: with the default
    steepness it goes from 0.7 % to 99.3 % of it in `num_steps` steps.

    Args:
      value: The upper limit; may be traced.
      num_steps: Twice the step at which half of the value is reached, a positive
        integer.
      steepness: The change of the logistic function's argument in `num_steps` steps, a
        positive number.

    Returns:
      A function of the step, for `make_train_step` or optax.

    Raises:
      ValueError: The number of steps is not a positive integer, or the steepness is not
        positive.

    Example:
      >>> from vaejax.training import logistic_warm_up
      >>> beta = logistic_warm_up(2.0, 100)
      >>> [round(float(beta(step)), 3) for step in (0, 50, 100)]
      [0.013, 1.0, 1.987]

    Source: Bowman et al. 2016, section 3.1 and figure 2.
    """
    check_count("num_steps", num_steps)
    if not steepness > 0:
        raise ValueError(
            f"logistic_warm_up: steepness is {steepness}; give a positive number."
        )
    return lambda step: (
        value * jax.nn.sigmoid(steepness * (_as_float(step) / num_steps - 0.5))
    )


def cyclical(
    value: float | Array, num_steps: int, *, num_cycles: int = 4, ratio: float = 0.5
) -> Schedule:
    """Return a schedule that rises from 0 to a value several times.

    In each of the cycles, which are equally long, it rises in a straight line over the
    first `ratio` of the cycle and stays at the value for the rest. After the last cycle
    it stays at the value.

    Args:
      value: The value after each rise; may be traced.
      num_steps: The number of steps of all cycles together, a positive integer.
      num_cycles: The number of cycles, a positive integer.
      ratio: The part of a cycle in which the schedule rises, in (0, 1].

    Returns:
      A function of the step, for `make_train_step` or optax.

    Raises:
      ValueError: A count is not a positive integer, or the ratio is outside (0, 1].

    Example:
      >>> from vaejax.training import cyclical
      >>> beta = cyclical(2.0, 8, num_cycles=2, ratio=0.5)
      >>> [float(beta(step)) for step in range(9)]
      [0.0, 1.0, 2.0, 2.0, 0.0, 1.0, 2.0, 2.0, 2.0]

    Source: Fu et al. 2019, equation 6.
    """
    check_count("num_steps", num_steps)
    check_count("num_cycles", num_cycles)
    if not 0 < ratio <= 1:
        raise ValueError(f"cyclical: ratio is {ratio}; give a number in (0, 1].")

    def schedule(step: Array) -> Array:
        phase = jnp.mod(_as_float(step) * num_cycles / num_steps, 1.0)
        rising = jnp.minimum(phase / ratio, 1.0)
        return value * jnp.where(_as_float(step) < num_steps, rising, 1.0)

    return schedule


def _as_float(step: Array) -> Array:
    return jnp.asarray(step).astype(jnp.float32)
