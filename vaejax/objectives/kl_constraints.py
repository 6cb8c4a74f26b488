"""Losses of batch means that keep the KL above a minimum or near a target."""

import jax.numpy as jnp

from vaejax._checks import check_weights
from vaejax._reals import symmetric_abs
from vaejax.base import Array
from vaejax.objectives.elbo import ElboTerms


def free_bits_loss(
    means: ElboTerms, *, minimum: float | Array, beta: float | Array = 1.0
) -> Array:
    """Negative ELBO in which each latent group may carry `minimum` nats at no cost.

    -log_likelihood + beta sum_j max(minimum, KL_j) of batch means, in nats. Below the
    minimum a group has no gradient of the KL, so the optimizer gains nothing by
    emptying it. With `kl_per_dimension` the groups are the dimensions of z; with
    `kl_closed_form` there is one group, all of z. Use it as `combine` of
    `loss_of_means`.

    Args:
      means: the terms of the ELBO, averaged over a batch.
      minimum: free nats per group, at least 0; may be traced.
      beta: weight of the KL, at least 0; may be traced.

    Returns:
      The scalar loss.

    Raises:
      ValueError: `minimum` or `beta` is negative or not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.objectives import ElboTerms, free_bits_loss
      >>> means = ElboTerms(jnp.float32(-80), jnp.float32(6), jnp.array([5.0, 1.0]))
      >>> float(free_bits_loss(means, minimum=2.0))
      87.0

    Source: Kingma et al. 2016, equation 15.
    """
    check_weights("free_bits_loss", minimum=minimum, beta=beta)
    return beta * jnp.sum(jnp.maximum(means.kl_terms, minimum)) - means.log_likelihood


def capacity_loss(
    means: ElboTerms, *, target: float | Array, gamma: float | Array
) -> Array:
    """Negative log-likelihood with a penalty on the distance of the KL from a target.

    -log_likelihood + gamma |KL - target| of batch means, in nats. The KL is pulled to
    the target from above and below. The paper raises the target linearly during
    training, from 0 to 25 or 50 nats, with gamma 100 or 1,000; both may be schedules.
    Use it as `combine` of `loss_of_means`.

    Args:
      means: the terms of the ELBO, averaged over a batch.
      target: the KL to reach, in nats, at least 0; may be traced.
      gamma: weight of the distance, at least 0; may be traced.

    Returns:
      The scalar loss.

    Raises:
      ValueError: `target` or `gamma` is negative or not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.objectives import ElboTerms, capacity_loss
      >>> means = ElboTerms(jnp.float32(-80), jnp.float32(6), jnp.array([5.0, 1.0]))
      >>> float(capacity_loss(means, target=10.0, gamma=100.0))
      480.0

    Source: Burgess et al. 2018, equation 8.
    """
    check_weights("capacity_loss", target=target, gamma=gamma)
    # At its target the KL has no gradient.
    return gamma * symmetric_abs(means.kl - target) - means.log_likelihood
