"""One array from a .npy or .npz file, or from a table of numbers.

Whatever is wrong with a file is one error that names the row, the value and the fix.
"""

import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from vaejax._files import one_line, why_no_file
from vaejax.datasets._npy_files import npz_names, open_npy, read_npz
from vaejax.datasets._shared import quoted
from vaejax.datasets._table_sources import Source, is_table_file, open_table
from vaejax.datasets.arrays import check_numbers
from vaejax.datasets.errors import (
    DataUnavailableError,
    NotNumbersError,
    NotOneArrayError,
)


def load_array(path: str | os.PathLike, *, allow_nan: bool = False) -> np.ndarray:
    r"""Load one array of numbers from a .npy or .npz file, or from a table.

    A .npy file is memory-mapped; an .npz file has a single array. A table of whole
    numbers becomes an array of integers. For tables with text, missing cells or columns
    of different kinds take `read_table`.

    Args:
      path: path of the file; its suffix decides the format: .npy, .npz, or those of
        tables, which need the extra `tables` (see `read_table`).
      allow_nan: whether an .npy or .npz file may hold NaN, which `read_table` takes as
        missing in an array `[N, D]`.

    Returns:
      The array `[examples, ...]`, of finite numbers, or of finite numbers and NaN.

    Raises:
      NotNumbersError: (a ValueError) a table has text or missing cells.
      NotOneArrayError: (a ValueError) an .npz file holds no array, or several.
      DataUnavailableError: (a ValueError) there is no such file.
      ValueError: the file is damaged or holds something else; for a table, the error
        names the line and the column.

    Example:
      >>> import pathlib, tempfile
      >>> from vaejax import datasets
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     path = pathlib.Path(folder) / "table.csv"
      ...     _ = path.write_text("height,weight\n1.62,58\n1.80,77\n")
      ...     datasets.load_array(path).shape
      (2, 2)
    """
    path = Path(os.path.expanduser(path))
    if reason := why_no_file(path):
        raise DataUnavailableError(
            f"there is no file {one_line(path)} ({reason}); give a .npy or .npz file, "
            "or a table."
        )
    readers = {
        ".npy": partial(open_npy, action="read as .npy"),
        ".npz": _read_npz,
    }
    if not is_table_file(path) and path.suffix.lower() not in readers:
        raise ValueError(
            f"{one_line(path)} is neither .npy, .npz nor a table such as .csv; save it "
            "as one of them."
        )
    read = _read_table if is_table_file(path) else readers[path.suffix.lower()]
    array = read(path)
    check_numbers(array, where=one_line(path), allow_nan=allow_nan)
    return array


def _read_npz(path: Path) -> np.ndarray:
    names = npz_names(path)
    if len(names) != 1:
        found = [*names[:8], *["..."] * (len(names) > 8)]
        raise NotOneArrayError(
            f"{one_line(path)} holds {found}; leave one array in it, or name them "
            "train_images ..."
        )
    return read_npz(path, *names)[names[0]]


def _read_table(path: Path) -> np.ndarray:
    source = open_table(path)
    columns = [_numbers(source, name) for name in source.names]
    table = np.stack(columns, axis=1)
    # Beyond 2^53 a number that looks whole is one that was rounded.
    is_whole = np.all((np.abs(table) < 2.0**53) & (table == np.rint(table)))
    return table.astype(np.int64) if is_whole else table


def _numbers(source: Source, name: str) -> np.ndarray:
    column = source.make(name)
    if column.numbers is not None and column.observed.all():
        return column.numbers
    cells = column.cells()
    row = next(row for row, cell in enumerate(cells) if not _is_number(cell))
    found = "is missing" if cells[row] is None else f"holds {quoted(cells[row])}"
    raise NotNumbersError(
        f"{source.where}, {source.place(row)}: {quoted(name)} {found}, which is no "
        "number; read_table takes text and missing cells."
    )


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (ValueError, TypeError):
        return False
    return True
