"""One column of a schema: its kind, why, and the way between file and model."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from typing import Any

from vaejax.columns import KINDS, Column

#: Kinds of columns that no model describes; the first two are carried along.
CARRIED = ("identifier", "label")
ALL_KINDS = (*KINDS, *CARRIED, "ignore")
WITH_CLASSES = ("binary", "class", "ordinal")


@dataclasses.dataclass(frozen=True)
class SchemaColumn:
    """Column of a table: its kind with the reason, and its units.

    Attributes:
      name: name of the column.
      kind: "real", "positive", "binary", "class", "ordinal" or "count", as in
        `vaejax.distributions.Column`; "identifier" or "label" for columns that are
        carried along, and "ignore" for those that are left out.
      reason: reason for the kind, in a few words.
      alternative: another kind that the values allow, or "".
      classes: texts of the classes of a binary, class or ordinal column, in order.
      step: distance of neighboring values, 0 where they are continuous. It belongs to
        the likelihood of real columns; of positive ones, values are rounded to it when
        they are written.
      lower: smallest value that a real column can have, or minus infinity.
      upper: largest value that a real column can have, or infinity.
      shift: mean of the training values as a model sees them, of their logarithm for
        positive columns and of `log1p` of them for counts.
      scale: standard deviation of the same numbers.
      origin: number that is subtracted from the values of the file before they become
        float32, which would otherwise not tell them apart; or which makes them
        multiples of the step.
      share_missing: share of cells that are missing, 0 to 1.
      merged: names of the columns of 0 and 1 that are one class column here.

    Example:
      >>> from vaejax import datasets
      >>> column = datasets.SchemaColumn("age", "real", step=1.0)
      >>> column.is_modeled, column.as_column().step
      (True, 1.0)
    """

    name: str
    kind: str
    reason: str = ""
    alternative: str = ""
    classes: tuple[str, ...] = ()
    step: float = 0.0
    lower: float = -math.inf
    upper: float = math.inf
    shift: float = 0.0
    scale: float = 1.0
    origin: float = 0.0
    share_missing: float = 0.0
    merged: tuple[str, ...] = ()

    @property
    def is_modeled(self) -> bool:
        """True where a model describes the column."""
        return self.kind in KINDS

    def as_column(self) -> Column:
        """Return what a model must know of the column; values are less the origin."""
        is_real = self.kind == "real"
        return Column(
            kind=self.kind,
            num_classes=0 if self.kind == "binary" else len(self.classes),
            step=self.step if is_real else 0.0,
            lower=self.lower - self.origin if is_real else -math.inf,
            upper=self.upper - self.origin if is_real else math.inf,
            shift=self.shift,
            scale=self.scale,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the column as values of JSON; infinity is None."""
        found = dataclasses.asdict(self)
        for limit in ("lower", "upper"):
            if math.isinf(found[limit]):
                found[limit] = None
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in found.items()
        }


def column_from_dict(values: Any) -> SchemaColumn:
    """Return the column that values of JSON describe.

    Raises:
      ValueError: they describe none; the error names the field and the fix.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"a column is {values!r}; give an object with name and kind.")
    fields = {field.name: field for field in dataclasses.fields(SchemaColumn)}
    where = f"column {values.get('name', '')!r}"
    for field in ("name", "kind"):
        if not isinstance(values.get(field), str):
            raise ValueError(f"{where}: {field} is {values.get(field)!r}; give a text.")
    for field in values:
        if field not in fields:
            raise ValueError(
                f"{where} has the field {field!r}, which there is not; "
                f"{did_you_mean(field, fields)}."
            )
    check_kind(str(values["name"]), values["kind"])
    found = {
        field: _value_of(where, field, value, fields[field].type)
        for field, value in values.items()
    }
    column = SchemaColumn(**found)
    _check_column(where, column)
    return column


def _value_of(where: str, field: str, value: Any, kind: Any) -> Any:
    if field in ("lower", "upper") and value is None:
        return -math.inf if field == "lower" else math.inf
    if kind is str and isinstance(value, str):
        return value
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
        raise ValueError(f"{where}: {field} is {value}; give a finite number.")
    is_list = isinstance(value, list | tuple)
    if kind == tuple[str, ...] and is_list and all(isinstance(v, str) for v in value):
        return tuple(value)
    wanted = {str: "a text", float: "a number"}.get(kind, "a list of texts")
    raise ValueError(f"{where}: {field} is {value!r}; give {wanted}.")


def _check_column(where: str, column: SchemaColumn) -> None:
    classes = column.classes
    if column.kind in WITH_CLASSES:
        if len(set(classes)) < len(classes):
            raise ValueError(f"{where}: two of its classes are equal; remove one.")
        if len(classes) < 2 or (column.kind == "binary" and len(classes) > 2):
            number = "two" if column.kind == "binary" else "at least two, in order"
            raise ValueError(
                f"{where}: the kind is {column.kind} and its classes are "
                f"{list(classes)}; give {number}."
            )
    elif classes:
        raise ValueError(
            f"{where}: the kind is {column.kind}, which has no classes; make them an "
            "empty list."
        )
    has_one_each = column.kind == "class" and len(column.merged) == len(classes)
    if column.merged and not has_one_each:
        raise ValueError(
            f"{where}: it merges {len(column.merged)} columns; leave it a class with "
            "one class for each of them."
        )
    if not column.is_modeled:
        return
    try:
        column.as_column()
    except ValueError as error:
        raise ValueError(f"{where}: {str(error).removeprefix('Column: ')}") from error


def check_kind(name: str, kind: Any) -> None:
    """Raise ValueError unless a kind is one of `ALL_KINDS`."""
    if kind not in ALL_KINDS:
        raise ValueError(
            f"column {name!r}: the kind is {kind!r}; give one of "
            f"{', '.join(ALL_KINDS)}."
        )


def did_you_mean(name: str, names: Any) -> str:
    """Return a fix for a name that is none of `names`, in words."""
    close = difflib.get_close_matches(name, list(names), 1)
    listed = ", ".join(list(names)[:12]) + (", ..." if len(list(names)) > 12 else "")
    return f"did you mean {close[0]!r}" if close else f"there are {listed}"
