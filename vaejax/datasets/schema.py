"""A schema: the columns of a table, from the file to the model and back."""

import csv
import dataclasses
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vaejax._files import write_atomically
from vaejax.columns import Column
from vaejax.datasets._encoding import decode_column, encode_column, moments_of
from vaejax.datasets._table_sources import (
    MISSING,
    is_matrix,
    map_columns,
    open_table,
)
from vaejax.datasets.schema_columns import (
    CARRIED,
    SchemaColumn,
    column_from_dict,
    did_you_mean,
)

_FORMAT = 1
# The names that are given to columns without one.
_NO_NAME = re.compile(r"column \d+$")


class Table(NamedTuple):
    """Rows of a table as a model sees them.

    Attributes:
      schema: the `Schema` of the columns.
      values: float32 `[N, D]`, the columns that a model describes, in the units of the
        file less `origin`; a class is its index; 0 where a cell is missing.
      mask: bool `[N, D]`, true where a cell is observed.
      ignored: the columns that are carried along by name, a list of N cells each.

    Example:
      >>> import numpy as np
      >>> from vaejax import datasets
      >>> heights = np.random.default_rng(0).normal(1.7, 0.1, (50, 1))
      >>> table = datasets.read_table(heights, names=["height"])
      >>> table.values.shape, bool(table.mask.all())
      ((50, 1), True)
    """

    schema: "Schema"
    values: np.ndarray
    mask: np.ndarray
    ignored: dict[str, list]


