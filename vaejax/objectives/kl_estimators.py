"""Estimators of the KL term of the ELBO."""

import jax
import jax.numpy as jnp

from vaejax._checks import require
from vaejax.base import Array, Distribution, Latent
from vaejax.distributions.continuous import Normal
from vaejax.distributions.kl import kl_divergence


def kl_closed_form(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """KL(q(z|x) || p(z)) in closed form, as one term: `[1]`. TypeError where none is
    known (see `kl_divergence`).
    """
    del z, log_posterior
    return kl_divergence(posterior, prior)[None]


def kl_monte_carlo(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """The estimate log q(z|x) - log p(z) of the KL from the sample z, as one term:
    `[1]`. For any distributions.
    """
    del posterior
    return (log_posterior - require(prior, "log_prob")(z))[None]


def kl_sticking_the_landing(
    posterior: Distribution, prior: Distribution, z: Latent, log_posterior: Array
) -> Array:
    """`kl_monte_carlo` whose gradient leaves out the score d log q(z|x) / d phi at
    fixed z: sticking the landing.

    The value is the same, and so is the expected gradient of the ELBO, since the
    score's expectation is zero. The gradient that is left, through z alone, vanishes
    sample by sample where q(z|x) = p(z|x). Within an importance-weighted bound of more
    than one sample it is biased: take `vaejax.negative_dreg` there.

    Raises:
      TypeError: the posterior has no `log_prob`.

    Source: Roeder et al. 2017 (path derivative); the bias: Tucker et al. 2019.
    """
    # The value comes from the noise of z, which (z - mean) / stddev would round off;
    # the gradient from the path.
    path = require(jax.lax.stop_gradient(posterior), "log_prob")(z)
    log_posterior = (
        jax.lax.stop_gradient(log_posterior) + path - jax.lax.stop_gradient(path)
    )
    return kl_monte_carlo(posterior, prior, z, log_posterior)


def kl_per_dimension(
    posterior: Normal, prior: Normal, z: Latent, log_posterior: Array
) -> Array:
    """KL(q(z|x) || p(z)) of independent dimensions in closed form, one term each:
    `[*z]` flattened.

    Raises:
      TypeError: the two are not Normals.
    """
    del z, log_posterior
    if not (isinstance(posterior, Normal) and isinstance(prior, Normal)):
        raise TypeError(
            f"kl_per_dimension: the posterior is {type(posterior).__name__} and the "
            f"prior {type(prior).__name__}; it "
            "takes two Normals. kl_closed_form and kl_monte_carlo give the sum."
        )
    flat = [
        jax.tree.map(lambda leaf, d=d: jnp.broadcast_to(leaf, d.mean.shape).ravel(), d)
        for d in (posterior, prior)
    ]
    return jax.vmap(kl_divergence)(*flat)
