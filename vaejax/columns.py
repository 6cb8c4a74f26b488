"""Columns of a table: what a model must know of each, and rows with missing cells.

`vaejax.datasets` finds columns in files; `vaejax.distributions` makes likelihoods of
them and exports both names.
"""

import dataclasses
import math
from typing import Any, NamedTuple

from vaejax._checks import check_in_range
from vaejax.base import Array

__all__ = ["Column", "KINDS", "MaskedEvent"]

#: The kinds of the columns that a model describes.
KINDS = ("real", "positive", "binary", "class", "ordinal", "count")
_WITH_CLASSES = ("class", "ordinal")


class MaskedEvent(NamedTuple):
    """Row of a table with missing cells, or a batch of rows with leading axes.

    Attributes:
      values: cells in the units of the file, float32 `[D]`; a class is its index. What
        stands in a missing cell has no effect; readers put 0 there.
      mask: bool `[D]`, true where a cell is observed.

    Example:
      >>> import jax.numpy as jnp
      >>> from vaejax.distributions import MaskedEvent
      >>> row = MaskedEvent(jnp.array([45.0, 0.0]), jnp.array([True, False]))
      >>> row.values.shape, int(row.mask.sum())
      ((2,), 1)
    """

    values: Array
    mask: Array


@dataclasses.dataclass(frozen=True)
class Column:
    """Kind and scaling of one column of a table, as plain hashable numbers.

    Raises:
      ValueError: a number is out of its range, or the kind is none of these.

    Attributes:
      kind: "real", "positive" (above 0, modeled by its logarithm), "binary" (0 or 1),
        "class" or "ordinal" (0 to `num_classes` - 1), or "count" (0, 1, 2 and so on).
      num_classes: number of classes of a class or ordinal column, at least 2; else 0.
      step: distance of neighboring values of a real column, which is 1 for whole
        numbers; 0 where values are continuous, and for other kinds.
      lower: smallest value that a real column with a step can have; the likelihood
        puts all mass below it on it. Minus infinity where there is none.
      upper: largest value that a real column with a step can have, or infinity.
      shift: mean of the training values of a real column, of their logarithm for a
        positive one, of `log1p` of them for counts (for the encoder only); else 0.
      scale: standard deviation of the same numbers, above 0; else 1.

    Example:
      >>> from vaejax.distributions import Column
      >>> Column("real", step=1.0, shift=45.0, scale=13.0).num_classes
      0
    """

    kind: str
    num_classes: int = 0
    step: float = 0.0
    lower: float = -math.inf
    upper: float = math.inf
    shift: float = 0.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(
                f"Column: the kind is {self.kind!r}; give one of {', '.join(KINDS)}."
            )
        if self.kind in _WITH_CLASSES:
            _check_at_least("num_classes", self.num_classes, 2)
        elif self.num_classes:
            raise ValueError(
                f"Column: num_classes is {self.num_classes} and the kind {self.kind}; "
                "give it for class and ordinal columns only."
            )
        check_in_range("Column: step", self.step, 0)
        check_in_range("Column: shift", self.shift)
        check_in_range("Column: scale", self.scale, 0, open_low=True)
        self._check_limits()

    def _check_limits(self) -> None:
        if not self.lower < self.upper:
            raise ValueError(
                f"Column: lower is {self.lower} and upper {self.upper}; the first must "
                "be smaller."
            )
        is_limited = math.isfinite(self.lower) or math.isfinite(self.upper)
        if (self.step or is_limited) and self.kind != "real":
            raise ValueError(
                f"Column: the kind is {self.kind}, which takes no step, lower or "
                "upper; give them for real columns only."
            )
        if is_limited and not self.step:
            raise ValueError(
                f"Column: lower is {self.lower} and upper {self.upper} without a step; "
                "give a step, since the likelihood's end cells are one step wide."
            )


def _check_at_least(name: str, value: Any, least: int) -> None:
    check_in_range(f"Column: {name}", value, least)
    if value != int(value):
        raise ValueError(f"Column: {name} is {value}; give a whole number.")
