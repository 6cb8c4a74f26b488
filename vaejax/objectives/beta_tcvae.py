"""beta-TCVAE: separate weights on the three parts of the KL term.

For a posterior and a prior of independent dimensions, E[KL(q(z|x) || p(z))] =
I(x; z) + KL(q(z) || prod_j q(z_j)) + sum_j KL(q(z_j) || p(z_j)): mutual information,
total correlation and dimension-wise KL, with the aggregate posterior
q(z) = E_p(x)[q(z|x)].
"""

import math
import numbers
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import (
    as_numbers,
    check_arrays,
    check_count,
    check_model,
    check_weights,
    described,
)
from vaejax._reals import at_least_single
from vaejax.base import VAE, Array, Distribution, Key, LossFn, Params, PyTree
from vaejax.distributions import Normal
from vaejax.objectives._batch_draws import draw_batch
from vaejax.objectives._numbers import weighted


def minibatch_weighted(batch_size: int, dataset_size: int) -> Array:
    """Log-weights of minibatch-weighted sampling, log 1/(N B) in every entry.

    They estimate q(z_i) ~ sum_j w_ij q(z_i|x_j) for N = `dataset_size` examples and a
    batch of B. With the other examples drawn independently the expectation of the
    estimate is (q(z_i|x_i) + (B - 1) q(z_i)) / (N B). It is biased: for D dimensions of
    z, mutual information is about log N too large, total correlation (D - 1) log N too
    large and the dimension-wise KL D log N too small. Constants do not change the
    gradient; to report the values, use `vaejax.estimators.aggregate_decomposition`.

    Args:
      batch_size: B, between 1 and N.
      dataset_size: N, the examples of the training set, a positive integer.

    Returns:
      `[batch, batch]`, the log-weight of the posterior of example j at the z of
      example i.

    Raises:
      ValueError: the batch is empty, or has more examples than the data set.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.objectives import minibatch_weighted
      >>> weights = jnp.exp(minibatch_weighted(2, 50))
      >>> weights.shape, round(float(weights[0, 1]), 3)
      ((2, 2), 0.01)

    Source: Chen et al. 2018, appendix C.1.
    """
    _check_sizes("minibatch_weighted", batch_size, dataset_size, 1)
    return jnp.full((batch_size, batch_size), -math.log(dataset_size * batch_size))


def minibatch_stratified(batch_size: int, dataset_size: int) -> Array:
    """Log-weights of minibatch-stratified sampling, whose rows sum to one.

    With M = B - 1 for a batch of B: w_ii = 1/N, w_ij = (N - M) / (N M) for one j, here
    the next example, and w_ij = 1/M for all other j. With the other examples drawn
    without replacement sum_j w_ij q(z_i|x_j) is an unbiased estimate of q(z_i); its
    logarithm is biased.

    Args:
      batch_size: B, between 2 and N.
      dataset_size: N, the examples of the training set.

    Returns:
      `[batch, batch]`, the log-weight of the posterior of example j at the z of
      example i.

    Raises:
      ValueError: the batch has one example, or more than the data set.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.objectives import minibatch_stratified
      >>> jnp.sum(jnp.exp(minibatch_stratified(3, 50)), axis=1).round(3).tolist()
      [1.0, 1.0, 1.0]

    Source: Chen et al. 2018, appendix C.2.
    """
    _check_sizes("minibatch_stratified", batch_size, dataset_size, 2)
    num_others = batch_size - 1
    own = jnp.eye(batch_size, dtype=bool)
    last = math.log((dataset_size - num_others) / (dataset_size * num_others))
    of_others = jnp.where(jnp.roll(own, 1, axis=1), last, -math.log(num_others))
    return jnp.where(own, -math.log(dataset_size), of_others)


def _check_sizes(name: str, batch_size: int, dataset_size: int, least: int) -> None:
    check_count(f"{name}: dataset_size", dataset_size)
    if not isinstance(batch_size, numbers.Integral):
        raise ValueError(
            f"{name}: batch_size is {described(batch_size)}; give a positive integer."
        )
    if not least <= batch_size <= dataset_size:
        raise ValueError(
            f"{name}: the batch has {batch_size} example(s) and dataset_size is "
            f"{dataset_size}; give at least {least}, and no more than the data set "
            "holds."
        )


