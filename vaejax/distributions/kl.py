"""Kullback-Leibler divergences in closed form."""

import jax
import jax.numpy as jnp

from vaejax.base import Array, Distribution
from vaejax.distributions._shared import (
    density_dtype,
    expm1_less,
    log_softmax,
    shape_of,
    standardized,
    with_parameters,
)
from vaejax.distributions.continuous import Normal
from vaejax.distributions.discrete import Bernoulli, Categorical


def _kl_normal(q: Normal, p: Normal) -> Array:
    # 1/2 sum [(mu_q - mu_p)^2 / v_p + v_q / v_p - 1 - log(v_q / v_p)]
    log_ratio = q.log_variance - p.log_variance
    shift = standardized(q.mean, p.mean, p.log_variance / 2)
    return 0.5 * jnp.sum(jnp.square(shift) + expm1_less(log_ratio))


def _kl_bernoulli(q: Bernoulli, p: Bernoulli) -> Array:
    one, zero = (
        _relative_entropy(
            jax.nn.log_sigmoid(sign * q.logits), jax.nn.log_sigmoid(sign * p.logits)
        )
        for sign in (1, -1)
    )
    return jnp.sum(one + zero)


def _kl_categorical(q: Categorical, p: Categorical) -> Array:
    return jnp.sum(_relative_entropy(log_softmax(q.logits), log_softmax(p.logits)))


def _relative_entropy(log_q: Array, log_p: Array) -> Array:
    """Return q log(q / p) + p - q of each class, whose sum over classes is the KL.

    No term is negative, so that small divergences keep their digits.
    """
    # q (exp(r) - 1 - r) for r = log(p / q), which overflows where r is large. A class
    # that q rules out adds p, whatever log(p / q) is.
    q, p = jnp.exp(log_q), jnp.exp(log_p)
    is_possible = q > 0
    log_ratio = jnp.where(is_possible, log_p - jnp.where(is_possible, log_q, 0), 0)
    is_near = is_possible & (jnp.abs(log_ratio) < 0.5)
    near, far = jnp.where(is_near, log_ratio, 0), jnp.where(is_near, 0, log_ratio)
    return jnp.where(is_near, q * expm1_less(near), p - q - q * far)


_CLOSED_FORMS = {
    Normal: _kl_normal,
    Bernoulli: _kl_bernoulli,
    Categorical: _kl_categorical,
}


def kl_divergence(q: Distribution, p: Distribution) -> Array:
    """Compute KL(q || p) = E_q[log q(z) - log p(z)] in closed form, in nats.

    It is summed over the event. For two Normals it is 1/2 sum [(mu_q - mu_p)^2 / v_p
    + v_q / v_p - log(v_q / v_p) - 1], which against N(0, I) is
    1/2 sum (mu^2 + sigma^2 - log sigma^2 - 1).

    Args:
      q: a Normal, Bernoulli or Categorical; a Joint of them, whose divergence is the
        sum over its parts; or a distribution of your own with a method
        `kl_divergence(p)`.
      p: a distribution of the same class, over events of the same shape.

    Returns:
      The divergence, a scalar.

    Raises:
      TypeError: no closed form is known for the pair.
      ValueError: the two are over events of different shape.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> q, p = (vaejax.Normal(jnp.full(2, mean), jnp.zeros(2)) for mean in (1.0, 0.0))
      >>> round(float(vaejax.kl_divergence(q, p)), 3)
      1.0

    Source: Kingma & Welling 2014, appendix B.
    """
    if hasattr(type(q), "kl_divergence"):
        return q.kl_divergence(p)
    if type(q) is not type(p) or type(q) not in _CLOSED_FORMS:
        raise TypeError(
            f"kl_divergence: no closed form for KL({type(q).__name__} || "
            f"{type(p).__name__}); "
            "estimate it from samples with kl_fn=vaejax.kl_monte_carlo."
        )
    q_shape, p_shape = shape_of(q), shape_of(p)
    if q_shape != p_shape and q_shape and p_shape:
        raise ValueError(
            f"kl_divergence: q has parameters of shape {q_shape} and p of {p_shape}; "
            "both must be over the same event (is latent_size the same on both sides?)."
        )
    shape, dtype = q_shape or p_shape, density_dtype(*jax.tree.leaves((q, p)))
    return _CLOSED_FORMS[type(q)](*(with_parameters(d, dtype, shape) for d in (q, p)))
