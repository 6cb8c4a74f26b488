"""Imputers of tables that scikit-learn has, on features that suit columns of any kind.

Numeric columns are standardized by the observed training cells, binary ones are 0 and
1, and class and ordinal ones are one-hot; an imputed class is the largest of its
features. All are fitted to training rows and fill in the missing cells of others.
"""

import importlib.util
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.harness.errors import UsageError
from experiments.judges.table_scores import NUMERIC
from vaejax.distributions import Column, MaskedEvent

NEIGHBORS = (5, 20)
MEANS = "column means and modes"
ITERATIVE = "IterativeImputer"


def check_installed() -> None:
    """Raise UsageError where scikit-learn is missing, before anything is trained."""
    if importlib.util.find_spec("sklearn") is None:
        raise UsageError(
            "the imputers beside the VAE need scikit-learn; install the extra: pip "
            "install 'vaejax[studies]'."
        )


def imputers() -> Mapping[str, Any]:
    """Return untrained imputers by name, of features with NaN in missing cells."""
    # IterativeImputer is not there before this import.
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

    neighbors = {f"{k} nearest neighbors": KNNImputer(n_neighbors=k) for k in NEIGHBORS}
    return {
        MEANS: SimpleImputer(),
        **neighbors,
        ITERATIVE: IterativeImputer(max_iter=20, random_state=0),
    }


def impute(
    imputer: Any, columns: Sequence[Column], train: MaskedEvent, test: MaskedEvent
) -> np.ndarray:
    """Return test rows whose missing cells are imputed, `[rows, D]`.

    Args:
      imputer: one of `imputers()`.
      columns: the columns.
      train: training rows with missing cells, `[rows, D]`.
      test: rows to impute.
    """
    scales = [_scale(*cells) for cells in zip(*_by_column(train), strict=True)]
    imputer.set_params(keep_empty_features=True)
    with warnings.catch_warnings():
        # Twenty rounds are enough to compare, whatever its criterion says.
        warnings.simplefilter("ignore")
        imputer.fit(_features(columns, scales, train))
        found = imputer.transform(_features(columns, scales, test))
    return np.where(test.mask, test.values, _cells(columns, scales, found))


def _by_column(rows: MaskedEvent) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(rows.values, np.float64).T, np.asarray(rows.mask).T


def _scale(values: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    observed = values[mask]
    if not len(observed):
        return 0.0, 1.0
    return float(observed.mean()), float(observed.std()) or 1.0


def _width(column: Column) -> int:
    return column.num_classes or 1


def _features(
    columns: Sequence[Column], scales: Sequence[tuple[float, float]], rows: MaskedEvent
) -> np.ndarray:
    """Return rows as numbers, `[rows, F]`, NaN where a cell is missing."""
    parts = []
    for column, (mean, stddev), values, mask in zip(
        columns, scales, *_by_column(rows), strict=True
    ):
        if column.kind in NUMERIC:
            cells = ((values - mean) / stddev)[:, None]
        elif column.num_classes:
            cells = np.equal.outer(values, np.arange(column.num_classes)).astype(float)
        else:
            cells = values[:, None]
        parts.append(np.where(mask[:, None], cells, np.nan))
    return np.concatenate(parts, axis=1)


def _cells(
    columns: Sequence[Column], scales: Sequence[tuple[float, float]], found: np.ndarray
) -> np.ndarray:
    """Return numbers of `_features` as rows in the units of the file."""
    ends = np.cumsum([_width(column) for column in columns])
    parts = np.split(found, ends[:-1], axis=1)
    cells = []
    for column, (mean, stddev), part in zip(columns, scales, parts, strict=True):
        if column.kind in NUMERIC:
            cells.append(mean + stddev * part[:, 0])
        elif column.num_classes:
            cells.append(np.argmax(part, axis=1))
        else:
            cells.append(part[:, 0] >= 0.5)
    return np.stack(cells, axis=1).astype(np.float64)
