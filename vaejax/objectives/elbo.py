"""The evidence lower bound (ELBO) of one example and its two terms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_count,
    check_key,
    check_model,
    check_weights,
    log_prob_of,
    sample_and_log_prob_of,
)
from vaejax._reals import at_least_single
from vaejax.base import VAE, Array, Example, Key, KlFn, Params
from vaejax.objectives._numbers import weighted
from vaejax.objectives.kl_estimators import kl_closed_form


class ElboTerms(NamedTuple):
    """Terms of the evidence lower bound in nats: ELBO = log_likelihood - kl.

    Attributes:
      log_likelihood: scalar, E_q[log p(x|z)], estimated from the samples of z.
      kl: scalar, KL(q(z|x) || p(z)), the sum of `kl_terms`.
      kl_terms: `[groups]`, one entry per latent group.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax import ElboTerms
      >>> terms = ElboTerms(jnp.float32(-80), jnp.float32(25), jnp.array([20.0, 5.0]))
      >>> float(terms.log_likelihood - terms.kl)
      -105.0
    """

    log_likelihood: Array
    kl: Array
    kl_terms: Array


def elbo_terms(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    num_samples: int = 1,
    kl_fn: KlFn = kl_closed_form,
) -> ElboTerms:
    """Estimate both terms of the ELBO of one example, in nats.

    E_q(z|x)[log p(x|z)] and KL(q(z|x) || p(z)), each the mean over `num_samples` draws
    of z from q(z|x).

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples of z.
      x: one example, without a batch axis.
      num_samples: number of samples of z, a positive integer.
      kl_fn: estimator of the KL term.

    Returns:
      The `ElboTerms` of the example.

    Raises:
      ValueError: `num_samples` is not a positive integer.
      TypeError: no closed form of the KL is known for this posterior and prior.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> terms = vaejax.elbo_terms(
      ...     vae, params, jax.random.key(1), x, kl_fn=vaejax.kl_per_dimension
      ... )
      >>> terms.kl.shape, terms.kl_terms.shape
      ((), (2,))

    Source: Kingma & Welling 2014, equation 3.
    """
    check_model(vae, params)
    check_key(key)
    check_count("num_samples", num_samples)
    posterior, prior = vae.encode(params, x), vae.prior(params)

    def terms(key: Key) -> tuple[Array, Array]:
        z, log_posterior = sample_and_log_prob_of(posterior, key)
        log_likelihood = log_prob_of(vae.decode(params, z), x)
        kl_terms = kl_fn(posterior, prior, z, log_posterior)
        return at_least_single(log_likelihood), at_least_single(kl_terms)

    keys = jax.random.split(key, num_samples)
    if num_samples == 1:
        # An axis of one sample would cost a fifth of a training step on CPU.
        log_likelihood, kl_terms = terms(keys[0])
    else:
        log_likelihood, kl_terms = jax.tree.map(
            lambda leaf: jnp.mean(leaf, axis=0), jax.vmap(terms)(keys)
        )
    return ElboTerms(log_likelihood, jnp.sum(kl_terms), kl_terms)


def negative_elbo(
    vae: VAE,
    params: Params,
    key: Key,
    x: Example,
    *,
    beta: float | Array = 1.0,
    num_samples: int = 1,
    kl_fn: KlFn = kl_closed_form,
) -> tuple[Array, ElboTerms]:
    """Negative evidence lower bound (ELBO) of one example, in nats.

    -E_q(z|x)[log p(x|z)] + beta KL(q(z|x) || p(z)), which is at least -log p(x) in
    expectation at beta = 1. Every other value of beta gives the beta-VAE objective.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples of z.
      x: one example, without a batch axis.
      beta: weight of the KL, at least 0; may be traced, as a schedule is.
      num_samples: number of samples of z that are averaged, a positive integer.
      kl_fn: estimator of the KL term. The closed form by default; `kl_monte_carlo`
        takes any pair of distributions.

    Returns:
      The scalar loss and its `ElboTerms`, which do not depend on beta.

    Raises:
      ValueError: `num_samples` is not a positive integer, or `beta` is negative or not
        finite.
      TypeError: no closed form of the KL is known for this posterior and prior.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import vaejax
      >>> vae = vaejax.gaussian_vae(
      ...     latent_size=2, encoder=vaejax.MLP((8,)), decoder=vaejax.MLP((8,), (3,))
      ... )
      >>> x = jnp.ones(3)
      >>> params = vae.init(jax.random.key(0), x)
      >>> loss, terms = vaejax.negative_elbo(
      ...     vae, params, jax.random.key(1), x, beta=4.0
      ... )
      >>> loss.shape, bool(jnp.allclose(loss, 4 * terms.kl - terms.log_likelihood))
      ((), True)

    Source: Kingma & Welling 2014, equations 3 and 10; beta: Higgins et al. 2017,
    equation 4.
    """
    check_weights("negative_elbo", beta=beta)
    terms = elbo_terms(vae, params, key, x, num_samples=num_samples, kl_fn=kl_fn)
    return weighted(beta, terms.kl) - terms.log_likelihood, terms
