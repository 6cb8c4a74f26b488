"""Tables of codes and factors: their checks, and the keys of scores that draw."""

import jax
import numpy as np
from numpy.typing import ArrayLike

from vaejax._checks import as_numbers, check_key
from vaejax.base import Key


def check_table(
    name: str,
    codes: ArrayLike,
    factors: ArrayLike,
    *,
    min_dimensions: int = 1,
    min_factors: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Return codes in double precision and factors, or raise a ValueError."""
    codes = np.asarray(as_numbers(f"{name}: codes", codes))
    factors = np.asarray(as_numbers(f"{name}: factors", factors))
    if (
        codes.ndim != 2
        or factors.ndim != 2
        or len(codes) != len(factors)
        or len(codes) == 0
    ):
        raise ValueError(
            f"{name}: codes have shape {codes.shape} and factors {factors.shape}; give "
            "[num, dimensions] and [num, num_factors], one row for each example."
        )
    for what, found, least in (
        ("dimension", codes, min_dimensions),
        ("factor", factors, min_factors),
    ):
        if found.shape[1] < least:
            raise ValueError(
                f"{name}: there are {found.shape[1]} {what}s; give {least} or more."
            )
    if not np.issubdtype(factors.dtype, np.integer):
        raise ValueError(
            f"{name}: factors are {factors.dtype}; give integers, the classes of each "
            "factor."
        )
    codes = codes.astype(np.float64)
    if not np.all(np.isfinite(codes)):
        num_bad = np.sum(~np.isfinite(codes))
        raise ValueError(
            f"{name}: {num_bad} of {codes.size} codes are not finite; leave out the "
            "rows that hold them."
        )
    constant = np.flatnonzero(np.all(factors == factors[0], axis=0))
    if constant.size:
        raise ValueError(
            f"{name}: factor {constant[0]} is {factors[0, constant[0]]} in all "
            f"{len(factors)} rows; leave out the column or give rows that differ in it."
        )
    return codes, factors


def generator_of(key: Key) -> np.random.Generator:
    """Return NumPy's generator seeded with a typed key, or raise a TypeError."""
    check_key(key)
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def column_of(
    name: str,
    codes: ArrayLike,
    factor: ArrayLike,
    num_axes: int = 2,
    *,
    is_continuous: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Return codes in double precision and one factor, or raise where they do not fit.

    Codes of one axis are one dimension of them. A continuous factor is in double
    precision too, others are integers.
    """
    codes = np.asarray(as_numbers(f"{name}: codes", codes), np.float64)
    factor = np.asarray(as_numbers(f"{name}: factor", factor))
    if codes.ndim != num_axes or factor.shape != codes.shape[:1] or not codes.size:
        raise ValueError(
            f"{name}: codes have shape {codes.shape} and factor {factor.shape}; give "
            f"{'[num]' if num_axes == 1 else '[num, dimensions]'} and [num], the "
            f"{'values' if is_continuous else 'classes'} of one factor."
        )
    if is_continuous:
        factor = factor.astype(np.float64)
    elif not np.issubdtype(factor.dtype, np.integer):
        raise TypeError(
            f"{name}: factor is {factor.dtype}; give integers, its classes."
        )
    if not np.all(np.isfinite(codes)):
        raise ValueError(
            f"{name}: {np.sum(~np.isfinite(codes))} of {codes.size} codes are not "
            "finite; leave out the rows that hold them."
        )
    return codes, factor


def classes_of(factor: np.ndarray) -> np.ndarray:
    """Return the labels of a column as integers from 0."""
    return np.unique(factor, return_inverse=True)[1]
