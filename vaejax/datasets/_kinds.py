"""Kinds of columns, from their values alone; `read_table` states the rules."""

import math
import re

import numpy as np

from vaejax.datasets._raw_columns import RawColumn
from vaejax.datasets._steps import (
    MAX_CELLS,
    Numbers,
    find_step,
    origin_of,
    summarize,
)
from vaejax.datasets.schema_columns import SchemaColumn

# A column by one of these names that never repeats is an index.
_INDEX_NAME = re.compile(
    r"(.*[_ .-])?(id|index)$|unnamed: \d+$|row_?names?$|rowid$", re.I
)
_FEW_ROWS = 10
_MAX_ORDINAL = 10
# How much oftener the mode of counts occurs than their other values do on average.
_CLEAR_MODE = 1.5
# Texts of which most occur once are names rather than classes.
_MANY_CLASSES = 50
# Values and differences that float32 holds with all its digits, and squares of them.
_LARGEST, _NARROWEST = 1e18, 1e-18
# Share of one value above which a density would settle on it.
_SPIKE = 0.05
# Nats per value by which a log-normal must fit better than a Normal.
_LOG_GAIN = 0.1
# Cells must be that much narrower than a log-normal for its density to take them.
_NARROW = 0.1


def propose(column: RawColumn, *, is_unnamed: bool = False) -> SchemaColumn:
    """Return the schema of a column whose kind is found from its values.

    Raises:
      ValueError: it has no value, holds dates, or its values suit no likelihood.
    """
    share = 1 - float(np.mean(column.observed))
    if share == 1:
        raise ValueError(
            f"{column.name!r} has no value in any row; leave it out "
            f"({column.name}=ignore)."
        )
    if column.numbers is None:
        found = _kind_of_text(column, is_unnamed)
    else:
        found = _kind_of_numbers(summarize(column), is_unnamed)
    return SchemaColumn(**{"name": column.name, "share_missing": share, **found})


def _kind_of_text(column: RawColumn, is_unnamed: bool) -> dict:
    assert column.codes is not None
    num_levels, num_rows = len(column.levels), len(column.codes)
    if num_levels == 1:
        return _constant(repr(column.levels[0]), column.observed.all())
    if num_levels == num_rows:
        why = "texts, all different"
        return {"kind": "identifier", "reason": why, "alternative": "class"}
    if column.is_date:
        raise ValueError(
            f"{column.name!r} holds dates, which are no classes; give them as numbers, "
            f"such as days, or leave them out ({column.name}=ignore)."
        )
    if {level.casefold() for level in column.levels} == {"false", "true"}:
        classes = tuple(sorted(column.levels, key=str.casefold))
        return {"kind": "binary", "reason": "true or false", "classes": classes}
    num_observed = int(np.sum(column.codes >= 0))
    if num_levels > _MANY_CLASSES and 2 * num_levels > num_observed:
        why = f"texts, of which {num_levels:,} of {num_observed:,} are different"
        return {"kind": "identifier", "reason": why, "alternative": "class"}
    why = f"{num_levels} different texts"
    return {
        "kind": "class",
        "reason": why,
        "alternative": "label",
        "classes": column.levels,
    }


def _constant(value: object, is_complete: object) -> dict:
    where = "in every row" if is_complete else "in every row that has a value"
    return {"kind": "ignore", "reason": f"{value} {where}"}


def _kind_of_numbers(numbers: Numbers, is_unnamed: bool) -> dict:
    values, is_whole = numbers.values, numbers.is_whole
    if numbers.is_constant:
        is_complete = numbers.num_observed == numbers.num_rows
        return _constant(f"{values[0]:g}", is_complete)
    if len(values) == 2 and tuple(values) == (0, 1):
        return {"kind": "binary", "reason": "0 or 1", "classes": ("0", "1")}
    if identifier := _identifier(numbers, is_unnamed):
        return identifier
    first, last = values[0], values[-1]
    are_all_present = is_whole and len(values) == last - first + 1
    if are_all_present and first in (0, 1) and last < _MAX_ORDINAL:
        return {
            "kind": "ordinal",
            "reason": f"whole numbers from {first:g} to {last:g}, all present",
            "alternative": "class",
            "classes": tuple(label_of(value) for value in values),
        }
    if is_whole and first == 0 and are_counts(numbers):
        return {
            "kind": "count",
            "reason": "whole numbers from 0, mostly small, that vary more than their "
            "mean",
            "alternative": "real",
        }
    return describe_real(numbers)


