"""Cells of files of delimited text, which polars reads in parts.

Of a whole file polars holds the text beside the cells; in parts, little more than the
cells.
"""

import gzip
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

_PART_BYTES = 1 << 20


def open_bytes(path: Path) -> Any:
    """Open a file, unpacked where it is packed by gzip."""
    with path.open("rb") as file:
        is_compressed = file.read(2) == b"\x1f\x8b"
    return gzip.GzipFile(path) if is_compressed else path.open("rb")


def read_cells(
    polars: Any,
    path: Path,
    options: Mapping[str, Any],
    *,
    num_lines: int,
    missing: Sequence[str],
) -> Any:
    """Return the cells of a file as a frame of polars.

    Args:
      polars: the module.
      path: path of the file, packed by gzip or not.
      options: options of `polars.read_csv`: separator, skip_rows, new_columns and
        schema_overrides, and any others.
      num_lines: number of lines whose types are tried first.
      missing: texts of missing cells.

    Raises:
      PolarsError: lines differ in length, or a cell is none of any type.
    """
    options = {
        **options,
        "has_header": False,
        "infer_schema_length": num_lines,
        # Else a column of numbers with "NA" in it is one of text.
        "null_values": list(missing),
    }
    try:
        types = dict(next(_frames(polars, path, options, num_lines)).schema)
        return _read_as(types, polars, path, options, num_lines)
    except polars.exceptions.NoDataError:
        return polars.DataFrame()
    except polars.exceptions.PolarsError:
        pass
    # Types of the first lines do not hold for all: look at all, which takes longer.
    options = {**options, "infer_schema_length": None}
    types = _common_types(polars, _frames(polars, path, options, num_lines))
    return _read_as(types, polars, path, options, num_lines)


def _read_as(
    types: dict[str, Any], polars: Any, path: Path, options: dict, num_lines: int
) -> Any:
    options = {**options, "schema_overrides": types}
    frames = _frames(polars, path, options, num_lines, are_known=True)
    return polars.concat(list(frames), rechunk=False)


def _frames(
    polars: Any, path: Path, options: dict, num_lines: int, *, are_known: bool = False
) -> Iterator[Any]:
    """Yield the cells of each part of a file, the first of so many lines or more.

    Where types are known, polars looks for them in the first part only, in which it
    finds the number of columns.
    """
    # A first line of empty cells, left out again, tells the number of columns.
    empty = options["separator"] * (len(options["new_columns"]) - 1) + "\n"
    later = {**options, "skip_rows": 0}
    if are_known:
        later["infer_schema_length"] = 1
    with open_bytes(path) as file:
        least = options["skip_rows"] + num_lines
        yield polars.read_csv(_read_part(file, least=least), **options)
        while part := _read_part(file, empty.encode()):
            yield polars.read_csv(part, **later)[1:]


def _read_part(file: Any, start: bytes = b"", *, least: int = 0) -> bytes:
    """Return whole records, at least so many lines, after a start; or else nothing."""
    pieces = [file.read(_PART_BYTES), file.readline()]
    if not pieces[0]:
        return b""
    num_lines = sum(piece.count(b"\n") for piece in pieces) if least else 0
    num_quotes = sum(piece.count(b'"') for piece in pieces)
    # A line that ends between quotes is no whole record.
    while (num_lines < least or num_quotes % 2) and (line := file.readline()):
        pieces.append(line)
        num_lines += 1
        num_quotes += line.count(b'"')
    return b"".join([start, *pieces])


def _common_types(polars: Any, frames: Iterator[Any]) -> dict[str, Any]:
    """Return types that hold for all frames, by the names of the columns."""
    found: dict[str, set] = {}
    for frame in frames:
        for column in frame:
            types = found.setdefault(column.name, set())
            if column.null_count() < len(column):
                types.add(column.dtype)
    # Each holds the numbers of those before it.
    numbers = [polars.Int64, polars.Int128, polars.Float64]
    common = {}
    for name, types in found.items():
        if types and types <= set(numbers):
            common[name] = max(types, key=numbers.index)
        else:
            common[name] = types.pop() if len(types) == 1 else polars.String
    return common
