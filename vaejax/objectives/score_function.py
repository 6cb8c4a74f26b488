"""Bounds of models whose latents are not reparameterized: binary ones, for example.

The gradient of the encoder is E_q[f(z) d log q(z|x)], estimated from samples whose
bounds f(z) stand in as baselines of one another. Each objective is `(vae, params, key,
x, *, num_samples) -> (loss, terms)` for one example: its value is the bound, its
gradient an unbiased estimate of the bound's.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_count,
    check_key,
    check_model,
    log_prob_of,
    require,
    sample_and_log_prob_of,
)
from vaejax._reals import at_least_single
from vaejax.base import VAE, Array, Distribution, Example, Key, Latent, Params
from vaejax.distributions import Bernoulli
from vaejax.objectives.doubly_reparameterized import _log_joint
from vaejax.objectives.elbo import ElboTerms
from vaejax.objectives.importance_weights import (
    IwaeTerms,
    _iwae_terms,
    _log_mean_exp,
    _shares,
)


def negative_reinforce(
    vae: VAE, params: Params, key: Key, x: Example, *, num_samples: int
) -> tuple[Array, ElboTerms]:
    """Negative ELBO of one example with the REINFORCE leave-one-out gradient, in nats.

    The value is the mean of -f(z_k), f = log p(x, z) - log q(z|x), over K samples of
    q(z|x). The encoder's gradient of the ELBO is

      1/K sum_k [f(z_k) - 1/(K - 1) sum_{j != k} f(z_j)] d log q(z_k|x),

    where the other samples are the baseline; decoder and prior have the mean of
    d log p(x, z_k). No sample is differentiated, so latents of any kind will do.

    Args:
      vae: the model; its posterior needs a `log_prob`.
      params: its parameters.
      key: decides the samples of z; all are held at once.
      x: one example, without a batch axis.
      num_samples: K, at least 2.

    Returns:
      The scalar loss and its `ElboTerms`, which carry no gradient.

    Raises:
      ValueError: `num_samples` is below 2.
      TypeError: the posterior has no `log_prob`, or its densities and the prior's
        cannot be compared.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.models.bernoulli_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> loss, terms = vaejax.objectives.negative_reinforce(
      ...     vae, params, jax.random.key(1), x, num_samples=4
      ... )
      >>> loss.shape, bool(jnp.allclose(loss, terms.kl - terms.log_likelihood))
      ((), True)

    Source: Kool et al. 2019, equation 8; for VAEs Mnih & Rezende 2016, section 2.
    """
    _check("negative_reinforce", vae, params, key, num_samples)
    found = _draw_fixed("negative_reinforce", vae, params, key, x, num_samples)
    signal = found.log_weight - jnp.mean(found.log_weight)
    signal *= num_samples / (num_samples - 1)
    signal = jax.lax.stop_gradient(_finite_or_zero(signal))
    surrogate = jnp.mean(signal * found.log_posterior)
    return _negative_elbo(found, surrogate)


def negative_disarm(
    vae: VAE, params: Params, key: Key, x: Example, *, num_samples: int
) -> tuple[Array, ElboTerms]:
    """Negative ELBO of one example with the DisARM gradient of binary latents, in nats.

    The samples come in antithetic pairs, b = [1 - u < s(l)] and b' = [u < s(l)] for
    the logits l of q(z|x), s the logistic function and u uniform for each dimension.
    With f = log p(x, z) - log q(z|x), a pair's gradient of the ELBO to the logit i is

      1/2 [f(b) - f(b')] (b_i - b'_i) s(|l_i|),

    which is 0 where the two agree; decoder and prior have the mean of d log p(x, z).
    The loss is the mean of -f over all samples.

    Args:
      vae: the model; its posterior must be a `Bernoulli`.
      params: its parameters.
      key: decides the samples of z; all are held at once.
      x: one example, without a batch axis.
      num_samples: the number of samples, even: two for each pair.

    Returns:
      The scalar loss and its `ElboTerms`, which carry no gradient.

    Raises:
      ValueError: `num_samples` is not a positive even integer.
      TypeError: the posterior is no `Bernoulli`, or the prior is a density in space.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.models.bernoulli_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> loss, terms = vaejax.objectives.negative_disarm(
      ...     vae, params, jax.random.key(1), x, num_samples=4
      ... )
      >>> loss.shape, bool(jnp.allclose(loss, terms.kl - terms.log_likelihood))
      ((), True)

    Source: Dong et al. 2020, equation 7; the same as U2G of Yin et al. 2020.
    """
    _check("negative_disarm", vae, params, key, num_samples)
    if num_samples % 2:
        raise ValueError(
            f"negative_disarm: num_samples is {num_samples}; give an even number, two "
            "samples for each pair."
        )
    posterior = vae.encode(params, x)
    if not isinstance(posterior, Bernoulli):
        raise TypeError(
            f"negative_disarm: the posterior is {type(posterior).__name__}; give a "
            "model whose posterior is a Bernoulli, such as bernoulli_vae, or take "
            "negative_reinforce."
        )
    logits = at_least_single(posterior.logits)
    mean = jax.nn.sigmoid(jax.lax.stop_gradient(logits))[None]
    uniform = jax.random.uniform(key, (num_samples // 2, *logits.shape), mean.dtype)
    # Both have the mean of the posterior, since u is in [0, 1) and 1 - u in (0, 1].
    pairs = jnp.stack([1 - uniform <= mean, uniform < mean])
    zs = pairs.reshape(num_samples, *logits.shape).astype(posterior.logits.dtype)
    found = _log_densities(vae, params, posterior, zs, x)
    first, second = found.log_weight.reshape(2, num_samples // 2)
    half = (first - second).reshape((-1,) + (1,) * logits.ndim) / 2
    differs = pairs[0].astype(mean.dtype) - pairs[1].astype(mean.dtype)
    gradient = half * differs * jax.nn.sigmoid(jnp.abs(logits))[None]
    gradient = jax.lax.stop_gradient(_finite_or_zero(jnp.mean(gradient, axis=0)))
    return _negative_elbo(found, jnp.sum(gradient * logits))


def negative_vimco(
    vae: VAE, params: Params, key: Key, x: Example, *, num_samples: int
) -> tuple[Array, IwaeTerms]:
    """Negative IWAE bound of one example with the VIMCO gradient, in nats.

    The value is that of `negative_iwae`, -L with L = log 1/K sum_k w_k. With
    v_k = w_k / sum_j w_j, the gradient of L is

      sum_k [L - L_{-k}] d log q(z_k|x) + sum_k v_k d log w_k  at fixed samples,

    where the baseline L_{-k} is L with w_k replaced by the geometric mean of the other
    weights. No sample is differentiated, so latents of any kind will do.

    Args:
      vae: the model; its posterior needs a `log_prob`.
      params: its parameters.
      key: decides the samples of z; all are held at once.
      x: one example, without a batch axis.
      num_samples: K, at least 2.

    Returns:
      The scalar loss and its `IwaeTerms`, which carry no gradient.

    Raises:
      ValueError: `num_samples` is below 2.
      TypeError: the posterior has no `log_prob`, or its densities and the prior's
        cannot be compared.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.models.bernoulli_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> loss, terms = vaejax.objectives.negative_vimco(
      ...     vae, params, jax.random.key(1), x, num_samples=4
      ... )
      >>> loss.shape, bool(-loss >= terms.elbo)
      ((), True)

    Source: Mnih & Rezende 2016, equations 8 to 10.
    """
    _check("negative_vimco", vae, params, key, num_samples)
    found = _draw_fixed("negative_vimco", vae, params, key, x, num_samples)
    stop = jax.lax.stop_gradient
    weights = stop(found.log_weight)
    bound, baselines = _log_mean_exp(weights), _log_mean_exp(_without_each(weights))
    # A baseline may be any number, as long as its own sample does not decide it.
    signal = bound - jnp.where(baselines == -jnp.inf, 0, baselines)
    signal = jnp.where(bound == -jnp.inf, 0, signal)
    shares = _shares(weights)
    # A weight of 0 has no gradient; 0 times its logarithm would be NaN.
    surrogates = jnp.where(shares == 0, 0, shares * found.log_weight)
    surrogate = jnp.sum(stop(signal) * found.log_posterior + surrogates)
    return stop(surrogate) - surrogate - bound, _iwae_terms(weights)


class _LogDensities(NamedTuple):
    """Log-densities of samples that are held fixed, `[samples]` each."""

    log_likelihood: Array
    log_prior: Array
    log_posterior: Array

    @property
    def log_weight(self) -> Array:
        return self.log_likelihood - (self.log_posterior - self.log_prior)


def _draw_fixed(
    name: str, vae: VAE, params: Params, key: Key, x: Example, num_samples: int
) -> _LogDensities:
    """Return log-densities of samples of q(z|x), which must have a `log_prob`."""
    posterior = vae.encode(params, x)
    remedy = f"{name} differentiates log q(z|x); give a posterior that has it"
    require(posterior, "log_prob", remedy)
    keys = jax.random.split(key, num_samples)
    zs = jax.vmap(lambda key: sample_and_log_prob_of(posterior, key)[0])(keys)
    return _log_densities(vae, params, posterior, zs, x)


def _log_densities(
    vae: VAE, params: Params, posterior: Distribution, zs: Latent, x: Example
) -> _LogDensities:
    def of_sample(z: Latent) -> _LogDensities:
        log_likelihood, log_prior, z = _log_joint(vae, params, posterior, z, x)
        log_posterior = at_least_single(log_prob_of(posterior, z))
        return _LogDensities(log_likelihood, log_prior, log_posterior)

    return jax.vmap(of_sample)(jax.lax.stop_gradient(zs))


def _negative_elbo(found: _LogDensities, surrogate: Array) -> tuple[Array, ElboTerms]:
    """Return the negative ELBO whose encoder has the gradient of the surrogate."""
    stop = jax.lax.stop_gradient
    log_likelihood = jnp.mean(stop(found.log_likelihood))
    kl = jnp.mean(stop(found.log_posterior - found.log_prior))
    surrogate += jnp.mean(found.log_likelihood + found.log_prior)
    surrogate = _finite_or_zero(surrogate)
    return stop(surrogate) - surrogate + kl - log_likelihood, ElboTerms(
        log_likelihood, kl, kl[None]
    )


def _finite_or_zero(values: Array) -> Array:
    """Return values, and 0 where an infinite loss leaves no finite ones."""
    return jnp.where(jnp.isfinite(values), values, 0)


def _without_each(log_weights: Array) -> Array:
    """Return `[k, k]`: row i with log w_i replaced by the mean of the others."""
    num = len(log_weights)
    is_own = jnp.eye(num, dtype=bool)
    rows = jnp.broadcast_to(log_weights[None], (num, num))
    mean = jnp.sum(jnp.where(is_own, 0, rows), axis=1, keepdims=True) / (num - 1)
    return jnp.where(is_own, mean, rows)


def _check(name: str, vae: VAE, params: Params, key: Key, num_samples: int) -> None:
    check_model(vae, params)
    check_key(key)
    check_count("num_samples", num_samples)
    if num_samples < 2:
        raise ValueError(
            f"{name}: num_samples is {num_samples}; give at least 2, since each sample "
            "is measured against the others."
        )
