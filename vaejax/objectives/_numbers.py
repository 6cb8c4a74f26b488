"""Arithmetic that the objectives share: products with a weight of 0."""

import jax.numpy as jnp

from vaejax.base import Array


def weighted(weight: float | Array, value: Array) -> Array:
    """Return weight * value; at weight 0 an infinite value counts as 0."""
    if isinstance(weight, int | float) and weight != 0:
        return weight * value
    # The value, not the product, is replaced: the derivative by the weight stays.
    return weight * jnp.where((weight == 0) & jnp.isinf(value), 0, value)
