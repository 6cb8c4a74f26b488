"""Arrays in .npy and .npz files, checked before memory is taken for them.

What a header promises is compared with the bytes that follow it. No Python object is
ever unpickled.
"""

import io
import math
import sys
import tokenize
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from vaejax._archives import ARCHIVE_ERRORS, open_archive, open_member
from vaejax._files import one_line, reason_of, why_no_file

_MAGIC = b"\x93NUMPY"
# Versions of the format, with the bytes of the length of their header and its reader.
_HEADERS = {
    1: (2, np.lib.format.read_array_header_1_0),
    2: (4, np.lib.format.read_array_header_2_0),
}
_LONGEST_HEADER = 1 << 16
# What NumPy raises where the text of a header is damaged: it is a literal of Python.
_HEADER_ERRORS = (
    ValueError,
    TypeError,
    SyntaxError,
    tokenize.TokenError,
    MemoryError,
    RecursionError,
    OverflowError,
)
_PART_BYTES = 1 << 20


class _Header(NamedTuple):
    """Header of a .npy file: the array, and where its bytes begin."""

    shape: tuple[int, ...]
    dtype: np.dtype
    is_fortran: bool
    num_bytes: int
    start: int


def open_npy(path: Path, action: str = "memory-mapped") -> np.ndarray:
    """Memory-map a .npy file.

    Raises:
      ValueError: the file cannot be `action`, a participle for the error.
    """
    try:
        if reason := why_no_file(path):
            raise ValueError(reason)
        with open(path, "rb") as file:
            header = _read_header(file, path.stat().st_size)
        order = "F" if header.is_fortran else "C"
        if not header.num_bytes:
            return np.empty(header.shape, header.dtype, order)
        return np.memmap(path, header.dtype, "r", header.start, header.shape, order)
    except (OSError, ValueError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"{one_line(path)} cannot be {action}: {reason_of(error)}; save one array "
            "in it with np.save."
        ) from error


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays in an .npz file, sorted.

    Raises:
      ValueError: the file cannot be read.
    """
    with _open_npz(path) as archive:
        return sorted(name.removesuffix(".npy") for name in archive.namelist())


def read_npz(path: Path, *names: str) -> dict[str, np.ndarray]:
    """Read those of the arrays of an .npz file that it has, by name.

    Raises:
      ValueError: the file or one of these arrays cannot be read.
    """
    with _open_npz(path) as archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        return {
            name: _read_array(archive, members[name])
            for name in names
            if name in members
        }


@contextmanager
def _open_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with open_archive(path) as archive:
            yield archive
    except (*ARCHIVE_ERRORS, MemoryError) as error:
        reason = reason_of(error)
        if isinstance(error, zipfile.BadZipFile) and _is_npy(path):
            reason = "it is a .npy file; rename it"
        raise ValueError(
            f"{one_line(path)} cannot be read as .npz: {reason}; save it again with "
            "np.savez."
        ) from error


def _is_npy(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def _read_array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    size = archive.getinfo(name).file_size
    with open_member(archive, name) as file:
        header = _read_header(file, size)
        order = "F" if header.is_fortran else "C"
        if not header.num_bytes:
            return np.empty(header.shape, header.dtype, order)
        content = np.empty(header.num_bytes, np.uint8)
        # The member may end before the size that the archive gives.
        for start in range(0, len(content), _PART_BYTES):
            part = content[start : start + _PART_BYTES]
            read = 0
            while read < len(part):
                found = file.read(len(part) - read)
                if not found:
                    raise ValueError(f"{name} ends before its header says so")
                part[read : read + len(found)] = np.frombuffer(found, np.uint8)
                read += len(found)
    return content.view(header.dtype).reshape(header.shape, order=order)


def _read_header(file: IO[bytes], size: int) -> _Header:
    """Read the header of a .npy file of so many bytes, and compare it with them."""
    start = file.read(len(_MAGIC) + 2)
    if start.startswith(b"PK"):
        raise ValueError("it is an .npz file")
    if start[: len(_MAGIC)] != _MAGIC or len(start) < len(_MAGIC) + 2:
        raise ValueError("it is no .npy file")
    version = start[len(_MAGIC)]
    if version not in _HEADERS:
        raise ValueError(f"it is of version {version} of the format, for records")
    width, read = _HEADERS[version]
    length = file.read(width)
    num = int.from_bytes(length, "little")
    if num > _LONGEST_HEADER:
        raise ValueError(f"its header is said to take {num:,} bytes")
    try:
        shape, is_fortran, dtype = read(io.BytesIO(length + file.read(num)))
    except _HEADER_ERRORS as error:
        raise ValueError(f"its header is damaged ({reason_of(error)})") from error
    if not all(type(axis) is int and 0 <= axis <= sys.maxsize for axis in shape):
        raise ValueError(f"its header gives the shape {shape}")
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are not read")
    num_bytes = dtype.itemsize * math.prod(shape)
    begin = len(_MAGIC) + 2 + width + num
    if num_bytes != size - begin:
        raise ValueError(
            f"its header promises {num_bytes:,} bytes, {dtype} {list(shape)}, and "
            f"{size - begin:,} follow"
        )
    return _Header(shape, dtype, is_fortran, num_bytes, begin)
