"""Kullback-Leibler divergences in closed form."""

from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from vaejax.base import Array, Distribution
from vaejax.distributions._shared import (
    density_dtype,
    expm1_less,
    inverse_scale,
    log_softmax,
    shape_of,
    standardized,
    with_parameters,
)
from vaejax.distributions.continuous import Normal
from vaejax.distributions.discrete import Bernoulli, Categorical
from vaejax.distributions.multivariate import MultivariateNormal


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


def _kl_multivariate(q: MultivariateNormal, p: MultivariateNormal) -> Array:
    between = solve_triangular(p.scale_tril, jnp.tril(q.scale_tril), lower=True)
    shift = solve_triangular(p.scale_tril, q.mean - p.mean, lower=True)
    return _kl_of_standardized(shift, between)


def _kl_multivariate_normal(q: MultivariateNormal, p: Normal) -> Array:
    scale = inverse_scale(p.log_variance / 2)
    between = jnp.tril(q.scale_tril) * jnp.broadcast_to(scale, q.mean.shape)[:, None]
    return _kl_of_standardized((q.mean - p.mean) * scale, between)


def _kl_normal_multivariate(q: Normal, p: MultivariateNormal) -> Array:
    stddev = jnp.broadcast_to(jnp.exp(q.log_variance / 2), p.mean.shape)
    return _kl_multivariate(
        MultivariateNormal(jnp.broadcast_to(q.mean, p.mean.shape), jnp.diag(stddev)), p
    )


def _kl_of_standardized(shift: Array, factor: Array) -> Array:
    """Return KL(N(shift, M M^T) || N(0, I)) for a lower-triangular M, the factor."""
    # 1/2 [|shift|^2 + sum_(i>j) M_ij^2 + sum_i (M_ii^2 - 1 - log M_ii^2)]: no term is
    # negative, so that small divergences keep their digits.
    log_squares = 2 * jnp.log(jnp.abs(jnp.diagonal(factor)))
    off_diagonal = jnp.sum(jnp.square(jnp.tril(factor, -1)))
    return 0.5 * (
        jnp.sum(jnp.square(shift)) + off_diagonal + jnp.sum(expm1_less(log_squares))
    )


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
    (Normal, Normal): _kl_normal,
    (Bernoulli, Bernoulli): _kl_bernoulli,
    (Categorical, Categorical): _kl_categorical,
    (MultivariateNormal, MultivariateNormal): _kl_multivariate,
    (MultivariateNormal, Normal): _kl_multivariate_normal,
    (Normal, MultivariateNormal): _kl_normal_multivariate,
}


def kl_divergence(q: Distribution, p: Distribution) -> Array:
    """Compute KL(q || p) = E_q[log q(z) - log p(z)] in closed form, in nats.

    It is summed over the event. For two Normals it is 1/2 sum [(mu_q - mu_p)^2 / v_p
    + v_q / v_p - log(v_q / v_p) - 1], which against N(0, I) is
    1/2 sum (mu^2 + sigma^2 - log sigma^2 - 1).

    Args:
      q: a Normal, MultivariateNormal, Bernoulli, Categorical or VonMisesFisher; a Joint
        of them, whose divergence is the sum over its parts; a distribution
        `from_numpyro`; or one of your own with a method `kl_divergence(p)`.
      p: a distribution of the same class, or the other kind of Normal, over events of
        the same shape; for a VonMisesFisher the UniformSphere too.

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
        return cast(Any, q).kl_divergence(p)
    if (type(q), type(p)) not in _CLOSED_FORMS:
        of_levels = (
            "take a term per level with kl_fn=vaejax.objectives.kl_per_level, or "
            if hasattr(q, "kl_per_level")
            else ""
        )
        raise TypeError(
            f"kl_divergence: no closed form for KL({type(q).__name__} || "
            f"{type(p).__name__}); {of_levels}"
            "estimate it from samples with kl_fn=vaejax.kl_monte_carlo."
        )
    q_shape, p_shape = _parameter_shape(q), _parameter_shape(p)
    if q_shape != p_shape and q_shape and p_shape:
        raise ValueError(
            f"kl_divergence: q has parameters of shape {q_shape} and p of {p_shape}; "
            "both must be over the same event (is latent_size the same on both sides?)."
        )
    shape, dtype = q_shape or p_shape, density_dtype(*jax.tree.leaves((q, p)))
    closed_form = _CLOSED_FORMS[type(q), type(p)]
    return closed_form(*(with_parameters(d, dtype, shape) for d in (q, p)))


def _parameter_shape(distribution: Any) -> tuple[int, ...]:
    if isinstance(distribution, MultivariateNormal):
        return jnp.shape(distribution.mean)
    return shape_of(distribution)
