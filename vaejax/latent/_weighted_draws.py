"""Importance sampling from q(z|x): weighted draws, and means over them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_arrays, described, sample_and_log_prob_of
from vaejax._reals import as_real
from vaejax.base import VAE, Array, Distribution, Key, Params
from vaejax.columns import MaskedEvent
from vaejax.objectives import kl_monte_carlo


class WeightedDraw(NamedTuple):
    """One z ~ q(z|x), by what is decoded from it.

    Attributes:
      likelihood: p(x|z).
      log_ratio: log p(z) - log q(z|x), a scalar in nats, in float32 or better.
    """

    likelihood: Distribution
    log_ratio: Array


def weighted_draw(
    vae: VAE, params: Params, key: Key, posterior: Distribution, prior: Distribution
) -> WeightedDraw:
    """Draw and decode one z of a posterior that is computed already."""
    z, log_posterior = sample_and_log_prob_of(posterior, key)
    kl_terms = kl_monte_carlo(posterior, prior, z, log_posterior)
    return WeightedDraw(vae.decode(params, z), -jnp.sum(as_real(kl_terms)))


def check_row(function: str, x: MaskedEvent) -> MaskedEvent:
    """Return an event with zeros in its missing cells, so that they change nothing.

    TypeError unless it is a `MaskedEvent` with a boolean mask, ValueError unless its
    mask has the shape of its values.
    """
    if not isinstance(x, MaskedEvent):
        raise TypeError(
            f"{function}: x is {described(x)}; give MaskedEvent(values, mask) of one "
            "row, and map over rows with jax.vmap."
        )
    check_arrays("x", x)
    values, mask = jnp.asarray(x.values), jnp.asarray(x.mask)
    if mask.dtype != bool:
        raise TypeError(
            f"{function}: the mask of x is {mask.dtype}; give booleans, true where a "
            "cell is observed."
        )
    if mask.shape != values.shape:
        raise ValueError(
            f"{function}: the values of x have shape {values.shape} and its mask "
            f"{mask.shape}; give one boolean per cell."
        )
    return MaskedEvent(jnp.where(mask, values, jnp.zeros((), values.dtype)), mask)


class WeightedMeans(NamedTuple):
    """Self-normalized means and their standard errors, each `[F]`."""

    mean: Array
    standard_error: Array


class _Sums(NamedTuple):
    """Sums over samples of weights w, relative to the largest, times u = (1, m - m_0).

    Attributes:
      log_largest: the largest log-weight so far.
      center: `[F]`, m_0: distances from one of the samples keep the digits that a large
        mean would cost a variance.
      first: `[1 + F]`, the sum of w u.
      squares: `[1 + F]`, the sum of w^2 u.
      second: `[1 + F]`, the sum of w^2 u^2.
    """

    log_largest: Array
    center: Array
    first: Array
    squares: Array
    second: Array


def weighted_means(
    weighed: Callable[[Array], tuple[Array, Array]], num_samples: int, chunk_size: int
) -> tuple[Array, WeightedMeans]:
    """Return all log-weights `[num_samples]` and the weighted means of the other part.

    `weighed` returns a log-weight and numbers m `[F]` of a sample, by its number. One
    chunk of them is held at a time.
    """

    def add(sums: _Sums, samples: Array) -> tuple[_Sums, Array]:
        log_weights, numbers = jax.vmap(weighed)(samples)
        return _add(sums, log_weights, numbers), log_weights

    log_weight, numbers = jax.eval_shape(weighed, jnp.uint32(0))
    zeros = jnp.zeros(1 + numbers.size, numbers.dtype)
    lowest = jnp.full((), -jnp.inf, log_weight.dtype)
    sums = _Sums(lowest, zeros[1:], zeros, zeros, zeros)
    chunk_size = min(chunk_size, num_samples)
    samples = jnp.arange(num_samples, dtype=jnp.uint32)
    whole = num_samples - num_samples % chunk_size
    sums, log_weights = jax.lax.scan(
        add, sums, jnp.reshape(samples[:whole], (-1, chunk_size))
    )
    log_weights = log_weights.ravel()
    if whole < num_samples:
        sums, rest = add(sums, samples[whole:])
        log_weights = jnp.concatenate([log_weights, rest])
    return log_weights, _means_of(sums, num_samples)


def _add(sums: _Sums, log_weights: Array, numbers: Array) -> _Sums:
    largest = jnp.maximum(sums.log_largest, jnp.max(log_weights))
    reference = jnp.where(jnp.isfinite(largest), largest, 0)
    before = jnp.exp(sums.log_largest - reference)
    weights = jnp.exp(log_weights - reference)[:, None]
    # As long as the sums are empty, the center may be moved.
    first = jnp.where(jnp.isfinite(numbers[0]), numbers[0], 0)
    center = jnp.where(sums.first[0] == 0, first, sums.center)
    u = jnp.concatenate([jnp.ones_like(weights), numbers - center[None]], axis=1)
    # A sample without weight may have an infinite mean.
    u = jnp.where(weights == 0, 0, u)
    return _Sums(
        largest,
        center,
        before * sums.first + jnp.sum(weights * u, axis=0),
        before**2 * sums.squares + jnp.sum(weights**2 * u, axis=0),
        before**2 * sums.second + jnp.sum(weights**2 * u**2, axis=0),
    )


def _means_of(sums: _Sums, num_samples: int) -> WeightedMeans:
    total = sums.first[0]
    distance = sums.first[1:] / total
    mean = sums.center + distance
    # The sum of w^2 (m - mean)^2, by (sum w)^2; unbiased where all weights are equal.
    spread = (
        sums.second[1:]
        - 2 * distance * sums.squares[1:]
        + distance**2 * sums.squares[0]
    ) / total**2
    unbiased = num_samples / max(num_samples - 1, 1)
    error = jnp.sqrt(unbiased * jnp.maximum(spread, 0))
    has_error = jnp.isfinite(mean) & (num_samples > 1)
    return WeightedMeans(mean, jnp.where(has_error, error, jnp.inf))
