"""Sums over importance weights, and a correction of the bias of their bound.

Functions of the log-weights of one example, `[samples]`, in nats, as
`vaejax.objectives.log_weights` draws them.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from vaejax._checks import as_numbers
from vaejax._reals import as_real
from vaejax.base import Array


class _WeightSums(NamedTuple):
    """Sums over weights w that are added a chunk at a time.

    Attributes:
      total: sum w / w_1, with w_1 the largest weight so far.
      squares: sum (w / w_1)^2.
      largest: the largest log-weights so far, in descending order, the first log w_1.
    """

    total: Array
    squares: Array
    largest: Array


def _no_weights(num_largest: int, dtype: jnp.dtype) -> _WeightSums:
    zero = jnp.zeros((), dtype)
    return _WeightSums(zero, zero, jnp.full((num_largest,), -jnp.inf, dtype))


def _add_weights(sums: _WeightSums, log_weights: Array) -> _WeightSums:
    """Add a chunk of weights; the order of the chunks changes rounding only."""
    largest = jax.lax.top_k(
        jnp.concatenate([sums.largest, log_weights]), len(sums.largest)
    )[0]
    before, after = _reference(sums.largest), _reference(largest)
    # Of nothing so far, the reference is no weight.
    rescale = jnp.where(sums.total == 0, 0, jnp.exp(before - after))
    weights = jnp.exp(log_weights - after)
    return _WeightSums(
        rescale * sums.total + jnp.sum(weights),
        jnp.square(rescale) * sums.squares + jnp.sum(jnp.square(weights)),
        largest,
    )


def _reference(largest: Array) -> Array:
    """Return the largest log-weight, or 0 where it is not finite; a constant."""
    first = jax.lax.stop_gradient(largest[0])
    return jnp.where(jnp.isfinite(first), first, 0)


def _mean_with_error(sums: _WeightSums, num_samples: int) -> tuple[Array, Array, Array]:
    """Return log 1/n sum w, its standard error, and the effective sample size.

    The error is by the delta method with an unbiased variance; it is infinite for one
    weight. A mean that is not finite has an infinite error and no effective samples.
    """
    log_mean = _reference(sums.largest) + jnp.log(sums.total) - math.log(num_samples)
    is_usable = jnp.isfinite(log_mean)
    total = jnp.where(is_usable, sums.total, 1)
    squares = jnp.where(is_usable, sums.squares, 1)
    effective_sample_size = jnp.square(total) / squares
    # Var(log mean w) ~ Var(w) / (n E[w]^2), with the unbiased variance: (n / ESS - 1) /
    # (n - 1).
    relative_variance = jnp.maximum(num_samples / effective_sample_size - 1, 0) / max(
        num_samples - 1, 1
    )
    has_error = is_usable & (num_samples > 1)
    return (
        log_mean,
        jnp.where(has_error, jnp.sqrt(relative_variance), jnp.inf),
        jnp.where(is_usable, effective_sample_size, 0),
    )


def jackknife(log_weights: Array, *, order: int = 1) -> Array:
    """Correct the importance-weighted bound for its bias of order 1/n or 1/n^2.

    With L_n the bound of n weights and mean L_(n-1) its average over the n ways to
    leave one out, order 1 is n L_n - (n - 1) mean L_(n-1); order 2 is n^2/2 L_n -
    (n - 1)^2 mean L_(n-1) + (n - 2)^2/2 mean L_(n-2). The result is an estimate of
    log p(x), no longer a bound, and noisier; it is useless where the largest weight is
    most of the sum, and infinite where all others are zero.

    Args:
      log_weights: `[n]`, in nats, n > order.
      order: 1 takes O(n) time, 2 takes O(n^2) time and O(n) memory.

    Returns:
      The estimate of log p(x), a scalar in nats, in float32 or better.

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
    log_weights = _as_vector("jackknife", log_weights)
    num = len(log_weights)
    if order not in (1, 2):
        raise ValueError(f"jackknife: order is {order}; give 1 or 2.")
    if num <= order:
        raise ValueError(
            f"jackknife: there are {num} log-weights; order {order} needs at least "
            f"{order + 1}."
        )
    return _jackknife(log_weights, order=order)


