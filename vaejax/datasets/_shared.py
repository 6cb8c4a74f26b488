"""Types and helpers that several loaders share."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vaejax._files import one_line

# Images and labels; labels are None where there are none.
Arrays = tuple[np.ndarray, np.ndarray | None]
# By split: images `uint8 [examples, height, width]`, labels `uint8 [examples, ...]`.
Splits = dict[str, Arrays]

_CHUNK_BYTES = 1 << 24
# Parts that are converted to float64 on the way, which is up to 8 times as large.
_PART_BYTES = 1 << 20


def iterate_chunks(array: np.ndarray) -> Iterator[np.ndarray]:
    """Iterate over an array in consecutive parts of at most 16 MiB.

    A memory map is then never held in memory as a whole. A part has at least one row,
    whatever its size.

    Args:
      array: any array; it is cut along its first axis.

    Yields:
      Views of the array, in order; the array itself where it has no axis.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets
      >>> images = np.zeros((60_000, 28, 28), np.uint8)
      >>> [len(part) for part in datasets.iterate_chunks(images)]
      [21399, 21399, 17202]
    """
    yield from _iterate(array, _CHUNK_BYTES)


def iterate_parts(array: np.ndarray) -> Iterator[np.ndarray]:
    """Iterate over an array in parts small enough to be converted to float64."""
    yield from _iterate(array, min(_PART_BYTES, _CHUNK_BYTES))


def _iterate(array: np.ndarray, num_bytes: int) -> Iterator[np.ndarray]:
    if not array.ndim:
        yield array
        return
    rows = max(1, num_bytes * len(array) // max(array.nbytes, 1))
    for start in range(0, len(array), rows):
        yield array[start : start + rows]


def first_wrong(array: np.ndarray, is_right: Callable[[np.ndarray], Any]) -> str | None:
    """Describe the first value that is not right, or return None where all are.

    The description reads "holds 2 in example 1 (at [1, 0])".
    """
    start = 0
    for part in iterate_parts(array):
        wrong = ~np.asarray(is_right(part))
        if wrong.any():
            first, *rest = (int(i) for i in np.argwhere(wrong)[0])
            value, example = part[(first, *rest)], start + first
            return f"holds {value!s} in example {example} (at {[example, *rest]})"
        start += len(part)
    return None


def listed(names: Sequence[str]) -> str:
    """Return the first eight of some names for a message, or the word nothing."""
    return one_line(", ".join([*names[:8], *["..."] * (len(names) > 8)])) or "nothing"


def quoted(cell: object) -> str:
    """Return the first characters of a cell for a message, as a literal."""
    text = str(cell)
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def parse_idx(raw: bytes) -> np.ndarray:
    """Return the array in the bytes of an idx file.

    The format is two zero bytes, the type (8: unsigned byte), the number of axes, the
    length of each axis, and the values.
    """
    if len(raw) < 4 or raw[:3] != b"\x00\x00\x08":
        raise ValueError("it is not an idx file of unsigned bytes")
    num_axes = raw[3]
    shape = np.frombuffer(raw, ">u4", num_axes, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * num_axes).reshape(shape)
