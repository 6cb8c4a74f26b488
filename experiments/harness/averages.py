"""Numbers of a summary over seeds, and their text in a table."""

from typing import Any

import numpy as np


def over_seeds(values: np.ndarray, **about: Any) -> dict[str, Any]:
    """Return mean and std of a number over the seeds that have not diverged.

    The std is the sample standard deviation, None for a single seed; `about` is added.
    """
    values = np.asarray(values, float)
    finite = values[np.isfinite(values)]
    return {
        "mean": float(np.mean(finite)) if len(finite) else None,
        "std": float(np.std(finite, ddof=1)) if len(finite) > 1 else None,
        "num_seeds": len(finite),
        "num_diverged": len(values) - len(finite),
        "values": plain(values),
    } | about


def paired(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Return the difference of a number of each example, paired by seed and by example.

    Args:
      first: `[members, examples]`.
      second: `[members, examples]`, or `[examples]` for what has no seeds.

    Returns:
      Mean and std over seeds; `standard_error`, over examples, is that of the mean over
      the seeds that have not diverged.
    """
    difference = first - second
    used = difference[np.isfinite(difference).all(axis=1)]
    num = difference.shape[1]
    error = float(used.mean(axis=0).std(ddof=1) / np.sqrt(num)) if len(used) else None
    return over_seeds(difference.mean(axis=1), standard_error=error, num_examples=num)


def count_above(values: np.ndarray, threshold: float) -> np.ndarray:
    """Return how many of each member's numbers exceed a threshold, `[members]`.

    It is NaN where one of `values`, `[members, numbers]`, is not finite.
    """
    is_finite = np.isfinite(values).all(axis=1)
    return np.where(is_finite, np.sum(values > threshold, axis=1), np.nan)


def plain(values: np.ndarray) -> list:
    """Return an array as nested lists for JSON, with None in place of NaN."""
    found = np.asarray(values, object)
    found[~np.isfinite(values)] = None
    return found.tolist()


def number_or_none(value: Any) -> float | None:
    """Return a number for JSON: None where it is not finite."""
    return float(value) if np.isfinite(value) else None


def mean_or_none(values: np.ndarray) -> float | None:
    """Return the mean of the finite values, None where there are none."""
    finite = np.asarray(values)[np.isfinite(values)]
    return float(np.mean(finite)) if len(finite) else None


def with_error(number: dict[str, Any] | None, digits: int, sign: str = "") -> str:
    """Return a number with its standard error over examples, as text.

    It is empty for a number that is missing or was measured nowhere.
    """
    if number is None or number["mean"] is None:
        return ""
    error = number.get("standard_error")
    error = "" if error is None else f" ± {error:.{digits}f}"
    return f"{number['mean']:{sign}.{digits}f}{error}"


def text(number: dict[str, Any], digits: int, sign: str = "") -> str:
    """Return a number with its error bar, as text."""
    if number["mean"] is None:
        return "diverged"
    std = "" if number["std"] is None else f" ± {number['std']:.{digits}f}"
    diverged = f" ({number['num_diverged']} diverged)" if number["num_diverged"] else ""
    return f"{number['mean']:{sign}.{digits}f}{std}{diverged}"
