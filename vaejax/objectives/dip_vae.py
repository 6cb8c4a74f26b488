"""DIP-VAE: penalties on the covariance of the aggregate posterior."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import require
from vaejax.base import VAE, Array, Distribution, Key, KlFn, Params, PyTree
from vaejax.distributions.continuous import Normal
from vaejax.objectives._batch_draws import draw_batch, mean_elbo_terms
from vaejax.objectives.kl_estimators import kl_closed_form


class CovarianceTerms(NamedTuple):
    """Batch means in nats, and the two penalties before their weights.

    Attributes:
      log_likelihood, kl: the two sides of the ELBO.
      off_diagonal: sum of the squared covariances.
      diagonal: sum of the squared differences of the variances from 1.
    """

    log_likelihood: Array
    kl: Array
    off_diagonal: Array
    diagonal: Array


def covariance_of_means(posteriors: Normal) -> Array:
    """Cov[mu(x)] over the batch, divided by its size: that of DIP-VAE-I, `[latent,
    latent]`.
    """
    means = require(posteriors, "mean")
    if means.ndim != 2:
        raise TypeError(
            f"covariance_of_means: a mean has shape {means.shape[1:]}; give a model "
            "whose z is one vector."
        )
    centered = means - jnp.mean(means, axis=0, keepdims=True)
    return centered.T @ centered / len(means)


def covariance_of_aggregate(posteriors: Normal) -> Array:
    """Cov[z] = E[Sigma(x)] + Cov[mu(x)] under q(z), over the batch: that of DIP-VAE-II,
    `[latent, latent]`.

    Raises:
      TypeError: the posterior is not a Normal over a vector.
    """
    if not isinstance(posteriors, Normal):
        raise TypeError(
            f"covariance_of_aggregate: the posterior is {type(posteriors).__name__}; "
            "it must be a Normal."
        )
    covariance = covariance_of_means(posteriors)
    variances = jax.vmap(
        lambda q: jnp.broadcast_to(jnp.exp(q.log_variance), q.mean.shape)
    )(posteriors)
    return covariance + jnp.diag(jnp.mean(variances, axis=0))


def dip_vae_loss(
    vae: VAE,
    *,
    covariance: Callable[[Distribution], Array] = covariance_of_means,
    kl_fn: KlFn = kl_closed_form,
) -> Callable:
    """-ELBO + lambda_off_diagonal sum_{i != j} C_ij^2 + lambda_diagonal sum_i (C_ii -
    1)^2, of a batch.

    Args:
      vae: its posterior must be over a vector.
      covariance: the batch's posteriors `[batch]` to C: `covariance_of_means`
        (DIP-VAE-I) or `covariance_of_aggregate` (DIP-VAE-II).
      kl_fn: how the KL of the ELBO is computed.

    Returns:
      `(params, key, batch, *, lambda_off_diagonal=10.0, lambda_diagonal=100.0,
      beta=1.0) -> (loss, CovarianceTerms)`.
      For DIP-VAE-II give both lambdas the same value.

    Raises:
      TypeError: when called, the posterior is not what `covariance` takes.

    Source: Kumar et al. 2018 (DIP-VAE), equations 6 and 7.
    """

    def loss_fn(
        params: Params,
        key: Key,
        batch: PyTree,
        *,
        lambda_off_diagonal: float | Array = 10.0,
        lambda_diagonal: float | Array = 100.0,
        beta: float | Array = 1.0,
    ) -> tuple[Array, CovarianceTerms]:
        draws = draw_batch(vae, params, key, batch)
        elbo = mean_elbo_terms(draws, vae.prior(params), kl_fn)
        matrix = covariance(draws.posterior)
        variances = jnp.diagonal(matrix)
        off_diagonal = jnp.sum(jnp.square(matrix - jnp.diag(variances)))
        diagonal = jnp.sum(jnp.square(variances - 1))
        loss = (
            beta * elbo.kl
            - elbo.log_likelihood
            + lambda_off_diagonal * off_diagonal
            + lambda_diagonal * diagonal
        )
        return loss, CovarianceTerms(
            elbo.log_likelihood, elbo.kl, off_diagonal, diagonal
        )

    return loss_fn
