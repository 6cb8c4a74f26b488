"""Numbers of a column, summarized, and the lattice that they lie on."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vaejax.datasets._raw_columns import RawColumn

MAX_DECIMALS = 6
# Cells per standard deviation beyond which a density is as good as a mass.
MAX_CELLS = 10_000
# The share of the points of a lattice, or their number, that make it believable.
_MANY_POINTS, _POPULATED = 10, 0.5
# Rounding errors of values that are decimal numbers, relative to the last decimal.
_NEAR = 1e-4
# How many numbers may be one but for rounding errors.
_MAX_VARIANTS = 8
# Values that are looked at together.
_PART = 1 << 12


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
        # By parts, since most columns of other numbers show it at once.
        return all(np.all(part == np.rint(part)) for part in _parts(self.values))

    @property
    def largest(self) -> float:
        """The largest absolute value."""
        return float(max(-self.values[0], self.values[-1]))

    @property
    def is_constant(self) -> bool:
        """True where the values differ by rounding errors at most."""
        low, high = self.values[0], self.values[-1]
        return bool(high - low <= 4 * self.tolerance * max(abs(low), abs(high)))

    @property
    def are_all_different(self) -> bool:
        """True where no value is missing and none occurs twice."""
        return len(self.values) == self.num_rows

    def moments(self, function=lambda x: x) -> tuple[float, float]:
        """Return mean and standard deviation of a function of the values."""
        x = function(self.values)
        total = self.num_observed
        do_repeat = total > len(x)
        # Threads of a product of matrices would cost more than they save.
        mean = float(np.sum(x * self.counts if do_repeat else x)) / total
        squares = x - mean
        squares *= squares
        if do_repeat:
            squares *= self.counts
        return mean, math.sqrt(float(np.sum(squares)) / total)


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
    is_there = column.observed
    is_complete = bool(is_there.all())
    observed = column.numbers if is_complete else column.numbers[is_there]
    ordered = np.sort(observed)
    is_first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    if is_first.all():
        values, counts = ordered, np.broadcast_to(1, len(ordered))
    else:
        starts = np.flatnonzero(is_first)
        values, counts = ordered[starts], np.empty_like(starts)
        np.subtract(starts[1:], starts[:-1], out=counts[:-1])
        counts[-1] = len(ordered) - starts[-1]
    return Numbers(
        column.name,
        values,
        counts,
        len(column.numbers),
        column.tolerance,
        is_complete and _increases_evenly(observed),
    )


def find_step(numbers: Numbers) -> tuple[float, float]:
    """Return the step of a lattice that holds all values, and where the lattice begins.

    It is the greatest common divisor of the differences, of numbers with at most six
    decimals or of evenly spaced ones; 0 where there is none.
    """
    for decimals in range(MAX_DECIMALS + 1):
        # By parts, since most columns without a step show it at once.
        if all(
            np.all(_are_near(part, decimals, numbers.tolerance))
            for part in _parts(numbers.values)
        ):
            units = numbers.values * 10.0**decimals
            units = np.rint(units, out=units).astype(np.int64)
            num_units = 1 + int(np.sum(units[1:] > units[:-1]))
            # Small numbers between which a step so wide does not tell.
            if num_units == 1 or _MAX_VARIANTS * num_units < len(units):
                continue
            unit = 10.0**-decimals
            divisor = 0
            for part in _parts(units):
                if divisor != 1:
                    # Equal numbers, but for rounding errors, differ by 0.
                    divisor = int(np.gcd.reduce(part - units[0], initial=divisor))
            num_points = (int(units[-1]) - int(units[0])) // divisor + 1
            if not (len(units) >= _MANY_POINTS or _is_full(len(units), num_points)):
                divisor = 1
            offset = int(units[0]) % divisor
            return round(divisor * unit, decimals), round(offset * unit, decimals)
    return _even_step(numbers)


def _parts(values: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(values), _PART):
        yield values[start : start + _PART]


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
    repeats = 2 * len(values) <= numbers.num_observed
    if len(values) < 3 or (len(values) < _MANY_POINTS and not repeats):
        return 0.0, 0.0
    # What differs by rounding errors is one value.
    rounding = 8 * numbers.tolerance * numbers.largest
    # So many different steps are more than MAX_CELLS of the smallest one.
    some = values[: 4 * MAX_CELLS]
    if np.count_nonzero(some[1:] - some[:-1] > rounding) > MAX_CELLS:
        return 0.0, 0.0
    steps = np.diff(values)
    steps = steps[steps > rounding]
    if not len(steps) or rounding > 1e-3 * steps.min():
        return 0.0, 0.0
    extent = float(values[-1] - values[0])
    num_steps = round(extent / float(steps.min()))
    step = extent / num_steps
    if num_steps > MAX_CELLS:
        return 0.0, 0.0
    places = (values - values[0]) / step
    if not np.all(np.abs(places - np.rint(places)) < 0.01):
        return 0.0, 0.0
    return step, float(values[0])


def origin_of(
    numbers: Numbers, moments: tuple[float, float], step: float, offset: float
) -> float:
    """Return what is subtracted, so that float32 tells the values apart."""
    spacing = numbers.largest * 2.0**-23
    mean, deviation = moments
    if spacing <= (step / 64 if step else 1e-4 * deviation):
        return offset
    if not step:
        return float(round(mean, -math.floor(math.log10(deviation))))
    return offset + step * round((mean - offset) / step)
