"""Objectives made of many importance weights, and estimators of their gradients:
functions of one example.

Each is `(vae, params, key, x, *, num_samples, ...) -> (loss, IwaeTerms)` in nats, of
log-weights log w = log p(x, z) - log q(z|x) with z ~ q(z|x), and goes through
`vaejax.mean_over_batch` as `negative_elbo` does.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_count, require
from vaejax.base import VAE, Array, Distribution, Example, Key, KlFn, Latent, Params
from vaejax.objectives.kl_estimators import kl_monte_carlo


class IwaeTerms(NamedTuple):
    """What an importance-weighted bound is made of.

    Attributes:
      elbo: the mean log-weight, an estimate of the ELBO in nats.
      effective_sample_size: (sum w)^2 / sum w^2, between 1 and the number of samples.
    """

    elbo: Array
    effective_sample_size: Array


def log_weight(vae: VAE, params: Params, key: Key, x: Example) -> Array:
    """log w = log p(x|z) + log p(z) - log q(z|x) with z ~ q(z|x), in nats; E[w] = p(x),
    and E[log w] is the ELBO.

    Source: Burda et al. 2016, section 3.
    """
    return log_weight_given_posterior(
        vae, params, vae.encode(params, x), vae.prior(params), key, x
    )


def log_weight_given_posterior(
    vae: VAE,
    params: Params,
    posterior: Distribution,
    prior: Distribution,
    key: Key,
    x: Example,
    kl_fn: KlFn = kl_monte_carlo,
) -> Array:
    """`log_weight` from a posterior and a prior already computed, so that many samples
    share one encoding.
    """
    z, log_posterior = require(posterior, "sample_and_log_prob")(key)
    return _log_weight_at(vae, params, posterior, prior, z, log_posterior, x, kl_fn)


def _log_weight_at(
    vae: VAE,
    params: Params,
    posterior: Distribution,
    prior: Distribution,
    z: Latent,
    log_posterior: Array,
    x: Example,
    kl_fn: KlFn = kl_monte_carlo,
) -> Array:
    """`log_weight` of a z that was drawn already, with log q(z|x)."""
    log_likelihood = require(vae.decode(params, z), "log_prob")(x)
    return log_likelihood - jnp.sum(kl_fn(posterior, prior, z, log_posterior))


def log_weights(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int,
    kl_fn: KlFn = kl_monte_carlo,
) -> Array:
    """`[num_samples]` independent log-weights of one example, in nats, from one
    encoding; see `log_weight`.

    Raises:
      ValueError: `num_samples` is not a positive integer.
    """
    check_count("num_samples", num_samples)
    posterior, prior = vae.encode(params, x), vae.prior(params)
    keys = jax.random.split(key, num_samples)
    return jax.vmap(
        lambda key: log_weight_given_posterior(
            vae, params, posterior, prior, key, x, kl_fn
        )
    )(keys)


def negative_iwae(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int,
    kl_fn: KlFn = kl_monte_carlo,
) -> tuple[Array, IwaeTerms]:
    """-log 1/k sum_{i<=k} w_i, the importance-weighted bound of one example, in nats;
    at k = 1 the negative ELBO.

    All k samples are held at once; `vaejax.log_marginal` evaluates the same bound in
    chunks. The weights need an estimate of the KL from the sample itself:
    `kl_monte_carlo`, or another with its value.

    Raises:
      ValueError: `num_samples` is not a positive integer.

    Source: Burda et al. 2016, equation 8.
    """
    weights = log_weights(vae, params, key, x, num_samples=num_samples, kl_fn=kl_fn)
    return -_log_mean_exp(weights), _iwae_terms(weights)


def _log_mean_exp(log_weights: Array) -> Array:
    """log 1/k sum_i exp(log_weights_i) over the last axis."""
    return jax.nn.logsumexp(log_weights, axis=-1) - math.log(log_weights.shape[-1])


def _iwae_terms(log_weights: Array) -> IwaeTerms:
    """Of `[k]` log-weights; of `[groups, k]`, the mean over groups."""
    sizes = 1 / jnp.sum(jnp.square(jax.nn.softmax(log_weights)), axis=-1)
    return IwaeTerms(jnp.mean(log_weights), jnp.mean(sizes))


def negative_miwae(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_groups: int,
    num_samples: int,
    mixing: float | Array = 0.0,
    kl_fn: KlFn = kl_monte_carlo,
) -> tuple[Array, IwaeTerms]:
    """-[(1 - mixing) 1/M sum_m log 1/K sum_k w_mk + mixing 1/(MK) sum_mk log w_mk], of
    M groups of K samples.

    M = 1 is the IWAE of K samples, K = 1 the ELBO of M; `mixing` takes CIWAE's way from
    the one to the other. More samples in a group tighten the bound and drown the
    encoder's gradient in noise; more groups only average.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples; all M K are held at once.
      x: one example.
      num_groups: M.
      num_samples: K, of each group.
      mixing: weight of the ELBO, in [0, 1]; may be traced.
      kl_fn: as in `negative_iwae`.

    Returns:
      The loss, and the terms with the effective sample size of a group.

    Raises:
      ValueError: a count is not a positive integer.

    Source: Rainforth et al. 2018, section 5 (MIWAE, CIWAE).
    """
    check_count("num_groups", num_groups)
    check_count("num_samples", num_samples)
    weights = log_weights(
        vae, params, key, x, num_samples=num_groups * num_samples, kl_fn=kl_fn
    )
    weights = weights.reshape(num_groups, num_samples)
    bound = (1 - mixing) * jnp.mean(_log_mean_exp(weights)) + mixing * jnp.mean(weights)
    return -bound, _iwae_terms(weights)


def negative_piwae(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_groups: int,
    num_samples: int,
    kl_fn: KlFn = kl_monte_carlo,
) -> tuple[Array, IwaeTerms]:
    """The IWAE of all M K samples for decoder and prior, the MIWAE of M groups for the
    encoder.

    The value is the former, -log 1/(MK) sum w_mk; every sample is decoded twice. Each
    part of the model has the gradient of the bound that serves it: the tightest one the
    decoder, one of fewer samples, whose gradient is less noisy, the encoder.

    Raises:
      ValueError: a count is not a positive integer.

    Source: Rainforth et al. 2018, section 5 (PIWAE).
    """
    check_count("num_groups", num_groups)
    check_count("num_samples", num_samples)
    stop, posterior = jax.lax.stop_gradient, vae.encode(params, x)
    samples = jax.vmap(require(posterior, "sample_and_log_prob"))(
        jax.random.split(key, num_groups * num_samples)
    )

    def weights(
        params: Params, posterior: Distribution, samples: tuple[Latent, Array]
    ) -> Array:
        prior = vae.prior(params)
        one = partial(_log_weight_at, vae, params, posterior, prior, x=x, kl_fn=kl_fn)
        return jax.vmap(one)(*samples).reshape(num_groups, num_samples)

    for_decoder = weights(params, stop(posterior), stop(samples))
    encoder_loss = -jnp.mean(_log_mean_exp(weights(stop(params), posterior, samples)))
    loss = -_log_mean_exp(for_decoder.ravel()) + encoder_loss - stop(encoder_loss)
    return loss, _iwae_terms(for_decoder)


def negative_renyi(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int,
    alpha: float | Array,
    kl_fn: KlFn = kl_monte_carlo,
) -> tuple[Array, IwaeTerms]:
    """-1/(1 - alpha) log 1/k sum_i w_i^(1 - alpha): the variational Renyi bound, in
    nats.

    alpha = 1 is the ELBO (the limit), alpha = 0 the IWAE. Below 0 it may exceed log
    p(x) in expectation as the samples grow, and alpha -> -inf takes the largest weight
    alone (VR-max).

    Raises:
      ValueError: `num_samples` is not a positive integer.

    Source: Li & Turner 2016, section 4.1.
    """
    weights = log_weights(vae, params, key, x, num_samples=num_samples, kl_fn=kl_fn)
    order = 1 - jnp.asarray(alpha, weights.dtype)
    center = jnp.mean(weights)
    powers = order * (weights - center)
    # Near alpha = 1, expm1 and log1p keep the digits that the logarithm of a mean near
    # 1 would lose. All branches are finite, so that the gradients of those not taken
    # are too.
    is_near = jnp.max(jnp.abs(powers)) < 0.1
    near = jnp.log1p(jnp.mean(jnp.expm1(jnp.where(is_near, powers, 0))))
    far = _log_mean_exp(jnp.where(is_near, 0, powers))
    away = jnp.where(order == 0, 1, order)
    return -(center + jnp.where(is_near, near, far) / away), _iwae_terms(weights)
