"""Columns of any table: cells as numbers, or as classes of text, whatever holds them.

A source is a file, a frame of polars or pandas, an array or a sparse matrix. Columns
are made when they are asked for, so that a table is never held twice.
"""

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vaejax.datasets._table_files import import_polars, line_of, read_delimited
from vaejax.datasets.errors import DataUnavailableError

#: Cells that are missing, beside NaN and null.
MISSING = ("", "NA", "N/A", "nan", "NaN", "null", "None", "?")
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
# Beyond it a number that looks whole is one that was rounded.
_EXACT = 2.0**53
# Share of cells that are numbers above which the others are taken for mistakes.
_MOSTLY = 0.9
_LIKE_NUMBER = re.compile(r"[-+$€£ ]*\d[\d.,' ]*%?$")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+$|[+-]?\d+$")
_THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+$")
_DATE = re.compile(r"\d{4}-\d{1,2}-\d{1,2}([T ].*)?$|\d{1,2}[./]\d{1,2}[./]\d{2,4}$")


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
        whole = all(v == int(v) for v in self.numbers if np.isfinite(v))
        return [
            None if np.isnan(v) else int(v) if whole else v
            for v in self.numbers.tolist()
        ]


class Source(NamedTuple):
    """A table from which columns are made.

    Attributes:
      where: its name in errors.
      names: names of the columns.
      num_rows: number of rows.
      make: `(name, keep_text) -> RawColumn`; with `keep_text`, what is no number among
        numbers is text rather than an error.
      place: position of a row in words, such as "line 3".
      unnamed: columns to which the table gives no name.
      is_sparse: true for sparse matrices, which hold counts.
    """

    where: str
    names: tuple[str, ...]
    num_rows: int
    make: Callable[..., RawColumn]
    place: Callable[[int], str] = "row {}".format
    unnamed: frozenset[str] = frozenset()
    is_sparse: bool = False


def open_table(
    table: Any,
    *,
    header: bool | None = None,
    delimiter: str | None = None,
    missing: Sequence[str] = MISSING,
    names: Sequence[str] | None = None,
) -> Source:
    """Return the columns of a file, a frame, an array or a sparse matrix.

    Raises:
      ValueError: it is none of these, or is damaged or empty.
      DataUnavailableError: there is no such file, or a package is not installed.
    """
    if isinstance(table, Source):
        return table
    if isinstance(table, str | os.PathLike):
        return _open_file(Path(table).expanduser(), header, delimiter, missing)
    if isinstance(table, np.ndarray):
        return _open_matrix(table, names)
    if hasattr(table, "tocsc") and hasattr(table, "nnz"):
        return _open_matrix(table.tocsc(), names, is_sparse=True)
    return _open_frame(table, missing)


def is_table_file(path: str | os.PathLike) -> bool:
    """Tell if a path has the suffix of a table."""
    return Path(path).name.lower().endswith(SUFFIXES)


