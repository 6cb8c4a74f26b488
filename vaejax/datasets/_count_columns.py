"""Recognition of counts in an array of whole numbers, by the values of its columns."""

import numpy as np

from vaejax.datasets._kinds import are_counts
from vaejax.datasets._raw_columns import RawColumn
from vaejax.datasets._steps import summarize

_MAX_ROWS, _MAX_COLUMNS = 2000, 500
# Variance and mean of a Poisson are equal; those of a sample are within this factor.
_DISPERSION = 1.25
# Intensities have one largest level, which more than this share of columns reach.
_SHARED, _FEWEST_LEVELS, _FEWEST_COLUMNS = 0.1, 8, 30


def hold_counts(array: np.ndarray) -> bool:
    """Tell if the columns of an array of whole numbers from 0 are counts.

    Half of the columns that vary, of a sample of rows and columns, are counts as in a
    table, or have the variance of a Poisson. Intensities of flattened images look like
    the former, but share a largest value.
    """
    rows = max(1, len(array) // _MAX_ROWS)
    columns = max(1, array.shape[1] // _MAX_COLUMNS)
    sample = np.asarray(array[::rows, ::columns], np.float64)
    sample = sample[:, sample.max(axis=0) > sample.min(axis=0)]
    if not sample.size:
        return False
    ratios = sample.var(axis=0) / sample.mean(axis=0)
    are_found = (ratios >= 1 / _DISPERSION) & (ratios <= _DISPERSION)
    if not _have_levels(sample):
        are_found |= [_is_count(column) for column in sample.T]
    return bool(np.mean(are_found) >= 0.5)


def _have_levels(sample: np.ndarray) -> bool:
    maxima = sample.max(axis=0)
    share = np.mean(maxima == maxima.max())
    is_many = len(maxima) >= _FEWEST_COLUMNS and maxima.max() >= _FEWEST_LEVELS
    return bool(is_many and share > _SHARED)


def _is_count(column: np.ndarray) -> bool:
    return column.min() == 0 and are_counts(summarize(RawColumn("", column)))
