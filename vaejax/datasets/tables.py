"""Any array as data: what it holds, which likelihood suits it, and arrays from .npy,
.npz and .csv files.

Whatever is wrong is one error that names the row, the value and the fix.
"""

import csv
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaejax.datasets.errors import DataUnavailableError
from vaejax.datasets.own_files import first_wrong, iterate_chunks, open_npy, open_npz
from vaejax.distributions.heads import support_of

_SPLIT_SEED, _TEST_PART = 0, 10
# By how much the variance of counts must exceed their mean for a Poisson to be too
# narrow.
_OVERDISPERSION = 1.25
# Larger whole numbers are amounts rather than counts, and beyond what the heads of
# counts are made for.
_LARGEST_COUNT = 100_000
_COUNTS = ("poisson", "negative_binomial")


class NotOneArrayError(ValueError):
    """The .npz file can be read and holds no array, or several."""


class ArrayDescription(NamedTuple):
    """What an array holds.

    Attributes:
      num_examples: its length.
      shape: of one example.
      dtype: of its values.
      minimum, maximum: of them.
      likelihood: the name in `vaejax.likelihoods.HEADS` of one that suits them.
      reason: why, in a few words.
    """

    num_examples: int
    shape: tuple[int, ...]
    dtype: str
    minimum: float
    maximum: float
    likelihood: str
    reason: str

    def text(self) -> str:
        """In a line or two, for a reader."""
        return (
            f"{self.num_examples:,} examples of shape {list(self.shape)}, "
            f"{self.dtype}, {self.minimum:g} to "
            f"{self.maximum:g}\nsuitable likelihood: {self.likelihood} ({self.reason})"
        )


def describe_array(array: np.ndarray, where: str = "the array") -> ArrayDescription:
    """What `[examples, ...]` holds, and which likelihood suits it; memory maps are read
    in chunks.

    Raises:
      ValueError: it is no array of numbers, is empty, has no axis beside the examples',
        or holds NaN or infinity.
    """
    array = np.asanyarray(array)
    check_numbers(array, where)
    minimum, maximum, is_binary, is_black_and_white, is_integer = (
        np.inf,
        -np.inf,
        True,
        array.dtype == np.uint8,
        True,
    )
    for part in iterate_chunks(array):
        minimum, maximum = min(minimum, part.min()), max(maximum, part.max())
        is_binary = is_binary and bool(np.all((part == 0) | (part == 1)))
        is_black_and_white = is_black_and_white and bool(
            np.all((part == 0) | (part == 255))
        )
        is_integer = is_integer and (
            array.dtype.kind in "biu" or bool(np.all(part == np.rint(part)))
        )
    likelihood, reason = _suitable(
        array,
        float(minimum),
        float(maximum),
        is_binary or is_black_and_white,
        is_integer,
    )
    shape, dtype = array.shape[1:], str(array.dtype)
    return ArrayDescription(
        len(array), shape, dtype, float(minimum), float(maximum), likelihood, reason
    )


def _suitable(
    array: np.ndarray,
    minimum: float,
    maximum: float,
    has_two_values: bool,
    is_integer: bool,
) -> tuple[str, str]:
    if has_two_values:
        return "bernoulli", "two values only"
    if array.dtype == np.uint8 and array.ndim > 2:
        return "discretized_logistic", "8-bit intensities"
    if array.dtype.kind == "f" and minimum >= 0 and maximum <= 1:
        return "continuous_bernoulli", "intensities between 0 and 1"
    if is_integer and minimum >= 0 and maximum <= _LARGEST_COUNT:
        sample = np.reshape(array[:1000], (min(len(array), 1000), -1))
        variance, mean = (
            sample.var(axis=0, dtype=np.float64),
            sample.mean(axis=0, dtype=np.float64),
        )
        wide = np.mean(variance > _OVERDISPERSION * mean) > 0.5
        if wide:
            return "negative_binomial", "counts that vary more than their mean"
        return "poisson", "counts that vary about as much as their mean"
    return "normal", "real values"


def check_numbers(array: np.ndarray, where: str) -> None:
    """ValueError unless these are finite numbers, `[examples, ...]`; it names the first
    example that is wrong.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise ValueError(
            f"{where} is a masked array; fill in or leave out what is missing."
        )
    if array.dtype.kind not in "biuf" or not array.dtype.isnative:
        raise ValueError(
            f"{where} holds {array.dtype}, not numbers of this machine; encode text "
            "and categories as numbers first."
        )
    if array.ndim < 2 or not array.size:
        raise ValueError(
            f"{where} has shape {list(array.shape)}; give at least one example, "
            "[examples, ...], with an axis for what "
            "an example holds."
        )
    if array.dtype.kind == "f" and (found := first_wrong(array, np.isfinite)):
        raise ValueError(f"{where} {found}; fill in or leave out what is missing.")


def check_suits(array: np.ndarray, likelihood: str, where: str = "the array") -> None:
    """ValueError unless every value is in the likelihood's support; it names the first
    that is not, and what to do.

    8-bit values above 1 are taken as intensities k / 255, but for counts.
    """
    support = support_of(HEADS[likelihood])
    is_8_bit = array.dtype == np.uint8 and likelihood not in _COUNTS and array.max() > 1
    found = first_wrong(
        array,
        lambda part: support.contains(
            part.astype(np.float64) / (255 if is_8_bit else 1)
        ),
    )
    if found:
        suitable = describe_array(array, where).likelihood
        raise ValueError(
            f"{where} {found}; {likelihood} is over {support.description}: choose "
            f"{suitable}, which suits these "
            "values, or change them."
        )


def load_array(path: str | os.PathLike) -> np.ndarray:
    """One array of a file: a .npy (memory-mapped), an .npz with a single array, or a
    .csv of numbers.

    A .csv has an example a line; its first line may name the columns; cells are
    separated by commas, semicolons or tabs. Whole numbers become integers, so that
    counts are known as such.

    Raises:
      NotOneArrayError: (a ValueError) an .npz holds no array, or several.
      ValueError: the file is damaged or holds something else; of a table, the line and
        the column are named.
      DataUnavailableError: there is no such file.
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
    check_numbers(array, str(path))
    return array


def split_indices(num_examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and test: one example in ten, at least two, for test, after a
    shuffle with a fixed seed.
    """
    num_test = max(num_examples // _TEST_PART, 2)
    if num_examples < num_test + 2:
        raise ValueError(
            f"there are {num_examples} examples; give at least 4, of which one in ten "
            "is for test."
        )
    order = np.random.default_rng(_SPLIT_SEED).permutation(num_examples)
    return np.sort(order[num_test:]), np.sort(order[:num_test])


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
                "categories as numbers, and fill in "
                "or leave out what is missing."
            )
    return [float(cell) for cell in row]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
