"""Schedules of an argument of an objective, such as beta, for `make_train_step`.

A schedule is a function of the step, which is traced. Any optax schedule is one
(`optax.linear_schedule`, `optax.cosine_decay_schedule`, `optax.join_schedules`); here
is what optax lacks. Their values may be traced, so that a sweep can vary them. A step
is an integer or a floating-point number, traced or not: values are the same bit for
bit.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import check_count, check_in_range
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
      ValueError: The number of steps is neither 0 nor a positive integer, or the value
        is not finite.

    Example:
      >>> from vaejax.training import warm_up
      >>> beta = warm_up(4.0, 10)
      >>> [float(beta(step)) for step in (0, 5, 10, 99)]
      [0.0, 2.0, 4.0, 4.0]

    Source: Sønderby et al. 2016, section 2.3.
    """
    check_in_range("warm_up: value", value)
    if num_steps != 0:
        check_count("num_steps", num_steps)
    if num_steps == 0:
        return lambda step: value * jnp.ones_like(_as_float(step))
    return lambda step: value * _share(_as_float(step), num_steps)


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
      ValueError: The number of steps is not a positive integer, the value is not
        finite, or the steepness is not positive.

    Example:
      >>> from vaejax.training import logistic_warm_up
      >>> beta = logistic_warm_up(2.0, 100)
      >>> [round(float(beta(step)), 3) for step in (0, 50, 100)]
      [0.013, 1.0, 1.987]

    Source: Bowman et al. 2016, section 3.1 and figure 2.
    """
    check_count("num_steps", num_steps)
    check_in_range("logistic_warm_up: value", value)
    check_in_range("logistic_warm_up: steepness", steepness, 0, open_low=True)
    slope = steepness / num_steps
    return lambda step: (
        value * jax.nn.sigmoid(slope * (_as_float(step) - num_steps / 2))
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
      ValueError: A count is not a positive integer, the value is not finite, or the
        ratio is outside (0, 1].

    Example:
      >>> from vaejax.training import cyclical
      >>> beta = cyclical(2.0, 8, num_cycles=2, ratio=0.5)
      >>> [float(beta(step)) for step in range(9)]
      [0.0, 1.0, 2.0, 2.0, 0.0, 1.0, 2.0, 2.0, 2.0]

    Source: Fu et al. 2019, equation 6.
    """
    check_count("num_steps", num_steps)
    check_count("num_cycles", num_cycles)
    check_in_range("cyclical: value", value)
    check_in_range("cyclical: ratio", ratio, 0, 1, open_low=True)

    # Cycle i starts at step i * num_steps / num_cycles: the first whole step, and how
    # far that one is into its cycle, in units of 1 / num_cycles steps.
    starts = [-(-i * num_steps // num_cycles) for i in range(num_cycles)]
    rests = [start * num_cycles - i * num_steps for i, start in enumerate(starts)]
    starts = np.minimum(starts, _LAST).astype(np.int32)
    rests = np.array(rests, np.int32)

    def schedule(step: Array) -> Array:
        whole, part = _whole_and_part(step)
        bounds = starts.reshape((1,) * whole.ndim + (-1,))
        cycle = jnp.maximum(jnp.sum(whole[..., None] >= bounds, axis=-1) - 1, 0)
        since = (whole - jnp.asarray(starts)[cycle]) * num_cycles
        phase = (since + jnp.asarray(rests)[cycle]).astype(jnp.float32)
        rising = _share(phase + part * num_cycles, ratio * num_steps)
        return value * jnp.where(whole < min(num_steps, _LAST), rising, 1.0)

    return schedule


# The largest step, of int32.
_LAST = int(np.iinfo(np.int32).max)


def _share(position: Array, length: float) -> Array:
    """Return min(position / length, 1), and 0 below 0."""
    # The divisor is no constant, since a compiled division by one is a product with its
    # reciprocal, which is rounded.
    position = jnp.maximum(position, 0.0)
    return position / jnp.maximum(position, length)


def _whole_and_part(step: Array) -> tuple[Array, Array]:
    """Return the integer and the fractional part of a step, `int32` and `float32`."""
    step = _within(step)
    if jnp.issubdtype(step.dtype, jnp.floating):
        step = jnp.clip(step.astype(jnp.float32), 0.0, _LAST)
        whole = jnp.floor(step)
        # The largest float32 below 2^31, of which int32 holds no more.
        return jnp.minimum(whole, _LAST - 127).astype(jnp.int32), step - whole
    return step.astype(jnp.int32), jnp.zeros(step.shape, jnp.float32)


def _as_float(step: Array) -> Array:
    return _within(step).astype(jnp.float32)


def _within(step: Array) -> Array:
    # A Python integer may be larger than any that jax takes.
    step = jnp.asarray(min(step, _LAST) if isinstance(step, int) else step)
    if jnp.issubdtype(step.dtype, jnp.integer) and step.dtype.itemsize >= 4:
        return jnp.minimum(step, jnp.array(_LAST, step.dtype))
    return step