@dataclasses.dataclass(frozen=True)
class Schema:
    """Columns of a table with their kinds and units; written to and read from JSON.

    Attributes:
      columns: the `SchemaColumn`s, in the order of the file.
      missing: texts of missing cells, beside NaN and null; one that writes a number
        stands for the number too.

    Example:
      >>> from vaejax import datasets
      >>> columns = (
      ...     datasets.SchemaColumn("age", "real", step=1.0),
      ...     datasets.SchemaColumn("region", "class", classes=("north", "south")),
      ... )
      >>> schema = datasets.Schema(columns)
      >>> decoded = schema.decode([[44.8, 1.0]])
      >>> decoded["age"].tolist(), decoded["region"].tolist()
      ([45], ['south'])
      >>> datasets.Schema.from_dict(schema.as_dict()) == schema
      True
    """

    columns: tuple[SchemaColumn, ...]
    missing: tuple[str, ...] = MISSING

    def modeled(self) -> tuple[Column, ...]:
        """Return what a model must know of its D columns, in their order."""
        return tuple(column.as_column() for column in self._modeled())

    def names(self) -> tuple[str, ...]:
        """Return the names of the D columns that a model describes."""
        return tuple(column.name for column in self._modeled())

    def _modeled(self) -> list[SchemaColumn]:
        return [column for column in self.columns if column.is_modeled]

    def fitted(self, values: np.ndarray, mask: np.ndarray | None = None) -> "Schema":
        """Return the schema with shifts and scales of the training rows.

        Args:
          values: `[N, D]`, training rows of a `Table`.
          mask: bool `[N, D]`, or None where all cells are observed.

        Returns:
          The `Schema`.

        Raises:
          ValueError: a column has no value, or a continuous one never varies.
        """
        values = self._rows(values)
        mask = self._mask(values, mask)
        places = {name: j for j, name in enumerate(self.names())}

        def fit(column: SchemaColumn) -> SchemaColumn:
            j = places[column.name]
            shift, scale = moments_of(column, values[:, j], mask[:, j])
            return dataclasses.replace(column, shift=shift, scale=scale)

        fitted = map_columns(fit, self._modeled(), len(values))
        found = {column.name: column for column in fitted}
        columns = tuple(found.get(each.name, each) for each in self.columns)
        return dataclasses.replace(self, columns=columns)

    def encode_frame(
        self,
        frame: Any,
        *,
        header: bool | None = None,
        delimiter: str | None = None,
        missing: Sequence[str | float] | None = None,
        names: Sequence[str] | None = None,
    ) -> Table:
        """Return new rows as a model of this schema sees them.

        Columns that the schema does not have are left out, and those that it carries
        along may be missing.

        Args:
          frame: path of a file, DataFrame of polars or pandas, dict of columns, array
            or sparse matrix. An array has all columns of the first table, in the same
            order.
          header: whether the first line of a file holds names; None takes it from the
            schema, where columns without names are "column 1", "column 2", ...
          delimiter: character between the cells of a file; None finds it out.
          missing: texts of missing cells in place of the schema's.
          names: names of the columns of an array, which are only needed where columns
            of 0 and 1 that have names of their own are one column here.

        Returns:
          The `Table`, with this schema.

        Raises:
          ValueError: a column is missing, or a cell is none that the column can have.
        """
        names, has_names = self._names_in(frame, names)
        source = open_table(
            frame,
            header=has_names if header is None else header,
            delimiter=delimiter,
            missing=self.missing if missing is None else missing,
            names=names,
        )
        for name in (n for column in self._modeled() for n in _names_of(column)):
            if name not in source.names:
                raise ValueError(
                    f"{source.where} has no column {name!r}; "
                    f"{did_you_mean(name, source.names)}."
                )
        places = {name: j for j, name in enumerate(self.names())}
        values = np.zeros((source.num_rows, len(places)), np.float32)
        mask = np.ones((source.num_rows, len(places)), bool)

        def encode(column: SchemaColumn) -> None:
            j = places[column.name]
            values[:, j], observed = encode_column(source, column)
            if not observed.all():
                mask[:, j] = observed

        map_columns(encode, self._modeled(), source.num_rows)
        ignored = {
            column.name: source.make(column.name, True).cells()
            for column in self.columns
            if column.kind in CARRIED and column.name in source.names
        }
        return Table(self, values, mask, ignored)

    def _names_in(
        self, frame: Any, names: Sequence[str] | None
    ) -> tuple[Sequence[str] | None, bool]:
        """Return names for the columns of new rows, and whether the table had names."""
        every = [name for column in self.columns for name in _names_of(column)]
        has_names = not all(_NO_NAME.match(name) for name in every)
        if is_matrix(frame) and names is None and has_names:
            if any(column.merged for column in self.columns):
                raise ValueError(
                    "columns of the array are one column of the schema, which does not "
                    "know their places; give names=[...] of all columns."
                )
            names = every
        return names, has_names

    def decode(self, values: Any) -> dict[str, np.ndarray]:
        """Return rows of a model in the units of the file.

        Args:
          values: `[N, D]`, as in a `Table`; values beside a step, between classes or
            between counts are rounded.

        Returns:
          The columns of the file by name, `[N]` each: classes as they are written in
          the file, whole numbers as int64.

        Raises:
          ValueError: there are not D columns, or a value is not finite.
        """
        values = self._finite_rows(values)
        found = {}
        for j, column in enumerate(self._modeled()):
            found |= decode_column(column, values[:, j])
        return found

    def to_csv(
        self,
        values: Any,
        path: str | os.PathLike,
        *,
        extra: Mapping[str, Sequence[Any]] | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        """Write rows of a model as a .csv file in the units of the file.

        Args:
          values: `[N, D]`, as in a `Table`.
          path: path of the file, which is replaced in one step.
          extra: columns that stand before the others, such as `Table.ignored`.
          mask: bool `[N, D]`; cells where it is false are empty.

        Raises:
          ValueError: there are not D columns, a value is not finite, or an extra column
            has another length.
        """
        values = self._finite_rows(values)
        mask = self._mask(values, mask)
        columns: dict[str, Sequence[Any]] = {}
        for name, cells in (extra or {}).items():
            if len(cells) != len(values):
                raise ValueError(
                    f"the extra column {name!r} has {len(cells)} cells and there are "
                    f"{len(values)} rows; give it one per row."
                )
            columns[name] = cells
        for j, column in enumerate(self._modeled()):
            single = column.kind in ("real", "positive") and not column.step
            for name, cells in decode_column(column, values[:, j]).items():
                if single and not column.origin:
                    # The shortest text that float32 reads back.
                    cells = [str(cell) for cell in cells.astype(np.float32)]
                columns[name] = [
                    cell if is_there else None
                    for cell, is_there in zip(cells, mask[:, j], strict=True)
                ]
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        write_atomically(Path(path), text.getvalue())

    def as_dict(self) -> dict[str, Any]:
        """Return the schema as values of JSON."""
        columns = [column.as_dict() for column in self.columns]
        return {"format": _FORMAT, "missing": [*self.missing], "columns": columns}

    @classmethod
    def from_dict(cls, values: Any) -> "Schema":
        """Return the schema that `as_dict` gave, edited or not.

        Args:
          values: what `as_dict` returns.

        Returns:
          The `Schema`.

        Raises:
          ValueError: a field is wrong; the error names the column, the field and the
            fix.
        """
        if not isinstance(values, Mapping) or not isinstance(
            values.get("columns"), list
        ):
            raise ValueError("a schema has a list of columns; give what as_dict gave.")
        if values.get("format") != _FORMAT:
            raise ValueError(
                f"the schema has the format {values.get('format')!r}; give {_FORMAT}, "
                "the one that this version reads."
            )
        missing = values.get("missing", [*MISSING])
        if not isinstance(missing, list) or not all(
            isinstance(text, str) for text in missing
        ):
            raise ValueError(
                f"missing is {missing!r} in the schema; give a list of the texts of "
                "missing cells."
            )
        columns = tuple(column_from_dict(column) for column in values["columns"])
        names = [name for column in columns for name in {column.name, *column.merged}]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"two columns of the schema are named {name!r}; remove one."
                )
        if not any(column.is_modeled for column in columns):
            raise ValueError(
                "no column of the schema is modeled; give one of them another kind."
            )
        return cls(columns, tuple(missing))

    def write(self, path: str | os.PathLike) -> None:
        """Write the schema as a file of JSON, replaced in one step.

        Args:
          path: path of the file, such as schema.json.
        """
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(Path(path), text + "\n")

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Schema":
        """Read a schema that `write` wrote, edited or not.

        Args:
          path: path of the file.

        Returns:
          The `Schema`.

        Raises:
          ValueError: there is no such file, or it holds no schema; the error names the
            line, or the column and the field.
        """
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {error.lineno}: {error.msg}; correct the file, or write "
                "it again."
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} cannot be read: {error}.") from error
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    def text(self) -> str:
        """Return the columns as a table of text, with reasons and alternatives."""
        rows = [("column", "kind", "missing", "why")]
        for column in self.columns:
            why = column.reason
            if column.merged:
                why += f": {', '.join(column.merged)}"
            if column.alternative:
                why += f" (else {column.name}={column.alternative})"
            missing = f"{column.share_missing:.1%}" if column.share_missing else "none"
            rows.append((column.name, column.kind, missing, why))
        widths = [max(len(row[j]) for row in rows) for j in range(3)]
        lines = [
            "  ".join(
                [*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]]
            )
            for row in rows
        ]
        return "\n".join(line.rstrip() for line in lines) + (
            "\nanother kind: --columns NAME=KIND,... (kinds={...} in Python), or edit "
            "schema.json"
        )

    def _rows(self, values: Any) -> np.ndarray:
        values = np.asarray(values)
        width = len(self._modeled())
        if (
            values.ndim != 2
            or values.shape[1] != width
            or values.dtype.kind not in "biuf"
        ):
            names = ", ".join(self.names()[:8]) + (", ..." if width > 8 else "")
            raise ValueError(
                f"values are {values.dtype} {list(values.shape)}; give numbers, one "
                f"row per example and one column for each of {names} ({width} in all)."
            )
        return values

    def _finite_rows(self, values: Any) -> np.ndarray:
        values = self._rows(values)
        if not np.all(np.isfinite(values)):
            row, j = np.argwhere(~np.isfinite(values))[0]
            raise ValueError(
                f"values hold {values[row, j]} in row {row}, column "
                f"{self.names()[j]!r}; give finite numbers."
            )
        return values

    def _mask(self, values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        if mask is None:
            return np.ones(values.shape, bool)
        mask = np.asarray(mask)
        if mask.shape != values.shape or mask.dtype != bool:
            raise ValueError(
                f"the mask is {mask.dtype} {list(mask.shape)} and the values "
                f"{list(values.shape)}; give a bool for each value."
            )
        return mask


def _names_of(column: SchemaColumn) -> tuple[str, ...]:
    return column.merged or (column.name,)
