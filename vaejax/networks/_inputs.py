"""Inputs of networks: their conversion to floating point, and what does not fit."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError

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


@contextmanager
def naming_condition(name: str, condition: Array) -> Iterator[None]:
    """Name the condition in the error of a network whose parameters do not fit."""
    try:
        yield
    except ValueError as error:
        if not isinstance(error.__cause__, ScopeParamShapeError):
            raise
        raise ValueError(
            f"{name}: the input with the condition, {described(condition)}, does not "
            "fit the parameters; give a condition of the shape that `init` saw, such "
            "as jax.nn.one_hot(label, num_classes) for a class, and x or z without a "
            "batch axis."
        ) from error