@partial(jax.jit, static_argnames="order", inline=True)
def _jackknife(log_weights: Array, *, order: int) -> Array:
    num = len(log_weights)
    sums = _left_out_sums(log_weights)
    bound = sums.largest + sums.all - math.log(num)
    mean = jnp.mean(sums.ratios_without_one)
    if order == 1:
        found = bound - (num - 1) * mean - (num - 1) * math.log(num / (num - 1))
    else:
        # log(1 - v_i - v_j) = log(1 - v_i) + log(1 - v_j) + p_ij: differences of large
        # multiples of the bounds themselves would lose every digit.
        pairs = _sum_over_pairs(sums) / (num * (num - 1))
        constant = -((num - 1) ** 2) * math.log(num / (num - 1)) + (
            num - 2
        ) ** 2 / 2 * math.log(num / (num - 2))
        found = bound - (2 * num - 3) * mean + (num - 2) ** 2 / 2 * pairs + constant
    # One weight that is not zero: the bounds without it are -inf, which outweighs all.
    found = jnp.where(jnp.isneginf(sums.without_first), jnp.inf, found)
    return jnp.where(jnp.isneginf(sums.all), -jnp.inf, found)


class _LeftOutSums(NamedTuple):
    """Logarithms of the sum of all weights and of sums of all but one, or but two.

    All but `largest` are relative to the largest weight.

    Attributes:
      largest: the largest log-weight.
      sorted: `[n]`, the log-weights in descending order.
      all: log sum w.
      without_first: log of the sum without the largest weight.
      without_first_two: log of the sum without the two largest.
      ratios_without_one: `[n]`, log(1 - v_i) with v_i = w_i / sum w.
    """

    largest: Array
    sorted: Array
    all: Array
    without_first: Array
    without_first_two: Array
    ratios_without_one: Array


def _left_out_sums(log_weights: Array) -> _LeftOutSums:
    log_weights = jnp.sort(as_real(log_weights), descending=True)
    largest = jnp.where(jnp.isneginf(log_weights[0]), 0, log_weights[0])
    log_weights = log_weights - largest
    everything = jax.nn.logsumexp(log_weights)
    without_first = jax.nn.logsumexp(log_weights[1:])
    # A weight after the largest is at most half of the sum: 1 - v does not cancel.
    ratios = jnp.log1p(-jnp.exp(log_weights[1:] - everything))
    return _LeftOutSums(
        largest,
        log_weights,
        everything,
        without_first,
        jax.nn.logsumexp(log_weights[2:]) if len(log_weights) > 2 else without_first,
        jnp.concatenate([(without_first - everything)[None], ratios]),
    )


def _sum_over_pairs(sums: _LeftOutSums) -> Array:
    """Return the sum over i != j of p_ij = log(1 - v_i - v_j) / [(1 - v_i) (1 - v_j)].

    Where neither is the largest weight, p_ij = log(1 - r_i r_j) with r = v / (1 - v).
    What is left without the largest may be far below one unit of the sum's last place:
    its pairs are relative to the sum without it, and that of the two largest is by the
    sum of all others.
    """
    num = len(sums.sorted)
    without_one = sums.ratios_without_one
    odds = jnp.exp(sums.sorted[1:] - sums.all - without_one[1:])

    def with_others(i: Array) -> Array:
        # With itself, the odds may be 1, whose logarithm is not finite.
        others = jnp.where(jnp.arange(num - 1) == i, 0, odds)
        return jnp.sum(jnp.log1p(-odds[i] * others))

    of_others = jnp.sum(jax.lax.map(with_others, jnp.arange(num - 1)))
    shares = jnp.exp(sums.sorted[2:] - sums.without_first)
    of_first = jnp.sum(jnp.log1p(-shares) - without_one[2:])
    of_first_two = sums.without_first_two - sums.without_first - without_one[1]
    return of_others + 2 * (of_first + of_first_two)


def _as_vector(name: str, log_weights: ArrayLike) -> Array:
    """Return log-weights as an array, or raise where they are no vector."""
    log_weights = jnp.asarray(as_numbers(f"{name}: log_weights", log_weights))
    shape = jnp.shape(log_weights)
    if len(shape) != 1:
        raise ValueError(
            f"{name}: log_weights has shape {shape}; give [samples] of one example; "
            "vmap over a set."
        )
    if shape == (0,):
        raise ValueError(f"{name}: log_weights is empty; give at least one.")
    return log_weights
