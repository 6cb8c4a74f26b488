"""Columns of any table, whatever holds it.

A source is a file, a frame of polars or pandas, a dict of columns, an array or a sparse
matrix. Columns are made when they are asked for, so that a table is never held twice.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vaejax._files import one_line, reason_of, why_no_file
from vaejax.datasets._raw_columns import (
    RawColumn,
    column_of_array,
    column_of_polars,
)
from vaejax.datasets._table_files import (
    import_polars,
    line_of,
    read_delimited,
)
from vaejax.datasets.errors import DataUnavailableError

#: Cells that are missing, beside NaN and null.
MISSING = ("", "NA", "N/A", "nan", "NaN", "null", "None", "?")
_MANY_ROWS = 10_000
SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")


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
    missing: Sequence[str | float] = MISSING,
    names: Sequence[str] | None = None,
) -> Source:
    """Return the columns of a file, a frame, a dict, an array or a sparse matrix.

    Raises:
      ValueError: it is none of these, or is damaged or empty.
      DataUnavailableError: there is no such file, or a package is not installed.
      TypeError: `missing` is one text.
    """
    if isinstance(table, Source):
        return table
    if isinstance(missing, str):
        raise TypeError(
            f"missing is {missing!r}; give a list of texts, such as [{missing!r}]."
        )
    texts = tuple(map(str, missing))
    if names is not None and not is_matrix(table):
        raise ValueError("names are given for a table that has them; leave them out.")
    if isinstance(table, str | os.PathLike):
        return _open_file(Path(os.path.expanduser(table)), header, delimiter, texts)
    if is_matrix(table):
        is_sparse = not isinstance(table, np.ndarray | jax.Array)
        matrix = table.tocsc() if is_sparse else table
        # A masked array of NumPy stays what it is.
        matrix = np.asarray(matrix) if isinstance(matrix, jax.Array) else matrix
        return _open_matrix(matrix, names, texts, is_sparse=is_sparse)
    return _open_frame(_as_frame(table), texts)


def is_matrix(table: Any) -> bool:
    """Tell if a table is an array or a sparse matrix, whose columns have no names."""
    return isinstance(table, np.ndarray | jax.Array) or (
        hasattr(table, "tocsc") and hasattr(table, "nnz")
    )


def map_columns(
    function: Callable[[Any], Any], columns: Sequence[Any], num_rows: int
) -> list[Any]:
    """Return the results of a function of each column, or its name, in order.

    Columns of many rows are looked at in threads, since NumPy sorts without the lock.
    """
    if num_rows < _MANY_ROWS:
        return [function(column) for column in columns]
    # Each thread takes as much as about three columns do.
    num_threads = min(8, os.cpu_count() or 1, 1 + len(columns) // 40)
    with ThreadPoolExecutor(num_threads) as pool:
        return list(pool.map(function, columns))


def is_table_file(path: str | os.PathLike) -> bool:
    """Tell if a path has the suffix of a table."""
    return Path(path).name.lower().endswith(SUFFIXES)


def _open_file(
    path: Path, header: bool | None, delimiter: str | None, missing: Sequence[str]
) -> Source:
    if not is_table_file(path):
        raise ValueError(
            f"{one_line(path)} is no table; give one of {', '.join(SUFFIXES)}."
        )
    if reason := why_no_file(path):
        raise DataUnavailableError(
            f"there is no file {one_line(path)} ({reason}); give a table."
        )
    polars = import_polars()
    if path.suffix.lower() == ".parquet":
        try:
            frame = polars.read_parquet(_polars_source(path), glob=False)
        except (polars.exceptions.PolarsError, OSError) as error:
            raise ValueError(
                f"{one_line(path)} cannot be read as .parquet: {reason_of(error)}."
            ) from error
        return _source_of_polars(frame, one_line(path), missing)
    if delimiter is None and path.name.lower().endswith((".tsv", ".tsv.gz")):
        delimiter = "\t"
    frame, layout = read_delimited(
        path, missing=missing, header=header, delimiter=delimiter
    )

    def place(row: int) -> str:
        return f"line {line_of(path, layout, row)}"

    source = _source_of_polars(frame, one_line(path), missing, place, layout.text)
    return source._replace(unnamed=layout.unnamed)


def _polars_source(path: Path) -> Path | bytes:
    """Return what polars reads: a path in UTF-8, or else the bytes of the file."""
    text = str(path)
    is_utf8 = text == text.encode(errors="ignore").decode()
    return path if is_utf8 else path.read_bytes()


def _source_of_polars(
    frame: Any,
    where: str,
    missing: Sequence[str],
    place: Callable[[int], str] = "row {}".format,
    text: frozenset[str] = frozenset(),
) -> Source:
    _check_size(where, frame.height, frame.width)

    def make(name: str, keep_text: bool = False) -> RawColumn:
        return column_of_polars(
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


def _as_frame(table: Any) -> Any:
    """Return a dict of columns as a DataFrame, and anything else as it is."""
    if not isinstance(table, Mapping):
        return table
    polars = import_polars()
    columns = {
        str(name): np.asarray(cells) if isinstance(cells, jax.Array) else cells
        for name, cells in table.items()
    }
    try:
        return polars.DataFrame(columns, strict=False)
    except (polars.exceptions.PolarsError, TypeError, ValueError) as error:
        raise ValueError(
            f"the dict is no table: {reason_of(error)}; give lists or arrays [N] by "
            "the names of the columns."
        ) from error


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
            "DataFrame of polars or pandas, a dict of columns, an array [N, D] or a "
            "sparse matrix of SciPy."
        ) from error
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"two columns are named {twice!r}; rename one of them.")
    _check_size("the table", *frame.shape)

    def make(name: str, keep_text: bool = False) -> RawColumn:
        series = frame[:, names.index(name)]
        return column_of_polars(
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
    nulls = series.is_null().to_list()
    values = [
        None if is_null or value != value else value
        for value, is_null in zip(series.to_list(), nulls, strict=True)
    ]
    if all(value is None or isinstance(value, bool) for value in values):
        return polars.Series(name, values, dtype=polars.Boolean)
    if series.dtype.is_numeric():
        return polars.Series(name, values, dtype=polars.Float64, strict=False)
    texts = [None if value is None else str(value) for value in values]
    return polars.Series(name, texts, dtype=polars.String)


def _open_matrix(
    matrix: Any,
    names: Sequence[str] | None,
    missing: Sequence[str],
    *,
    is_sparse: bool = False,
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
        cells = matrix[:, [positions[name]]]
        cells = cells.toarray() if is_sparse else cells
        return column_of_array(
            name, cells[:, 0], missing, lambda row: f"{where}, row {row}"
        )

    return Source(where, names, num_rows, make, is_sparse=is_sparse)