def _open_file(
    path: Path, header: bool | None, delimiter: str | None, missing: Sequence[str]
) -> Source:
    if not is_table_file(path):
        raise ValueError(f"{path} is no table; give one of {', '.join(SUFFIXES)}.")
    if not path.is_file():
        raise DataUnavailableError(f"there is no file {path}; give a table.")
    polars = import_polars()
    if path.suffix.lower() == ".parquet":
        try:
            frame = polars.read_parquet(path)
        except (polars.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(f"{path} cannot be read as .parquet: {reason}.") from error
        return _source_of_polars(frame, str(path), missing)
    if delimiter is None and path.name.lower().endswith((".tsv", ".tsv.gz")):
        delimiter = "\t"
    frame, layout = read_delimited(
        path, missing=missing, header=header, delimiter=delimiter
    )

    def place(row: int) -> str:
        return f"line {line_of(path, layout, row)}"

    source = _source_of_polars(frame, str(path), missing, place, layout.text)
    return source._replace(unnamed=layout.unnamed)


def _source_of_polars(
    frame: Any,
    where: str,
    missing: Sequence[str],
    place: Callable[[int], str] = "row {}".format,
    text: frozenset[str] = frozenset(),
) -> Source:
    _check_size(where, frame.height, frame.width)

    def make(name: str, keep_text: bool = False) -> RawColumn:
        return _column_of_polars(
            frame[name],
            missing,
            keep_text=keep_text or name in text,
            where=lambda row: f"{where}, {place(row)}",
        )

    return Source(where, tuple(frame.columns), frame.height, make, place)


def _check_size(where: str, num_rows: int, num_columns: int) -> None:
    if not num_rows or not num_columns:
        raise ValueError(
            f"{where} has {num_rows} rows and {num_columns} columns; give at least one "
            "of each."
        )


def _open_frame(frame: Any, missing: Sequence[str]) -> Source:
    try:
        import narwhals
    except ImportError as error:
        raise DataUnavailableError(
            "frames are read with narwhals, which is not installed: pip install "
            "'vaejax[tables]'."
        ) from error
    try:
        frame = narwhals.from_native(frame, eager_only=True)
    except TypeError as error:
        raise TypeError(
            f"the table is a {type(frame).__name__}; give the path of a file, a "
            "DataFrame of polars or pandas, a NumPy array [N, D] or a sparse matrix of "
            "SciPy."
        ) from error
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two columns are named {twice!r}; rename one of them.")
    _check_size("the table", *frame.shape)

    def make(name: str, keep_text: bool = False) -> RawColumn:
        series = frame[:, names.index(name)]
        return _column_of_polars(
            _as_polars(series, name),
            missing,
            keep_text=keep_text,
            where=lambda row: f"the table, row {row}",
        )

    return Source("the table", tuple(names), len(frame), make)


def _as_polars(series: Any, name: str) -> Any:
    """Return a series of narwhals as one of polars."""
    import narwhals

    polars = import_polars()
    if narwhals.get_native_namespace(series) is polars:
        return series.to_native().alias(name)
    if series.dtype.is_numeric():
        numbers = series.to_numpy()
        if numbers.dtype.kind in "iuf" and not series.null_count():
            return polars.Series(name, numbers)
    values = series.to_list()
    if all(value is None or isinstance(value, bool) for value in values):
        return polars.Series(name, values, dtype=polars.Boolean)
    if series.dtype.is_numeric():
        return polars.Series(name, values, dtype=polars.Float64, strict=False)
    texts = [None if _is_null(value) else str(value) for value in values]
    return polars.Series(name, texts, dtype=polars.String)


def _is_null(value: Any) -> bool:
    return value is None or value != value


def _column_of_polars(
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
        numbers = series.cast(polars.Float64).to_numpy()
        if dtype.is_integer() and np.any(np.abs(numbers) > _EXACT):
            return _classes(series.cast(polars.String), is_date=False)
        _check_finite(name, numbers, where)
        tolerance = 2.0**-23 if dtype == polars.Float32 else 2.0**-52
        return RawColumn(name, numbers, tolerance=tolerance)
    if dtype.is_temporal():
        return _classes(series.cast(polars.String), is_date=True)
    if dtype not in (polars.String, polars.Categorical, polars.Enum, polars.Null):
        raise ValueError(
            f"{where(0).split(',')[0]}: {name!r} holds {dtype}, neither numbers nor "
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
            return RawColumn(name, np.array(values))
    numbers = series.cast(polars.Float64, strict=False)
    wrong = (numbers.is_null() & observed).to_numpy()
    like = series.str.contains(_LIKE_NUMBER.pattern.replace("[-+$", "^[-+$"))
    num_like = int((like.fill_null(False) | numbers.is_not_null()).sum())
    if num_like >= _MOSTLY * int(observed.sum()) and wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{where(row)}: {name!r} holds {series[row]!r}, which is no number, among "
            f"numbers; write plain numbers, or say what it is ({name}=class or "
            f"{name}=ignore)."
        )
    dates = series.str.contains("^(" + _DATE.pattern + ")").fill_null(False)
    return _classes(series, is_date=dates.sum() >= _MOSTLY * int(observed.sum()))


def _are_thousands(series: Any) -> bool:
    """Tell if commas separate thousands: three digits follow every one."""
    commas = series.filter(series.str.contains(",", literal=True))
    return bool(commas.str.contains("^" + _THOUSANDS.pattern).all())


def _check_finite(name: str, numbers: np.ndarray, where: Callable[[int], str]) -> None:
    infinite = np.isinf(numbers)
    if infinite.any():
        row = int(np.argmax(infinite))
        raise ValueError(
            f"{where(row)}: {name!r} holds {numbers[row]:g}; write a finite number, or "
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


def _open_matrix(
    matrix: Any, names: Sequence[str] | None, *, is_sparse: bool = False
) -> Source:
    where = "the matrix" if is_sparse else "the array"
    if matrix.dtype.kind not in "biuf" or len(matrix.shape) != 2:
        raise ValueError(
            f"{where} is {matrix.dtype} {list(matrix.shape)}; give numbers, one row "
            "per example and one column per variable."
        )
    num_rows, num_columns = matrix.shape
    _check_size(where, num_rows, num_columns)
    if names is None:
        names = [f"column {j}" for j in range(1, num_columns + 1)]
    names = tuple(str(name) for name in names)
    if len(names) != num_columns or len(set(names)) < len(names):
        raise ValueError(
            f"{where} has {num_columns} columns and {len(set(names))} different names "
            "are given; give each column one."
        )
    positions = {name: j for j, name in enumerate(names)}

    def make(name: str, keep_text: bool = False) -> RawColumn:
        cells = (
            matrix[:, [positions[name]]].toarray()
            if is_sparse
            else matrix[:, [positions[name]]]
        )
        numbers = np.asarray(cells, np.float64)[:, 0]
        _check_finite(name, numbers, lambda row: f"{where}, row {row}")
        tolerance = {2: 2.0**-10, 4: 2.0**-23}.get(
            matrix.dtype.itemsize if matrix.dtype.kind == "f" else 8, 2.0**-52
        )
        return RawColumn(name, numbers, tolerance=tolerance)

    return Source(where, names, num_rows, partial(make), is_sparse=is_sparse)
