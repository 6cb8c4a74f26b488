"""Tables as people have them: columns with names, kinds, and missing cells."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vaejax._checks import described
from vaejax.datasets._given_kinds import column_of_kind, labels_of
from vaejax.datasets._kinds import propose
from vaejax.datasets._one_hot import find_blocks, merge
from vaejax.datasets._table_sources import (
    MISSING,
    Source,
    map_columns,
    open_table,
)
from vaejax.datasets.schema import Schema, Table
from vaejax.datasets.schema_columns import (
    CARRIED,
    SchemaColumn,
    check_kind,
    did_you_mean,
)

# Tables of counts have so many columns, of which so many are counts by themselves.
_MANY_COLUMNS, _MOSTLY = 10, 0.5


def read_table(
    table: Any,
    *,
    kinds: Mapping[str, str] | None = None,
    schema: Schema | None = None,
    header: bool | None = None,
    delimiter: str | None = None,
    missing: Sequence[str | float] | None = None,
    names: Sequence[str] | None = None,
) -> Table:
    """Read a table, and find the kind of each column from its values.

    The first of these rules that holds gives the kind, whatever the dtype:

    1. one value in all rows: "ignore", since nothing can be learned of it;
    2. texts: "binary" for true and false, "identifier" where all are different, or more
       than half of them and more than 50; else "class";
    3. 0 and 1: "binary". Columns of 0 and 1 of which exactly one is 1 in every row are
       one "class" column together;
    4. no value twice: "identifier" for whole numbers without a name or named id or
       index, and for what increases by a constant step, in 10 rows or more;
    5. whole numbers 0..k or 1..k with k < 10, all present: "ordinal";
    6. whole numbers from 0 with a clear mode of at most 2, a variance above the mean
       and no common divisor: "count". A table of 10 or more columns, all whole numbers
       from 0, of which half are counts, has counts only; so has a sparse matrix;
    7. numbers above 0 whose logarithm fits a Normal better by 0.1 nats per value, and
       whose step is narrow beside them: "positive";
    8. else "real". Its `step` is the greatest common divisor of the differences of
       whole numbers, of numbers with at most 6 decimals (for fewer than 10 values that
       leave gaps, the last decimal place), or of evenly spaced ones; 0 where it is less
       than 1/10,000 of the standard deviation.

    Columns of dates, columns without any value, and continuous ones of which more than
    5 % are one value are refused. Dates that are all different are identifiers.

    Args:
      table: path of a .csv, .tsv (either may be .gz) or .parquet file, a DataFrame of
        polars or pandas, a dict of columns, an array `[N, D]`, or a sparse matrix of
        counts of SciPy. All but arrays and matrices need the extra `tables`.
      kinds: kinds by the names of columns, which replace those found; a kind of
        `SchemaColumn`.
      schema: schema of a table like this one, in place of kinds found from values.
      header: whether the first line of a file holds names; None finds it out, or takes
        it from the schema.
      delimiter: character between the cells of a file; None finds it out.
      missing: texts of missing cells, beside NaN and null; one that writes a number
        stands for the number too, such as "-999". None takes those of the schema, which
        are "", "NA", "N/A", "nan", "NaN", "null", "None" and "?" unless others were
        given. The schema keeps them.
      names: names of the columns of an array or a sparse matrix.

    Returns:
      The `Table`. Its schema is fitted to all rows: call `Schema.fitted` with the
      training rows.

    Raises:
      ValueError: the table is damaged, a question is open, or a column suits no
        likelihood; the error names line and column where it can, and the fix.
      DataUnavailableError: (a ValueError) there is no such file, or the extra is not
        installed.
      TypeError: `kinds` is no mapping, or `missing` is one text.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets
      >>> rng = np.random.default_rng(0)
      >>> ages = rng.integers(18, 90, 200)
      >>> smokers = rng.integers(0, 2, 200)
      >>> rows = np.stack([np.arange(200), ages, smokers], axis=1)
      >>> table = datasets.read_table(rows, names=["id", "age", "smoker"])
      >>> [column.kind for column in table.schema.columns]
      ['identifier', 'real', 'binary']
      >>> table.values.shape, table.ignored["id"][:3]
      ((200, 2), [0, 1, 2])
    """
    if schema is not None:
        if kinds:
            raise ValueError("kinds and a schema are given; give one of them.")
        return schema.encode_frame(
            table, header=header, delimiter=delimiter, missing=missing, names=names
        )
    if kinds is not None and not isinstance(kinds, Mapping):
        raise TypeError(
            f"kinds is {described(kinds)}; give a dict from the names of columns to "
            'their kinds, such as {"age": "real"}.'
        )
    missing = MISSING if missing is None else missing
    source = open_table(
        table, header=header, delimiter=delimiter, missing=missing, names=names
    )
    columns = tuple(_find_columns(source, dict(kinds or {})))
    schema = Schema(columns, tuple(map(str, missing)))
    if not schema.modeled():
        first = schema.columns[0]
        raise ValueError(
            f"{source.where} has no column that a model describes: the first, "
            f"{first.name!r}, is {first.kind} ({first.reason}); give another table, or "
            "kinds that are modeled."
        )
    found = schema.encode_frame(source)
    return found._replace(schema=schema.fitted(found.values, found.mask))


def _find_columns(source: Source, kinds: dict[str, str]) -> list[SchemaColumn]:
    for name, kind in kinds.items():
        if name not in source.names:
            raise ValueError(
                f"{source.where} has no column {name!r}; "
                f"{did_you_mean(name, source.names)}."
            )
        check_kind(name, kind)

    def find(name: str) -> tuple[SchemaColumn, np.ndarray | None]:
        try:
            return _find_column(source, name, kinds.get(name))
        except ValueError as error:
            where = "" if source.where in str(error) else f"{source.where}: "
            raise ValueError(f"{where}{error}") from error

    found = map_columns(find, source.names, source.num_rows)
    columns = {column.name: column for column, _ in found}
    _make_counts(source, columns, kinds)
    zero_one = {
        column.name: cells
        for column, cells in found
        if cells is not None and columns[column.name].kind == "binary"
    }
    if zero_one:
        for block in find_blocks(list(zero_one), list(zero_one.values())):
            columns[block[0]] = merge(block, [n for n in columns if n not in block])
            for name in block[1:]:
                del columns[name]
    return list(columns.values())


def _find_column(
    source: Source, name: str, kind: str | None
) -> tuple[SchemaColumn, np.ndarray | None]:
    """Return the schema of a column, and its values where it may be of a block."""
    if kind == "ignore":
        return SchemaColumn(name, "ignore", reason="given"), None
    has_no_order = kind in (*CARRIED, "class", "binary")
    raw = source.make(name, has_no_order)
    if kind in CARRIED:
        share = 1 - float(np.mean(raw.observed))
        return SchemaColumn(name, kind, reason="given", share_missing=share), None
    if kind is not None:
        return column_of_kind(raw, kind), None
    if source.is_sparse and len(labels_of(raw)) > 1:
        counts = column_of_kind(raw, "count")
        return dataclasses.replace(counts, reason="a sparse matrix holds counts"), None
    column = propose(raw, is_unnamed=name in source.unnamed)
    is_zero_one = column.kind == "binary" and column.classes == ("0", "1")
    if is_zero_one and raw.numbers is not None and not column.share_missing:
        return column, raw.numbers.astype(np.uint8)
    return column, None


def _make_counts(
    source: Source, columns: dict[str, SchemaColumn], kinds: Mapping[str, str]
) -> None:
    """Make all columns counts where the table is of counts, in place."""
    found = {
        name: column
        for name, column in columns.items()
        if name not in kinds and column.is_modeled
    }
    num_counts = sum(column.kind == "count" for column in found.values())
    if len(found) < _MANY_COLUMNS or num_counts < _MOSTLY * len(found):
        return
    others = {name: column for name, column in found.items() if column.kind != "count"}
    if not all(_holds_counts(source, column) for column in others.values()):
        return
    for name, column in others.items():
        columns[name] = SchemaColumn(
            name,
            "count",
            reason=f"whole numbers from 0 beside {num_counts} columns of counts",
            alternative=column.kind,
            share_missing=column.share_missing,
        )


def _holds_counts(source: Source, column: SchemaColumn) -> bool:
    if (
        column.kind == "class"
        or column.classes not in ((), ("0", "1"))
        and (column.classes[0] != "0")
    ):
        return False
    numbers = source.make(column.name).numbers
    if numbers is None:
        return False
    observed = numbers[~np.isnan(numbers)]
    return bool(np.all((observed >= 0) & (observed == np.rint(observed))))
