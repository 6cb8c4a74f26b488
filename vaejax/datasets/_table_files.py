"""Tables in files of delimited text: delimiter, decimal sign, names, and their lines.

polars reads the cells. What it does not say is found here: whether the first line holds
names, and the line of a cell that is wrong.
"""

import csv
import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from vaejax._archives import check_gzip
from vaejax._files import one_line, reason_of
from vaejax.datasets._header import has_names, is_number
from vaejax.datasets._shared import quoted
from vaejax.datasets._table_cells import open_bytes, read_cells
from vaejax.datasets.errors import DataUnavailableError

_DELIMITERS = "\t;|,"
_HEADER_LINES = 200
_SAMPLE_LINES, _SAMPLE_CHARACTERS = 1000, 1 << 18
# The names that are given to columns without one, in a file that was written so.
_OWN_NAME = re.compile(r"column \d+$")
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+$")
_DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+$")


class Layout(NamedTuple):
    """How the lines of a file become cells.

    Attributes:
      delimiter: character between cells.
      decimal_comma: true where the decimal sign is a comma.
      names: names of the columns, which are unique.
      unnamed: those that the first line leaves without a name.
      text: those with cells such as 007, which are no numbers.
      skipped: number of lines before the first example.
    """

    delimiter: str
    decimal_comma: bool
    names: tuple[str, ...]
    unnamed: frozenset[str]
    text: frozenset[str]
    skipped: int


def import_polars() -> Any:
    """Return the module polars, or raise DataUnavailableError with the fix."""
    try:
        import polars
    except ImportError as error:
        raise DataUnavailableError(
            "tables are read with polars, which is not installed: pip install "
            "'vaejax[tables]'."
        ) from error
    return polars


def read_delimited(
    path: Path,
    *,
    missing: Sequence[str],
    header: bool | None = None,
    delimiter: str | None = None,
) -> tuple[Any, Layout]:
    """Read a file of delimited text as a frame of polars, with its layout.

    Raises:
      ValueError: the file is empty, damaged, or lines differ in length; the error names
        the line.
    """
    polars = import_polars()
    if delimiter is not None and len(delimiter) != 1:
        raise ValueError(f"the delimiter is {delimiter!r}; give one character.")
    try:
        check_gzip(path)
        layout = _find_layout(path, missing, header, delimiter)
        frame = _read_cells(polars, path, layout, missing)
        if not len(frame):
            raise ValueError(
                f"{one_line(path)} has a line of names and no other; give a line for "
                "each "
                "example."
            )
        # A line with too few cells ends in missing ones, and so does a blank line.
        if frame[frame.columns[-1]].null_count():
            blank = _check_lines(path, layout)
            if blank:
                index = polars.Series(range(len(frame)))
                frame = frame.filter(~index.is_in(blank))
    except UnicodeDecodeError as error:
        raise ValueError(_not_utf8(path, error)) from error
    except (OSError, EOFError, zlib.error, csv.Error) as error:
        raise ValueError(
            f"{one_line(path)} cannot be read as a table: {reason_of(error)}; save it "
            "as .csv in UTF-8."
        ) from error
    return frame, layout


def line_of(path: Path, layout: Layout, row: int) -> int:
    """Return the number of the line that holds an example, from 1 on."""
    with _open(path) as file:
        reader = _records(file, layout.delimiter)
        lines = (line for line, _ in reader if line > layout.skipped)
        return next(islice(lines, row, None), 0)


def _open(path: Path) -> io.TextIOWrapper:
    return io.TextIOWrapper(open_bytes(path), encoding="utf-8-sig", newline="")


def _sample(file: Any) -> list[str]:
    """Return the first lines of a file: a thousand, or fewer where they are long."""
    lines, size = [], 0
    for line in islice(file, _SAMPLE_LINES):
        lines.append(line)
        size += len(line)
        if size > _SAMPLE_CHARACTERS and len(lines) > 10:
            break
    return lines


