"""Tables of codes and factors: their checks, and the keys of scores that draw."""

import jax
import numpy as np
from numpy.typing import ArrayLike

from vaejax._checks import is_key
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
    codes, factors = np.asarray(codes), np.asarray(factors)
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


def generator_of(name: str, key: Key) -> np.random.Generator:
    """Return NumPy's generator seeded with a typed key, or raise a TypeError."""
    if not is_key(key):
        raise TypeError(f"{name}: key is {key!r}; give one of jax.random.key(seed).")
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def classes_of(factor: np.ndarray) -> np.ndarray:
    """Return the labels of a column as integers from 0."""
    return np.unique(factor, return_inverse=True)[1]
