"""Arithmetic that the objectives share: precision of sums, and products with 0."""

import jax.numpy as jnp

from vaejax.base import Array


def at_least_single(values: Array) -> Array:
    """Return values of half precision in single precision, and all others as they are.

    Log-densities of some hundred nats have 2 to 3 digits in half precision, which sums
    and means of them would lose.
    """
    dtype = jnp.result_type(values)
    if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
        return jnp.asarray(values, jnp.float32)
    return values


def weighted(weight: float | Array, value: Array) -> Array:
    """Return weight * value; at weight 0 an infinite value counts as 0."""
    if isinstance(weight, int | float) and weight != 0:
        return weight * value
    # The value, not the product, is replaced: the derivative by the weight stays.
    return weight * jnp.where((weight == 0) & jnp.isinf(value), 0, value)
