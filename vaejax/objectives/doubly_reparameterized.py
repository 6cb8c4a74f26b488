"""Importance-weighted bound with doubly reparameterized gradients."""

from functools import partial

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_count,
    check_in_range,
    check_key,
    check_model,
    log_prob_of,
    require,
    sample_and_log_prob_of,
)
from vaejax._reals import at_least_single
from vaejax._supports import check_densities
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Example,
    Key,
    Latent,
    Latents,
    Params,
    complete_by_prior,
)
from vaejax.objectives.importance_weights import (
    IwaeTerms,
    _iwae_terms,
    _log_mean_exp,
    _shares,
)


def negative_dreg(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int,
    alpha: float | Array = 0.0,
) -> tuple[Array, IwaeTerms]:
    """Negative IWAE bound with doubly reparameterized gradients of the encoder.

    The value is that of `negative_iwae`, in nats. With v_i = w_i / sum_j w_j and
    log q(z|x) at fixed encoder parameters phi, the encoder's gradient of the bound is

      sum_i [alpha v_i + (1 - 2 alpha) v_i^2] (d log w_i / d z_i) (d z_i / d phi);

    decoder and prior have the IWAE's, sum_i v_i d log w_i / d theta.

    alpha = 0 (IWAE-DReG) is an unbiased gradient of the same bound; its signal-to-noise
    ratio grows with the number of samples, while that of the plain gradient falls.
    alpha = 1 (RWS-DReG) is the gradient of reweighted wake-sleep, which minimizes
    KL(p(z|x) || q(z|x)). alpha = 1/2 is half of sticking the landing. All of them
    vanish for every sample where q(z|x) = p(z|x). Parameters that encoder and decoder
    share get the sum of both gradients. Under `jit` each sample is decoded once and
    differentiated twice, by z and by the parameters. The terms carry no gradient.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples of z; all are held at once.
      x: one example, without a batch axis.
      num_samples: k, a positive integer.
      alpha: weight of the wake-sleep gradient, in [0, 1]; may be traced.

    Returns:
      The scalar loss and its `IwaeTerms`.

    Raises:
      ValueError: `num_samples` is not a positive integer, or `alpha` is outside [0, 1].
      TypeError: the posterior has no `log_prob`, z is hierarchical and the prior has no
        `complete`, or the densities of posterior and prior cannot be compared.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> key = jax.random.key(1)
      >>> loss, terms = vaejax.objectives.negative_dreg(
      ...     vae, params, key, x, num_samples=4
      ... )
      >>> iwae, _ = vaejax.negative_iwae(vae, params, key, x, num_samples=4)
      >>> loss.shape, bool(jnp.allclose(loss, iwae))
      ((), True)

    Source: Tucker et al. 2019 (IWAE-DReG, RWS-DReG).
    """
    check_model(vae, params)
    check_key(key)
    check_count("num_samples", num_samples)
    check_in_range("negative_dreg: alpha", alpha, 0, 1)
    stop, posterior = jax.lax.stop_gradient, vae.encode(params, x)
    remedy = "negative_dreg differentiates log q(z|x) by z; use negative_iwae"
    require(posterior, "log_prob", remedy)
    keys = jax.random.split(key, num_samples)
    zs, log_posteriors = jax.vmap(partial(sample_and_log_prob_of, posterior))(keys)

    def log_weight_of_sample(z: Latent) -> Array:
        log_likelihood, log_prior, z = _log_joint(vae, stop(params), posterior, z, x)
        log_posterior = at_least_single(log_prob_of(stop(posterior), z))
        return log_likelihood - (log_posterior - log_prior)

    def log_joint_of_params(z: Latent) -> tuple[Array, Array]:
        return _log_joint(vae, params, posterior, stop(z), x)[:2]

    by_sample = jax.vmap(log_weight_of_sample)(zs)
    log_likelihoods, log_priors = jax.vmap(log_joint_of_params)(zs)
    weights = log_likelihoods - (at_least_single(log_posteriors) - log_priors)
    weights = stop(weights)
    shares, alpha = _shares(weights), jnp.asarray(alpha, weights.dtype)
    factors = stop(shares * (alpha + (1 - 2 * alpha) * shares))
    surrogates = factors * by_sample + shares * (log_likelihoods + log_priors)
    # A weight of 0 has no gradient; 0 times its logarithm would be NaN.
    surrogate = jnp.sum(jnp.where(shares == 0, 0, surrogates))
    return stop(surrogate) - surrogate - _log_mean_exp(weights), _iwae_terms(weights)


def _log_joint(
    vae: VAE, params: Params, posterior: Distribution, z: Latent, x: Example
) -> tuple[Array, Array, Latent]:
    """Return log p(x|z), log p(z), and z itself.

    The path of a hierarchical z is rebuilt, so that it depends on these parameters.
    """
    prior = vae.prior(params)
    check_densities("log p(z) - log q(z|x)", posterior, prior, z)
    if isinstance(z, Latents):
        z = complete_by_prior(prior, z, z.values)
    log_likelihood = log_prob_of(vae.decode(params, z), x)
    log_prior = log_prob_of(prior, z)
    return at_least_single(log_likelihood), at_least_single(log_prior), z
