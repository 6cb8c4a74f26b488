"""Negative ELBO whose Gaussian likelihood has the best variance for each batch."""

import math
from functools import partial

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_model,
    check_weights,
    part_of,
    require,
    sample_and_log_prob_of,
)
from vaejax._reals import at_least_single
from vaejax.base import VAE, Array, Key, KlFn, LossFn, Params
from vaejax.objectives._numbers import weighted
from vaejax.objectives.batching import _batch_means
from vaejax.objectives.elbo import ElboTerms
from vaejax.objectives.kl_estimators import kl_closed_form


def optimal_variance_loss(vae: VAE, *, kl_fn: KlFn = kl_closed_form) -> LossFn:
    """Return the negative ELBO of a batch with the variance that is optimal for it.

    D/2 (1 + log 2 pi v) + beta KL in nats, for D dimensions of x and the variance
    v = mean over batch and dimensions of (x - mean)^2. The gradient flows through v,
    so no variance is learned from the likelihood. Instead the log-variance of the
    likelihood's head follows log v: a pseudo-loss of value zero pulls it there, and the
    trained model is evaluated with it. Give this parameter its own optimizer partition,
    such as `optax.sgd(0.1)` for a moving average over about ten batches.

    Args:
      vae: the model; its likelihood must be
        `shared_variance_normal_head` with infinite bounds of the log-variance.
      kl_fn: estimator of the KL term.

    Returns:
      `loss_fn(params, key, batch, *, beta=1.0) -> (loss, ElboTerms)` for a batch of
      arrays, `[batch, *x]`.

    Raises:
      ValueError: when the loss is called, `beta` is negative or not finite.
      TypeError: when the loss is called, the parameters hold no such log-variance.

    Example:
      >>> import math
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2,
      ...     encoder=vaejax.MLP((8,)),
      ...     decoder=vaejax.MLP((8,), (3,)),
      ...     likelihood=vaejax.distributions.shared_variance_normal_head(
      ...         min_log_variance=-math.inf, max_log_variance=math.inf
      ...     ),
      ... )
      >>> batch = jnp.ones((4, 3))
      >>> params = vae.init(jax.random.key(0), batch[0])
      >>> loss_fn = vaejax.objectives.optimal_variance_loss(vae)
      >>> loss, terms = loss_fn(params, jax.random.key(1), batch)
      >>> loss.shape, terms.kl_terms.shape
      ((), (1,))

    Source: Rybkin et al. 2021 (sigma-VAE), section 3.2.
    """
    check_model(vae, None)

    def parts(params: Params, key: Key, x: Array) -> tuple[Array, Array]:
        """Return the squared error and the KL of one example."""
        posterior, prior = vae.encode(params, x), vae.prior(params)
        z, log_posterior = sample_and_log_prob_of(posterior, key)
        mean = at_least_single(require(vae.decode(params, z), "mean"))
        squared_error = jnp.sum(jnp.square(mean - at_least_single(x)))
        return squared_error, kl_fn(posterior, prior, z, log_posterior)

    def loss_fn(
        params: Params, key: Key, batch: Array, *, beta: float | Array = 1.0
    ) -> tuple[Array, ElboTerms]:
        check_weights("optimal_variance_loss", beta=beta)
        check_model(vae, params)
        parameter = _log_variance_of(params)
        squared_error, kl_terms = _batch_means(partial(parts, params), key, batch)
        num_dimensions = math.prod(batch.shape[1:])
        # Without a floor an exact reconstruction has the log-variance -inf.
        log_variance = jnp.log(jnp.maximum(squared_error / num_dimensions, 1e-12))
        log_likelihood = (
            -num_dimensions / 2 * (1 + math.log(2 * math.pi) + log_variance)
        )
        # A term of value zero whose gradient is (parameter - log v).
        distance = jax.lax.stop_gradient(parameter - log_variance)
        follow = distance * (parameter - jax.lax.stop_gradient(parameter))
        terms = ElboTerms(log_likelihood, jnp.sum(kl_terms), kl_terms)
        return weighted(beta, terms.kl) - log_likelihood + follow, terms

    return loss_fn


def _log_variance_of(params: Params) -> Array:
    """Return the log-variance that the likelihood's head owns, a scalar."""
    parameter = part_of(params, "likelihood")
    if not isinstance(parameter, jax.Array) or parameter.ndim:
        raise TypeError(
            "optimal_variance_loss: the parameters of the likelihood are not one "
            "log-variance; build the VAE with "
            "likelihood=shared_variance_normal_head(min_log_variance=-math.inf, "
            "max_log_variance=math.inf)."
        )
    return parameter
