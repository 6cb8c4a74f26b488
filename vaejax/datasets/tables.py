"""One array from a .npy, .npz or .csv file.

Whatever is wrong with a file is one error that names the row, the value and the fix.
"""

import csv
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from vaejax.datasets._shared import open_npy, open_npz
from vaejax.datasets.arrays import check_numbers
from vaejax.datasets.errors import DataUnavailableError, NotOneArrayError


def load_array(path: str | os.PathLike) -> np.ndarray:
    r"""Load one array of numbers from a .npy, .npz or .csv file.

    A .npy file is memory-mapped; an .npz file has a single array. A .csv file has one
    example per line; its first line may name the columns; cells are separated by
    commas, semicolons or tabs. A table of whole numbers becomes an array of integers,
    so that counts can be told from real values.

    Args:
      path: path of the file; its suffix decides the format.

    Returns:
      The array `[examples, ...]`, of finite numbers.

    Raises:
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
    path = Path(path).expanduser()
    if not path.is_file():
        raise DataUnavailableError(
            f"there is no file {path}; give a .npy, .npz or .csv file."
        )
    readers = {
        ".npy": partial(open_npy, action="read as .npy"),
        ".npz": _read_npz,
        ".csv": _read_csv,
    }
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"{path} is neither .npy, .npz nor .csv; save it as one of them."
        )
    array = readers[path.suffix.lower()](path)
    check_numbers(array, where=str(path))
    return array


def _read_npz(path: Path) -> np.ndarray:
    with open_npz(path) as file:
        names = sorted(file.files)
        array = file[names[0]] if len(names) == 1 else None
    if array is None:
        raise NotOneArrayError(
            f"{path} holds {names}; leave one array in it, or name them train_images "
            "..."
        )
    return array


def _read_csv(path: Path) -> np.ndarray:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first.count)
            lines = [
                (number, row)
                for number, row in enumerate(csv.reader(file, delimiter=delimiter), 1)
                if row
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(
            f"{path} cannot be read as a table in UTF-8: {error}."
        ) from error
    if not lines:
        raise ValueError(f"{path} is empty; give a line for each example.")
    names = [f"column {index}" for index in range(1, len(lines[0][1]) + 1)]
    if not any(_is_number(cell) for cell in lines[0][1]):
        names, lines = lines[0][1], lines[1:]
    rows = [_numbers(path, number, row, names) for number, row in lines]
    if not rows:
        raise ValueError(
            f"{path} has a line of names and no other; give a line for each example."
        )
    table = np.array(rows)
    # Beyond 2^53 a number that looks whole is one that was rounded.
    is_whole = np.all(
        np.isfinite(table) & (np.abs(table) < 2.0**53) & (table == np.rint(table))
    )
    return table.astype(np.int64) if is_whole else table


def _numbers(
    path: Path, line: int, row: Sequence[str], names: Sequence[str]
) -> list[float]:
    if len(row) != len(names):
        raise ValueError(
            f"{path}, line {line}: {len(row)} cells, and {len(names)} in the first; "
            "make them the same."
        )
    for name, cell in zip(names, row, strict=True):
        if not _is_number(cell):
            found = f"holds {cell!r}" if cell.strip() else "is empty"
            raise ValueError(
                f"{path}, line {line}: {name!r} {found}, which is no number; encode "
                "categories as numbers, and fill in or leave out what is missing."
            )
    return [float(cell) for cell in row]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
