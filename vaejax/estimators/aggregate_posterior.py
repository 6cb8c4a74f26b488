"""Decomposition of the KL of a data set by the aggregate posterior, with errors.

With q(z) = E_p(x)[q(z|x)] of independent dimensions, E KL(q(z|x) || p(z)) = I(x; z) +
KL(q(z) || prod_j q(z_j)) + sum_j KL(q(z_j) || p(z_j)): mutual information, total
correlation and dimension-wise KL, of which the last two are KL(q(z) || p(z)). The
losses that weigh these parts are in `vaejax.objectives`.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_batch, check_count, check_key, check_model
from vaejax._programs import run
from vaejax._reals import as_real
from vaejax.base import VAE, Array, Distribution, Key, Params, PyTree, batch_size_of
from vaejax.estimators._shrunken_kernels import (
    fit_shrunken_kernels,
    log_shrunken_kernels,
    stacked,
)
from vaejax.objectives import AggregateLogRatios, aggregate_log_ratios

# Nats of mutual information that may be missing from an estimate without a flag.
_TOLERANCE = 0.1


class MonteCarloMean(NamedTuple):
    """Mean over Monte-Carlo samples, with its standard error.

    Attributes:
      value: the mean, in the unit of the samples.
      standard_error: its standard error, in the same unit; infinite for one sample.

    Example:
      >>> from vaejax.estimators import MonteCarloMean
      >>> estimate = MonteCarloMean(value=2.0, standard_error=0.5)
      >>> estimate.value - 2 * estimate.standard_error
      1.0
    """

    value: Array
    standard_error: Array


class AggregateBounds(NamedTuple):
    """Bounds, all lower or all upper, on parts of the KL, in nats per example.

    Attributes:
      mutual_information: bound on I(x; z).
      total_correlation: bound on KL(q(z) || prod_j q(z_j)).
      dimension_wise_kl: bound on sum_j KL(q(z_j) || p(z_j)).
      marginal_kl: bound on KL(q(z) || p(z)).

    Example:
      >>> from vaejax.estimators import AggregateBounds, MonteCarloMean
      >>> lower = AggregateBounds(*[MonteCarloMean(0.0, 0.1)] * 4)
      >>> lower.total_correlation.value
      0.0
    """

    mutual_information: MonteCarloMean
    total_correlation: MonteCarloMean
    dimension_wise_kl: MonteCarloMean
    marginal_kl: MonteCarloMean


class AggregateDecomposition(NamedTuple):
    """Parts of the KL of a data set in nats per example, each a `MonteCarloMean`.

    The first five are of the average posterior of the N examples, the bounds of the
    distribution that the examples come from.

    Attributes:
      mutual_information: I(x; z), at most log N for N examples.
      total_correlation: KL(q(z) || prod_j q(z_j)).
      dimension_wise_kl: sum_j KL(q(z_j) || p(z_j)).
      marginal_kl: KL(q(z) || p(z)), the sum of the two before.
      kl: E KL(q(z|x) || p(z)), the sum of mutual information and marginal KL.
      lower: lower bounds in expectation.
      upper: upper bounds in expectation.
      is_saturated: boolean scalar, whether the bounds on the mutual information leave
        more than 0.1 nats open: quote an interval, not one of the first four.

    Example:
      >>> from vaejax.estimators import AggregateDecomposition
      >>> AggregateDecomposition._fields[:3]
      ('mutual_information', 'total_correlation', 'dimension_wise_kl')
    """

    mutual_information: MonteCarloMean
    total_correlation: MonteCarloMean
    dimension_wise_kl: MonteCarloMean
    marginal_kl: MonteCarloMean
    kl: MonteCarloMean
    lower: AggregateBounds
    upper: AggregateBounds
    is_saturated: Array


def aggregate_decomposition(
    vae: VAE,
    params: Params,
    key: Key,
    xs: PyTree,
    *,
    num_samples: int,
    chunk_size: int = 10,
) -> AggregateDecomposition:
    """Estimate the parts of the KL with the average posterior of all N examples.

    q(z) = 1/N sum_n q(z|x_n), and the parts are means over z_i ~ q(z|x_i) of
    differences of log q(z|x), log q(z), sum_j log q(z_j) and log p(z). The x_i are a
    random subset of the examples if `num_samples` is at most N; otherwise each is used
    as often as another. For this q(z) the estimates are unbiased. As estimates for the
    distribution that the N examples come from they are not, since z_i was drawn from
    one of the N posteriors: mutual information is too small, by about
    (E[q(z|x) / q(z)] - 1) / (2 N), and never exceeds log N, which it reaches where no
    two posteriors overlap; the marginal KL and mostly the total correlation are too
    large by the same, and say nothing but KL - log N there.

    `lower` and `upper` enclose the parts of that distribution, in expectation over
    independent examples. E log q(z) is at most the mean of log 1/N sum_n q(z_i|x_n),
    and at least that of log m_i(z_i) for every density m_i that does not depend on x_i.
    The same holds for each dimension, where m_i is the mean of the other N - 1
    posteriors. For the whole z, m_i is a mixture of that mean, of the product of its
    dimensions, of a Gaussian of full covariance, and of kernels at the posterior means,
    shrunken in five steps towards that Gaussian. The lower bounds on total correlation
    and marginal KL are thus uncapped: they fall short by KL(q(z) || m), of which the
    covariance costs about latent_size^2 / (3 N). The weights of the mixture are fitted
    to the samples, which adds about 4 / `num_samples` at most. The upper bound on the
    marginal KL never falls below KL - log N; no bound that holds without assumptions
    would (McAllester & Stratos 2020). All parts are at least 0, wherever a bound is.

    Args:
      vae: the model; its posterior must be a `Normal` over a vector and its prior a
        `Normal`.
      params: its parameters.
      key: key of the subset and of the samples.
      xs: the N examples, `[N, *x]`.
      num_samples: samples of z, at least 1, each of which is compared with all N
        posteriors.
      chunk_size: samples, and before them examples, taken together, at least 1;
        a few arrays of `chunk_size * N * latent_size` numbers are held at once. It
        changes rounding only.

    Returns:
      The five parts in nats per example, their bounds, and whether they are saturated,
      which one example and numbers that are not finite always are. The errors of the
      bounds are over examples: more samples than examples do not make them smaller.

    Raises:
      ValueError: a count is not a positive integer.
      TypeError: posterior or prior is not such a `Normal`.

    Example:
      >>> from functools import partial
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> from vaejax.estimators import aggregate_decomposition
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> key, xs = jax.random.key(0), jnp.ones((5, 3))
      >>> params = jax.eval_shape(vae.init, key, xs[0])
      >>> decompose = partial(aggregate_decomposition, vae, num_samples=4)
      >>> jax.eval_shape(decompose, params, key, xs).mutual_information.value.shape
      ()

    Source: Hoffman & Johnson 2016; Chen et al. 2018, equation 2; bounds: Poole et al.
    2019, with a tractable conditional; kernels: West 1993.
    """
    check_model(vae, params)
    check_key(key)
    check_count("num_samples", num_samples)
    check_count("chunk_size", chunk_size)
    check_batch(xs)
    batch_size_of(xs)
    return run(
        _aggregate_decomposition, (vae, num_samples, chunk_size), params, key, xs
    )


def _aggregate_decomposition(
    vae: VAE, num_samples: int, chunk_size: int, params: Params, key: Key, xs: PyTree
) -> AggregateDecomposition:
    num_examples = batch_size_of(xs)
    # Densities of all examples are summed: not in half precision.
    posteriors, prior = jax.tree.map(
        as_real,
        (
            jax.lax.map(partial(vae.encode, params), xs, batch_size=chunk_size),
            vae.prior(params),
        ),
    )
    subset_key, noise_key = jax.random.split(key)
    indices = jax.random.permutation(subset_key, num_examples)[
        jnp.arange(num_samples) % num_examples
    ]
    draws = _draw(posteriors, prior, noise_key, indices, chunk_size)
    held_out = stacked(_held_out_ratios(posteriors, draws, indices, chunk_size))
    lower, upper = (
        AggregateBounds(
            *(_estimate(part, min(num_samples, num_examples)) for part in end)
        )
        for end in _bounds(draws, held_out)
    )
    missing = upper.mutual_information.value - lower.mutual_information.value
    ratios = draws.ratios
    marginal_kl = ratios.total_correlation + ratios.dimension_wise_kl
    return AggregateDecomposition(
        mutual_information=_estimate(ratios.mutual_information),
        total_correlation=_estimate(ratios.total_correlation),
        dimension_wise_kl=_estimate(ratios.dimension_wise_kl),
        marginal_kl=_estimate(marginal_kl),
        kl=_estimate(ratios.kl),
        lower=lower,
        upper=upper,
        # NaN counts as saturated.
        is_saturated=~(missing <= _TOLERANCE),
    )


class _Draw(NamedTuple):
    """One z, log p(z), and its log-ratios with and without its own posterior."""

    z: Array
    log_prior: Array
    ratios: AggregateLogRatios
    without_own: AggregateLogRatios


def _draw(
    posteriors: Distribution,
    prior: Distribution,
    key: Key,
    indices: Array,
    chunk_size: int,
) -> _Draw:
    """Return one z of the posterior of each index, with its log-ratios."""
    num_examples = batch_size_of(posteriors)
    equal = jnp.full((num_examples,), -math.log(num_examples))

    def draw(sample: tuple[Array, Array]) -> _Draw:
        number, index = sample
        posterior = jax.tree.map(lambda leaf: leaf[index], posteriors)
        z, log_posterior = posterior.sample_and_log_prob(
            jax.random.fold_in(key, number)
        )
        own = jnp.arange(num_examples) == index
        of_others = jnp.where(own, -jnp.inf, -math.log(max(num_examples - 1, 1)))
        ratios, without_own = (
            aggregate_log_ratios(posteriors, prior, z, log_posterior, log_weights)
            for log_weights in (equal, of_others)
        )
        return _Draw(z, log_posterior - ratios.kl, ratios, without_own)

    numbers = jnp.arange(len(indices), dtype=jnp.uint32)
    return jax.lax.map(draw, (numbers, indices), batch_size=chunk_size)


def _held_out_ratios(
    posteriors: Distribution, draws: _Draw, indices: Array, chunk_size: int
) -> Array:
    """Return log m(z) - log p(z) of densities m that do not know the example of z.

    They are `[samples, densities]`: the other posteriors, the product of their
    dimensions, and their shrunken kernels.
    """
    others = draws.without_own
    ratios = jnp.stack(
        [others.kl - others.mutual_information, others.dimension_wise_kl], axis=1
    )
    if batch_size_of(posteriors) == 1:
        return ratios
    kernels = fit_shrunken_kernels(posteriors)
    log_densities = jax.lax.map(
        lambda draw: log_shrunken_kernels(kernels, *draw),
        (draws.z, indices),
        batch_size=chunk_size,
    )
    return jnp.concatenate([ratios, log_densities - draws.log_prior[:, None]], axis=1)


def _bounds(draws: _Draw, held_out: Array) -> tuple[tuple[Array, ...], ...]:
    """Return the samples of lower and of upper bounds, in the order of their fields.

    `held_out` is log m(z) - log p(z) of the mixture m.
    """
    ratios, product = draws.ratios, draws.without_own.dimension_wise_kl
    in_sample = ratios.kl - ratios.mutual_information
    return (
        (
            ratios.mutual_information,
            held_out - ratios.dimension_wise_kl,
            product,
            held_out,
        ),
        (
            ratios.kl - held_out,
            in_sample - product,
            ratios.dimension_wise_kl,
            in_sample,
        ),
    )


def _estimate(values: Array, count: int | None = None) -> MonteCarloMean:
    """Return the mean and its error, for values of which `count` are independent."""
    count = values.size if count is None else count
    mean = jnp.mean(values)
    error = (
        jnp.std(values, ddof=1) / math.sqrt(count)
        if count > 1
        else jnp.full_like(mean, jnp.inf)
    )
    return MonteCarloMean(mean, jnp.where(jnp.isnan(error), jnp.inf, error))
