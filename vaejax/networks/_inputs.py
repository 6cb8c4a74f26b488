"""Conversion of inputs of networks to floating point."""

import jax.numpy as jnp

from vaejax.base import Array


def integers_as_single(x: Array) -> Array:
    """Return integers and bools as float32, and other inputs unchanged."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)
