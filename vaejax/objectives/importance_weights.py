"""Importance weights of one example and their statistics.

The log-weights are log w = log p(x, z) - log q(z|x) with z ~ q(z|x), in nats.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_arrays,
    check_count,
    check_key,
    check_model,
    log_prob_of,
    sample_and_log_prob_of,
)
from vaejax._reals import at_least_single
from vaejax.base import VAE, Array, Distribution, Example, Key, KlFn, Latent, Params
from vaejax.objectives.kl_estimators import (
    kl_closed_form,
    kl_monte_carlo,
    kl_per_dimension,
    kl_per_level,
)


class IwaeTerms(NamedTuple):
    """Statistics of the importance weights behind a bound.

    Attributes:
      elbo: scalar, the mean log-weight, an estimate of the ELBO in nats; -inf where a
        weight is 0.
      effective_sample_size: scalar, (sum w)^2 / sum w^2, between 1 and the number of
        samples; 0 where all weights are 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.objectives import IwaeTerms
      >>> terms = IwaeTerms(jnp.float32(-105), effective_sample_size=jnp.float32(3.5))
      >>> float(terms.elbo)
      -105.0
    """

    elbo: Array
    effective_sample_size: Array


def log_weight(vae: VAE, params: Params, key: Key, x: Example) -> Array:
    """Draw one importance log-weight of one example, in nats.

    log w = log p(x|z) + log p(z) - log q(z|x) with z ~ q(z|x). E[w] = p(x), and
    E[log w] is the ELBO.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the sample of z.
      x: one example, without a batch axis.

    Returns:
      The scalar log w.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> vaejax.log_weight(vae, params, jax.random.key(1), x).shape
      ()

    Source: Burda et al. 2016, section 3.
    """
    check_model(vae, params)
    check_key(key)
    return log_weight_given_posterior(
        vae, params, key, x, vae.encode(params, x), vae.prior(params)
    )


def log_weight_given_posterior(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    posterior: Distribution,
    prior: Distribution,
    *,
    kl_fn: KlFn = kl_monte_carlo,
) -> Array:
    """Draw one importance log-weight from a posterior and a prior already computed.

    log w = log p(x|z) - KL term with z ~ q(z|x), in nats; with `kl_monte_carlo` it is
    the `log_weight`. Under `vmap` over keys, many samples share one encoding.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the sample of z.
      x: one example, without a batch axis.
      posterior: q(z|x), as `vae.encode(params, x)` returns it.
      prior: p(z), as `vae.prior(params)` returns it.
      kl_fn: estimator of the KL from the sample: `kl_monte_carlo`, or another with the
        same value.

    Returns:
      The scalar log w.

    Raises:
      ValueError: `kl_fn` is a closed form.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> posterior, prior = vae.encode(params, x), vae.prior(params)
      >>> log_w = vaejax.objectives.log_weight_given_posterior(
      ...     vae, params, jax.random.key(1), x, posterior, prior
      ... )
      >>> bool(log_w == vaejax.log_weight(vae, params, jax.random.key(1), x))
      True

    Source: Burda et al. 2016, section 3.
    """
    check_model(vae, params)
    check_key(key)
    check_arrays("x", x)
    z, log_posterior = sample_and_log_prob_of(posterior, key)
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
    """Return the log-weight of a given z with its log q(z|x)."""
    _check_kl_of_sample(kl_fn)
    log_likelihood = log_prob_of(vae.decode(params, z), x)
    kl_terms = kl_fn(posterior, prior, z, log_posterior)
    return at_least_single(log_likelihood) - jnp.sum(at_least_single(kl_terms))


def _check_kl_of_sample(kl_fn: KlFn) -> None:
    """Raise ValueError where the KL is a closed form, so that E[w] is not p(x)."""
    function = kl_fn
    while isinstance(function, partial):
        function = function.func
    if function in (kl_closed_form, kl_per_dimension, kl_per_level):
        raise ValueError(
            f"kl_fn is {function.__name__}, a mean over z, and importance weights need "
            "log q(z|x) - log p(z) of each sample; give kl_monte_carlo."
        )


def log_weights(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int,
    kl_fn: KlFn = kl_monte_carlo,
) -> Array:
    """Draw independent importance log-weights of one example, in nats.

    log w_i = log p(x, z_i) - log q(z_i|x) with z_i ~ q(z|x). The example is encoded
    once.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples of z.
      x: one example, without a batch axis.
      num_samples: number of samples, a positive integer; all are held at once.
      kl_fn: estimator of the KL from the sample: `kl_monte_carlo`, or another with the
        same value.

    Returns:
      `[num_samples]`, the log-weights.

    Raises:
      ValueError: `num_samples` is not a positive integer, or `kl_fn` is a closed form.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> vaejax.objectives.log_weights(
      ...     vae, params, jax.random.key(1), x, num_samples=4
      ... ).shape
      (4,)

    Source: Burda et al. 2016, section 3.
    """
    check_model(vae, params)
    check_key(key)
    check_count("num_samples", num_samples)
    posterior, prior = vae.encode(params, x), vae.prior(params)
    keys = jax.random.split(key, num_samples)
    return jax.vmap(
        lambda key: log_weight_given_posterior(
            vae, params, key, x, posterior, prior, kl_fn=kl_fn
        )
    )(keys)


def _log_mean_exp(log_weights: Array) -> Array:
    """Return log 1/k sum_i exp(log_weights_i) over the last axis.

    Where all weights are 0 it is -inf, with gradient 0.
    """
    all_zero = _all_zero(log_weights)
    log_sum = jax.nn.logsumexp(jnp.where(all_zero, 0, log_weights), axis=-1)
    return jnp.where(all_zero[..., 0], -jnp.inf, log_sum) - math.log(
        log_weights.shape[-1]
    )


def _shares(log_weights: Array) -> Array:
    """Return w_i / sum_j w_j over the last axis; 0 where all weights are 0."""
    all_zero = _all_zero(log_weights)
    return jnp.where(all_zero, 0, jax.nn.softmax(jnp.where(all_zero, 0, log_weights)))


def _all_zero(log_weights: Array) -> Array:
    return jnp.all(log_weights == -jnp.inf, axis=-1, keepdims=True)


def _iwae_terms(log_weights: Array) -> IwaeTerms:
    """Return the terms of log-weights `[k]`; of `[groups, k]`, the mean over groups."""
    squares = jnp.sum(jnp.square(_shares(log_weights)), axis=-1)
    sizes = jnp.where(squares == 0, 0, 1 / jnp.where(squares == 0, 1, squares))
    return IwaeTerms(jnp.mean(log_weights), jnp.mean(sizes))
