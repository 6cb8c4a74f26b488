"""The cells of one column: numbers, or classes of text, with missing ones."""

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vaejax.datasets._shared import quoted
from vaejax.datasets._table_files import import_polars

# Beyond it a number that looks whole is one that was rounded.
_EXACT = 2.0**53
# Share of cells that are numbers above which the others are taken for mistakes.
_MOSTLY = 0.9
_LIKE_NUMBER = r"^[-+$€£ ]*\d[\d.,' ]*%?$"
_THOUSANDS = r"^[+-]?\d{1,3}(,\d{3})+$"
_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$")
_DATE = r"^(\d{4}-\d{1,2}-\d{1,2}([T ].*)?|\d{1,2}[./]\d{1,2}[./]\d{2,4})$"


class RawColumn(NamedTuple):
    """The cells of a column.

    Attributes:
      name: name of the column.
      numbers: float64 `[N]`, NaN where missing; None for text.
      codes: int32 `[N]`, index in `levels`, -1 where missing; None for numbers.
      levels: distinct texts, sorted.
      tolerance: relative rounding error of the numbers.
      is_date: true where most texts are dates.
    """

    name: str
    numbers: np.ndarray | None = None
    codes: np.ndarray | None = None
    levels: tuple[str, ...] = ()
    tolerance: float = 2.0**-52
    is_date: bool = False

    @property
    def observed(self) -> np.ndarray:
        """Bool `[N]`, true where a cell is not missing."""
        if self.numbers is not None:
            return ~np.isnan(self.numbers)
        assert self.codes is not None
        return self.codes >= 0

    def cells(self) -> list[Any]:
        """Return the cells as Python values, None where missing."""
        if self.codes is not None:
            levels = np.array([*self.levels, None], object)
            return levels[self.codes].tolist()
        assert self.numbers is not None
        observed = self.numbers[self.observed]
        are_held = np.abs(observed) < _EXACT
        whole = bool(np.all(are_held & (observed == np.rint(observed))))
        return [
            None if np.isnan(v) else int(v) if whole else v
            for v in self.numbers.tolist()
        ]


def without(numbers: np.ndarray, missing: Sequence[str]) -> np.ndarray:
    """Return numbers float64 `[N]` with NaN for those that texts of `missing` write."""
    written = [float(text) for text in missing if _NUMBER.match(text)]
    if not written or not len(found := np.flatnonzero(np.isin(numbers, written))):
        return numbers
    numbers = np.array(numbers)
    numbers[found] = np.nan
    return numbers


def column_of_polars(
    series: Any,
    missing: Sequence[str],
    *,
    keep_text: bool,
    where: Callable[[int], str],
) -> RawColumn:
    polars = import_polars()
    name, dtype = series.name, series.dtype
    if dtype == polars.Boolean:
        series = series.cast(polars.String)
        return _classes(series, is_date=False)
    if dtype.is_numeric():
        numbers = without(series.cast(polars.Float64).to_numpy(), missing)
        if dtype.is_integer() and np.any(np.abs(numbers) > _EXACT):
            return _classes(series.cast(polars.String), is_date=False)
        _check_finite(name, numbers, where)
        tolerance = 2.0**-23 if dtype == polars.Float32 else 2.0**-52
        return RawColumn(name, numbers, tolerance=tolerance)
    if dtype.is_temporal():
        return _classes(series.cast(polars.String), is_date=True)
    if dtype not in (polars.String, polars.Categorical, polars.Enum, polars.Null):
        raise ValueError(
            f"{where(0).split(',')[0]}: {quoted(name)} holds {dtype}, neither numbers "
            "nor "
            f"text; leave it out ({name}=ignore)."
        )
    return _column_of_text(
        series.cast(polars.String), missing, keep_text=keep_text, where=where
    )


def _column_of_text(
    series: Any,
    missing: Sequence[str],
    *,
    keep_text: bool,
    where: Callable[[int], str],
) -> RawColumn:
    """Return a column of text; as numbers where all of it is, of either decimal sign.

    Raises:
      ValueError: most cells look like numbers, and one does not.
    """
    polars = import_polars()
    name = series.name
    series = series.str.strip_chars()
    series = series.set(series.is_in(list(missing)), None)
    observed = series.is_not_null()
    if keep_text or not observed.any():
        return _classes(series, is_date=False)
    for plain in (series, series.str.replace(",", ".", literal=True)):
        numbers = plain.cast(polars.Float64, strict=False)
        wrong = numbers.is_null() & observed
        if not wrong.any():
            if plain is not series and _are_thousands(series):
                break
            values = numbers.to_numpy()
            if (
                np.any(np.abs(values) > _EXACT)
                and series.str.contains(r"^[+-]?\d+$").all()
            ):
                break
            _check_finite(name, values, where)
            return RawColumn(name, np.array(without(values, missing)))
    numbers = series.cast(polars.Float64, strict=False)
    wrong = (numbers.is_null() & observed).to_numpy()
    like = series.str.contains(_LIKE_NUMBER)
    num_like = int((like.fill_null(False) | numbers.is_not_null()).sum())
    if num_like >= _MOSTLY * int(observed.sum()) and wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{where(row)}: {quoted(name)} holds {quoted(series[row])}, which is no "
            "number, among "
            f"numbers; write plain numbers, or say what it is ({name}=class or "
            f"{name}=ignore)."
        )
    dates = series.str.contains(_DATE).fill_null(False)
    return _classes(series, is_date=dates.sum() >= _MOSTLY * int(observed.sum()))


def _are_thousands(series: Any) -> bool:
    """Tell if commas separate thousands: three digits follow every one."""
    commas = series.filter(series.str.contains(",", literal=True))
    return bool(commas.str.contains(_THOUSANDS).all())


def _check_finite(name: str, numbers: np.ndarray, where: Callable[[int], str]) -> None:
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise ValueError(
            f"{where(row)}: {quoted(name)} holds {numbers[row]:g}; write a finite "
            "number, or "
            "leave the cell empty where it is missing."
        )


def _classes(series: Any, *, is_date: bool) -> RawColumn:
    polars = import_polars()
    levels = series.drop_nulls().unique().sort()
    codes = (
        series.cast(polars.Enum(levels)).to_physical().cast(polars.Int32).fill_null(-1)
        if len(levels)
        else polars.Series([-1] * len(series), dtype=polars.Int32)
    )
    return RawColumn(
        series.name,
        codes=codes.to_numpy(),
        levels=tuple(levels.to_list()),
        is_date=is_date,
    )


def column_of_array(
    name: str,
    cells: np.ndarray,
    missing: Sequence[str],
    where: Callable[[int], str],
) -> RawColumn:
    """Return a column of numbers; masked ones are missing.

    Raises:
      ValueError: a number is infinite.
    """
    numbers = np.array(np.ma.getdata(cells), np.float64)
    numbers[np.ma.getmaskarray(cells)] = np.nan
    numbers = without(numbers, missing)
    _check_finite(name, numbers, where)
    size = cells.dtype.itemsize if cells.dtype.kind == "f" else 8
    tolerance = {2: 2.0**-10, 4: 2.0**-23}.get(size, 2.0**-52)
    return RawColumn(name, numbers, tolerance=tolerance)
