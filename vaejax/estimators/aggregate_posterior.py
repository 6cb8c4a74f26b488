"""The aggregate posterior q(z) = E_p(x)[q(z|x)] of independent dimensions: its parts of
the KL, weighted and measured.

E[KL(q(z|x) || p(z))] = I(x; z) + KL(q(z) || prod_j q(z_j)) + sum_j KL(q(z_j) ||
p(z_j)): mutual information, total correlation and dimension-wise KL, of which the last
two are KL(q(z) || p(z)). The losses here are of a batch, and at neutral strengths they
are `mean_over_batch` of the negative ELBO, draw for draw. What needs only moments or
samples of q(z) is in `discrepancies.py` and `discriminators.py`.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_count
from vaejax.base import VAE, Array, Key, Params, PyTree, batch_size_of
from vaejax.objectives import AggregateLogRatios, aggregate_log_ratios


class MonteCarloMean(NamedTuple):
    """A mean over samples.

    Attributes:
      value: the mean.
      standard_error: of it; infinite for one sample.
    """

    value: Array
    standard_error: Array


class AggregateDecomposition(NamedTuple):
    """Parts of the KL of a data set in nats, each a `MonteCarloMean`.

    Attributes:
      mutual_information: I(x; z), at most log N.
      total_correlation: KL(q(z) || prod_j q(z_j)).
      dimension_wise_kl: sum_j KL(q(z_j) || p(z_j)).
      marginal_kl: KL(q(z) || p(z)), the sum of the two before.
      kl: E KL(q(z|x) || p(z)), the sum of mutual information and marginal KL.
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
    """The parts of the KL with q(z) = 1/N sum_n q(z|x_n), the average of the posteriors
    of all N examples.

    Means over z_i ~ q(z|x_i) of the ratios of log q(z|x), log q(z), sum_j log q(z_j)
    and log p(z); of the examples a random subset is drawn from, or each as often as
    another. For this q(z) they are unbiased. As estimates for the distribution that the
    N examples come from they are not, since z_i was drawn from one of the N: mutual
    information is too small, by about (E[q(z|x) / q(z)] - 1) / (2 N), and never more
    than log N, which it reaches where no two posteriors overlap; the marginal KL is too
    large by the same. Near log N, take more examples.

    Args:
      vae: its posterior must be a Normal over a vector, and its prior a Normal.
      params: its parameters.
      key: decides the subset and the samples.
      xs: the N examples, `[N, *x]`.
      num_samples: samples of z, each of which is compared with all N posteriors.
      chunk_size: samples, and before them examples, taken together; `chunk_size * N *
        latent_size` densities are held at once. It changes nothing but rounding.

    Raises:
      ValueError: a count is not a positive integer.
      TypeError: posterior or prior is not such a Normal.

    Source: Hoffman & Johnson 2016; Chen et al. 2018, equation 2.
    """
    check_count("num_samples", num_samples)
    check_count("chunk_size", chunk_size)
    num_examples = batch_size_of(xs)
    posteriors = jax.lax.map(partial(vae.encode, params), xs, batch_size=chunk_size)
    prior = vae.prior(params)
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
