"""Helpers that several distributions share."""

import math
from collections.abc import Callable
from typing import Protocol

import jax.numpy as jnp

from vaejax.base import Array, Event, Key, Params


class _CanSampleAndScore(Protocol):
    def sample(self, key: Key) -> Event: ...

    def log_prob(self, event: Event) -> Array: ...


class SampleThenLogProb:
    """Mixin with a `sample_and_log_prob` that calls `sample`, then `log_prob`.

    It suits distributions where computing the two together saves nothing.
    """

    def sample_and_log_prob(self: _CanSampleAndScore, key: Key) -> tuple[Event, Array]:
        event = self.sample(key)
        return event, self.log_prob(event)


def no_parameters(key: Key) -> Params:
    """Return `()`: the `init` of a head without parameters of its own."""
    del key
    return ()


def draw_around(
    draw: Callable[..., Array], key: Key, location: Array, log_scale: Array
) -> Array:
    """Return location + exp(log_scale) * noise.

    The noise is `draw(key, shape=..., dtype=...)`, a function of `jax.random`.
    """
    noise = draw(key, shape=jnp.shape(location), dtype=jnp.result_type(location))
    return location + jnp.exp(log_scale) * noise


def log1mexp(x: Array) -> Array:
    """Return log(1 - exp(-x)) for x > 0, exact near 0 and far from it.

    Source: Mächler 2012, equation 7.
    """
    # Each branch gets an argument of its own side, since the gradient of the one not
    # taken must be finite too.
    is_small = x < math.log(2)
    small, large = jnp.where(is_small, x, 1.0), jnp.where(is_small, 1.0, x)
    return jnp.where(is_small, jnp.log(-jnp.expm1(-small)), jnp.log1p(-jnp.exp(-large)))


def stirling_rest(x: Array) -> Array:
    """Return the first two terms of log Gamma(x) less Stirling's formula, x large."""
    return 1 / (12 * x) - 1 / (360 * x**3)
