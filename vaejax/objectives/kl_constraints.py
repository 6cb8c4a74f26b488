"""Losses that keep the KL term near a floor or a target."""

import jax.numpy as jnp

from vaejax.base import Array
from vaejax.objectives.elbo import ElboTerms


def free_bits_loss(
    means: ElboTerms, *, minimum: float | Array, beta: float | Array = 1.0
) -> Array:
    """-log_likelihood + beta sum_j max(minimum, KL_j) of batch means: a `combine` for
    `loss_of_means`, in nats.

    Each latent group may carry `minimum` nats at no cost, so that the optimizer gains
    nothing by emptying it. With `kl_per_dimension` the groups are the dimensions of z;
    with `kl_closed_form` there is one, all of z.

    Source: Kingma et al. 2016, equation 15.
    """
    return beta * jnp.sum(jnp.maximum(means.kl_terms, minimum)) - means.log_likelihood


def capacity_loss(
    means: ElboTerms, *, target: float | Array, gamma: float | Array
) -> Array:
    """-log_likelihood + gamma |KL - target| of batch means: a `combine` for
    `loss_of_means`, in nats.

    The KL is pulled to `target` nats from above and below; the paper raises the target
    in a straight line while it trains, from 0 to 25 or 50, with gamma 100 or 1,000.
    Both may be schedules.

    Source: Burgess et al. 2018, equation 8.
    """
    return gamma * jnp.abs(means.kl - target) - means.log_likelihood
