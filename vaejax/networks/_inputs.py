"""Conversion of inputs of networks to floating point."""

import jax
import jax.numpy as jnp

from vaejax._checks import described
from vaejax.base import Array


def integers_as_single(x: Array) -> Array:
    """Return integers and bools as float32, and other inputs unchanged."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jnp.inexact) else x.astype(jnp.float32)


def as_vector(name: str, x: Array) -> Array:
    """Return an array as one vector, integers and bools as float32.

    TypeError for a pytree; `name` is what the message calls the network.
    """
    if not jax.tree_util.all_leaves([x]):
        raise TypeError(
            f"{name}: the input is {described(x)}; give one array, such as the images "
            "of a Dataset, or a network that joins the arrays."
        )
    return integers_as_single(jnp.ravel(x))