class TotalCorrelationTerms(NamedTuple):
    """Terms of the beta-TCVAE loss: batch means in nats, scalars.

    The three parts sum to `kl`.

    Attributes:
      log_likelihood: E log p(x|z).
      mutual_information: I(x; z) = E log q(z|x) / q(z).
      total_correlation: KL(q(z) || prod_j q(z_j)).
      dimension_wise_kl: sum_j KL(q(z_j) || p(z_j)).
      kl: E log q(z|x) / p(z), from the samples.

    Example:
      >>> from vaejax.objectives import TotalCorrelationTerms
      >>> terms = TotalCorrelationTerms(-80.0, 5.0, 1.5, 2.0, kl=8.5)
      >>> sum(terms[1:4]) == terms.kl
      True
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
) -> LossFn:
    """Return the beta-TCVAE loss of a batch, which weighs the parts of the KL, in nats.

    -E log p(x|z) + alpha I(x; z) + beta KL(q(z) || prod_j q(z_j))
    + gamma sum_j KL(q(z_j) || p(z_j)). The densities q(z) and q(z_j) are estimated over
    the batch, at a cost that grows with the square of its size. At
    alpha = beta = gamma = 1 the estimates cancel, and the loss is `mean_over_batch` of
    the negative ELBO with `kl_monte_carlo`, draw for draw, whatever the minibatch
    weights.

    Args:
      vae: the model; its posterior must be a `Normal` over a vector and its prior a
        `Normal`.
      dataset_size: N, the examples of the training set, a positive integer.
      minibatch_weights: `(batch_size, dataset_size) -> log-weights [batch, batch]` of
        the posterior of example j at the z of example i: `minibatch_weighted` (the
        paper's experiments) or `minibatch_stratified`.

    Returns:
      `loss_fn(params, key, batch, *, alpha=1.0, beta=6.0, gamma=1.0) -> (loss,
      TotalCorrelationTerms)`; the weights are at least 0 and may be traced.

    Raises:
      ValueError: `dataset_size` is not a positive integer; when the loss is called, the
        batch has more examples, or a weight is negative or not finite.
      TypeError: when the loss is called, posterior or prior is not such a `Normal`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> batch = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), batch[0])
      >>> loss_fn = vaejax.objectives.beta_tcvae_loss(vae, dataset_size=50)
      >>> loss, terms = loss_fn(params, jax.random.key(1), batch)
      >>> loss.shape, bool(jnp.allclose(sum(terms[1:4]), terms.kl, atol=1e-4))
      ((), True)

    Source: Chen et al. 2018, equations 2 and 4.
    """
    check_model(vae, None)
    check_count("beta_tcvae_loss: dataset_size", dataset_size)

    def loss_fn(
        params: Params,
        key: Key,
        batch: PyTree,
        *,
        alpha: float | Array = 1.0,
        beta: float | Array = 6.0,
        gamma: float | Array = 1.0,
    ) -> tuple[Array, TotalCorrelationTerms]:
        check_weights("beta_tcvae_loss", alpha=alpha, beta=beta, gamma=gamma)
        draws, prior = draw_batch(vae, params, key, batch), vae.prior(params)
        num = len(draws.log_posterior)
        _check_sizes("beta_tcvae_loss", num, dataset_size, 1)
        log_weights = minibatch_weights(num, dataset_size)
        parts = jax.vmap(partial(aggregate_log_ratios, draws.posterior, prior))(
            draws.z, draws.log_posterior, log_weights
        )
        parts = jax.tree.map(jnp.mean, parts)
        loss = (
            weighted(alpha, parts.mutual_information)
            + weighted(beta, parts.total_correlation)
            + weighted(gamma, parts.dimension_wise_kl)
        )
        log_likelihood = jnp.mean(draws.log_likelihood)
        return loss - log_likelihood, TotalCorrelationTerms(log_likelihood, *parts)

    return loss_fn


class AggregateLogRatios(NamedTuple):
    """Log-ratios of one z whose means over p(x) q(z|x) are the parts of the KL.

    They are in nats; the first three sum to `kl`.

    Attributes:
      mutual_information: scalar, log q(z|x) / q(z).
      total_correlation: scalar, log q(z) / prod_j q(z_j).
      dimension_wise_kl: scalar, log prod_j q(z_j) / p(z).
      kl: scalar, log q(z|x) / p(z).

    Example:
      >>> from vaejax.objectives import AggregateLogRatios
      >>> ratios = AggregateLogRatios(5.0, 1.5, 2.0, kl=8.5)
      >>> sum(ratios[:3]) == ratios.kl
      True
    """

    mutual_information: Array
    total_correlation: Array
    dimension_wise_kl: Array
    kl: Array


def aggregate_log_ratios(
    posteriors: Distribution,
    prior: Distribution,
    z: Array,
    log_posterior: Array,
    log_weights: Array,
) -> AggregateLogRatios:
    """Return the log-ratios of one z with q(z) a weighted sum of posteriors, in nats.

    q(z) = sum_n w_n q(z|x_n) and q(z_j) = sum_n w_n q(z_j|x_n).

    Args:
      posteriors: the q(z|x_n), a `Normal` whose leaves have the leading axis
        `[examples]`; each is over a vector.
      prior: p(z), a `Normal` over one vector.
      z: `[latent]`, one sample of some q(z|x).
      log_posterior: scalar, log q(z|x) at that sample.
      log_weights: `[examples]`, the log w_n.

    Returns:
      The `AggregateLogRatios` of z.

    Raises:
      TypeError: posteriors or prior are not such a `Normal`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax import Normal
      >>> from vaejax.objectives import aggregate_log_ratios
      >>> posteriors = Normal(jnp.zeros((2, 3)), jnp.zeros((2, 3)))
      >>> prior, z = Normal(jnp.zeros(3), jnp.zeros(3)), jnp.ones(3)
      >>> ratios = aggregate_log_ratios(
      ...     posteriors, prior, z, prior.log_prob(z), jnp.log(jnp.full(2, 0.5))
      ... )
      >>> [abs(round(float(ratio), 3)) for ratio in ratios]
      [0.0, 0.0, 0.0, 0.0]

    Source: Chen et al. 2018, equation 2.
    """
    posteriors, prior = _as_normals(posteriors, prior)
    check_arrays("the latent z", z)
    z, log_posterior, log_weights = (
        jnp.asarray(as_numbers(f"aggregate_log_ratios: {name}", value))
        for name, value in (
            ("the latent z", z),
            ("log_posterior", log_posterior),
            ("log_weights", log_weights),
        )
    )
    for name, array, shape in (
        ("the latent z", z, posteriors.mean.shape[1:]),
        ("log_posterior", log_posterior, ()),
        ("log_weights", log_weights, posteriors.mean.shape[:1]),
    ):
        if array.shape != shape:
            raise ValueError(
                f"aggregate_log_ratios: {name} has shape {array.shape}; give {shape}, "
                "of one latent, and map over several with jax.vmap."
            )
    log_densities = at_least_single(
        jax.vmap(lambda posterior: _log_prob_by_dimension(posterior, z))(posteriors)
    )
    log_aggregate = jax.nn.logsumexp(log_weights + jnp.sum(log_densities, axis=1))
    log_product = jnp.sum(
        jax.nn.logsumexp(log_weights[:, None] + log_densities, axis=0)
    )
    log_prior = at_least_single(prior.log_prob(z))
    log_posterior = at_least_single(log_posterior)
    return AggregateLogRatios(
        log_posterior - log_aggregate,
        log_aggregate - log_product,
        log_product - log_prior,
        log_posterior - log_prior,
    )


def _log_prob_by_dimension(normal: Normal, z: Array) -> Array:
    """Return log N(z_j; mean_j, variance_j), `[latent]`."""
    scalars = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, normal.mean.shape), normal
    )
    return jax.vmap(Normal.log_prob)(scalars, z)


def _as_normals(posteriors: Distribution, prior: Distribution) -> tuple[Normal, Normal]:
    if not (isinstance(posteriors, Normal) and isinstance(prior, Normal)):
        raise TypeError(
            f"aggregate_log_ratios: the posterior is {described(posteriors)} and "
            f"the prior {described(prior)}; both must be Normal, whose dimensions "
            "are independent."
        )
    if posteriors.mean.ndim != 2:
        raise TypeError(
            f"aggregate_log_ratios: a latent has shape {posteriors.mean.shape[1:]}; "
            "give a model whose z is one vector."
        )
    return posteriors, prior
