"""Entries of `TrainState.extra`."""

import jax
import jax.numpy as jnp

from vaejax.base import Array, PyTree
from vaejax.training.steps import TrainState


def _where(condition: Array, one: PyTree, other: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), one, other)


def _with_extra(state: TrainState, name: str, value: PyTree) -> TrainState:
    return state._replace(extra=dict(state.extra or {}) | {name: value})
