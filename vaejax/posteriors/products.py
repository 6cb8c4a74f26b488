"""Products of experts: one posterior from those of several parts of an example."""

import jax
import jax.numpy as jnp

from vaejax._checks import as_numbers, described
from vaejax._reals import at_least_single
from vaejax.base import Array
from vaejax.distributions import Normal


def product_of_normals(experts: Normal, mask: Array | None = None) -> Normal:
    """Return the Normal whose density is proportional to the product of K others.

    Its precision is the sum of theirs, and its mean their mean weighted by precision:
    1 / v = sum_k 1 / v_k, mean = v sum_k mean_k / v_k.

    Args:
      experts: one `Normal` whose leaves have a leading axis, `[K, *event]`. The prior
        is one of them where it takes part in the product.
      mask: `[K]`, true for the experts that take part; all by default. Without any the
        result has infinite variance and mean 0: let the prior be an expert that always
        takes part.

    Returns:
      The product, over `[*event]`.

    Raises:
      TypeError: `experts` is no `Normal`.
      ValueError: `mean` and `log_variance` differ in shape, or `mask` is not `[K]`.

    Example:
      >>> import jax.numpy as jnp
      >>> import vaejax
      >>> experts = vaejax.Normal(jnp.array([[0.0], [3.0]]), jnp.zeros((2, 1)))
      >>> product = vaejax.posteriors.product_of_normals(experts)
      >>> product.mean.tolist(), round(float(jnp.exp(product.log_variance)[0]), 3)
      ([1.5], 0.5)

    Source: Hinton 2002, section 1; for posteriors Wu & Goodman 2018, section 2.2.
    """
    if not isinstance(experts, Normal):
        raise TypeError(
            f"product_of_normals: experts is {described(experts)}; give one Normal "
            "whose leaves have a leading axis, [K, *event]."
        )
    means = at_least_single(as_numbers("product_of_normals: mean", experts.mean))
    log_precisions = -at_least_single(
        as_numbers("product_of_normals: log_variance", experts.log_variance)
    )
    if jnp.shape(means) != jnp.shape(log_precisions) or jnp.ndim(means) < 1:
        raise ValueError(
            f"product_of_normals: mean has shape {jnp.shape(means)} and log_variance "
            f"{jnp.shape(log_precisions)}; give both as [K, *event]."
        )
    if mask is not None:
        if jnp.shape(mask) != jnp.shape(means)[:1]:
            raise ValueError(
                f"product_of_normals: mask has shape {jnp.shape(mask)} for "
                f"{jnp.shape(means)[0]} experts; give one entry for each."
            )
        taken = jnp.asarray(mask, bool).reshape(-1, *[1] * (jnp.ndim(means) - 1))
        log_precisions = jnp.where(taken, log_precisions, -jnp.inf)
        means = jnp.where(taken, means, 0)
    log_precision = jax.nn.logsumexp(log_precisions, axis=0)
    # The difference of two infinities, without any expert, would be NaN.
    total = jnp.where(log_precision == -jnp.inf, 0, log_precision)
    weights = jnp.exp(log_precisions - total[None])
    mean = jnp.sum(weights * means, axis=0)
    dtype = jnp.result_type(experts.mean)
    return Normal(mean.astype(dtype), -log_precision.astype(dtype))
