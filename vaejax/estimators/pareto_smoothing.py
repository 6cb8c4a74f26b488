"""The tail of importance weights: its shape, its limit, and weights smoothed by it.

Functions of the log-weights of one example, `[samples]`, in nats, as
`vaejax.objectives.log_weights` draws them.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_count
from vaejax._reals import as_real
from vaejax.base import Array
from vaejax.estimators.importance_weights import _as_vector

# Fewer exceedances say nothing about a tail.
_SMALLEST_TAIL = 5
# Of log-weights of some hundred nats, in single precision; of larger ones, this many
# units of the last place.
_ROUNDING = 1e-3
_ROUNDING_UNITS = 8


def pareto_k(log_weights: Array) -> Array:
    """Fit the shape k of a generalized Pareto distribution to the largest weights.

    Weights have 1/k finite moments: below 0.5 the variance of their mean is finite and
    its standard error can be trusted; above `pareto_k_threshold` of their number the
    mean has not converged, whatever its standard error says. With n weights the tail is
    the largest min(n / 5, 3 sqrt(n)) of them.

    Args:
      log_weights: `[samples]`, in nats.

    Returns:
      k, a scalar in float32 or better: infinite with fewer than 25 samples, which show
      no tail, and where a log-weight is NaN or infinite; minus infinity where the
      largest weights are equal but for rounding.

    Raises:
      ValueError: `log_weights` does not have exactly one axis, or is empty.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.estimators import pareto_k
      >>> float(pareto_k(jnp.zeros(24)))  # too few weights
      inf

    Source: Vehtari et al. 2024 (Pareto-smoothed importance sampling); the fit is that
    of Zhang & Stephens 2009.
    """
    log_weights = as_real(_as_vector("pareto_k", log_weights))
    num = _tail_size(len(log_weights))
    k = _pareto_k_of_tail(jax.lax.top_k(log_weights, num + 1)[0])
    return jnp.where(jnp.any(jnp.isnan(log_weights)), jnp.inf, k)


def pareto_k_threshold(num_samples: int) -> float:
    """Return the Pareto k above which S importance weights are too few to be trusted.

    It is min(1 - 1 / log10(S), 0.7). Below it, the mean of S weights has a small
    probability of a large error. Above it, take more samples if k is below 0.7, since S
    = 10^(1 / (1 - k)) of them raise the threshold to k; above 0.7, which S = 2,155
    reach, no practical number of samples is enough: change q(z|x), or anneal. The rule
    was derived for Pareto-smoothed weights, which vary less than the weights.

    Args:
      num_samples: S, the number of weights that k was fitted to, at least 1.

    Returns:
      The threshold; minus infinity for one weight.

    Raises:
      ValueError: `num_samples` is not a positive integer.

    Example:
      >>> from vaejax.estimators import pareto_k_threshold
      >>> [round(pareto_k_threshold(num), 3) for num in (100, 1000, 5000)]
      [0.5, 0.667, 0.7]

    Source: Vehtari et al. 2024, section 3.2.4 and equation 13.
    """
    check_count("pareto_k_threshold: num_samples", num_samples)
    return min(1 - 1 / math.log10(num_samples), 0.7) if num_samples > 1 else -math.inf


class SmoothedWeights(NamedTuple):
    """Pareto-smoothed importance weights of one example.

    Attributes:
      log_weights: `[samples]`, smoothed and normalized, in nats: their exponentials add
        up to 1, and sum_i exp(log_weights_i) f(z_i) estimates the mean of f under
        p(z|x).
      pareto_k: shape of the tail of the raw weights, see `pareto_k`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.estimators import SmoothedWeights
      >>> smoothed = SmoothedWeights(jnp.log(jnp.full(4, 0.25)), pareto_k=0.4)
      >>> float(jnp.sum(jnp.exp(smoothed.log_weights)))
      1.0
    """

    log_weights: Array
    pareto_k: Array


def psis_weights(log_weights: Array) -> SmoothedWeights:
    """Smooth importance weights by Pareto-smoothed importance sampling.

    A generalized Pareto distribution F is fitted to the M = min(n / 5, 3 sqrt(n))
    largest of n weights, as for `pareto_k`. The j-th smallest of them becomes
    F^-1((j - 1/2) / M), at most the largest raw weight. All others stay, and so do
    weights of zero. Sums of these weights vary less than those of the raw ones, at the
    price of a bias which is small where k is below `pareto_k_threshold`.

    Args:
      log_weights: `[samples]`, in nats; a common constant changes nothing.

    Returns:
      The normalized weights in the order of the samples, and k, in float32 or better.
      Weights without a tail are normalized only: fewer than 25, or the largest equal
      but for rounding. If a log-weight is NaN or infinite, or all weights are zero, all
      are NaN.

    Raises:
      ValueError: `log_weights` does not have exactly one axis, or is empty.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax.estimators import psis_weights
      >>> smoothed = jax.jit(psis_weights)(jnp.full(25, -90.0))
      >>> round(float(jnp.exp(smoothed.log_weights[0])), 3), float(smoothed.pareto_k)
      (0.04, -inf)

    Source: Vehtari et al. 2024 (Pareto-smoothed importance sampling).
    """
    log_weights = as_real(_as_vector("psis_weights", log_weights))
    num = _tail_size(len(log_weights))
    largest, indices = jax.lax.top_k(log_weights, num + 1)
    tail = _fit_tail(largest)
    k = jnp.where(jnp.any(jnp.isnan(log_weights)), jnp.inf, tail.k)
    has_tail = jnp.isfinite(k)
    # F^-1(1 - u) = cutoff + scale (u^-k - 1) / k.
    log_u = jnp.log((jnp.arange(num, dtype=largest.dtype) + 0.5) / max(num, 1))
    shape = jnp.where(has_tail & (k != 0), k, 1)
    excess = jnp.where(k == 0, -log_u, jnp.expm1(-shape * log_u) / shape)
    smallest = jnp.finfo(largest.dtype).tiny
    quantiles = jnp.maximum(tail.cutoff + tail.scale * excess, smallest)
    smoothed = largest[0] + jnp.minimum(jnp.log(quantiles), 0)
    stays = ~has_tail | jnp.isneginf(largest[:-1])
    log_weights = log_weights.at[indices[:-1]].set(
        jnp.where(stays, largest[:-1], smoothed)
    )
    return SmoothedWeights(jax.nn.log_softmax(log_weights), k)


def _tail_size(num_samples: int) -> int:
    """Return the number of largest weights in the tail, min(n / 5, 3 sqrt(n))."""
    return min(num_samples // 5, math.ceil(3 * math.sqrt(num_samples)))


class _Tail(NamedTuple):
    """Generalized Pareto distribution of the largest weights, relative to the largest.

    Attributes:
      k: its shape, infinite or minus infinity where there is none.
      scale: its scale.
      cutoff: where it begins, the largest weight outside the tail.
    """

    k: Array
    scale: Array
    cutoff: Array


def _pareto_k_of_tail(largest: Array) -> Array:
    """Compute `pareto_k` from the `_tail_size(n) + 1` largest of n log-weights."""
    return _fit_tail(largest).k


def _fit_tail(largest: Array) -> _Tail:
    """Fit the tail from the `_tail_size(n) + 1` largest of n log-weights.

    They are in descending order.
    """
    num = len(largest) - 1
    if num < _SMALLEST_TAIL:
        one = jnp.ones((), largest.dtype)
        return _Tail(jnp.inf * one, one, one)
    # A tail of one infinite weight, or of none, has no shape.
    has_shape = jnp.isfinite(largest[0])
    first = jnp.where(has_shape, largest[0], 0)
    weights = jnp.where(has_shape, jnp.exp(largest - first), 1)
    # In ascending order; weights that are all equal leave no exceedance.
    exceedances = jnp.maximum(
        (weights[:-1] - weights[-1])[::-1], jnp.finfo(largest.dtype).tiny * 1e6
    )
    num_candidates = 30 + math.isqrt(num)
    steps = jnp.sqrt(
        num_candidates / (jnp.arange(num_candidates, dtype=largest.dtype) + 0.5)
    )
    quartile = exceedances[math.floor(num / 4 + 0.5) - 1]
    # b = -k / sigma; the profile likelihood of each candidate is its weight.
    candidates = 1 / exceedances[-1] + (1 - steps) / (3 * quartile)

    def shape(b: Array) -> Array:
        return jnp.mean(jnp.log1p(-b * exceedances))

    shapes = jax.vmap(shape)(candidates)
    log_likelihoods = num * (jnp.log(-candidates / shapes) - shapes - 1)
    b = jnp.sum(jax.nn.softmax(log_likelihoods) * candidates)
    k = shape(b)
    scale = jnp.where(b == 0, jnp.mean(exceedances), -k / jnp.where(b == 0, 1, b))
    # A weak prior of ten exceedances at k = 1/2.
    k = (num * k + 5) / (num + 10)
    unit = jnp.finfo(largest.dtype).eps * jnp.abs(first)
    are_equal = largest[0] - largest[-1] < jnp.maximum(
        _ROUNDING, _ROUNDING_UNITS * unit
    )
    # NaN would pass every comparison with a limit.
    k = jnp.where(has_shape & ~jnp.isnan(k), jnp.where(are_equal, -jnp.inf, k), jnp.inf)
    return _Tail(k, scale, weights[-1])
