"""Nearest neighbors in a data set, in latent space or among the examples themselves."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from vaejax._checks import as_numbers, check_count
from vaejax._reals import difference, middle, real_dtype, to_device
from vaejax.base import Array

# Candidates beyond those asked for, among which products order neighbors.
_MORE = 8
# References compared with a batch of queries at a time.
_ROWS_AT_ONCE = 4096


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
    queries: ArrayLike, references: ArrayLike, *, num: int = 1, batch_size: int = 1000
) -> NearestNeighbors:
    """Find the nearest references of each query by Euclidean distance, in batches.

    Give codes for neighbors in latent space, or the images themselves for neighbors
    among pixels; all axes after the first are flattened. If generated images are closer
    to their nearest training image than held-out images are, the model has memorized
    training data.

    Arrays are JAX's or NumPy's, of booleans, integers or floating point; differences
    are taken in float32 at least. A copy of a reference is its neighbor at distance 0;
    of equal distances the first reference is the nearer one. NaN is the furthest.

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
    queries = as_numbers("nearest_neighbors: queries", queries)
    references = as_numbers("nearest_neighbors: references", references)
    if np.shape(queries)[1:] != np.shape(references)[1:]:
        raise ValueError(
            f"nearest_neighbors: each query has shape {np.shape(queries)[1:]} and each "
            f"reference {np.shape(references)[1:]}; give the same."
        )
    if np.shape(references)[0] < num:
        raise ValueError(
            f"nearest_neighbors: num is {num} and there are {np.shape(references)[0]} "
            f"references, of shape {np.shape(references)}; give at least as many."
        )
    queries, references = to_device(queries, references)
    return _search(
        queries.reshape(len(queries), math.prod(queries.shape[1:])),
        references.reshape(len(references), math.prod(references.shape[1:])),
        num=num,
        batch_size=batch_size,
    )


