"""Schedules of an objective's argument, such as beta: functions of the step, traced,
for `make_train_step`.

Any optax schedule is one (`optax.linear_schedule`, `optax.cosine_decay_schedule`,
`optax.join_schedules`); here is what optax lacks. Values may be traced, so that a sweep
can vary them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from vaejax._checks import check_count
from vaejax.base import Array


def warm_up(value: float | Array, num_steps: int) -> Callable[[Array], Array]:
    """From 0 to `value` in a straight line over `num_steps` steps, then `value`;
    `value` at once if that is 0.

    Raises:
      ValueError: `num_steps` is neither 0 nor a positive integer.

    Source: Sønderby et al. 2016, section 2.3.
    """
    if num_steps != 0:
        check_count("num_steps", num_steps)
    return lambda step: (
        value
        * jnp.clip(
            _count(step) / max(num_steps, 1), 1.0 if num_steps == 0 else 0.0, 1.0
        )
    )


def logistic_warm_up(
    value: float | Array, num_steps: int, *, steepness: float = 10.0
) -> Callable[[Array], Array]:
    """value / (1 + exp(-steepness (step / num_steps - 1/2))): half of `value` after
    half of `num_steps` steps.

    It neither starts at 0 nor ends at `value`: with the default it goes from 0.7 % to
    99.3 % of it.

    Raises:
      ValueError: `num_steps` is not a positive integer, or `steepness` is not positive.

    Source: Bowman et al. 2016, section 3.1 and figure 2.
    """
    check_count("num_steps", num_steps)
    if not steepness > 0:
        raise ValueError(
            f"logistic_warm_up: steepness is {steepness}; give a positive number."
        )
    return lambda step: (
        value * jax.nn.sigmoid(steepness * (_count(step) / num_steps - 0.5))
    )


def cyclical(
    value: float | Array, num_steps: int, *, num_cycles: int = 4, ratio: float = 0.5
) -> Callable[[Array], Array]:
    """`num_cycles` times in `num_steps` steps: from 0 to `value` over the first `ratio`
    of the cycle, then `value`.

    After the last cycle it stays `value`.

    Raises:
      ValueError: a count is not a positive integer, or `ratio` is outside (0, 1].

    Source: Fu et al. 2019, equation 6.
    """
    check_count("num_steps", num_steps)
    check_count("num_cycles", num_cycles)
    if not 0 < ratio <= 1:
        raise ValueError(f"cyclical: ratio is {ratio}; give a number in (0, 1].")

    def schedule(step: Array) -> Array:
        phase = jnp.mod(_count(step) * num_cycles / num_steps, 1.0)
        return value * jnp.where(
            _count(step) < num_steps, jnp.minimum(phase / ratio, 1.0), 1.0
        )

    return schedule


def _count(step: Array) -> Array:
    return jnp.asarray(step).astype(jnp.float32)
