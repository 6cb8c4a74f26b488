"""Scores of imputed cells of a table: errors, and coverage of intervals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from vaejax.distributions import Column

NUMERIC = ("real", "positive", "count")
LEVEL = 0.9


class Scores(NamedTuple):
    """Sums over the hidden cells of each row, `[rows]`.

    Attributes:
      squared_error: squared errors of numeric cells, standardized.
      num_numeric: numeric cells.
      correct: cells of binary, class and ordinal columns that are right.
      num_classes: all such cells.
    """

    squared_error: np.ndarray
    num_numeric: np.ndarray
    correct: np.ndarray
    num_classes: np.ndarray

    @property
    def rmse(self) -> float:
        """Root of the mean squared error of numeric cells; NaN without any."""
        return float(np.sqrt(_ratio(self.squared_error, self.num_numeric)))

    @property
    def accuracy(self) -> float:
        """Share of the other cells that are right; NaN without any."""
        return _ratio(self.correct, self.num_classes)


def score(
    columns: Sequence[Column],
    found: np.ndarray,
    truth: np.ndarray,
    mask: np.ndarray,
    scale: np.ndarray,
) -> Scores:
    """Score imputed rows.

    Args:
      columns: the columns.
      found: imputed rows `[rows, D]`; of a binary column the probability of 1 will do.
      truth: complete rows.
      mask: bool `[rows, D]`, true where a cell was observed.
      scale: standard deviation of each column, `[D]`.
    """
    is_numeric = numeric(columns)
    is_binary = np.array([column.kind == "binary" for column in columns])
    found = np.where(is_binary, found >= 0.5, found)
    hidden, errors = ~mask, (found - truth) / scale
    of_numbers, of_classes = hidden & is_numeric, hidden & ~is_numeric
    return Scores(
        np.where(of_numbers, np.square(errors), 0).sum(axis=1),
        of_numbers.sum(axis=1),
        np.where(of_classes, found == truth, 0).sum(axis=1),
        of_classes.sum(axis=1),
    )


def numeric(columns: Sequence[Column]) -> np.ndarray:
    """Return which columns are numbers, bool `[D]`."""
    return np.array([column.kind in NUMERIC for column in columns])


def coverage(
    columns: Sequence[Column],
    draws: np.ndarray,
    truth: np.ndarray,
    mask: np.ndarray,
) -> float:
    """Return how often the central 90 % interval of the draws has a hidden number.

    A calibrated model has 0.9 for discrete columns too: n draws below the value and m
    equal to it say that it lies in (n, n + m + 1) / (num_draws + 1) of the distribution
    function, of which the part between 0.05 and 0.95 counts.

    Args:
      columns: the columns.
      draws: `[rows, num_draws, D]`.
      truth: complete rows `[rows, D]`.
      mask: bool `[rows, D]`, true where a cell was observed.
    """
    # Values in steps are equal up to the rounding of single precision.
    near = [{"real": column.step, "count": 1}.get(column.kind, 0) for column in columns]
    distances = draws - truth[:, None]
    is_equal = np.abs(distances) <= np.array(near) / 4
    below = (~is_equal & (distances < 0)).sum(axis=1)
    ends = np.stack([below, below + is_equal.sum(axis=1) + 1]) / (draws.shape[1] + 1)
    inside = np.clip(ends, (1 - LEVEL) / 2, (1 + LEVEL) / 2)
    covered = (inside[1] - inside[0]) / (ends[1] - ends[0])
    chosen = ~mask & numeric(columns)
    return float(covered[chosen].mean()) if chosen.any() else float("nan")


def paired(
    sums: np.ndarray, others: np.ndarray, counts: np.ndarray
) -> dict[str, Any] | None:
    """Return a mean difference over cells with its standard error over rows.

    Args:
      sums: sums over the cells of each row, `[rows]`.
      others: those of another method.
      counts: cells of each row.

    Returns:
      The record, or None where there is no cell.
    """
    total = counts.sum()
    if not total:
        return None
    differences = np.asarray(sums, float) - others
    mean = differences.sum() / total
    # Of a ratio of sums, by the delta method.
    error = np.sqrt(np.sum(np.square(differences - mean * counts))) / total
    return {"mean": float(mean), "standard_error": float(error)}


def _ratio(sums: np.ndarray, counts: np.ndarray) -> float:
    total = counts.sum()
    return float(sums.sum() / total) if total else float("nan")
