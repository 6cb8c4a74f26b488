"""Helpers that distributions over the 256 levels of 8-bit pixels share."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import check_event
from vaejax.base import Array, Key, Support
from vaejax.distributions._shared import SampleThenLogProb

# The levels are k / 255 for k = 0, ..., 255.
NUM_LEVELS = 256
LAST = NUM_LEVELS - 1
PIXELS = Support(
    "8-bit intensities k / 255",
    lambda x: (x >= 0) & (x <= 1) & (abs(255 * x - (255 * x + 0.5) // 1) < 1e-3),
)


class Levels(SampleThenLogProb):
    """Base of distributions over the 256 levels k / 255.

    A subclass gives `location` and the two methods that raise NotImplementedError here.
    """

    location: Array

    def _log_probs(self, event: Array) -> Array:
        """Return the log-probability of each pixel, `[*event]`."""
        raise NotImplementedError

    def _real(self, key: Key) -> Array:
        """Return a draw of the density whose mass the levels take, `[*event]`."""
        raise NotImplementedError

    @property
    def _shape(self) -> tuple[int, ...]:
        return jnp.shape(self.location)

    def log_prob(self, event: Array) -> Array:
        check_event(self, event, self._shape)
        return jnp.sum(self._log_probs(event))

    def sample(self, key: Key) -> Array:
        # A level takes the mass within half a step of it, the first and the last the
        # tails.
        return jnp.clip(jnp.round(self._real(key) * LAST), 0, LAST) / LAST

    @property
    def mean(self) -> Array:
        return self._over_levels(
            jnp.zeros(self._shape), lambda total, x, log_p: total + x * jnp.exp(log_p)
        )

    @property
    def mode(self) -> Array:
        def better(
            best: tuple[Array, Array], x: Array, log_p: Array
        ) -> tuple[Array, Array]:
            level, log_best = best
            return jnp.where(log_p > log_best, x, level), jnp.maximum(log_p, log_best)

        return self._over_levels(
            (jnp.zeros(self._shape), jnp.full(self._shape, -jnp.inf)), better
        )[0]

    def _over_levels(self, start: Any, combine: Callable[[Any, Array, Array], Any]):
        # One level at a time: all at once would take 256 times an image.
        def body(carry, level: Array):
            x = jnp.full(self._shape, level / LAST)
            return combine(carry, x, self._log_probs(x)), None

        return jax.lax.scan(body, start, jnp.arange(NUM_LEVELS, dtype=jnp.float32))[0]


def edges(
    event: Array, location: Array, inverse_scale: Array
) -> tuple[Array, Array, Array, Array]:
    """Return both edges of each level, in units of the scale, and two masks.

    The masks are true where the event is the first level, and where it is the last.
    """
    half = 0.5 / LAST
    lower, upper = ((event + side - location) * inverse_scale for side in (-half, half))
    return lower, upper, event < half, event > 1 - half
