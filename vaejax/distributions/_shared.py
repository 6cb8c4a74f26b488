"""Helpers that several distributions share."""

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp

from vaejax._checks import check_event
from vaejax.base import Array, Event, Key, Params

_Distribution = TypeVar("_Distribution")


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


def event_shape(distribution: Any) -> tuple[int, ...]:
    """Return the shape of the events: the broadcast shape of all parameters."""
    return jnp.broadcast_shapes(*(jnp.shape(p) for p in jax.tree.leaves(distribution)))


def density_dtype(*arrays: Array) -> Any:
    """Return the dtype of log-densities: float64 where an array has it, else float32.

    Sums over an event in half precision would lose whole nats.
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*arrays, jnp.float32)


def scored(
    distribution: _Distribution, event: Array, shape: tuple[int, ...] | None = None
) -> tuple[_Distribution, Array]:
    """Return a distribution and an event as `log_prob` computes with them.

    Both have the dtype of the log-density, integers and bools of the event too. The
    event must have the given shape, by default that of all parameters together.
    """
    shape = event_shape(distribution) if shape is None else shape
    check_event(distribution, event, shape)
    dtype = density_dtype(*jax.tree.leaves(distribution))

    def cast(parameter: Array) -> Array:
        parameter = jnp.asarray(parameter).astype(dtype)
        # JAX may be set to refuse a product of arrays of unequal rank.
        is_shorter = 0 < parameter.ndim < len(shape)
        return jnp.broadcast_to(parameter, shape) if is_shorter else parameter

    return jax.tree.map(cast, distribution), jnp.asarray(event).astype(dtype)


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