@partial(jax.jit, static_argnames=("num", "batch_size"))
def _search(
    queries: Array, references: Array, *, num: int, batch_size: int
) -> NearestNeighbors:
    """Find neighbors among `[references, dimensions]`, a batch of queries at a time."""
    if not len(queries):
        return NearestNeighbors(
            jnp.zeros((0, num), jnp.int32),
            jnp.zeros((0, num), real_dtype(queries.dtype)),
        )
    num_batches = -(-len(queries) // batch_size)
    size = -(-len(queries) // num_batches)
    indices = jnp.minimum(jnp.arange(num_batches * size), len(queries) - 1)
    batches = queries[indices].reshape(num_batches, size, queries.shape[1])
    center = middle(references)
    scale = _scale_of(queries, references, center)
    away = partial(_away, scale)

    def one(batch: Array) -> NearestNeighbors:
        found, is_certain = _by_products(batch, references, center, num, away)
        # Rows that crowd further from the center than float32 tells apart.
        return jax.lax.cond(
            is_certain,
            lambda: found,
            lambda: _by_differences(batch, references, num, away),
        )

    found = jax.lax.map(one, batches)
    found = found._replace(distances=found.distances * scale)
    return jax.tree.map(lambda leaf: leaf.reshape(-1, num)[: len(queries)], found)


def _scale_of(queries: Array, references: Array, center: Array) -> Array:
    """Return 1, or the power of 2 by which no square is infinite or 0."""
    largest = jnp.maximum(_largest(queries, center), _largest(references, center))
    one = jnp.ones((), largest.dtype)
    is_large = (largest > 2.0**30) & jnp.isfinite(largest)
    is_small = (largest < 2.0**-30) & (largest > 0)
    is_extreme = is_large | is_small
    _, exponent = jnp.frexp(jnp.where(is_extreme, largest, one))
    # One that a power of 2 has: neither infinite nor subnormal.
    exponent = jnp.maximum(exponent - 1, jnp.finfo(largest.dtype).minexp + 26)
    return jnp.where(is_extreme, jnp.ldexp(one, exponent), one)


def _largest(rows: Array, center: Array) -> Array:
    """Return the largest distance of a value from the center of its dimension."""
    # The ends of each dimension, since all differences would be another copy.
    ends = jnp.stack([jnp.nanmin(rows, axis=0), jnp.nanmax(rows, axis=0)])
    distances = jnp.abs(difference(ends, center[None]))
    return jnp.max(distances, initial=0, where=~jnp.isnan(distances))


def _away(scale: Array, first: Array, second: Array) -> Array:
    return difference(first, second) / scale


def _by_products(
    queries: Array,
    references: Array,
    center: Array,
    num: int,
    away: Callable[[Array, Array], Array],
) -> tuple[NearestNeighbors, Array]:
    """Find neighbors by matrix products, and whether they are certainly all.

    |a - b|^2 = |a|^2 + |b|^2 - 2 a.b of centered rows, less a bound on its rounding
    error, selects candidates; their distances are then computed from differences.
    """
    num_candidates = min(num + _MORE, len(references))
    centered = away(queries, center[None])
    unit = jnp.finfo(centered.dtype).eps / 2
    size = queries.shape[1]
    # The error of a sum of n terms is at most n units, and sqrt(n) by order.
    share = 2 * unit * min(size + 6, 8 * (math.sqrt(size) + 1))
    lengths = jnp.sum(jnp.square(centered), axis=1)

    def lowest(rows: Array) -> Array:
        others = away(rows, center[None])
        squares = lengths[:, None] + jnp.sum(jnp.square(others), axis=1)[None]
        products = jnp.matmul(centered, others.T, precision=jax.lax.Precision.HIGHEST)
        return (1 - share) * squares - 2 * products

    bounds, indices = _smallest(lowest, queries, references, num_candidates + 1)
    candidates = jnp.sort(indices[:, :-1], axis=1)
    squares = jnp.sum(
        jnp.square(away(queries[:, None], references[candidates])), axis=2
    )
    order = jnp.argsort(squares, axis=1)[:, :num]
    squares = jnp.take_along_axis(squares, order, axis=1)
    # NaN, which is no distance, needs no second look.
    is_certain = jnp.all(~(squares[:, -1] >= bounds[:, -1]))
    return NearestNeighbors(
        jnp.take_along_axis(candidates, order, axis=1), jnp.sqrt(squares)
    ), is_certain


def _by_differences(
    queries: Array,
    references: Array,
    num: int,
    away: Callable[[Array, Array], Array],
) -> NearestNeighbors:
    """Find neighbors by the differences of all pairs."""

    def squares(rows: Array) -> Array:
        return jnp.sum(jnp.square(away(queries[:, None], rows[None])), axis=2)

    found, indices = _smallest(squares, queries, references, num)
    return NearestNeighbors(indices, jnp.sqrt(found))


def _smallest(
    function: Callable[[Array], Array], queries: Array, references: Array, num: int
) -> tuple[Array, Array]:
    """Return the smallest values over all references and their indices, `[., num]`.

    Of `[queries, rows]` values only those of one block of references exist at a time.
    """
    rows = min(_ROWS_AT_ONCE, len(references))
    dtype = real_dtype(references.dtype)
    last = jnp.finfo(dtype).max

    def add(best: tuple[Array, Array], block: Array) -> tuple[tuple, None]:
        start = jnp.minimum(block * rows, len(references) - rows)
        values = function(jax.lax.dynamic_slice_in_dim(references, start, rows))
        indices = start + jnp.arange(rows, dtype=jnp.int32)
        # NaN is further than any number; rows of the block before count once.
        values = jnp.where(jnp.isnan(values), last, jnp.minimum(values, last))
        values = jnp.where(indices[None] < block * rows, jnp.inf, values)
        values = jnp.concatenate([best[0], values], axis=1)
        indices = jnp.concatenate(
            [best[1], jnp.broadcast_to(indices, (len(queries), rows))], axis=1
        )
        smallest, places = jax.lax.top_k(-values, num)
        return (-smallest, jnp.take_along_axis(indices, places, axis=1)), None

    best = (
        jnp.full((len(queries), num), jnp.inf, dtype),
        jnp.zeros((len(queries), num), jnp.int32),
    )
    num_blocks = -(-len(references) // rows)
    best, _ = jax.lax.scan(add, best, jnp.arange(num_blocks, dtype=jnp.int32))
    return best
