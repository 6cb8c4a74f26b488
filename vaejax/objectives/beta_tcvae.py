"""beta-TCVAE: weights on the three parts of the KL term."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_count
from vaejax.base import VAE, Array, Distribution, Key, Params, PyTree
from vaejax.distributions.continuous import Normal
from vaejax.objectives._batch_draws import draw_batch


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
        parts = jax.vmap(partial(aggregate_log_ratios, draws.posterior, prior))(
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


class AggregateLogRatios(NamedTuple):
    """Log-ratios of one z: q(z|x) to q(z), q(z) to prod_j q(z_j), that to p(z); and of
    the first to the last.
    """

    mutual_information: Array
    total_correlation: Array
    dimension_wise_kl: Array
    kl: Array


def aggregate_log_ratios(
    posteriors: Normal,
    prior: Normal,
    z: Array,
    log_posterior: Array,
    log_weights: Array,
) -> AggregateLogRatios:
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
    return AggregateLogRatios(
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
