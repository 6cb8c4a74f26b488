"""Kullback-Leibler divergences in closed form."""

import jax
import jax.numpy as jnp

from vaejax.base import Array, Distribution
from vaejax.distributions.continuous import Normal
from vaejax.distributions.discrete import Bernoulli, Categorical


def _kl_normal(q: Normal, p: Normal) -> Array:
    # 1/2 sum [(mu_q - mu_p)^2 / v_p + v_q / v_p - 1 - log(v_q / v_p)]; expm1 keeps the
    # last three exact where v_q ~ v_p.
    log_ratio = q.log_variance - p.log_variance
    squared_shift = jnp.square(q.mean - p.mean) * jnp.exp(-p.log_variance)
    return 0.5 * jnp.sum(squared_shift + jnp.expm1(log_ratio) - log_ratio)


def _kl_bernoulli(q: Bernoulli, p: Bernoulli) -> Array:
    # sum [q (l_q - l_p) + log sigmoid(-l_q) - log sigmoid(-l_p)]
    log_odds = q.mean * (q.logits - p.logits)
    return jnp.sum(
        log_odds + jax.nn.log_sigmoid(-q.logits) - jax.nn.log_sigmoid(-p.logits)
    )


def _kl_categorical(q: Categorical, p: Categorical) -> Array:
    log_q, log_p = jax.nn.log_softmax(q.logits), jax.nn.log_softmax(p.logits)
    # A class that q rules out adds nothing, whatever p says of it.
    return jnp.sum(jnp.exp(log_q) * jnp.where(log_q > -jnp.inf, log_q - log_p, 0))


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
      q: a Normal, Bernoulli or Categorical.
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
    if type(q) is not type(p) or type(q) not in _CLOSED_FORMS:
        raise TypeError(
            f"kl_divergence: no closed form for KL({type(q).__name__} || "
            f"{type(p).__name__}); "
            "estimate it from samples with kl_fn=vaejax.kl_monte_carlo."
        )
    q_shapes, p_shapes = (
        [jnp.shape(leaf) for leaf in jax.tree.leaves(d)] for d in (q, p)
    )
    if any(a != b and a and b for a, b in zip(q_shapes, p_shapes, strict=True)):
        raise ValueError(
            f"kl_divergence: q has parameters of shape {q_shapes} and p of {p_shapes}; "
            "both must be over the same event (is latent_size the same on both sides?)."
        )
    return _CLOSED_FORMS[type(q)](q, p)
