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

from vaejax._checks import check_count
from vaejax._programs import run
from vaejax._reals import as_real
from vaejax.base import VAE, Array, Key, Params, PyTree, batch_size_of
from vaejax.objectives import AggregateLogRatios, aggregate_log_ratios


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


class AggregateDecomposition(NamedTuple):
    """Parts of the KL of a data set in nats per example, each a `MonteCarloMean`.

    Attributes:
      mutual_information: I(x; z), at most log N for N examples.
      total_correlation: KL(q(z) || prod_j q(z_j)).
      dimension_wise_kl: sum_j KL(q(z_j) || p(z_j)).
      marginal_kl: KL(q(z) || p(z)), the sum of the two before.
      kl: E KL(q(z|x) || p(z)), the sum of mutual information and marginal KL.

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
    two posteriors overlap; the marginal KL is too large by the same. Near log N, use
    more examples.

    Args:
      vae: the model; its posterior must be a `Normal` over a vector and its prior a
        `Normal`.
      params: its parameters.
      key: key of the subset and of the samples.
      xs: the N examples, `[N, *x]`.
      num_samples: samples of z, at least 1, each of which is compared with all N
        posteriors.
      chunk_size: samples, and before them examples, taken together, at least 1;
        `chunk_size * N * latent_size` densities are held at once. It changes rounding
        only.

    Returns:
      The five parts in nats per example, with standard errors.

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

    Source: Hoffman & Johnson 2016; Chen et al. 2018, equation 2.
    """
    check_count("num_samples", num_samples)
    check_count("chunk_size", chunk_size)
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
    log_weights = jnp.full((num_examples,), -math.log(num_examples))

    def parts(sample: tuple[Array, Array]) -> AggregateLogRatios:
        number, index = sample
        posterior = jax.tree.map(lambda leaf: leaf[index], posteriors)
        z, log_posterior = posterior.sample_and_log_prob(
            jax.random.fold_in(noise_key, number)
        )
        return aggregate_log_ratios(posteriors, prior, z, log_posterior, log_weights)

    numbers = jnp.arange(num_samples, dtype=jnp.uint32)
    values = jax.lax.map(parts, (numbers, indices), batch_size=chunk_size)
    marginal_kl = values.total_correlation + values.dimension_wise_kl
    return AggregateDecomposition(
        *map(_estimate, (*values[:3], marginal_kl, values.kl))
    )


def _estimate(values: Array) -> MonteCarloMean:
    mean = jnp.mean(values)
    error = (
        jnp.std(values, ddof=1) / math.sqrt(values.size)
        if values.size > 1
        else jnp.full_like(mean, jnp.inf)
    )
    return MonteCarloMean(mean, error)
