"""Inverse temperatures of annealing paths, from 0 to 1."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from vaejax._checks import check_count, check_in_range
from vaejax.base import Array

#: `num_temperatures -> [num_temperatures + 1]` inverse temperatures from 0 to 1.
TemperatureSchedule = Callable[[int], Array]


def linear_temperature_schedule(num_temperatures: int) -> Array:
    """Return equally spaced inverse temperatures b_t = t / T.

    Args:
      num_temperatures: T, at least 1.

    Returns:
      `[num_temperatures + 1]`, from exactly 0 to exactly 1.

    Raises:
      ValueError: `num_temperatures` is not a positive integer.

    Example:
      >>> from vaejax.estimators import linear_temperature_schedule
      >>> linear_temperature_schedule(4).tolist()
      [0.0, 0.25, 0.5, 0.75, 1.0]

    Source: Neal 2001, section 2.
    """
    check_count("linear_temperature_schedule: num_temperatures", num_temperatures)
    return jnp.linspace(0, 1, num_temperatures + 1)


def sigmoidal_temperature_schedule(
    num_temperatures: int, *, delta: float = 4.0
) -> Array:
    """Return inverse temperatures that are dense near 0 and near 1.

    b_t = (s_t - s_0) / (s_T - s_0) with s_t = sigmoid(delta (2 t / T - 1)).

    Args:
      num_temperatures: T, at least 1.
      delta: half the range of the sigmoid's argument, positive; the larger it is, the
        more temperatures lie near the ends.

    Returns:
      `[num_temperatures + 1]`, from exactly 0 to exactly 1.

    Raises:
      ValueError: `num_temperatures` is not a positive integer, or `delta` is not
        positive and finite.

    Example:
      >>> from vaejax.estimators import sigmoidal_temperature_schedule
      >>> [round(b, 3) for b in sigmoidal_temperature_schedule(4).tolist()]
      [0.0, 0.105, 0.5, 0.895, 1.0]

    Source: Grosse et al. 2015; Wu et al. 2017.
    """
    check_count("sigmoidal_temperature_schedule: num_temperatures", num_temperatures)
    check_in_range("sigmoidal_temperature_schedule: delta", delta, 0, open_low=True)
    # On the host, so that compiled values are the eager ones.
    sigmoids = 1 / (1 + np.exp(-np.linspace(-delta, delta, num_temperatures + 1)))
    return jnp.asarray((sigmoids - sigmoids[0]) / (sigmoids[-1] - sigmoids[0]), float)
