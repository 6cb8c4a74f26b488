"""Diagnostics of importance weights, and a correction of the bias of their bound.

Functions of the log-weights of one example, `[samples]`, in nats, as
`vaejax.objectives.log_weights` draws them.
"""

import math

import jax
import jax.numpy as jnp

from vaejax.base import Array

# Fewer exceedances say nothing about a tail.
_SMALLEST_TAIL = 5
# Of log-weights of some hundred nats, in single precision.
_ROUNDING = 1e-3


def _mean_with_error(
    log_sum: Array, log_sum_of_squares: Array, num_samples: int
) -> tuple[Array, Array, Array]:
    """Return log 1/n sum w, its standard error, and the effective sample size.

    From log sum w and log sum w^2, the error by the delta method with an unbiased
    variance; it is infinite for one weight.
    """
    effective_sample_size = jnp.exp(2 * log_sum - log_sum_of_squares)
    # Var(log mean w) ~ Var(w) / (n E[w]^2), with the unbiased variance: (n / ESS - 1) /
    # (n - 1).
    relative_variance = jnp.maximum(num_samples / effective_sample_size - 1, 0) / max(
        num_samples - 1, 1
    )
    standard_error = (
        jnp.sqrt(relative_variance)
        if num_samples > 1
        else jnp.full_like(log_sum, jnp.inf)
    )
    return log_sum - math.log(num_samples), standard_error, effective_sample_size


def _tail_size(num_samples: int) -> int:
    """Return the number of largest weights in the tail, min(n / 5, 3 sqrt(n))."""
    return min(num_samples // 5, math.ceil(3 * math.sqrt(num_samples)))


def pareto_k(log_weights: Array) -> Array:
    """Fit the shape k of a generalized Pareto distribution to the largest weights.

    Weights have 1/k finite moments: below 0.5 the variance of their mean is finite and
    its standard error can be trusted; above 0.7 the mean has not converged at any
    practical number of samples, whatever its standard error says. With n weights the
    tail is the largest min(n / 5, 3 sqrt(n)) of them.

    Args:
      log_weights: `[samples]`, in nats.

    Returns:
      k, a scalar: infinite with fewer than 25 samples, which show no tail; minus
      infinity where the largest weights are equal but for rounding.

    Raises:
      ValueError: `log_weights` does not have exactly one axis.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.estimators import pareto_k
      >>> float(pareto_k(jnp.zeros(24)))  # too few weights
      inf

    Source: Vehtari et al. 2024 (Pareto-smoothed importance sampling); the fit is that
    of Zhang & Stephens 2009.
    """
    _check_vector("pareto_k", log_weights)
    num = _tail_size(len(log_weights))
    if num < _SMALLEST_TAIL:
        return jnp.full((), jnp.inf, log_weights.dtype)
    return _pareto_k_of_tail(jax.lax.top_k(log_weights, num + 1)[0])


def _pareto_k_of_tail(largest: Array) -> Array:
    """Compute `pareto_k` from the `_tail_size(n) + 1` largest of n log-weights.

    They are in descending order.
    """
    num = len(largest) - 1
    if num < _SMALLEST_TAIL:
        return jnp.full((), jnp.inf, largest.dtype)
    weights = jnp.exp(largest - largest[0])
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
    k = shape(jnp.sum(jax.nn.softmax(log_likelihoods) * candidates))
    # A weak prior of ten exceedances at k = 1/2.
    return jnp.where(
        largest[0] - largest[-1] < _ROUNDING, -jnp.inf, (num * k + 5) / (num + 10)
    )


def jackknife(log_weights: Array, *, order: int = 1) -> Array:
    """Correct the importance-weighted bound for its bias of order 1/n or 1/n^2.

    With L_n the bound of n weights and mean L_(n-1) its average over the n ways to
    leave one out, order 1 is n L_n - (n - 1) mean L_(n-1); order 2 is n^2/2 L_n -
    (n - 1)^2 mean L_(n-1) + (n - 2)^2/2 mean L_(n-2). The result is an estimate of
    log p(x), no longer a bound, and noisier; it is useless where the largest weight is
    most of the sum.

    Args:
      log_weights: `[n]`, in nats, n > order.
      order: 1 takes O(n) time, 2 takes O(n^2) time and O(n) memory.

    Returns:
      The estimate of log p(x), a scalar in nats.

    Raises:
      ValueError: the order is neither 1 nor 2, there are too few weights, or
        `log_weights` does not have exactly one axis.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.estimators import jackknife
      >>> log_weights = jnp.log(jnp.array([1.0, 3.0]))
      >>> round(float(jackknife(log_weights)), 3)  # 2 log 2 - (log 1 + log 3) / 2
      0.837

    Source: Nowozin 2018 (JVI-1, JVI-2).
    """
    _check_vector("jackknife", log_weights)
    num = len(log_weights)
    if order not in (1, 2):
        raise ValueError(f"jackknife: order is {order}; give 1 or 2.")
    if num <= order:
        raise ValueError(
            f"jackknife: there are {num} log-weights; order {order} needs at least "
            f"{order + 1}."
        )
    bound = jax.nn.logsumexp(log_weights) - math.log(num)
    shares, others = _shares(log_weights)
    # log of what is left without i, relative to all: log1p(-v), or by the rest where v
    # is most of the sum.
    without_one = jnp.where(
        shares < 0.5, jnp.log1p(-jnp.minimum(shares, 0.5)), jnp.log(others)
    )
    mean = jnp.mean(without_one)
    if order == 1:
        return bound - (num - 1) * mean - (num - 1) * math.log(num / (num - 1))
    # log(1 - v_i - v_j) = log(1 - v_i) + log(1 - v_j) + log(1 - r_i r_j) with r = v /
    # (1 - v): differences of large multiples of the bounds themselves would lose every
    # digit.
    ratios = shares / others
    largest = 1 - jnp.finfo(log_weights.dtype).eps

    def with_others(i: Array) -> Array:
        pairs = jnp.log1p(-jnp.minimum(ratios[i] * ratios, largest))
        return jnp.sum(jnp.where(jnp.arange(num) == i, 0, pairs))

    pairs = jnp.sum(jax.lax.map(with_others, jnp.arange(num))) / (num * (num - 1))
    constant = -((num - 1) ** 2) * math.log(num / (num - 1)) + (
        num - 2
    ) ** 2 / 2 * math.log(num / (num - 2))
    return bound - (2 * num - 3) * mean + (num - 2) ** 2 / 2 * pairs + constant


def _check_vector(name: str, log_weights: Array) -> None:
    if jnp.ndim(log_weights) != 1:
        raise ValueError(
            f"{name}: log_weights has shape {jnp.shape(log_weights)}; give [samples] "
            "of one example; vmap over a set."
        )


def _shares(log_weights: Array) -> tuple[Array, Array]:
    """Return v_i = w_i / sum w and the sum of all others, `[n]` each.

    The sums avoid the cancellation of 1 - v_i.
    """
    shares = jax.nn.softmax(log_weights)
    none = jnp.zeros_like(shares[:1])
    before = jnp.concatenate([none, jnp.cumsum(shares[:-1])])
    after = jnp.concatenate([jnp.cumsum(shares[:0:-1])[::-1], none])
    return shares, jnp.maximum(before + after, jnp.finfo(shares.dtype).tiny)
