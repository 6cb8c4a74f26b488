"""What training minimizes: functions of one example, `(vae, params, key, x, *, options)
-> (loss, terms)`, in nats.

`mean_over_batch` turns one into the `loss_fn(params, key, batch)` that training takes;
an objective that is not a mean of per-example losses (free bits, a capacity) goes
through `loss_of_means`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_count, require
from vaejax.base import VAE, Array, Example, Key, KlFn, Params
from vaejax.objectives.kl_estimators import kl_closed_form


class ElboTerms(NamedTuple):
    """The two sides of the bound, in nats: ELBO = log_likelihood - kl.

    Attributes:
      log_likelihood: E_q[log p(x|z)], estimated from the samples.
      kl: KL(q(z|x) || p(z)), the sum of `kl_terms`.
      kl_terms: `[groups]`, one entry a latent group.
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
    """Both terms of the ELBO of one example, each the mean over `num_samples` draws of
    z; see `negative_elbo`.
    """
    check_count("num_samples", num_samples)
    posterior, prior = vae.encode(params, x), vae.prior(params)

    def terms(key: Key) -> tuple[Array, Array]:
        z, log_posterior = require(posterior, "sample_and_log_prob")(key)
        log_likelihood = require(vae.decode(params, z), "log_prob")(x)
        return log_likelihood, kl_fn(posterior, prior, z, log_posterior)

    keys = jax.random.split(key, num_samples)
    if num_samples == 1:
        # Without an axis of one sample, which would cost a fifth of a training step on
        # CPU.
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
    """-E_q(z|x)[log p(x|z)] + beta KL(q(z|x) || p(z)) >= -log p(x) at beta = 1, for one
    example, in nats.

    Args:
      vae: the model.
      params: its parameters.
      key: decides the samples of z.
      x: one example, without a batch axis.
      beta: weight of the KL; may be traced, as a schedule is. 1 is the bound, another
        value beta-VAE.
      num_samples: samples of z to average over; exactly that many.
      kl_fn: how the KL is computed. Closed form by default; `kl_monte_carlo` for any
        pair of distributions.

    Returns:
      The loss and its `ElboTerms`, which do not depend on beta.

    Raises:
      ValueError: `num_samples` is not a positive integer.
      TypeError: no closed form is known for this posterior and prior.

    Source: Kingma & Welling 2014, equations 3 and 10; beta: Higgins et al. 2017,
    equation 4.
    """
    terms = elbo_terms(vae, params, key, x, num_samples=num_samples, kl_fn=kl_fn)
    return beta * terms.kl - terms.log_likelihood, terms
