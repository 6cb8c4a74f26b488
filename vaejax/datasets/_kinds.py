"""Kinds of columns, from their values alone; `read_table` states the rules."""

import math
import re
from typing import NamedTuple

import numpy as np

from vaejax.datasets._table_sources import RawColumn
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
_MAX_DECIMALS = 6
# Cells per standard deviation beyond which a density is as good as a mass.
_MAX_CELLS = 10_000
# Share of one value above which a density would settle on it.
_SPIKE = 0.05
# Nats per value by which a log-normal must fit better than a Normal.
_LOG_GAIN = 0.1
# Cells must be that much narrower than a log-normal for its density to take them.
_NARROW = 0.1
# The share of the points of a lattice, or their number, that make it believable.
_MANY_POINTS, _POPULATED = 10, 0.5
# Rounding errors of values that are decimal numbers, relative to the last decimal.
_NEAR = 1e-4


class Numbers(NamedTuple):
    """The observed values of a column of numbers, summarized.

    Attributes:
      name: name of the column.
      values: the distinct values, in increasing order.
      counts: how often each of them occurs.
      num_rows: number of rows, missing ones included.
      tolerance: relative rounding error of a value.
      has_constant_step: true where the rows increase by a constant step.
    """

    name: str
    values: np.ndarray
    counts: np.ndarray
    num_rows: int
    tolerance: float
    has_constant_step: bool

    @property
    def num_observed(self) -> int:
        """Number of values."""
        return int(self.counts.sum())

    @property
    def is_whole(self) -> bool:
        """True where every value is a whole number."""
        return bool(np.all(self.values == np.rint(self.values)))

    @property
    def are_all_different(self) -> bool:
        """True where no value is missing and none occurs twice."""
        return len(self.values) == self.num_rows

    def moments(self, function=lambda x: x) -> tuple[float, float]:
        """Return mean and standard deviation of a function of the values."""
        x = function(self.values)
        total = self.num_observed
        # Threads of a product of matrices would cost more than they save.
        mean = float(np.sum(x * self.counts)) / total
        return mean, math.sqrt(float(np.sum((x - mean) ** 2 * self.counts)) / total)


def _increases_evenly(values: np.ndarray) -> bool:
    """Tell if values increase by a constant step, but for rounding errors."""
    if len(values) < 2 or values[1] <= values[0]:
        return False
    step = values[1] - values[0]
    last = values[0] + step * (len(values) - 1)
    # Most columns are told by their ends.
    return bool(
        abs(values[-1] - last) <= 1e-6 * step * len(values)
        and np.allclose(np.diff(values), step, rtol=1e-6, atol=0)
    )


