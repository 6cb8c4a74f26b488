"""DIP-VAE: penalties on the covariance of the aggregate posterior."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_model, check_weights, require
from vaejax._reals import at_least_single
from vaejax.base import VAE, Array, Distribution, Key, KlFn, LossFn, Params, PyTree
from vaejax.distributions import Normal
from vaejax.objectives._batch_draws import draw_batch, mean_elbo_terms
from vaejax.objectives._numbers import weighted
from vaejax.objectives.kl_estimators import kl_closed_form


class CovarianceTerms(NamedTuple):
    """Terms of the DIP-VAE loss: batch means in nats, and the penalties, all scalars.

    Attributes:
      log_likelihood: E log p(x|z).
      kl: E KL(q(z|x) || p(z)).
      off_diagonal: sum_{i != j} C_ij^2, before its weight.
      diagonal: sum_i (C_ii - 1)^2, before its weight.

    Example:
      >>> from vaejax.objectives import CovarianceTerms
      >>> terms = CovarianceTerms(-80.0, 8.5, off_diagonal=0.25, diagonal=0.5)
      >>> terms.kl - terms.log_likelihood + 10 * terms.off_diagonal
      91.0
    """

    log_likelihood: Array
    kl: Array
    off_diagonal: Array
    diagonal: Array


def covariance_of_means(posteriors: Distribution) -> Array:
    """Return the covariance of the posterior means over a batch (DIP-VAE-I).

    C = 1/B sum_n (mu_n - mu)(mu_n - mu)^T with mu_n the mean of q(z|x_n) and mu their
    average.

    Args:
      posteriors: the q(z|x_n) of a batch; the mean is `[batch, latent]`.

    Returns:
      `[latent, latent]`, C.

    Raises:
      TypeError: the posterior has no mean, or is not over a vector.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax import Normal
      >>> from vaejax.objectives import covariance_of_means
      >>> posteriors = Normal(jnp.array([[1.0, 2.0], [3.0, 2.0]]), jnp.zeros(2))
      >>> covariance_of_means(posteriors).tolist()
      [[1.0, 0.0], [0.0, 0.0]]

    Source: Kumar et al. 2018 (DIP-VAE-I).
    """
    means = require(posteriors, "mean")
    if means.ndim != 2:
        raise TypeError(
            f"covariance_of_means: a mean has shape {means.shape[1:]}; give a model "
            "whose z is one vector."
        )
    means = at_least_single(means)
    centered = means - jnp.mean(means, axis=0, keepdims=True)
    return centered.T @ centered / len(means)


def covariance_of_aggregate(posteriors: Distribution) -> Array:
    """Return the covariance of z under the aggregate posterior (DIP-VAE-II).

    C = Cov_q(z)[z] = E[Sigma(x)] + Cov[mu(x)] over the batch, with mu and Sigma the
    mean and the covariance of q(z|x).

    Args:
      posteriors: the q(z|x_n) of a batch, a `Normal` whose mean is `[batch, latent]`.

    Returns:
      `[latent, latent]`, C.

    Raises:
      TypeError: the posterior is not a `Normal` over a vector.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax import Normal
      >>> from vaejax.objectives import covariance_of_aggregate
      >>> posteriors = Normal(jnp.array([[1.0, 2.0], [3.0, 2.0]]), jnp.zeros(2))
      >>> covariance_of_aggregate(posteriors).tolist()
      [[2.0, 0.0], [0.0, 1.0]]

    Source: Kumar et al. 2018 (DIP-VAE-II).
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
    return covariance + jnp.diag(jnp.mean(at_least_single(variances), axis=0))


def dip_vae_loss(
    vae: VAE,
    *,
    covariance: Callable[[Distribution], Array] = covariance_of_means,
    kl_fn: KlFn = kl_closed_form,
) -> LossFn:
    """Return the DIP-VAE loss of a batch, which draws a covariance to the identity.

    beta KL - E log p(x|z) + lambda_off_diagonal sum_{i != j} C_ij^2
    + lambda_diagonal sum_i (C_ii - 1)^2, the first two in nats, with C a covariance of
    the codes over the batch. With both lambdas zero it is `mean_over_batch` of the
    negative ELBO, draw for draw.

    Args:
      vae: the model; its posterior must be over a vector.
      covariance: `posteriors -> C [latent, latent]`, from the posteriors of the batch:
        `covariance_of_means` (DIP-VAE-I) or `covariance_of_aggregate` (DIP-VAE-II).
      kl_fn: estimator of the KL term.

    Returns:
      `loss_fn(params, key, batch, *, lambda_off_diagonal=10.0, lambda_diagonal=100.0,
      beta=1.0) -> (loss, CovarianceTerms)`; the weights are at least 0 and may be
      traced. For DIP-VAE-II give both lambdas the same value.

    Raises:
      ValueError: when the loss is called, a weight is negative or not finite.
      TypeError: when the loss is called, `covariance` does not take the posterior.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> batch = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), batch[0])
      >>> loss_fn = vaejax.objectives.dip_vae_loss(vae)
      >>> loss, terms = loss_fn(params, jax.random.key(1), batch)
      >>> loss.shape, round(float(terms.off_diagonal), 3)
      ((), 0.0)

    Source: Kumar et al. 2018 (DIP-VAE), equations 6 and 7.
    """
    check_model(vae, None)

    def loss_fn(
        params: Params,
        key: Key,
        batch: PyTree,
        *,
        lambda_off_diagonal: float | Array = 10.0,
        lambda_diagonal: float | Array = 100.0,
        beta: float | Array = 1.0,
    ) -> tuple[Array, CovarianceTerms]:
        check_weights(
            "dip_vae_loss",
            lambda_off_diagonal=lambda_off_diagonal,
            lambda_diagonal=lambda_diagonal,
            beta=beta,
        )
        draws = draw_batch(vae, params, key, batch)
        elbo = mean_elbo_terms(draws, vae.prior(params), kl_fn)
        matrix = covariance(draws.posterior)
        variances = jnp.diagonal(matrix)
        off_diagonal = jnp.sum(jnp.square(matrix - jnp.diag(variances)))
        diagonal = jnp.sum(jnp.square(variances - 1))
        loss = (
            weighted(beta, elbo.kl)
            - elbo.log_likelihood
            + lambda_off_diagonal * off_diagonal
            + lambda_diagonal * diagonal
        )
        return loss, CovarianceTerms(
            elbo.log_likelihood, elbo.kl, off_diagonal, diagonal
        )

    return loss_fn
