"""Cells of a file to the numbers that a model sees, and back."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vaejax.datasets._kinds import label_of
from vaejax.datasets._raw_columns import RawColumn
from vaejax.datasets._steps import MAX_DECIMALS
from vaejax.datasets._table_sources import Source
from vaejax.datasets.schema_columns import WITH_CLASSES, SchemaColumn

# Beyond it a number that looks whole is one that was rounded.
_EXACT = 2.0**53


def encode_column(source: Source, column: SchemaColumn) -> tuple[Any, Any]:
    """Return values float32 `[N]`, 0 where missing, and the mask bool `[N]`.

    Raises:
      ValueError: a cell is none that the column can have; the error names it.
    """
    if column.merged:
        return _encode_merged(source, column)
    has_classes = column.kind in WITH_CLASSES
    raw = source.make(column.name, has_classes)
    mask = raw.observed
    if has_classes:
        return _encode_classes(source, raw, column).astype(np.float32), mask
    if raw.numbers is None:
        if raw.levels:
            row = int(np.argmax(mask))
            raise ValueError(
                f"{source.where}, {source.place(row)}: {column.name!r} holds "
                f"{raw.cells()[row]!r}, and the schema has a column of numbers; write "
                "a number."
            )
        return np.zeros(len(mask), np.float32), mask
    _check_range(source, column, raw.numbers)
    values = raw.numbers - column.origin
    if not mask.all():
        values[~mask] = 0
    largest = max(-values.min(), values.max())
    if largest > np.finfo(np.float32).max:
        raise ValueError(
            f"{source.where}: {column.name!r} holds {largest:g}, which "
            "single precision cannot hold; give the column in another unit."
        )
    return values.astype(np.float32), mask


def _check_range(source: Source, column: SchemaColumn, numbers: np.ndarray) -> None:
    is_wrong, wanted = np.zeros(len(numbers), bool), ""
    if column.kind == "positive":
        is_wrong, wanted = numbers <= 0, "a number above 0"
    elif column.kind == "count":
        is_wrong = (numbers < 0) | (numbers != np.rint(numbers))
        is_wrong &= ~np.isnan(numbers)
        wanted = "a whole number from 0 on"
    elif column.kind == "real":
        half = column.step / 2
        is_wrong = (numbers < column.lower - half) | (numbers > column.upper + half)
        wanted = f"a number from {column.lower:g} to {column.upper:g}"
    if is_wrong.any():
        row = int(np.argmax(is_wrong))
        raise ValueError(
            f"{source.where}, {source.place(row)}: {column.name!r} holds "
            f"{numbers[row]:g}, and its kind is {column.kind} in the schema; give "
            f"{wanted}."
        )


def _encode_classes(source: Source, raw: RawColumn, column: SchemaColumn) -> np.ndarray:
    if raw.numbers is None:
        labels, codes = list(raw.levels), raw.codes
    else:
        distinct, codes = np.unique(raw.numbers, return_inverse=True)
        labels = [label_of(value) for value in distinct if not np.isnan(value)]
    assert codes is not None
    positions = {label: k for k, label in enumerate(column.classes)}
    for label in labels:
        if (same := _same_class(label, positions)) is None:
            row = int(np.argmax(codes == labels.index(label)))
            known = ", ".join(map(repr, column.classes[:12]))
            raise ValueError(
                f"{source.where}, {source.place(row)}: {column.name!r} holds "
                f"{label!r}, which is none of its classes {known}; leave the cell "
                "empty, or add the class to the schema before training."
            )
        positions[label] = same
    index = np.array([*(positions[label] for label in labels), 0])
    codes = np.where(raw.observed, codes, len(labels))
    return index[codes]


def _same_class(label: str, positions: dict[str, int]) -> int | None:
    """Return the position of a class, however its number or truth is written."""
    if label in positions:
        return positions[label]
    for known, k in positions.items():
        are_truths = known.casefold() in ("true", "false")
        if are_truths and known.casefold() == label.casefold():
            return k
        try:
            if float(known) == float(label) and label_of(float(known)) == known:
                return k
        except (ValueError, OverflowError):
            continue
    return None


def _encode_merged(source: Source, column: SchemaColumn) -> tuple[Any, Any]:
    raws = [source.make(name) for name in column.merged]
    cells = np.zeros((source.num_rows, len(raws)), np.float32)
    for j, raw in enumerate(raws):
        if raw.numbers is None and raw.levels:
            raise ValueError(
                f"{source.where}: {raw.name!r} holds texts, and the schema has a "
                "column of 0 and 1; write numbers."
            )
        cells[:, j] = np.nan if raw.numbers is None else raw.numbers
    mask = ~np.isnan(cells).any(axis=1)
    is_one_hot = np.all((cells == 0) | (cells == 1), axis=1) & (cells.sum(axis=1) == 1)
    if np.any(mask & ~is_one_hot):
        row = int(np.argmax(mask & ~is_one_hot))
        raise ValueError(
            f"{source.where}, {source.place(row)}: of "
            f"{', '.join(column.merged[:6])} exactly one is 1 by the schema, and the "
            f"row holds {cells[row].tolist()}; correct it."
        )
    values = np.argmax(np.nan_to_num(cells), axis=1).astype(np.float32)
    return np.where(mask, values, np.float32(0)), mask


def decode_column(column: SchemaColumn, values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the columns of the file that a column of the model stands for."""
    values = values.astype(np.float64)
    if column.kind in WITH_CLASSES:
        index = np.clip(np.rint(values), 0, len(column.classes) - 1).astype(int)
        if column.merged:
            return {
                name: (index == k).astype(np.int64)
                for k, name in enumerate(column.merged)
            }
        return {column.name: _as_numbers(column.classes)[index]}
    if column.kind == "count":
        return {column.name: _as_integers(np.maximum(np.rint(values), 0))}
    if not column.step:
        return {column.name: values + column.origin}
    steps = np.rint(values / column.step)
    if column.kind == "positive":
        steps = np.maximum(steps, 1)
    found = steps * column.step + column.origin
    if _has_decimals(column, 0):
        return {column.name: _as_integers(np.rint(found))}
    # Decimal numbers as they are written, and not with rounding errors.
    is_decimal = _has_decimals(column, MAX_DECIMALS)
    return {column.name: np.round(found, MAX_DECIMALS) if is_decimal else found}