def summarize(column: RawColumn) -> Numbers:
    """Return the observed values of a column of numbers, summarized."""
    assert column.numbers is not None
    observed = column.numbers[column.observed]
    ordered = np.sort(observed)
    is_first = np.ones(len(ordered), bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(is_first)
    counts = np.diff(np.append(starts, len(ordered)))
    is_complete = len(observed) == len(column.numbers)
    return Numbers(
        column.name,
        ordered[starts],
        counts,
        len(column.numbers),
        column.tolerance,
        is_complete and _increases_evenly(observed),
    )


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
        return _constant(column.levels[0], column.observed.all())
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
    if len(values) == 1:
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
    if is_whole and first == 0 and _are_counts(numbers):
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


def _are_counts(numbers: Numbers) -> bool:
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
    step, offset = find_step(numbers)
    values, is_whole = numbers.values, numbers.is_whole
    spike = float(numbers.counts.max()) / numbers.num_observed
    has_spike = spike > _SPIKE and numbers.counts.max() >= _FEW_ROWS
    _, deviation = numbers.moments()
    if step and not is_whole and step * _MAX_CELLS < deviation and not has_spike:
        step = 0.0
    if has_spike and not step:
        value = values[np.argmax(numbers.counts)]
        raise ValueError(
            f"{numbers.name!r} is {value:g} in {spike:.0%} of its cells, among values "
            "without a common step; a density there has no bound: round the values, "
            f"take classes where they are few ({numbers.name}=class), or leave the "
            f"column out ({numbers.name}=ignore)."
        )
    common = {"step": step, "origin": _origin(numbers, step, offset)}
    what = f"whole numbers, step {step:g}" if is_whole else "real numbers"
    what += f", step {step:g}" if step and not is_whole else ""
    gain = _log_gain(numbers)
    is_skewed = gain > _LOG_GAIN and not has_spike
    if may_be_positive and is_skewed and _is_narrow_in_log(numbers, step):
        why = f"{what}, above 0 and skewed (log fits {gain:.2f} nats better)"
        found = {"kind": "positive", "reason": why, "alternative": "real"}
        return {**found, "step": 0.0 if offset else step}
    alternative = ""
    if is_whole and values[0] in (0, 1):
        alternative = "count"
    elif len(values) <= _MAX_ORDINAL:
        alternative = "class"
    elif gain > _LOG_GAIN / 2:
        alternative = "positive"
    return {"kind": "real", "reason": what, "alternative": alternative, **common}


def _log_gain(numbers: Numbers) -> float:
    """Return by how many nats per value a log-normal fits better than a Normal."""
    if numbers.values[0] <= 0:
        return -math.inf
    _, deviation = numbers.moments()
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


def find_step(numbers: Numbers) -> tuple[float, float]:
    """Return the step of a lattice that holds all values, and where the lattice begins.

    It is the greatest common divisor of the differences, of numbers with at most six
    decimals or of evenly spaced ones; 0 where there is none.
    """
    for decimals in range(_MAX_DECIMALS + 1):
        # Most columns without a step show it at once.
        if not np.all(_are_near(numbers.values[:100], decimals, numbers.tolerance)):
            continue
        if np.all(_are_near(numbers.values, decimals, numbers.tolerance)):
            units = np.rint(numbers.values * 10.0**decimals).astype(np.int64)
            unit = 10.0**-decimals
            differences = np.diff(units)
            differences = differences[differences > 0]
            divisor = int(np.gcd.reduce(differences[:1000]))
            if divisor > 1:
                divisor = int(np.gcd.reduce(differences))
            num_points = (int(units[-1]) - int(units[0])) // divisor + 1
            if not (len(units) >= _MANY_POINTS or _is_full(len(units), num_points)):
                divisor = 1
            offset = int(units[0]) % divisor
            return round(divisor * unit, decimals), round(offset * unit, decimals)
    return _even_step(numbers)


def _are_near(values: np.ndarray, decimals: int, tolerance: float) -> np.ndarray:
    """Tell which values have so many decimals, but for rounding errors."""
    scaled = values * 10.0**decimals
    rounding = 4 * tolerance * np.abs(scaled)
    error = np.abs(scaled - np.rint(scaled))
    is_near = (error <= np.maximum(rounding, 1e-9)) & (rounding < _NEAR)
    return np.asarray((is_near | (error == 0)) & (np.abs(scaled) < 2.0**53))


def _is_full(num_values: int, num_points: int) -> bool:
    return num_values >= _POPULATED * num_points and num_values > 2


def _even_step(numbers: Numbers) -> tuple[float, float]:
    """Return the step of values such as k/255 or standardized whole numbers."""
    values = numbers.values
    if 2 * len(values) > numbers.num_observed or len(values) < 3:
        return 0.0, 0.0
    # What differs by rounding errors is one value.
    rounding = 8 * numbers.tolerance * float(np.abs(values).max())
    steps = np.diff(values)
    steps = steps[steps > rounding]
    if not len(steps) or rounding > 1e-3 * steps.min():
        return 0.0, 0.0
    extent = float(values[-1] - values[0])
    num_steps = round(extent / float(steps.min()))
    step = extent / num_steps
    places = (values - values[0]) / step
    is_lattice = np.all(np.abs(places - np.rint(places)) < 0.01)
    if not is_lattice or num_steps > _MAX_CELLS:
        return 0.0, 0.0
    return step, float(values[0])


def _origin(numbers: Numbers, step: float, offset: float) -> float:
    """Return what is subtracted, so that float32 tells the values apart."""
    values = numbers.values
    largest = float(np.abs(values).max())
    spacing = largest * 2.0**-23
    mean, deviation = numbers.moments()
    if spacing <= (step / 64 if step else 1e-4 * deviation):
        return offset
    if not step:
        return float(round(mean, -math.floor(math.log10(deviation))))
    return offset + step * round((mean - offset) / step)
