"""Helpers that distributions over the 256 levels of 8-bit pixels share."""

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from vaejax._checks import as_event, check_key, check_not_integers
from vaejax.base import Array, Key, Support
from vaejax.distributions._shared import (
    SampleThenLogProb,
    density_dtype,
    drawn,
    inverse_scale,
    scored,
    shape_of,
    standardized,
)

# The levels are k / 255 for k = 0, ..., 255.
NUM_LEVELS = 256
LAST = NUM_LEVELS - 1
PIXELS = Support(
    "8-bit intensities k / 255",
    lambda x: (x >= 0) & (x <= 1) & (abs(255 * x - (255 * x + 0.5) // 1) < 1e-3),
)


class Levels(SampleThenLogProb):
    """Base of distributions over the 256 levels k / 255.

    A subclass gives the two methods that raise NotImplementedError here, which compute
    with parameters of one dtype.
    """

    # How many of the last axes of the parameters are not of the event.
    _own_axes: ClassVar[int] = 0

    def _log_probs(self, event: Array) -> Array:
        """Return the log-probability of each pixel, `[*event]`."""
        raise NotImplementedError

    def _real(self, key: Key) -> Array:
        """Return a draw of the density whose mass the levels take, `[*event]`."""
        raise NotImplementedError

    @property
    def _shape(self) -> tuple[int, ...]:
        shape = shape_of(self)
        return shape[: len(shape) - self._own_axes]

    def log_prob(self, event: Array) -> Array:
        check_not_integers(
            self, event, "divide by 255: pixels are intensities in [0, 1]"
        )
        is_half = as_event(self, event).dtype.itemsize == 2
        self, event = scored(self, event, own_axes=self._own_axes)
        # Half precision holds k / 255 to less than half a level.
        event = jnp.round(event * LAST) / LAST if is_half else event
        level = event * LAST
        # All false for NaN, which is NaN in the log-probability too.
        no_level = (
            (event < 0) | (event > 1) | (jnp.abs(level - jnp.round(level)) > 1e-3)
        )
        log_probs = self._log_probs(jnp.where(no_level, 0, event))
        return jnp.sum(jnp.where(no_level, -jnp.inf, log_probs))

    def sample(self, key: Key) -> Array:
        check_key(key)
        # A level takes the mass within half a step of it, the first and the last the
        # tails.
        self, _, _ = drawn(self)
        return jnp.clip(jnp.round(self._real(key) * LAST), 0, LAST) / LAST

    @property
    def mean(self) -> Array:
        return _mean(self)

    @property
    def mode(self) -> Array:
        return _mode(self)


# Compiled once per shape in eager calls, and part of what is traced in others.
@partial(jax.jit, inline=True)
def _mean(distribution: Levels) -> Array:
    return _over_levels(
        distribution, 0, lambda total, x, log_p: total + x * jnp.exp(log_p)
    )


@partial(jax.jit, inline=True)
def _mode(distribution: Levels) -> Array:
    def better(
        best: tuple[Array, Array], x: Array, log_p: Array
    ) -> tuple[Array, Array]:
        level, log_best = best
        return jnp.where(log_p > log_best, x, level), jnp.maximum(log_p, log_best)

    return _over_levels(distribution, (0, -jnp.inf), better)[0]


def _over_levels(
    distribution: Levels, start: Any, combine: Callable[[Any, Array, Array], Any]
) -> Any:
    shape = distribution._shape
    dtype = density_dtype(*jax.tree.leaves(distribution))

    # One level at a time: all at once would take 256 times an image.
    def body(carry: Any, level: Array) -> tuple[Any, None]:
        x = jnp.full(shape, level / LAST)
        exact, x = scored(distribution, x, own_axes=distribution._own_axes)
        return combine(carry, x, exact._log_probs(x)), None

    start = jax.tree.map(lambda value: jnp.full(shape, value, dtype), start)
    return jax.lax.scan(body, start, jnp.arange(NUM_LEVELS, dtype=dtype))[0]


def edges(
    event: Array, location: Array, log_scale: Array
) -> tuple[Array, Array, Array, Array]:
    """Return both edges of each level, in units of the scale, and two masks.

    The masks are true where the event is the first level, and where it is the last.
    """
    half = 0.5 / LAST
    middle = standardized(event, location, log_scale)
    half_width = inverse_scale(log_scale) * half
    return middle - half_width, middle + half_width, event < half, event > 1 - half
