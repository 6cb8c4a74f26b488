"""Nearest neighbors in a data set."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_count
from vaejax.base import Array


class NearestNeighbors(NamedTuple):
    """The nearest references of each query, the nearest first.

    Attributes:
      indices: `[queries, num]`, into the references.
      distances: `[queries, num]`, Euclidean.
    """

    indices: Array
    distances: Array


def nearest_neighbors(
    queries: Array, references: Array, num: int = 1, *, batch_size: int = 1000
) -> NearestNeighbors:
    """The `num` nearest `references` of each of `queries`, by Euclidean distance,
    computed in batches.

    In latent space give codes, in pixel space the images themselves: axes after the
    first are flattened. Generated images whose nearest training image is closer than
    that of held-out images are memorized.

    Args:
      queries: `[queries, *dimensions]`.
      references: `[references, *dimensions]`.
      num: neighbors each.
      batch_size: queries at once.

    Raises:
      ValueError: the dimensions differ, or there are fewer than `num` references.
    """
    check_count("num", num)
    check_count("batch_size", batch_size)
    if queries.shape[1:] != references.shape[1:]:
        raise ValueError(
            f"nearest: queries are of shape {queries.shape[1:]} each and references of "
            f"{references.shape[1:]}; "
            "give the same."
        )
    if len(references) < num:
        raise ValueError(
            f"nearest: {num} neighbors of {len(references)} references; give at least "
            "as many."
        )
    flat = references.reshape(len(references), -1)
    lengths = jnp.sum(jnp.square(flat), axis=1)

    def one(query: Array) -> NearestNeighbors:
        # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b: a matrix product once it is mapped. The few
        # found are measured exactly.
        _, indices = jax.lax.top_k(2 * (flat @ query) - lengths, num)
        distances = jnp.sqrt(jnp.sum(jnp.square(flat[indices] - query[None]), axis=1))
        order = jnp.argsort(distances)
        return NearestNeighbors(indices[order], distances[order])

    return jax.lax.map(one, queries.reshape(len(queries), -1), batch_size=batch_size)
