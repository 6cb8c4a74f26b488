"""The aggregate posterior q(z) = E_p(x)[q(z|x)] of independent dimensions: its parts of
the KL, weighted and measured.

E[KL(q(z|x) || p(z))] = I(x; z) + KL(q(z) || prod_j q(z_j)) + sum_j KL(q(z_j) ||
p(z_j)): mutual information, total correlation and dimension-wise KL, of which the last
two are KL(q(z) || p(z)). The losses here are of a batch, and at neutral strengths they
are `mean_over_batch` of the negative ELBO, draw for draw. What needs only moments or
samples of q(z) is in `discrepancies.py` and `discriminators.py`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Key,
    KlFn,
    Latent,
    Params,
    PyTree,
    batch_size_of,
    check_count,
    require,
)
from vaejax.distributions import Normal
from vaejax.objectives import ElboTerms


class Draws(NamedTuple):
    """One draw for each example of a batch; every leaf has the leading axis `[batch]`.

    Attributes:
      posterior: q(z|x).
      z: drawn from it.
      log_posterior, log_likelihood: log q(z|x) and log p(x|z), in nats.
    """

    posterior: Distribution
    z: Latent
    log_posterior: Array
    log_likelihood: Array


def draw_batch(vae: VAE, params: Params, key: Key, batch: PyTree) -> Draws:
    """Each example encoded, drawn from and decoded, with the noise of `mean_over_batch`
    of the negative ELBO.
    """

    def one(key: Key, x: PyTree) -> Draws:
        posterior = vae.encode(params, x)
        # `elbo_terms` splits an example's key into one a sample, and draws one sample
        # by default.
        z, log_posterior = require(posterior, "sample_and_log_prob")(
            jax.random.split(key, 1)[0]
        )
        return Draws(
            posterior, z, log_posterior, require(vae.decode(params, z), "log_prob")(x)
        )

    return jax.vmap(one)(jax.random.split(key, batch_size_of(batch)), batch)


def mean_elbo_terms(draws: Draws, prior: Distribution, kl_fn: KlFn) -> ElboTerms:
    """The terms of the ELBO of a batch already drawn, averaged over it."""

    def kl_terms_of(draw: Draws) -> Array:
        return kl_fn(draw.posterior, prior, draw.z, draw.log_posterior)

    kl_terms = jnp.mean(jax.vmap(kl_terms_of)(draws), axis=0)
    return ElboTerms(jnp.mean(draws.log_likelihood), jnp.sum(kl_terms), kl_terms)


def minibatch_weighted(batch_size: int, dataset_size: int) -> Array:
    """Log-weights of minibatch-weighted sampling: log 1/(N B) throughout, `[batch,
    batch]`.

    q(z_i) ~ sum_j w_ij q(z_i|x_j). With the other examples drawn independently its
    expectation is (q(z_i|x_i) + (B - 1) q(z_i)) / (N B): biased, and E log q(z) is
    bounded from below. Mutual information comes out about log N too large, total
    correlation (D - 1) log N too large and the dimension-wise KL D log N too small, for
    D dimensions of z. Constants do not move the gradient; to report the values, use
    `aggregate_decomposition`.

    Source: Chen et al. 2018, appendix C.1.
    """
    return jnp.full((batch_size, batch_size), -math.log(dataset_size * batch_size))


def minibatch_stratified(batch_size: int, dataset_size: int) -> Array:
    """Log-weights of minibatch-stratified sampling, of rows that sum to one, `[batch,
    batch]`.

    With M = B - 1, w_ii = 1/N, w_ij = (N - M) / (N M) for one j, here the next example,
    and 1/M for the rest. With the others drawn without replacement sum_j w_ij
    q(z_i|x_j) is an unbiased estimate of q(z_i); its logarithm is not.

    Raises:
      ValueError: the batch has one example, or more than the data set.

    Source: Chen et al. 2018, appendix C.2.
    """
    if not 2 <= batch_size <= dataset_size:
        raise ValueError(
            f"minibatch_stratified: the batch has {batch_size} example(s) and "
            f"dataset_size is {dataset_size}; give at "
            "least two, and no more than the data set holds."
        )
    num_others = batch_size - 1
    own = jnp.eye(batch_size, dtype=bool)
    last = math.log((dataset_size - num_others) / (dataset_size * num_others))
    of_others = jnp.where(jnp.roll(own, 1, axis=1), last, -math.log(num_others))
    return jnp.where(own, -math.log(dataset_size), of_others)


class TotalCorrelationTerms(NamedTuple):
    """Batch means in nats; the three parts sum to `kl`.

    Attributes:
      log_likelihood: E log p(x|z).
      mutual_information: I(x; z) = E log q(z|x) / q(z).
      total_correlation: KL(q(z) || prod_j q(z_j)).
      dimension_wise_kl: sum_j KL(q(z_j) || p(z_j)).
      kl: E log q(z|x) / p(z), from the samples.
    """

    log_likelihood: Array
    mutual_information: Array
    total_correlation: Array
    dimension_wise_kl: Array
    kl: Array


def beta_tcvae_loss(
    vae: VAE,
    *,
    dataset_size: int,
    minibatch_weights: Callable[[int, int], Array] = minibatch_weighted,
) -> Callable:
    """-E log p(x|z) + alpha I(x; z) + beta KL(q(z) || prod_j q(z_j)) + gamma sum_j
    KL(q(z_j) || p(z_j)), of a batch.

    q(z) and q(z_j) are estimated over the batch, at a cost that grows with its square.
    At alpha = beta = gamma = 1 the estimates cancel, and the loss is the negative ELBO
    with `kl_monte_carlo`, whatever the weights.

    Args:
      vae: its posterior must be a Normal over a vector, and its prior a Normal.
      dataset_size: N, the examples of the training set.
      minibatch_weights: `(batch_size, dataset_size) -> log-weights [batch, batch]`, of
        the posterior of example j at the z of example i: `minibatch_weighted` (the
        paper's experiments) or `minibatch_stratified`.

    Returns:
      `(params, key, batch, *, alpha=1.0, beta=6.0, gamma=1.0) -> (loss,
      TotalCorrelationTerms)`.

    Raises:
      ValueError: `dataset_size` is not a positive integer.
      TypeError: when called, posterior or prior is not such a Normal.

    Source: Chen et al. 2018, equations 2 and 4.
    """
    check_count("dataset_size", dataset_size)

    def loss_fn(
        params: Params,
        key: Key,
        batch: PyTree,
        *,
        alpha: float | Array = 1.0,
        beta: float | Array = 6.0,
        gamma: float | Array = 1.0,
    ) -> tuple[Array, TotalCorrelationTerms]:
        draws, prior = draw_batch(vae, params, key, batch), vae.prior(params)
        _check_normals("beta_tcvae_loss", draws.posterior, prior)
        log_weights = minibatch_weights(len(draws.z), dataset_size)
        parts = jax.vmap(partial(_parts, draws.posterior, prior))(
            draws.z, draws.log_posterior, log_weights
        )
        parts = jax.tree.map(jnp.mean, parts)
        loss = (
            alpha * parts.mutual_information
            + beta * parts.total_correlation
            + gamma * parts.dimension_wise_kl
        )
        log_likelihood = jnp.mean(draws.log_likelihood)
        return loss - log_likelihood, TotalCorrelationTerms(log_likelihood, *parts)

    return loss_fn


class Estimate(NamedTuple):
    """A mean over samples.

    Attributes:
      value: the mean.
      standard_error: of it; infinite for one sample.
    """

    value: Array
    standard_error: Array


class AggregateDecomposition(NamedTuple):
    """Parts of the KL of a data set in nats, each an `Estimate`.

    Attributes:
      mutual_information: I(x; z), at most log N.
      total_correlation: KL(q(z) || prod_j q(z_j)).
      dimension_wise_kl: sum_j KL(q(z_j) || p(z_j)).
      marginal_kl: KL(q(z) || p(z)), the sum of the two before.
      kl: E KL(q(z|x) || p(z)), the sum of mutual information and marginal KL.
    """

    mutual_information: Estimate
    total_correlation: Estimate
    dimension_wise_kl: Estimate
    marginal_kl: Estimate
    kl: Estimate


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
    _check_normals("aggregate_decomposition", posteriors, prior)
    subset_key, noise_key = jax.random.split(key)
    indices = jax.random.permutation(subset_key, num_examples)[
        jnp.arange(num_samples) % num_examples
    ]
    log_weights = jnp.full((num_examples,), -math.log(num_examples))

    def parts(sample: tuple[Array, Array]) -> _Parts:
        number, index = sample
        posterior = jax.tree.map(lambda leaf: leaf[index], posteriors)
        z, log_posterior = posterior.sample_and_log_prob(
            jax.random.fold_in(noise_key, number)
        )
        return _parts(posteriors, prior, z, log_posterior, log_weights)

    numbers = jnp.arange(num_samples, dtype=jnp.uint32)
    values = jax.lax.map(parts, (numbers, indices), batch_size=chunk_size)
    marginal_kl = values.total_correlation + values.dimension_wise_kl
    return AggregateDecomposition(
        *map(_estimate, (*values[:3], marginal_kl, values.kl))
    )


def _estimate(values: Array) -> Estimate:
    mean = jnp.mean(values)
    error = (
        jnp.std(values, ddof=1) / math.sqrt(values.size)
        if values.size > 1
        else jnp.full_like(mean, jnp.inf)
    )
    return Estimate(mean, error)


class _Parts(NamedTuple):
    """Log-ratios of one z: q(z|x) to q(z), q(z) to prod_j q(z_j), that to p(z); and of
    the first to the last.
    """

    mutual_information: Array
    total_correlation: Array
    dimension_wise_kl: Array
    kl: Array


def _parts(
    posteriors: Normal,
    prior: Normal,
    z: Array,
    log_posterior: Array,
    log_weights: Array,
) -> _Parts:
    """With q(z) and q(z_j) the weighted sums of the posteriors, whose leaves and
    log-weights lead with `[examples]`.
    """
    log_densities = jax.vmap(lambda posterior: _log_prob_by_dimension(posterior, z))(
        posteriors
    )
    log_aggregate = jax.nn.logsumexp(log_weights + jnp.sum(log_densities, axis=1))
    log_product = jnp.sum(
        jax.nn.logsumexp(log_weights[:, None] + log_densities, axis=0)
    )
    log_prior = prior.log_prob(z)
    return _Parts(
        log_posterior - log_aggregate,
        log_aggregate - log_product,
        log_product - log_prior,
        log_posterior - log_prior,
    )


def _log_prob_by_dimension(normal: Normal, z: Array) -> Array:
    """log N(z_j; mean_j, variance_j), `[latent]`."""
    scalars = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, normal.mean.shape), normal
    )
    return jax.vmap(Normal.log_prob)(scalars, z)


def _check_normals(name: str, posteriors: Distribution, prior: Distribution) -> None:
    if not (isinstance(posteriors, Normal) and isinstance(prior, Normal)):
        raise TypeError(
            f"{name}: the posterior is {type(posteriors).__name__} and the prior "
            f"{type(prior).__name__}; both must be "
            "Normal, whose dimensions are independent."
        )
    if posteriors.mean.ndim != 2:
        raise TypeError(
            f"{name}: a latent has shape {posteriors.mean.shape[1:]}; give a model "
            "whose z is one vector."
        )
