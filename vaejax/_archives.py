"""Zip archives, read without trust in the sizes that they give.

A member is unpacked in parts, and refused where it would become far larger than the
archive suggests: a few kilobytes can unpack to terabytes.
"""

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from vaejax._files import one_line, why_no_file

#: What `zipfile` and `zlib` raise where an archive is damaged.
ARCHIVE_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)
# A member may be larger than the first only up to so many times its packed size.
MOST_UNPACKED, _MOST_RATIO = 256 << 20, 200
# The methods whose output zipfile bounds; both are what NumPy and exports use.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1
_PART_BYTES = 1 << 20


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive of a regular file.

    Raises:
      ValueError: there is no such file.
      Exception: one of `ARCHIVE_ERRORS`; the file is no archive, or is damaged.
    """
    if reason := why_no_file(path):
        raise ValueError(reason)
    with zipfile.ZipFile(path) as archive:
        yield archive


@contextmanager
def open_member(
    archive: zipfile.ZipFile, name: str, *, most: int = MOST_UNPACKED
) -> Iterator[IO[bytes]]:
    """Open a member, to be read in parts.

    Args:
      archive: the archive.
      name: name of the member.
      most: bytes that a member may have whatever its packed size.

    Raises:
      ValueError: it is packed by another method, or would be too large.
      Exception: one of `ARCHIVE_ERRORS`; the archive is damaged.
    """
    info = archive.getinfo(name)
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
        raise ValueError(f"{name} is encrypted, or packed by another method than zlib")
    if info.file_size > max(most, _MOST_RATIO * info.compress_size):
        raise ValueError(
            f"{name} would unpack from {info.compress_size:,} to {info.file_size:,} "
            f"bytes, more than {most:,} and {_MOST_RATIO} times as many"
        )
    with archive.open(info) as file:
        yield file


def read_member(
    archive: zipfile.ZipFile, name: str, *, most: int = MOST_UNPACKED
) -> bytes:
    """Read a member; arguments and errors are those of `open_member`."""
    with open_member(archive, name, most=most) as file:
        # One large read would unpack all of it before its size is compared.
        return b"".join(iter(lambda: file.read(_PART_BYTES), b""))


def check_gzip(path: Path) -> None:
    """Check that a file, where it is packed by gzip, is not far larger when unpacked.

    Raises:
      ValueError: it unpacks to more than a member of an archive may.
      Exception: one of `ARCHIVE_ERRORS`; it is damaged.
    """
    with open(path, "rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return
    packed = path.stat().st_size
    most = max(MOST_UNPACKED, _MOST_RATIO * packed)
    # Deflated bytes are at most 1,032 times as many.
    if packed * 1032 <= most:
        return
    size = 0
    with gzip.GzipFile(path) as file:
        while part := file.read(_PART_BYTES):
            size += len(part)
            if size > most:
                raise ValueError(
                    f"{one_line(path)} unpacks from {packed:,} to more than {most:,} "
                    "bytes; unpack it first."
                )
