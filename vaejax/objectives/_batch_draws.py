"""One posterior draw per example of a batch."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import require
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
    """One draw for each example of a batch; every leaf has the leading axis `[batch]`.

    Attributes:
      posterior: q(z|x).
      z: drawn from it.
      log_posterior, log_likelihood: log q(z|x) and log p(x|z), in nats.
    """

    posterior: Distribution
    z: Latent
    log_posterior: Array
    log_likelihood: Array


def draw_batch(vae: VAE, params: Params, key: Key, batch: PyTree) -> Draws:
    """Each example encoded, drawn from and decoded, with the noise of `mean_over_batch`
    of the negative ELBO.
    """

    def one(key: Key, x: PyTree) -> Draws:
        posterior = vae.encode(params, x)
        # `elbo_terms` splits an example's key into one a sample, and draws one sample
        # by default.
        z, log_posterior = require(posterior, "sample_and_log_prob")(
            jax.random.split(key, 1)[0]
        )
        return Draws(
            posterior, z, log_posterior, require(vae.decode(params, z), "log_prob")(x)
        )

    return jax.vmap(one)(jax.random.split(key, batch_size_of(batch)), batch)


def mean_elbo_terms(draws: Draws, prior: Distribution, kl_fn: KlFn) -> ElboTerms:
    """The terms of the ELBO of a batch already drawn, averaged over it."""

    def kl_terms_of(draw: Draws) -> Array:
        return kl_fn(draw.posterior, prior, draw.z, draw.log_posterior)

    kl_terms = jnp.mean(jax.vmap(kl_terms_of)(draws), axis=0)
    return ElboTerms(jnp.mean(draws.log_likelihood), jnp.sum(kl_terms), kl_terms)
