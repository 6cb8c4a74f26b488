"""Helpers that several distributions share."""

import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp

from vaejax._checks import check_event
from vaejax.base import Array, Event, Key, Params, Support

REAL = Support("finite numbers", lambda x: abs(x) < math.inf)
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


def shape_of(distribution: Any) -> tuple[int, ...]:
    """Return the broadcast shape of all parameters, axes over classes included."""
    return jnp.broadcast_shapes(*(jnp.shape(p) for p in jax.tree.leaves(distribution)))


def density_dtype(*arrays: Any) -> Any:
    """Return the dtype of log-densities: float64 where an array has it, else float32.

    Sums over an event in half precision would lose whole nats.
    """
    with jax.numpy_dtype_promotion("standard"):
        return jnp.result_type(*arrays, jnp.float32)


def with_parameters(
    distribution: _Distribution, dtype: Any, shape: tuple[int, ...]
) -> _Distribution:
    """Return a distribution whose parameters have one dtype, and one rank or none."""

    def cast(parameter: Any) -> Array:
        parameter = jnp.asarray(parameter).astype(dtype)
        # JAX may be set to refuse a product of arrays of unequal rank.
        is_shorter = 0 < parameter.ndim < len(shape)
        return jnp.broadcast_to(parameter, shape) if is_shorter else parameter

    return jax.tree.map(cast, distribution)


def scored(
    distribution: _Distribution, event: Any, *, own_axes: int = 0
) -> tuple[_Distribution, Array]:
    """Return a distribution and an event as `log_prob` computes with them.

    Both have the dtype of the log-density, integers and bools of the event too. The
    event must have the shape of all parameters together, less their last `own_axes`.
    """
    shape = shape_of(distribution)
    event = check_event(distribution, event, shape[: len(shape) - own_axes])
    dtype = density_dtype(*jax.tree.leaves(distribution))
    event = jnp.asarray(event).astype(dtype)
    return with_parameters(distribution, dtype, shape), event


def without_infinite(event: Array) -> tuple[Array, Array]:
    """Return an event with 0 for infinite entries, and whether it is outside the reals.

    Networks and products with zeros would make NaN of an infinite entry. An event with
    NaN is not outside: its log-density is NaN.
    """
    is_infinite = jnp.isinf(event)
    outside = jnp.any(is_infinite) & ~jnp.any(jnp.isnan(event))
    return jnp.where(is_infinite, 0, event), outside


def scored_as_vectors(
    distribution: _Distribution, event: Any
) -> tuple[_Distribution, Array]:
    """Return what `scored` does with all axes in one, for sums over an event.

    Loops over the short last axis of an image are slow on CPU.
    """
    distribution, event = scored(distribution, event)
    if event.ndim < 2:
        return distribution, event
    vectors = jax.tree.map(
        lambda leaf: leaf.ravel() if leaf.ndim else leaf, distribution
    )
    return vectors, event.ravel()


def drawn(distribution: _Distribution) -> tuple[_Distribution, tuple[int, ...], Any]:
    """Return a distribution as `sample` computes with it, its shape and its dtype.

    Every dimension of the shape has noise of its own.
    """
    shape = shape_of(distribution)
    with jax.numpy_dtype_promotion("standard"):
        dtype = jnp.result_type(*jax.tree.leaves(distribution))
    if not jnp.issubdtype(dtype, jnp.floating):
        dtype = density_dtype()
    return with_parameters(distribution, dtype, shape), shape, dtype


def no_parameters(key: Key) -> Params:
    """Return `()`: the `init` of a head without parameters of its own."""
    del key
    return ()


def draw_around(
    draw: Callable[..., Array],
    key: Key,
    location: Array,
    log_scale: Array,
    shape: tuple[int, ...],
) -> Array:
    """Return location + exp(log_scale) * noise, of the given shape.

    The noise is `draw(key, shape=..., dtype=...)`, a function of `jax.random`.
    """
    noise = draw(key, shape=shape, dtype=location.dtype)
    return location + jnp.exp(log_scale) * noise


def standardized(event: Array, location: Array, log_scale: Array) -> Array:
    """Return (event - location) / exp(log_scale).

    An overflow of the inverse scale would make NaN of an event at the location.
    """
    return (event - location) * inverse_scale(log_scale)


def inverse_scale(log_scale: Array) -> Array:
    """Return exp(-log_scale), at most exp(80), which float32 still holds."""
    return jnp.exp(-jnp.where(log_scale < -80, -80, log_scale))


def log_softmax(logits: Array) -> Array:
    """Return log-probabilities of the classes on the last axis."""
    shifted, log_total = shifted_logits(logits)
    return shifted - log_total


def shifted_logits(logits: Array) -> tuple[Array, Array]:
    """Return logits of which the largest is 0, and log sum exp of them, `[..., 1]`.

    A class of an infinite logit is certain, where the difference of two would be NaN.
    """
    largest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    shifted = jnp.where(logits == jnp.inf, 0, logits - largest)
    return shifted, jnp.log(jnp.sum(jnp.exp(shifted), axis=-1, keepdims=True))


def log1mexp(x: Array) -> Array:
    """Return log(1 - exp(-x)) for x > 0, exact near 0 and far from it.

    Source: Mächler 2012, equation 7.
    """
    # Each branch gets an argument of its own side, since the gradient of the one not
    # taken must be finite too.
    is_small = x < math.log(2)
    small, large = jnp.where(is_small, x, 1.0), jnp.where(is_small, 1.0, x)
    return jnp.where(is_small, jnp.log(-jnp.expm1(-small)), jnp.log1p(-jnp.exp(-large)))


@jax.custom_jvp
def expm1_less(x: Array) -> Array:
    """Return exp(x) - 1 - x, which keeps its digits around 0."""
    near = jnp.abs(x) < 1
    small = jnp.where(near, x, 0)
    # x^2 / 2 (1 + x / 3 (1 + x / 4 (1 + ...))), to the last digit of the dtype.
    series = jnp.ones_like(x)
    for n in range(19 if x.dtype == jnp.float64 else 11, 2, -1):
        series = 1 + small * (1 / n) * series
    # Not expm1, which takes several times as long on CPU and gains nothing here. The
    # minimum keeps infinity less infinity out.
    far = jnp.exp(x) - 1 - jnp.minimum(x, jnp.finfo(x.dtype).max)
    return jnp.where(near, jnp.square(small) / 2 * series, far)


@expm1_less.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (x_dot,) = primals, tangents
    return expm1_less(x), jnp.expm1(x) * x_dot


def stirling_rest(x: Array) -> Array:
    """Return the first two terms of log Gamma(x) less Stirling's formula, x large."""
    inverse = 1 / x
    return inverse * (1 / 12 - jnp.square(inverse) / 360)