def _identifier(numbers: Numbers, is_unnamed: bool) -> dict | None:
    if not numbers.are_all_different:
        return None
    found = {"kind": "identifier", "alternative": "real"}
    is_index = is_unnamed or bool(_INDEX_NAME.match(numbers.name))
    if is_index and numbers.is_whole:
        why = "an index: whole numbers, all different"
        return {**found, "reason": why}
    if numbers.has_constant_step and numbers.num_rows >= _FEW_ROWS:
        step = (numbers.values[-1] - numbers.values[0]) / (numbers.num_rows - 1)
        return {**found, "reason": f"an index: increases by {step:g} in every row"}
    return None


def are_counts(numbers: Numbers) -> bool:
    """Tell if whole numbers from 0 are counts: mostly small, and widely spread."""
    most = int(np.argmax(numbers.counts))
    # Among values that occur about equally often, none is the mode.
    is_clear = numbers.counts[most] > _CLEAR_MODE * numbers.counts.mean()
    is_small = is_clear and numbers.values[most] <= 2
    mean, deviation = numbers.moments()
    return bool(is_small and deviation**2 > mean and find_step(numbers)[0] == 1)


def label_of(value: float) -> str:
    """Return a number as the text of a class."""
    return str(int(value)) if value == int(value) else repr(float(value))


def describe_real(numbers: Numbers, *, may_be_positive: bool = True) -> dict:
    """Return the fields of a column of real or, unless excluded, positive values.

    Raises:
      ValueError: a value repeats among values without a step.
    """
    if numbers.is_constant:
        raise ValueError(
            f"{numbers.name!r} never varies but for rounding errors; leave it out "
            f"({numbers.name}=ignore)."
        )
    _check_single_precision(numbers)
    step, offset = find_step(numbers)
    values, is_whole = numbers.values, numbers.is_whole
    spike = float(numbers.counts.max()) / numbers.num_observed
    has_spike = spike > _SPIKE and numbers.counts.max() >= _FEW_ROWS
    moments = numbers.moments()
    deviation = moments[1]
    if step and not is_whole and step * MAX_CELLS < deviation and not has_spike:
        step = 0.0
    if has_spike and not step:
        value = values[np.argmax(numbers.counts)]
        raise ValueError(
            f"{numbers.name!r} is {value:g} in {spike:.0%} of its cells, among values "
            "without a common step; a density there has no bound: round the values, "
            f"take classes where they are few ({numbers.name}=class), or leave the "
            f"column out ({numbers.name}=ignore)."
        )
    common = {"step": step, "origin": origin_of(numbers, moments, step, offset)}
    what = f"whole numbers, step {step:g}" if is_whole else "real numbers"
    what += f", step {step:g}" if step and not is_whole else ""
    gain = _log_gain(numbers, deviation)
    is_skewed = gain > _LOG_GAIN and not has_spike
    if may_be_positive and is_skewed and _is_narrow_in_log(numbers, step):
        why = f"{what}, above 0 and skewed (log fits {gain:.2f} nats better)"
        found = {"kind": "positive", "reason": why, "alternative": "real"}
        return {**found, "step": 0.0 if offset else step}
    alternative = ""
    if is_whole and values[0] in (0, 1):
        alternative = "count"
    elif len(values) <= min(_MAX_ORDINAL, numbers.num_observed // 2):
        alternative = "class"
    elif gain > _LOG_GAIN / 2:
        alternative = "positive"
    return {"kind": "real", "reason": what, "alternative": alternative, **common}


def _check_single_precision(numbers: Numbers) -> None:
    low, high = float(numbers.values[0]), float(numbers.values[-1])
    if max(-low, high) > _LARGEST or high - low < _NARROWEST:
        value = low if -low > high else high
        raise ValueError(
            f"{numbers.name!r} holds values such as {value:g}, {high - low:g} apart, "
            "which single precision cannot hold; give the column in another unit, or "
            f"leave it out ({numbers.name}=ignore)."
        )


def _log_gain(numbers: Numbers, deviation: float) -> float:
    """Return by how many nats per value a log-normal fits better than a Normal."""
    if numbers.values[0] <= 0:
        return -math.inf
    log_mean, log_deviation = numbers.moments(np.log)
    if not log_deviation or not deviation:
        return -math.inf
    return math.log(deviation) - log_mean - math.log(log_deviation)


def _is_narrow_in_log(numbers: Numbers, step: float) -> bool:
    if not step:
        return True
    _, log_deviation = numbers.moments(np.log)
    cumulative = np.cumsum(numbers.counts)
    low = numbers.values[np.searchsorted(cumulative, 0.05 * cumulative[-1])]
    return bool(step / low <= _NARROW * log_deviation)
