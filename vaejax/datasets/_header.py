"""Names of columns: whether the first line of a table holds them."""

import re
from collections.abc import Sequence

_INTEGER = re.compile(r"[+-]?\d+$")
# Rows below the first line that make a change of type there believable.
_FEW_ROWS = 5


def has_names(
    first: Sequence[str], rest: Sequence[Sequence[str]], missing: Sequence[str]
) -> bool | None:
    """Tell if the first line of a table holds names; None where that is open.

    It does where it has text above numbers, no number at all, whole numbers above
    values that are none, or the numbers 0, 1, 2 and so on.
    """
    missing = [*missing, ""]
    below = [
        [row[j] for row in rest if j < len(row) and row[j] not in missing]
        for j in range(len(first))
    ]
    named = [j for j, cell in enumerate(first) if cell not in missing]
    if any(
        not is_number(first[j]) and below[j] and all(map(is_number, below[j]))
        for j in named
    ):
        return True
    whole = [j for j in named if is_number(first[j])]
    if not named:
        return False
    if not whole:
        recurs = [first[j] in below[j] for j in named]
        return None if recurs and all(recurs) else True
    if any(not _INTEGER.match(first[j]) for j in whole):
        return False
    numbers = [int(first[j]) for j in whole]
    are_other = [
        bool(below[j]) and not any(map(_INTEGER.match, below[j])) for j in whole
    ]
    if all(are_other) and (len(rest) >= _FEW_ROWS or _is_progression(numbers)):
        return True
    if numbers == list(range(len(numbers))):
        return _is_run_of_names(first, whole, below)
    are_years = all(1900 <= number <= 2100 for number in numbers)
    is_long = len(numbers) > 2 and len(rest) >= _FEW_ROWS
    if _is_progression(numbers) and (are_years or is_long):
        outside = sum(not _is_within(first[j], below[j]) for j in whole)
        return None if 2 * outside > len(whole) else False
    return False


def _is_run_of_names(
    first: Sequence[str], whole: Sequence[int], below: Sequence[Sequence[str]]
) -> bool | None:
    """Tell if a first line 0, 1, 2, ... holds names; None where that is open."""
    if len(whole) < len(first):  # 0, 1, 2 above all columns but those of an index
        return True
    n = len(whole)
    if n == 1:
        return False
    second = [cells[0] for cells in below if cells]
    if second == [str(n + j) for j in range(n)]:
        return None
    if n < 4 and all(_is_within(first[j], below[j]) for j in whole):
        return None
    return True


def _is_progression(numbers: Sequence[int]) -> bool:
    steps = {b - a for a, b in zip(numbers, numbers[1:], strict=False)}
    return len(steps) == 1 and min(steps) > 0


def _is_within(cell: str, below: Sequence[str]) -> bool:
    values = [float(other) for other in below if is_number(other)]
    return bool(values) and min(values) <= float(cell) <= max(values)


def is_number(cell: str) -> bool:
    try:
        float(cell.replace(",", "."))
    except ValueError:
        return False
    return "_" not in cell
