"""Nearest neighbors in a data set, in latent space or among the examples themselves."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vaejax._checks import check_count
from vaejax.base import Array


class NearestNeighbors(NamedTuple):
    """Nearest references of each query, the nearest first.

    Attributes:
      indices: `[queries, num]`, indices of the references.
      distances: `[queries, num]`, Euclidean distances.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.latent import NearestNeighbors
      >>> found = NearestNeighbors(jnp.array([[2, 0]]), jnp.array([[0.5, 1.0]]))
      >>> found.indices.shape
      (1, 2)
    """

    indices: Array
    distances: Array


def nearest_neighbors(
    queries: Array, references: Array, *, num: int = 1, batch_size: int = 1000
) -> NearestNeighbors:
    """Find the nearest references of each query by Euclidean distance, in batches.

    Give codes for neighbors in latent space, or the images themselves for neighbors
    among pixels; all axes after the first are flattened. If generated images are closer
    to their nearest training image than held-out images are, the model has memorized
    training data.

    Args:
      queries: `[queries, *dimensions]`.
      references: `[references, *dimensions]`.
      num: number of neighbors per query, at most the number of references.
      batch_size: number of queries that are mapped together.

    Returns:
      The `NearestNeighbors`.

    Raises:
      ValueError: a count is not a positive integer, the dimensions differ, or there are
        fewer than `num` references.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.latent import nearest_neighbors
      >>> references = jnp.array([[0.0, 0.0], [3.0, 4.0]])
      >>> found = nearest_neighbors(jnp.array([[3.0, 0.0]]), references, num=2)
      >>> found.indices.tolist(), found.distances.tolist()
      ([[0, 1]], [[3.0, 4.0]])
    """
    check_count("num", num)
    check_count("batch_size", batch_size)
    if queries.shape[1:] != references.shape[1:]:
        raise ValueError(
            f"nearest_neighbors: each query has shape {queries.shape[1:]} and each "
            f"reference {references.shape[1:]}; give the same."
        )
    if len(references) < num:
        raise ValueError(
            f"nearest_neighbors: num is {num} and there are {len(references)} "
            "references; give at least as many."
        )
    flat = references.reshape(len(references), -1)
    lengths = jnp.sum(jnp.square(flat), axis=1)

    def one(query: Array) -> NearestNeighbors:
        # |a - b|^2 = |a|^2 + |b|^2 - 2 a.b is a matrix product once it is mapped; the
        # distances of those found are computed exactly.
        _, indices = jax.lax.top_k(2 * (flat @ query) - lengths, num)
        distances = jnp.sqrt(jnp.sum(jnp.square(flat[indices] - query[None]), axis=1))
        order = jnp.argsort(distances)
        return NearestNeighbors(indices[order], distances[order])

    return jax.lax.map(one, queries.reshape(len(queries), -1), batch_size=batch_size)
