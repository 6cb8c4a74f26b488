"""Rows of a table: one distribution over columns of different kinds, and its head.

Columns of one kind are a group, which computes as one vector however many there are.
Everything is in the units of the file: what scaling a network wants is in the head and
in `row_features`.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import as_numbers, check_key
from vaejax._supports import require_support
from vaejax.base import Array, Distribution, Event, Key, Support
from vaejax.columns import MaskedEvent
from vaejax.distributions._shared import SampleThenLogProb, density_dtype
from vaejax.distributions.affine import Affine
from vaejax.distributions.cells import LogNormal, Ordinal, RoundedNormal
from vaejax.distributions.discrete import Bernoulli, Categorical


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["distributions"],
    meta_fields=["positions"],
)
@dataclasses.dataclass(frozen=True)
class Mixed(SampleThenLogProb):
    """Distribution of a row of a table, whose columns are independent and of any kind.

    log p(x) is the sum over the observed cells of the log-probability or log-density of
    each by its own column's distribution. `mixed_head` builds it. An event is a row
    `[D]`, all of which is observed, or a `MaskedEvent`; what stands in a missing cell
    changes nothing. Classes are their indices. A draw is a complete row `[D]`.

    `mean` holds the expected value of each cell, for a class the index of the likeliest
    one, as in `mode`.

    Attributes:
      distributions: one per group of columns of a kind and size. Every leaf has the
        columns of the group as its leading axis.
      positions: for each group the places of its columns in the row, `0 ... D - 1`.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import Column, MaskedEvent, mixed_head
      >>> head = mixed_head([Column("binary"), Column("class", num_classes=4)])
      >>> row = head.apply((), jnp.zeros(head.num_outputs))
      >>> round(float(row.log_prob(jnp.array([1.0, 3.0]))), 3)  # log(1/2) + log(1/4)
      -2.079
      >>> missing = MaskedEvent(jnp.array([1.0, 3.0]), jnp.array([True, False]))
      >>> round(float(row.log_prob(missing)), 3)
      -0.693

    Source: Nazabal et al. 2020 (HI-VAE), on heterogeneous likelihoods and on
    incomplete data.
    """

    distributions: tuple[Distribution, ...]
    positions: tuple[tuple[int, ...], ...]

    def log_prob(self, event: Event) -> Array:
        # Without the order of the columns, which the sum does not need.
        sums = [jnp.sum(log_probs) for log_probs in self._group_log_probs(event)]
        return jnp.sum(jnp.stack(sums))

    def column_log_probs(self, event: Event) -> Array:
        """Return the log-probability of each cell, `[D]`; 0 where it is missing."""
        return self._in_order(self._group_log_probs(event))

    def sample(self, key: Key) -> Array:
        check_key(key)
        keys = jax.random.split(key, len(self.distributions))
        return self._in_order(
            [
                distribution.sample(key)
                for distribution, key in zip(self.distributions, keys, strict=True)
            ]
        )

    @property
    def mean(self) -> Array:
        return self._in_order(
            [
                each.mode if isinstance(each, Categorical) else each.mean
                for each in self.distributions
            ]
        )

    @property
    def mode(self) -> Array:
        return self._in_order([each.mode for each in self.distributions])

    @property
    def support(self) -> Support:
        """The rows with mass, judged cell by cell: arrays `[..., D]`."""
        return Support("values of the kind of each column", self._contains)

    def _contains(self, x: Any) -> Any:
        is_inside = np.ones(np.shape(x), bool)
        for distribution, places in self._groups():
            cells = np.asarray(x)[..., list(places)]
            is_inside[..., list(places)] = _support_of_cells(distribution, cells)
        return is_inside

    def _groups(self) -> list[tuple[Distribution, tuple[int, ...]]]:
        return list(zip(self.distributions, self.positions, strict=True))

    def _group_log_probs(self, event: Event) -> list[Array]:
        num_columns = sum(map(len, self.positions))
        values, mask = values_and_mask("Mixed.log_prob: the event", event, num_columns)
        return [
            _cell_log_probs(
                distribution,
                cells_of(values, places),
                None if mask is None else cells_of(mask, places),
            )
            for distribution, places in self._groups()
        ]

    def _in_order(self, of_groups: Sequence[Array]) -> Array:
        dtype = density_dtype(*(each for each in of_groups if _is_floating(each)))
        joined = jnp.concatenate([each.astype(dtype) for each in of_groups])
        places = np.concatenate(self.positions)
        return joined if _is_range(places) else joined[np.argsort(places)]


def _is_floating(array: Array) -> bool:
    return jnp.issubdtype(array.dtype, jnp.floating)


def _is_range(places: Any) -> bool:
    return np.array_equal(places, np.arange(places[0], places[0] + len(places)))


def cells_of(row: Array, places: tuple[int, ...]) -> Array:
    """Return the cells of a row at some places, by a slice where they are neighbors."""
    if _is_range(places):
        return row[places[0] : places[0] + len(places)]
    return row[np.array(places)]


def values_and_mask(
    name: str, event: Event, num_columns: int
) -> tuple[Array, Array | None]:
    """Return the values of a row and which of them are observed; None for all.

    ValueError unless both have one entry per column, TypeError unless they are numbers;
    `name` is what messages call the row.
    """
    parts = tuple(event) if isinstance(event, MaskedEvent) else (event,)
    arrays = [jnp.asarray(as_numbers(name, part)) for part in parts]
    for array in arrays:
        if array.shape != (num_columns,):
            raise ValueError(
                f"{name} has shape {array.shape} and the columns are ({num_columns},); "
                "give one row of that shape, and map a batch with jax.vmap."
            )
    return arrays[0], arrays[1].astype(bool) if len(arrays) > 1 else None


def _cell_log_probs(
    distribution: Distribution, cells: Array, mask: Array | None
) -> Array:
    """Return the log-probability of each cell of a group, `[columns]`."""
    if mask is None:
        return jax.vmap(_log_prob_of_cell)(distribution, cells)
    # Replaced before anything is computed of it, and so harmless to gradients.
    cells = jnp.where(mask, cells, _inside(distribution).astype(cells.dtype))
    return jnp.where(mask, jax.vmap(_log_prob_of_cell)(distribution, cells), 0)


def _log_prob_of_cell(distribution: Distribution, cell: Array) -> Array:
    if isinstance(distribution, Bernoulli | Categorical):
        # Only whole numbers are classes; a Bernoulli would take the cross-entropy of
        # what lies between.
        dtype = density_dtype(distribution.logits)
        cell = cell.astype(dtype)
        is_class = cell == jnp.floor(cell)
        index = jnp.where(is_class & (jnp.abs(cell) < 2**30), cell, -1)
        if isinstance(distribution, Categorical):
            index = index.astype(jnp.int32)
        log_prob = distribution.log_prob(index)
        return jnp.where(cell == cell, log_prob, jnp.nan)
    return distribution.log_prob(cell)


def _inside(distribution: Distribution) -> Array:
    """Return a value with mass for each column of a group."""
    if isinstance(distribution, Affine):
        return jnp.asarray(distribution.shift)
    if isinstance(distribution, RoundedNormal):
        return jnp.clip(distribution.origin, distribution.lower, distribution.upper)
    first = jax.tree.leaves(distribution)[0]
    fill = 1 if isinstance(distribution, LogNormal) else 0
    return jnp.full(first.shape[0], fill, first.dtype)


def _is_abstract(distribution: Distribution) -> bool:
    """Return whether a distribution is one of shapes and dtypes alone."""
    leaves = jax.tree.leaves(distribution)
    return any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)


def _support_of_cells(distribution: Distribution, cells: Any) -> Any:
    inner = distribution
    if isinstance(distribution, Affine):
        inner = distribution.distribution
    is_inside = require_support(inner).contains(cells)
    if isinstance(distribution, RoundedNormal) and not _is_abstract(distribution):
        half = np.asarray(distribution.step) / 2
        is_inside &= cells >= np.asarray(distribution.lower) - half
        is_inside &= cells <= np.asarray(distribution.upper) + half
    if isinstance(distribution, Categorical):
        is_inside &= cells < distribution.logits.shape[-1]
    if isinstance(distribution, Ordinal):
        is_inside &= cells <= distribution.cuts.shape[-1]
    return is_inside
