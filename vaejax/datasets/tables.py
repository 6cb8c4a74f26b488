"""Any array as data: what it holds, which likelihood suits it, and arrays from .npy,
.npz and .csv files.

Whatever is wrong is one error that names the row, the value and the fix.
"""

import csv
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaejax.base import Support
from vaejax.datasets.errors import DataUnavailableError
from vaejax.datasets.own_files import first_wrong, iterate_chunks, open_npy, open_npz

_SPLIT_SEED, _TEST_PART = 0, 10
# By how much the variance of counts must exceed their mean for a Poisson to be too
# narrow.
_OVERDISPERSION = 1.25


class NotOneArrayError(ValueError):
    """The .npz file can be read and holds no array, or several."""


class ArrayDescription(NamedTuple):
    """Contents of an array, and the candidate that suits them.

    Attributes:
      num_examples: length of the array.
      shape: shape of one example.
      dtype: name of the data type.
      minimum: smallest value.
      maximum: largest value.
      is_binary: every value is 0 or 1; in 8-bit arrays, every value is 0 or 255 counts
        too.
      is_integer: every value is a whole number.
      is_overdispersed: the values are counts whose variance is clearly above their
        mean in most dimensions.
      likelihood: name of the first candidate that suits, or "" where none does.
      reason: reason of that candidate.
    """

    num_examples: int
    shape: tuple[int, ...]
    dtype: str
    minimum: float
    maximum: float
    is_binary: bool
    is_integer: bool
    is_overdispersed: bool
    likelihood: str = ""
    reason: str = ""

    def text(self) -> str:
        """Return the description as one or two lines of text."""
        found = (
            f"{self.num_examples:,} examples of shape {list(self.shape)}, "
            f"{self.dtype}, {self.minimum:g} to {self.maximum:g}"
        )
        if not self.likelihood:
            return found
        return f"{found}\nsuitable likelihood: {self.likelihood} ({self.reason})"


class Candidate(NamedTuple):
    """A likelihood that may be proposed for an array, by its name.

    Attributes:
      name: name of the likelihood.
      reason: reason for the proposal, in a few words.
      suits: `ArrayDescription -> bool`, true where the likelihood suits the contents.
    """

    name: str
    reason: str
    suits: Callable[[ArrayDescription], bool]


def describe_array(
    array: np.ndarray, candidates: Sequence[Candidate] = (), where: str = "the array"
) -> ArrayDescription:
    """Describe an array `[examples, ...]`, and propose a likelihood for it.

    Memory maps are read in chunks.

    Args:
      array: numbers, `[examples, ...]`.
      candidates: likelihoods in order of preference; the first that suits is proposed.
      where: name of the array in errors.

    Raises:
      ValueError: it is no array of numbers, is empty, has no axis beside the examples',
        or holds NaN or infinity.
    """
    array = np.asanyarray(array)
    check_numbers(array, where)
    minimum, maximum, is_integer = np.inf, -np.inf, True
    # The values of binary data; in bytes, those of a black-and-white image too.
    are_binary = [(0, 1), (0, 255)] if array.dtype == np.uint8 else [(0, 1)]
    for part in iterate_chunks(array):
        minimum, maximum = min(minimum, part.min()), max(maximum, part.max())
        are_binary = [
            (low, high)
            for low, high in are_binary
            if np.all((part == low) | (part == high))
        ]
        is_integer = is_integer and (
            array.dtype.kind in "biu" or bool(np.all(part == np.rint(part)))
        )
    found = ArrayDescription(
        num_examples=len(array),
        shape=array.shape[1:],
        dtype=str(array.dtype),
        minimum=float(minimum),
        maximum=float(maximum),
        is_binary=bool(are_binary),
        is_integer=is_integer,
        is_overdispersed=is_integer and minimum >= 0 and _is_overdispersed(array),
    )
    for candidate in candidates:
        if candidate.suits(found):
            return found._replace(likelihood=candidate.name, reason=candidate.reason)
    return found


def _is_overdispersed(array: np.ndarray) -> bool:
    sample = np.reshape(array[:1000], (min(len(array), 1000), -1))
    variance = sample.var(axis=0, dtype=np.float64)
    mean = sample.mean(axis=0, dtype=np.float64)
    return bool(np.mean(variance > _OVERDISPERSION * mean) > 0.5)


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


def check_suits(
    array: np.ndarray,
    support: Support,
    where: str = "the array",
    *,
    name: str = "the likelihood",
    candidates: Sequence[Candidate] = (),
    scale_8_bit: bool = True,
) -> None:
    """Check that every value of an array lies in the support of a likelihood.

    Args:
      array: numbers, `[examples, ...]`.
      support: support of the likelihood, as `vaejax.distributions.support_of` gives it.
      where: name of the array in errors.
      name: name of the likelihood in errors.
      candidates: likelihoods of which the error proposes the first that suits.
      scale_8_bit: 8-bit values above 1 are taken as intensities `k / 255`; set it to
        false for counts.

    Raises:
      ValueError: a value lies outside; the error names the first one and the fix.
    """
    is_8_bit = scale_8_bit and array.dtype == np.uint8 and array.max() > 1
    found = first_wrong(
        array,
        lambda part: support.contains(
            part.astype(np.float64) / (255 if is_8_bit else 1)
        ),
    )
    if found:
        suitable = describe_array(array, candidates, where).likelihood
        fix = (
            f"choose {suitable}, which suits these values, or change them"
            if suitable
            else "choose another, or change the values"
        )
        raise ValueError(
            f"{where} {found}; {name} is over {support.description}: {fix}."
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
