"""Blocks of 0/1 columns of which exactly one is 1 in every row: one class column each.

Modeled apart, they would each have a likelihood that cannot know of the others.
"""

import os
import re
from collections.abc import Iterator, Sequence

import numpy as np

from vaejax.datasets.schema_columns import SchemaColumn

_PREFIX = re.compile(r"(.+?)[_ .:=\[/-][^_ .:=\[/-]*$")

# In fewer rows columns add up to 1 by chance.
_FEW_ROWS = 10
_NO_NAME = re.compile(r"column \d+$")


def find_blocks(names: Sequence[str], columns: Sequence[np.ndarray]) -> list[list[str]]:
    """Return the names in each block, in the order of the table.

    Columns that share the first part of their names are looked at first, then all of
    them, then those that stand side by side.

    Args:
      names: names of the 0/1 columns without missing cells.
      columns: their values, uint8 `[N]` each.
    """
    if columns and len(columns[0]) < _FEW_ROWS:
        return []
    left, blocks = dict(zip(names, columns, strict=True)), []
    for group in [*_groups(names), list(names)]:
        group = [name for name in group if name in left]
        if len(group) > 1 and _is_one_hot([left[name] for name in group]):
            blocks.append(group)
            for name in group:
                del left[name]
    for group in _neighbors(left):
        blocks.append(group)
    order = {name: j for j, name in enumerate(names)}
    return sorted(blocks, key=lambda group: order[group[0]])


def merge(block: Sequence[str], taken: Sequence[str]) -> SchemaColumn:
    """Return the class column that a block is; its classes are the names of the block.

    Args:
      block: names of the columns.
      taken: names that the class column may not have.
    """
    prefix = os.path.commonprefix(block)
    if all(_NO_NAME.match(name) for name in block):
        prefix = ""
    name = prefix.rstrip("_ .:=[/-") if len(prefix) > 1 else ""
    if not name or name in taken:
        name = f"{block[0]} to {block[-1]}"
    return SchemaColumn(
        name,
        "class",
        reason="columns of 0 and 1, of which one is 1 in every row",
        alternative="",
        classes=tuple(block),
        merged=tuple(block),
    )


def _groups(names: Sequence[str]) -> list[list[str]]:
    """Return the names in groups that share what stands before the last separator."""
    groups: dict[str, list[str]] = {}
    for name in names:
        if match := _PREFIX.match(name):
            groups.setdefault(match[1], []).append(name)
    return list(groups.values())


def _is_one_hot(columns: Sequence[np.ndarray]) -> bool:
    total = np.zeros(len(columns[0]), np.int32)
    for column in columns:
        total += column
        if total.max() > 1:
            return False
    return bool(total.min() == 1)


def _neighbors(columns: dict[str, np.ndarray]) -> Iterator[list[str]]:
    """Yield the blocks among columns side by side, from the left."""
    names, start = list(columns), 0
    while start < len(names):
        total, end = np.zeros(len(columns[names[start]]), np.int32), start
        while end < len(names) and total.max() <= 1 and not total.all():
            total += columns[names[end]]
            end += 1
        if total.max() == 1 and total.all() and end - start > 1:
            yield names[start:end]
            start = end
        else:
            start += 1
