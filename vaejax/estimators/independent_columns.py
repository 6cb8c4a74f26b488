"""Each column of a table by itself: what a model without latents is worth."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import as_numbers
from vaejax._programs import run
from vaejax.base import Array, Distribution
from vaejax.distributions import (
    Column,
    Mixed,
    NegativeBinomial,
    Ordinal,
    RoundedNormal,
    mixed_head,
)

# Where the bounds of `mixed_head` are the identity.
_LOG_VARIANCE, _LOG_MEAN, _LOG_CONCENTRATION = (-19, 19), (-19, 19), (-9, 19)
# Of the iteration: steps at most, nats per cell, and the step of its differences.
_NUM_STEPS, _TOLERANCE, _DIFFERENCE = 100, 1e-6, 0.01


def fit_independent_columns(
    columns: Sequence[Column], values: Any, mask: Any = None
) -> Array:
    """Fit the likelihood of each column alone, by maximum likelihood.

    `mixed_head(columns).apply((), outputs)` of what it returns is the distribution of
    rows whose columns are independent: a model with latents is worth its difference
    from that one. The outputs also are a start for such a model (`initial_outputs` of
    `table_vae`).

    Means and variances of real and positive columns, and frequencies of classes, ranks
    and binary values, each with 1/2 added to its count, are computed in float64. Counts
    and rounded values are fitted by a damped Newton iteration to about 1e-5 nats per
    cell. A variance of 0 and a mean of 0 have no finite parameters: log-variances are
    at least -19 in units of the column's scale, and a column of zeros has the mean
    1 / (2 rows). A column without an observed cell keeps outputs of 0.

    Args:
      columns: the columns.
      values: `[rows, D]`, cells in the units of the file.
      mask: bool `[rows, D]`, true where a cell is observed; None for all of them.

    Returns:
      The outputs, float32 `[num_outputs]` in the order of `mixed_head(columns)`.

    Raises:
      ValueError: the arrays have other shapes, or an observed cell is no value of its
        column; the error names the cell.
      TypeError: `values` are no numbers, or an entry of `columns` is no `Column`.

    Example:
      >>> import numpy as np
      >>> from vaejax.distributions import Column, mixed_head
      >>> from vaejax.estimators import fit_independent_columns
      >>> columns = [Column("real"), Column("count")]
      >>> values = np.array([[1.0, 0], [3.0, 4], [5.0, 2]])
      >>> outputs = fit_independent_columns(columns, values)
      >>> alone = mixed_head(columns).apply((), outputs)
      >>> [round(float(cell), 2) for cell in alone.mean]
      [3.0, 2.0]

    Source: Krichevsky & Trofimov 1981 for the 1/2, Marquardt 1963 for the damping.
    """
    head = mixed_head(columns)
    row = head.apply((), jnp.zeros(head.num_outputs))
    values, mask = _checked(row, values, mask)
    parts = []
    for at_zero, places in zip(row.distributions, row.positions, strict=True):
        group = _Cells(
            tuple(columns[place] for place in places),
            values[:, list(places)],
            mask[:, list(places)],
        )
        outputs = _fit(group, at_zero)
        is_seen = np.any(group.mask, axis=0, keepdims=True).T
        parts.append(np.where(is_seen, outputs, 0).ravel())
    return jnp.asarray(np.concatenate(parts), jnp.float32)


class _Cells(NamedTuple):
    """Cells of columns of one kind, `[rows, columns]`; 0 where they are missing."""

    columns: tuple[Column, ...]
    values: np.ndarray
    mask: np.ndarray

    def of_columns(self, name: str) -> np.ndarray:
        return np.array([getattr(column, name) for column in self.columns], float)


def _checked(row: Mixed, values: Any, mask: Any) -> tuple[np.ndarray, np.ndarray]:
    name, num_columns = "fit_independent_columns: values", sum(map(len, row.positions))
    values = np.asarray(as_numbers(name, values), np.float64)
    if values.ndim != 2 or values.shape[1] != num_columns or not len(values):
        raise ValueError(
            f"{name} has shape {values.shape}; give [rows, {num_columns}], one column "
            "for each of `columns`."
        )
    if mask is None:
        mask = np.ones(values.shape, bool)
    mask = np.asarray(mask).astype(bool)
    if mask.shape != values.shape:
        raise ValueError(
            f"fit_independent_columns: mask has shape {mask.shape} and values "
            f"{values.shape}; give both the same."
        )
    wrong = mask & ~row.support.contains(values)
    if wrong.any():
        place = tuple(int(index) for index in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name} holds {values[place]} at {list(place)}, which is no value of that "
            "column; give columns of the right kind, or a mask of the observed cells."
        )
    return np.where(mask, values, 0), mask


def _fit(cells: _Cells, at_zero: Distribution) -> np.ndarray:
    """Return the outputs of each column, `[columns, outputs]`, in float64."""
    kind = cells.columns[0].kind
    if kind == "binary":
        none, one = _frequencies(cells, 2).T
        return np.log(one / none)[:, None]
    if kind == "class":
        return np.log(_frequencies(cells, cells.columns[0].num_classes))
    if isinstance(at_zero, Ordinal):
        shares = _frequencies(cells, cells.columns[0].num_classes)
        return _cuts(shares) - np.asarray(at_zero.cuts, np.float64)
    if kind == "count":
        return _fit_counts(cells)
    if cells.columns[0].step:
        return _fit_rounded(cells)
    values = cells.values
    if kind == "positive":
        values = np.log(np.where(cells.mask, values, 1))
    mean, variance = _moments(values, cells.mask)
    return _standardized(cells, mean, variance)


def _standardized(cells: _Cells, mean: Any, variance: Any) -> np.ndarray:
    scale = cells.of_columns("scale")
    with np.errstate(divide="ignore"):
        log_variance = np.log(variance) - 2 * np.log(scale)
    location = (mean - cells.of_columns("shift")) / scale
    return np.stack([location, np.clip(log_variance, *_LOG_VARIANCE)], axis=1)


def _moments(values: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    num = np.maximum(mask.sum(axis=0), 1)
    mean = np.where(mask, values, 0).sum(axis=0) / num
    squares = np.square(np.where(mask, values - mean, 0))
    return mean, squares.sum(axis=0) / num


def _frequencies(cells: _Cells, num_classes: int) -> np.ndarray:
    """Return the share of each class, with 1/2 added to its count."""
    counts = [
        np.bincount(values[mask].astype(int), minlength=num_classes)
        for values, mask in zip(cells.values.T, cells.mask.T, strict=True)
    ]
    counts = np.array(counts) + 0.5
    return counts / counts.sum(axis=1, keepdims=True)


def _cuts(shares: np.ndarray) -> np.ndarray:
    """Return the parameters of an `Ordinal` with these shares of ranks."""
    below = np.cumsum(shares, axis=1)[:, :-1]
    above = np.cumsum(shares[:, ::-1], axis=1)[:, ::-1][:, 1:]
    points = np.log(below) - np.log(above)
    return np.concatenate([points[:, :1], np.log(np.diff(points, axis=1))], axis=1)


def _fit_counts(cells: _Cells) -> np.ndarray:
    mean, variance = _moments(cells.values, cells.mask)
    num = np.maximum(cells.mask.sum(axis=0), 1)
    is_zero = mean == 0
    log_mean = np.log(np.where(is_zero, 0.5 / num, mean))
    # From the moments; a variance of at most the mean is a Poisson's.
    excess = variance - mean
    log_r = np.where(
        excess > 0, 2 * log_mean - np.log(np.where(excess > 0, excess, 1)), 19
    )
    start = np.stack([log_mean, np.where(is_zero, 0, log_r)], axis=1)
    bounds = np.array([_LOG_MEAN, _LOG_CONCENTRATION], float).T
    start = np.clip(start, *bounds)
    data = _distinct(cells.values, cells.mask)
    fitted = _refine(_negative_binomial, start, bounds, data)
    fitted = np.where(is_zero[:, None], start, fitted)
    return fitted - np.stack([cells.of_columns("shift"), 0 * log_mean], axis=1)


def _fit_rounded(cells: _Cells) -> np.ndarray:
    # In units of the column's scale, subtracted in float64.
    shift, scale = cells.of_columns("shift"), cells.of_columns("scale")
    step = cells.of_columns("step") / scale
    lower, upper = ((cells.of_columns(n) - shift) / scale for n in ("lower", "upper"))
    values = (cells.values - shift) / scale
    mean, variance = _moments(values, cells.mask)
    # The rounding adds step^2 / 12 to the variance (Sheppard).
    floor = np.square(np.where(variance > 0, 0.2, 0.05) * step)
    variance = np.maximum(variance - np.square(step) / 12, floor)
    start = np.stack([mean, np.log(variance)], axis=1)
    bounds = np.array([(-np.inf, np.inf), _LOG_VARIANCE], float).T
    start = np.clip(start, *bounds)
    data = _distinct(values, cells.mask)
    return _refine(_rounded_normal, start, bounds, data, (step, lower, upper))


def _negative_binomial(y: Array) -> NegativeBinomial:
    return NegativeBinomial(y[0], y[1])


def _rounded_normal(y: Array, step: Array, lower: Array, upper: Array) -> RoundedNormal:
    return RoundedNormal(y[0], y[1], step, lower, upper, jnp.zeros_like(step))


class _Distinct(NamedTuple):
    """The distinct values of all columns, one column after the other.

    Attributes:
      cells: `[values]`.
      shares: `[values]`, the share of each among the observed cells of its column.
      owners: `[values]`, the column of each.
      starts: `[columns]`, where each column begins.
    """

    cells: np.ndarray
    shares: np.ndarray
    owners: np.ndarray
    starts: np.ndarray


def _distinct(values: np.ndarray, mask: np.ndarray) -> _Distinct:
    cells, shares = [], []
    for column, is_seen in zip(values.T, mask.T, strict=True):
        # A column without a cell has one of no weight.
        some = column[is_seen] if is_seen.any() else column[:1]
        found, counts = np.unique(some, return_counts=True)
        cells.append(found)
        shares.append(counts / counts.sum() * is_seen.any())
    sizes = np.array([len(found) for found in cells])
    owners = np.repeat(np.arange(len(sizes)), sizes)
    starts = np.cumsum(sizes) - sizes
    return _Distinct(np.concatenate(cells), np.concatenate(shares), owners, starts)


def _refine(
    make: Callable[..., Distribution],
    start: np.ndarray,
    bounds: np.ndarray,
    data: _Distinct,
    constants: tuple[np.ndarray, ...] = (),
) -> np.ndarray:
    """Return the parameters `[columns, 2]` of greatest likelihood, near a start.

    Newton's iteration in all columns at once, each with a damping of its own that grows
    where a step does not raise the likelihood.
    """
    y, trial = start, start
    loss, damping = np.full(len(start), np.inf), np.full(len(start), 1e-4)
    gradient, hessian = np.zeros((len(start), 2)), np.zeros((len(start), 2, 2))
    for _ in range(_NUM_STEPS):
        new = _derivatives(make, trial, data, constants)
        is_better = new[0] < loss
        gain = np.where(is_better, np.minimum(loss - new[0], 1), 0)
        y = np.where(is_better[:, None], trial, y)
        loss = np.where(is_better, new[0], loss)
        gradient = np.where(is_better[:, None], new[1], gradient)
        hessian = np.where(is_better[:, None, None], new[2], hessian)
        damping = np.clip(damping * np.where(is_better, 0.2, 5), 1e-6, 1e6)
        trial = np.clip(y - _damped_step(gradient, hessian, damping), *bounds)
        # What is left to gain is below the digits of a log-probability.
        expected = np.abs(np.sum(gradient * (y - trial), axis=1))
        if np.all((gain < _TOLERANCE) & (expected < _TOLERANCE)):
            break
    return y


def _derivatives(
    make: Callable[..., Distribution],
    y: np.ndarray,
    data: _Distinct,
    constants: tuple[np.ndarray, ...],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean negative log-probability, its gradient and its Hessian."""
    points = np.stack([y, y + [_DIFFERENCE, 0], y + [0, _DIFFERENCE]])
    size = 3 * len(data.cells)
    # A power of two, so that few shapes are compiled.
    padded = max(1024, 1 << (size - 1).bit_length())

    parameters = np.resize(points[:, data.owners].reshape(size, 2), (padded, 2))
    arguments = (data.cells, *(each[data.owners] for each in constants))
    single = [
        jnp.asarray(array, jnp.float32)
        for array in (parameters, *(np.resize(each, padded) for each in arguments))
    ]
    log_probs, slopes = run(_score_cells, (make,), *single)
    scores = np.concatenate([log_probs[:, None], slopes], axis=1)[:size]
    weighted = scores.astype(np.float64).reshape(3, -1, 3) * data.shares[:, None]
    loss, *gradient = -np.moveaxis(
        np.add.reduceat(weighted, data.starts, axis=1), -1, 0
    )
    gradient = np.stack(gradient, axis=-1)
    hessian = (gradient[1:] - gradient[0]) / _DIFFERENCE
    hessian = np.moveaxis(hessian, 0, 1)
    return loss[0], gradient[0], (hessian + np.swapaxes(hessian, 1, 2)) / 2


def _score_cells(
    make: Callable[..., Distribution], y: Array, cells: Array, *constants: Array
) -> tuple[Array, Array]:
    def log_prob(y: Array, cell: Array, *constants: Array) -> Array:
        return make(y, *constants).log_prob(cell)

    return jax.vmap(jax.value_and_grad(log_prob))(y, cells, *constants)


def _damped_step(
    gradient: np.ndarray, hessian: np.ndarray, damping: np.ndarray
) -> np.ndarray:
    """Return (|H| + d I)^-1 g, of at most two units: there a quadratic is no guide."""
    values, vectors = np.linalg.eigh(hessian)
    along = np.einsum("cij,ci->cj", vectors, gradient)
    along = along / (np.abs(values) + damping[:, None])
    step = np.einsum("cij,cj->ci", vectors, along)
    return step / np.maximum(1, np.abs(step).max(axis=1, keepdims=True) / 2)
