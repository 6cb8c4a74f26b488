"""One posterior draw per example of a batch: what losses of a whole batch share."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import (
    check_batch,
    check_key,
    check_model,
    log_prob_of,
    sample_and_log_prob_of,
)
from vaejax._reals import at_least_single
from vaejax.base import (
    VAE,
    Array,
    Distribution,
    Key,
    KlFn,
    Latent,
    Params,
    PyTree,
    batch_size_of,
)
from vaejax.objectives.elbo import ElboTerms


class Draws(NamedTuple):
    """One posterior draw per example; every leaf has the leading axis `[batch]`.

    Attributes:
      posterior: q(z|x).
      z: a sample of it.
      log_posterior: log q(z|x) of the sample, in nats.
      log_likelihood: log p(x|z) of the sample, in nats.
    """

    posterior: Distribution
    z: Latent
    log_posterior: Array
    log_likelihood: Array


def draw_batch(vae: VAE, params: Params, key: Key, batch: PyTree) -> Draws:
    """Encode, draw and decode each example with the noise of `mean_over_batch`."""
    check_model(vae, params)
    check_key(key)
    check_batch(batch)

    def one(key: Key, x: PyTree) -> Draws:
        posterior = vae.encode(params, x)
        # `elbo_terms` splits an example's key into one per sample; so does this.
        z, log_posterior = sample_and_log_prob_of(
            posterior, jax.random.split(key, 1)[0]
        )
        log_likelihood = log_prob_of(vae.decode(params, z), x)
        return Draws(
            posterior,
            z,
            at_least_single(log_posterior),
            at_least_single(log_likelihood),
        )

    return jax.vmap(one)(jax.random.split(key, batch_size_of(batch)), batch)


def mean_elbo_terms(draws: Draws, prior: Distribution, kl_fn: KlFn) -> ElboTerms:
    """Return the terms of the ELBO, averaged over a batch already drawn."""

    def kl_terms_of(draw: Draws) -> Array:
        return at_least_single(kl_fn(draw.posterior, prior, draw.z, draw.log_posterior))

    kl_terms = jnp.mean(jax.vmap(kl_terms_of)(draws), axis=0)
    return ElboTerms(jnp.mean(draws.log_likelihood), jnp.sum(kl_terms), kl_terms)
