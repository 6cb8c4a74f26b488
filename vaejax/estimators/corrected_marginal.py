"""Mean log p(x) of a set: a cheap bound of all examples, corrected on a subset."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaejax._checks import as_numbers, is_traced
from vaejax._reals import as_real, means, variances
from vaejax.base import Array
from vaejax.estimators.aggregate_posterior import MonteCarloMean


class CorrectedMarginal(NamedTuple):
    """Mean log p(x) over N examples in nats, in parts; each is a `MonteCarloMean`.

    Attributes:
      bound: mean importance-weighted bound of all N examples. Its error is Monte-Carlo
        noise alone and says nothing about the bias; NaN without `bound_errors`.
      annealed: mean annealed value of the n examples of the subset; its error is that
        of an estimate of the mean over all N.
      difference: mean of annealed value minus bound over the same n examples: what the
        bound lacks, as an estimate for all N. Pairs cancel what the examples share.
      corrected: bound + difference, the estimate of the mean log p(x) over all N. It
        has the error of the difference.

    Example:
      >>> from vaejax.estimators import CorrectedMarginal
      >>> CorrectedMarginal._fields
      ('bound', 'annealed', 'difference', 'corrected')
    """

    bound: MonteCarloMean
    annealed: MonteCarloMean
    difference: MonteCarloMean
    corrected: MonteCarloMean


def correct_bound(
    bounds: ArrayLike,
    subset: ArrayLike,
    annealed: ArrayLike,
    *,
    bound_errors: ArrayLike | None = None,
    annealed_errors: ArrayLike | None = None,
) -> CorrectedMarginal:
    """Correct the mean bound of N examples by annealing a random subset of n.

    The estimand is the mean log p(x) over these N examples, not over the distribution
    that they come from. With d = annealed - bound in the subset, the estimate is
    mean(bounds) + mean(d), and its squared error is
    (1 - n/N) Var(d) / n + mean(annealed_errors^2) / N. The first term is 0 if all
    examples are annealed; Var(d) holds the noise of the bounds too. The second term is
    the noise that annealing all N examples would leave. The error does not cover a bias
    of the annealed values, which are lower bounds in expectation.

    A 95 % interval is value ± t standard_error with t = `scipy.stats.t.ppf(0.975, n -
    1)`. Two models are compared by the same function of the differences of their bounds
    and of their annealed values, on one subset.

    Args:
      bounds: `[N]`, the bound of each example in nats, such as
        `log_marginal(...).log_marginal`.
      subset: `[n]`, indices of the annealed examples, integers from 0 to N - 1, drawn
        at random without replacement: `jax.random.choice(key, N, (n,), replace=False)`.
      annealed: `[n]`, their annealed values in nats, such as
        `annealed_importance_sampling(...).log_marginal`.
      bound_errors: `[N]`, Monte-Carlo standard errors of the bounds.
      annealed_errors: `[n]`, Monte-Carlo standard errors of the annealed values.
        Without them the second term is left out, which is small for n far below N.

    Returns:
      The parts in nats per example. With n = 1 all errors but that of the bound are
      infinite. NaN and infinite values are kept; a traced index outside 0 to N - 1
      gives NaN.

    Raises:
      ValueError: a shape does not fit, or an index is out of range or repeated.
      TypeError: `subset` does not hold integers.

    Example:
      >>> import jax.numpy as jnp
      >>> import scipy.stats
      >>> from vaejax.estimators import correct_bound
      >>> bounds = jnp.array([-90.0, -95.0, -100.0, -115.0])
      >>> annealed = jnp.array([-89.0, -98.0])  # of examples 0 and 2
      >>> estimate = correct_bound(bounds, jnp.array([0, 2]), annealed)
      >>> float(estimate.bound.value), float(estimate.difference.value)
      (-100.0, 1.5)
      >>> value, error = estimate.corrected
      >>> half_width = scipy.stats.t.ppf(0.975, len(annealed) - 1) * error
      >>> print(f"{value:.1f} ± {half_width:.1f} nats")
      -98.5 ± 4.5 nats

    Source: Cochran 1977, section 7.2 with slope 1 (the difference estimator) and
    section 2.6 (the finite population).
    """
    bounds = as_numbers("correct_bound: bounds", bounds)
    annealed = as_numbers("correct_bound: annealed", annealed)
    bounds, annealed = _of_one_dtype(bounds, annealed)
    noise_of_bound = None if bound_errors is None else _variances(bound_errors)
    noise = None if annealed_errors is None else _variances(annealed_errors)
    _check_bounds(bounds, noise_of_bound)
    indices = _indices(subset, bounds.size)
    _check_annealed(annealed, noise, indices.size)
    bound = _mean_of_all(bounds, noise_of_bound)
    of_subset = bounds.at[indices].get(mode="fill", fill_value=jnp.nan)
    difference = _mean_of_subset(annealed - of_subset, bounds.size, noise)
    return CorrectedMarginal(
        bound=bound,
        annealed=_mean_of_subset(annealed, bounds.size, noise),
        difference=difference,
        corrected=difference._replace(value=bound.value + difference.value),
    )


def _mean_of_all(values: Array, noise: Array | None) -> MonteCarloMean:
    unknown = jnp.full((), jnp.nan, values.dtype)
    error = unknown if noise is None else jnp.sqrt(jnp.mean(noise) / values.size)
    return MonteCarloMean(means(values), error)


def _mean_of_subset(values: Array, num_all: int, noise: Array | None) -> MonteCarloMean:
    """Return the mean over a subset as an estimate of that over all examples.

    `noise` holds the variance of each value by itself.
    """
    num = values.size
    if num == 1:
        return MonteCarloMean(values[0], jnp.full((), jnp.inf, values.dtype))
    squared_error = (1 - num / num_all) / num * variances(values, ddof=1)
    if noise is not None:
        squared_error += (jnp.mean(noise) / num_all).astype(values.dtype)
    return MonteCarloMean(means(values), jnp.sqrt(squared_error))


def _of_one_dtype(*arrays: ArrayLike) -> tuple[Array, ...]:
    found = [as_real(array) for array in arrays]
    dtype = max((array.dtype for array in found), key=lambda dtype: dtype.itemsize)
    return tuple(array.astype(dtype) for array in found)


def _variances(errors: ArrayLike) -> Array:
    return jnp.square(as_real(errors))


def _check_bounds(bounds: Array, noise: Array | None) -> None:
    if bounds.ndim != 1 or bounds.size == 0:
        raise ValueError(
            f"correct_bound: bounds has shape {bounds.shape}; give [examples] of one "
            "model, at least one, and vmap over models."
        )
    if noise is not None and noise.shape != bounds.shape:
        raise ValueError(
            f"correct_bound: bound_errors has shape {noise.shape}; give one error per "
            f"bound, {bounds.shape}."
        )


def _check_annealed(annealed: Array, noise: Array | None, num: int) -> None:
    for name, array in (("annealed", annealed), ("annealed_errors", noise)):
        if array is not None and array.shape != (num,):
            raise ValueError(
                f"correct_bound: {name} has shape {array.shape}; give one number per "
                f"index of the subset, {(num,)}."
            )


def _indices(subset: ArrayLike, num_all: int) -> Array:
    """Return the subset as unsigned integers, of which a negative one is too large."""
    name = "correct_bound: subset"
    indices = as_numbers(name, subset)
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise TypeError(
            f"{name} is {indices.dtype}; give the indices of the annealed examples as "
            "integers."
        )
    if indices.ndim != 1 or not 1 <= indices.size <= num_all:
        raise ValueError(
            f"{name} has shape {indices.shape}; give [n] indices, with n from 1 to the "
            f"number of bounds, {num_all}."
        )
    if not is_traced(indices):
        _check_indices(name, np.asarray(indices), num_all)
    return jnp.asarray(indices).astype(jnp.uint32)


def _check_indices(name: str, subset: np.ndarray, num_all: int) -> None:
    indices, counts = np.unique(subset, return_counts=True)
    for index in indices[(indices < 0) | (indices >= num_all)]:
        raise ValueError(
            f"{name} holds the index {index} of {num_all} bounds; give indices from 0 "
            f"to {num_all - 1}."
        )
    for index in indices[counts > 1]:
        raise ValueError(
            f"{name} holds the index {index} more than once; draw it without "
            "replacement."
        )