def _has_decimals(column: SchemaColumn, decimals: int) -> bool:
    return all(round(x, decimals) == x for x in (column.step, column.origin))


def _as_integers(values: np.ndarray) -> np.ndarray:
    """Return whole numbers as int64, or as they are where that cannot hold them."""
    is_held = np.all(np.abs(values) < 2.0**63)
    return values.astype(np.int64) if is_held else values


def _as_numbers(classes: Sequence[str]) -> np.ndarray:
    """Return classes as integers or floats where their texts are just that."""
    for kind, make in ((int, np.int64), (float, np.float64)):
        try:
            numbers = [kind(label) for label in classes]
        except ValueError:
            continue
        if max(map(abs, numbers)) < _EXACT and [
            label_of(number) for number in numbers
        ] == list(classes):
            return np.array(numbers, make)
    return np.array(classes, object)


def moments_of(
    column: SchemaColumn, values: np.ndarray, mask: np.ndarray
) -> tuple[float, float]:
    """Return shift and scale of a column from the values of training rows."""
    transform = {"positive": np.log, "count": np.log1p, "real": np.asarray}
    if column.kind not in transform:
        return 0.0, 1.0
    observed = values if mask.all() else values[mask]
    observed = transform[column.kind](observed.astype(np.float64))
    if not len(observed):
        raise ValueError(
            f"{column.name!r} has no value in any training row; leave it out "
            f"({column.name}=ignore)."
        )
    shift = float(observed.mean())
    observed -= shift
    observed *= observed
    scale = math.sqrt(float(observed.mean()))
    if scale <= 1e-7 * abs(shift):
        if column.kind == "positive" or (column.kind == "real" and not column.step):
            raise ValueError(
                f"{column.name!r} never varies in the training rows, and a density of "
                f"what never varies has no bound; leave it out ({column.name}=ignore)."
            )
        scale = column.step or 1.0
    return shift, scale
