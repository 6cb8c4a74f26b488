"""Columns of a kind that the user gives, checked against the values."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vaejax.datasets._kinds import describe_real, label_of
from vaejax.datasets._raw_columns import RawColumn
from vaejax.datasets._steps import Numbers, find_step, summarize
from vaejax.datasets.schema_columns import SchemaColumn

_GIVEN = "given"


def column_of_kind(column: RawColumn, kind: str) -> SchemaColumn:
    """Return the schema of a column whose kind is given and is modeled.

    Raises:
      ValueError: the values suit no such kind.
    """
    describe: dict[str, Callable[..., dict[str, Any]]] = {
        "real": _real,
        "positive": _positive,
        "count": _count,
        "binary": _binary,
        "class": _class,
        "ordinal": _ordinal,
    }
    name = column.name
    share = 1 - float(np.mean(column.observed))
    labels = labels_of(column)
    if len(labels) < 2:
        what = f"is {labels[0]} in every row" if labels else "has no value in any row"
        raise ValueError(
            f"{name!r} {what}, of which no likelihood can be fitted; leave it out "
            f"({name}=ignore)."
        )
    fields = describe[kind](column)
    return SchemaColumn(
        **{"name": name, "kind": kind, "reason": _GIVEN, "share_missing": share}
        | fields
    )


def labels_of(column: RawColumn) -> tuple[str, ...]:
    """Return the distinct values of a column as texts, in increasing order."""
    if column.numbers is None:
        return column.levels
    return tuple(
        label_of(value) for value in np.unique(column.numbers[column.observed])
    )


def _numbers(column: RawColumn, kind: str) -> Numbers:
    if column.numbers is None:
        raise ValueError(
            f"{column.name!r} is given as {kind} and holds {column.levels[0]!r}, which "
            f"is no number; give {column.name}=class, or {column.name}=ignore."
        )
    return summarize(column)


def _real(column: RawColumn) -> dict[str, Any]:
    found = describe_real(_numbers(column, "real"), may_be_positive=False)
    reason = f"{_GIVEN}; {found['reason']}"
    return {"step": found["step"], "origin": found["origin"], "reason": reason}


def _positive(column: RawColumn) -> dict[str, Any]:
    numbers = _numbers(column, "positive")
    if numbers.values[0] <= 0:
        raise ValueError(
            f"{column.name!r} is given as positive and holds {numbers.values[0]:g}; "
            f"give {column.name}=real."
        )
    step, offset = find_step(numbers)
    return {"step": 0.0 if offset else step}


def _count(column: RawColumn) -> dict[str, Any]:
    numbers = _numbers(column, "count")
    is_wrong = (numbers.values < 0) | (numbers.values != np.rint(numbers.values))
    if is_wrong.any():
        raise ValueError(
            f"{column.name!r} is given as count and holds "
            f"{numbers.values[np.argmax(is_wrong)]:g}, which is no whole number from 0 "
            f"on; give {column.name}=real."
        )
    return {}


def _binary(column: RawColumn) -> dict[str, Any]:
    labels = labels_of(column)
    if len(labels) > 2:
        raise ValueError(
            f"{column.name!r} is given as binary and holds {len(labels)} different "
            f"values, such as {', '.join(labels[:3])}; give {column.name}=class."
        )
    return {"classes": labels}


def _class(column: RawColumn) -> dict[str, Any]:
    return {"classes": labels_of(column)}


def _ordinal(column: RawColumn) -> dict[str, Any]:
    if column.numbers is None:
        raise ValueError(
            f"{column.name!r} is given as ordinal and holds texts, whose order is not "
            f"known; give {column.name}=class, then write the schema, order its "
            "classes and make its kind ordinal there."
        )
    return {"classes": labels_of(column)}