def _records(file: Any, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield `(number of its last line, cells)` of each line that is not blank."""
    reader = csv.reader(file, delimiter=delimiter)
    for row in reader:
        if row:
            yield reader.line_num, row


def _find_layout(
    path: Path, missing: Sequence[str], header: bool | None, delimiter: str | None
) -> Layout:
    with _open(path) as file:
        lines = _sample(file)
    if not any(line.strip() for line in lines):
        raise ValueError(f"{one_line(path)} is empty; give a line for each example.")
    if "\0" in lines[0]:
        raise ValueError(
            f"{one_line(path)} is not text in UTF-8; save it as .csv in UTF-8."
        )
    delimiter = delimiter or _find_delimiter(lines, path)
    rows = [
        (line, [cell.strip() for cell in row])
        for line, row in _records(lines, delimiter)
    ]
    (first_line, first), rest = rows[0], [row for _, row in rows[1:]]
    if header is None:
        header = has_names(first, rest[:_HEADER_LINES], missing)
    elif any(_OWN_NAME.match(cell) for cell in first):
        header = True
    if header is None:
        raise ValueError(
            f"{one_line(path)}: the first line, "
            f"{one_line(delimiter.join(first)[:60])}, may hold names or "
            "an example; say which by header=True or header=False (--header yes or "
            "--header no)."
        )
    if header:
        names, unnamed = _names(path, first)
    else:
        names, unnamed = [f"column {j}" for j in range(1, len(first) + 1)], []
        rest = [first, *rest]
    return Layout(
        delimiter=delimiter,
        decimal_comma=delimiter != "," and _has_decimal_comma(rest),
        names=tuple(names),
        unnamed=frozenset(unnamed),
        text=frozenset(
            names[j]
            for row in rest
            for j, cell in enumerate(row[: len(names)])
            if cell[:1] == "0" and len(cell) > 1 and cell.isdecimal()
        ),
        # The first example may hold several lines, and blank ones may precede it.
        skipped=first_line
        if header
        else next(n for n, line in enumerate(lines) if line.strip(" \r\n")),
    )


def _find_delimiter(lines: Sequence[str], path: Path) -> str:
    for mark in _DELIMITERS:
        lengths = {len(row) for _, row in _records(lines[:100], mark)}
        if len(lengths) == 1 and lengths != {1}:
            return mark
    words = [line.split() for line in lines[:100] if line.strip()]
    if all(len(row) == len(words[0]) > 1 for row in words) and all(
        is_number(cell) for row in words[1:] for cell in row
    ):
        raise ValueError(
            f"{one_line(path)} separates cells by spaces; separate them by commas, "
            "semicolons, "
            "tabs or vertical bars."
        )
    return max(reversed(_DELIMITERS), key=lines[0].count)


def _has_decimal_comma(rows: Sequence[Sequence[str]]) -> bool:
    cells = [cell for row in rows for cell in row]
    return any(_DECIMAL_COMMA.match(cell) for cell in cells) and not any(
        _DECIMAL_POINT.match(cell) for cell in cells
    )


def _names(path: Path, first: Sequence[str]) -> tuple[list[str], list[str]]:
    names = [cell or f"column {j}" for j, cell in enumerate(first, 1)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        places = [str(j) for j, name in enumerate(names, 1) if name == twice[0]]
        raise ValueError(
            f"{one_line(path)}: columns {' and '.join(places[:8])} are both named "
            f"{quoted(twice[0])}; "
            "rename one of them."
        )
    return names, [name for name, cell in zip(names, first, strict=True) if not cell]


def _read_cells(polars: Any, path: Path, layout: Layout, missing: Sequence[str]) -> Any:
    options = {
        "separator": layout.delimiter,
        "decimal_comma": layout.decimal_comma,
        "skip_rows": layout.skipped,
        "new_columns": list(layout.names),
        "schema_overrides": dict.fromkeys(layout.text, polars.String),
    }
    try:
        return read_cells(
            polars, path, options, num_lines=_SAMPLE_LINES, missing=missing
        )
    except polars.exceptions.PolarsError as error:
        _check_lines(path, layout)
        # What follows is the place in a part, or advice on options that are not given.
        first = str(error).partition("\n")[0].partition(", in chunk")[0]
        reason = one_line(first.rstrip("."))
        raise ValueError(
            f"{one_line(path)} cannot be read as a table: {reason}."
        ) from error


def _check_lines(path: Path, layout: Layout) -> list[int]:
    """Check that lines have as many cells as names; return the rows of blank ones."""
    blank, row = [], 0
    with _open(path) as file:
        lines = enumerate(file, 1)
        for number, line in islice(lines, layout.skipped, None):
            if '"' in line:
                break
            if not line.strip(" \r\n"):
                blank.append(row)
            else:
                _check_length(path, layout, number, line.count(layout.delimiter) + 1)
            row += 1
        else:
            return blank
    with _open(path) as file:
        for number, cells in _records(file, layout.delimiter):
            if number > layout.skipped:
                _check_length(path, layout, number, len(cells))
    return _blank_rows(path, layout)


def _check_length(path: Path, layout: Layout, line: int, num_cells: int) -> None:
    expected = len(layout.names)
    if num_cells == expected:
        return
    fix = "make them the same"
    if expected == 1:
        fix += ", or separate cells by semicolons where the comma is the decimal sign"
    cells = "1 cell" if num_cells == 1 else f"{num_cells} cells"
    raise ValueError(
        f"{one_line(path)}, line {line}: {cells}, and {expected} in the first; {fix}."
    )


def _blank_rows(path: Path, layout: Layout) -> list[int]:
    blank = []
    with _open(path) as file:
        reader = csv.reader(
            islice(file, layout.skipped, None), delimiter=layout.delimiter
        )
        for row, cells in enumerate(reader):
            if not cells:
                blank.append(row)
    return blank


def _not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    return (
        f"{one_line(path)} is not text in UTF-8 (byte "
        f"{error.object[error.start]:#04x}); save it "
        "as .csv in UTF-8."
    )
