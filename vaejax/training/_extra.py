"""Entries of `TrainState.extra`, the dict of what step modifiers keep."""

import jax
import jax.numpy as jnp

from vaejax.base import Array, PyTree
from vaejax.training.steps import TrainState


def with_extra(state: TrainState, name: str, value: PyTree) -> TrainState:
    """Return the state with one entry of `extra` set, the others kept."""
    return state._replace(extra=dict(state.extra or {}) | {name: value})


def select(condition: Array, one: PyTree, other: PyTree) -> PyTree:
    """Return `one` where the condition holds and `other` elsewhere, leaf by leaf."""
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)
