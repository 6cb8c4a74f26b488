"""Gaussian likelihood with the variance that is best for the batch."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from vaejax._checks import require
from vaejax.base import VAE, Array, Key, KlFn, Params
from vaejax.objectives.batching import _batch_means
from vaejax.objectives.elbo import ElboTerms
from vaejax.objectives.kl_estimators import kl_closed_form


def optimal_variance_loss(vae: VAE, kl_fn: KlFn = kl_closed_form) -> Callable:
    """A `loss_fn` of the negative ELBO whose one variance is the best for the batch:
    its mean squared error.

    D/2 (1 + log 2 pi v) + beta KL with v = mean over batch and dimensions of (x -
    mean)^2, D the dimensions of x. The gradient flows through v, so that no variance is
    learned. What v was is followed by the parameter of the vae's likelihood, which must
    be a `shared_variance_normal_head` without bounds: a pseudo-loss of value zero pulls
    it towards log v, and the trained model is evaluated with it. Give it a partition of
    its own, `optax.sgd(0.1)` for a moving average over ten batches.

    Returns:
      `(params, key, batch, *, beta=1.0) -> (loss, terms)`.

    Raises:
      TypeError: when called, the parameters hold no such log-variance.

    Source: Rybkin et al. 2021 (sigma-VAE), section 3.2.
    """

    def parts(params: Params, key: Key, x: Array) -> tuple[Array, Array]:
        """Squared error and KL of one example."""
        posterior, prior = vae.encode(params, x), vae.prior(params)
        z, log_posterior = require(posterior, "sample_and_log_prob")(key)
        squared_error = jnp.sum(jnp.square(require(vae.decode(params, z), "mean") - x))
        return squared_error, kl_fn(posterior, prior, z, log_posterior)

    def loss_fn(
        params: Params, key: Key, batch: Array, *, beta: float | Array = 1.0
    ) -> tuple[Array, ElboTerms]:
        parameter = params.get("likelihood") if isinstance(params, dict) else None
        if not isinstance(parameter, jax.Array) or parameter.ndim:
            raise TypeError(
                "optimal_variance: the vae's likelihood has not one log-variance for "
                "its parameter; build it with "
                "likelihood=shared_variance_normal_head(0.0, -math.inf, math.inf)."
            )
        squared_error, kl_terms = _batch_means(partial(parts, params), key, batch)
        num_dimensions = math.prod(batch.shape[1:])
        # An exact reconstruction would make it minus infinity.
        log_variance = jnp.log(jnp.maximum(squared_error / num_dimensions, 1e-12))
        log_likelihood = (
            -num_dimensions / 2 * (1 + math.log(2 * math.pi) + log_variance)
        )
        # Of value zero and of gradient (parameter - log v).
        distance = jax.lax.stop_gradient(parameter - log_variance)
        follow = distance * (parameter - jax.lax.stop_gradient(parameter))
        terms = ElboTerms(log_likelihood, jnp.sum(kl_terms), kl_terms)
        return beta * terms.kl - log_likelihood + follow, terms

    return loss_fn
