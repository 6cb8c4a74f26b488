"""Checks of arguments: one error that names the value and the fix."""

import math
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def check_event(distribution: Any, event: Any, shape: tuple[int, ...]) -> None:
    """Raise ValueError unless the event has the shape that the distribution is over."""
    # Broadcasting would otherwise sum a whole batch into one log-probability.
    if jnp.shape(event) != shape:
        raise ValueError(
            f"{type(distribution).__name__}.log_prob: the event has shape "
            f"{jnp.shape(event)} and the distribution is "
            f"over {shape}; give one event of that shape, and map a batch with "
            "jax.vmap."
        )


def dtype_of(event: Any) -> Any:
    """Return the dtype that JAX gives an event: an array, a number or a list."""
    return jnp.result_type(event if hasattr(event, "dtype") else np.asarray(event))


def check_not_gray_levels(distribution: Any, event: Any, remedy: str) -> None:
    """Raise where an event in [0, 1] is given as unsigned integers, the gray levels.

    Zeros and ones pass where their values are known. While they are traced the dtype
    decides: TypeError, since 8-bit images would be scored as if 255 were one.
    """
    dtype = dtype_of(event)
    if not jnp.issubdtype(dtype, jnp.unsignedinteger):
        return
    name = f"{type(distribution).__name__}.log_prob: the event"
    if is_traced(event):
        raise TypeError(f"{name} is {dtype}; {remedy}.")
    if np.size(event) and (largest := np.max(event)) > 1:
        raise ValueError(f"{name} is {dtype} up to {largest}; {remedy}.")


def check_not_integers(distribution: Any, event: Any, remedy: str) -> None:
    """Raise TypeError where an event of real values is given as integers."""
    if jnp.issubdtype(dtype := dtype_of(event), jnp.integer):
        raise TypeError(
            f"{type(distribution).__name__}.log_prob: the event is {dtype}; {remedy}."
        )


def is_traced(value: Any) -> bool:
    """Return whether a value is known only when the traced function runs."""
    return isinstance(value, Tracer)


def check_in_range(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Raise ValueError unless a number, or each of an array, is finite and in a range.

    Python, NumPy and concrete JAX numbers are judged alike; a traced one passes.
    """
    if is_traced(value):
        return
    numbers = _concrete(name, value)
    above = numbers > low if open_low else numbers >= low
    below = numbers < high if open_high else numbers <= high
    inside = above & below & np.isfinite(numbers)
    if not np.all(inside):
        wrong = value if np.ndim(numbers) == 0 else numbers[~inside][0]
        raise ValueError(
            f"{name} is {wrong}; give {_in_words(low, high, open_low, open_high)}."
        )


def check_weights(function: str, **weights: Any) -> None:
    """Raise ValueError unless every weight, given by name, is finite and at least 0."""
    for name, value in weights.items():
        check_in_range(f"{function}: {name}", value, 0)


def _concrete(name: str, value: Any) -> np.ndarray:
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return np.asarray(value, np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {value!r}; give a number.") from error


def _in_words(low: float, high: float, open_low: bool, open_high: bool) -> str:
    if low == -math.inf and high == math.inf:
        return "a finite number"
    if high == math.inf:
        return f"a finite number {f'above {low}' if open_low else f'from {low} on'}"
    if low == -math.inf:
        return f"a finite number {'below' if open_high else 'of at most'} {high}"
    return f"a number in {'(' if open_low else '['}{low}, {high}" + (
        ")" if open_high else "]"
    )


def check_bounds(name: str, lower: float, upper: float) -> None:
    """Raise ValueError unless `lower` is below `upper`; each may be infinite."""
    low, high = _concrete(f"min_{name}", lower), _concrete(f"max_{name}", upper)
    if not low < high:
        raise ValueError(
            f"min_{name} is {lower} and max_{name} is {upper}; the first must be "
            "smaller."
        )


def require(
    distribution: Any,
    name: str,
    remedy: str = "give a distribution that has it",
) -> Any:
    """Return an attribute of a distribution, or raise TypeError where it is missing.

    The error names the distribution, the attribute and the remedy.
    """
    try:
        return getattr(distribution, name)
    except AttributeError as error:
        raise TypeError(
            f"{type(distribution).__name__} has no {name}; {remedy}."
        ) from error


def is_key(leaf: Any) -> bool:
    """Return whether an array, or its shape and dtype, is of typed keys."""
    return jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key)


def check_count(name: str, value: int) -> None:
    """Raise ValueError unless the value is a positive integer."""
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is {value!r}; give a positive integer.")
