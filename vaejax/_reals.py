"""Conversion of what callers give to floating point, where arithmetic keeps digits."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.base import Array


def real_dtype(dtype: Any) -> Any:
    """Return the dtype in which arrays of a dtype are computed with.

    It is the dtype itself for single and double precision, float32 for half precision,
    booleans and integers, and float64 for wide integers where double precision is on.
    """
    dtype = jnp.dtype(dtype)
    if jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize >= 4:
        return dtype
    is_wide = jnp.issubdtype(dtype, jnp.integer) and dtype.itemsize >= 4
    return jnp.dtype(jnp.float64 if is_wide and _in_double() else jnp.float32)


def _in_double() -> bool:
    return jax.dtypes.canonicalize_dtype(np.float64) == np.float64


def as_real(array: Any) -> Array:
    """Return an array in floating point of at least single precision."""
    array = jnp.asarray(array)
    return array.astype(real_dtype(array.dtype))


def at_least_single(values: Any) -> Any:
    """Return values of half precision in single precision, and all others as they are.

    Log-densities of some hundred nats have 2 to 3 digits in half precision, which sums
    and means of them would lose.
    """
    dtype = jnp.result_type(values)
    if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
        return jnp.asarray(values, jnp.float32)
    return values


def as_floating(array: Any) -> Array:
    """Return an array as it is where it is floating point, of any width, else real."""
    array = jnp.asarray(array)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else as_real(array)


def difference(first: Array, second: Array) -> Array:
    """Return first - second of two arrays of one dtype, in `real_dtype` of it.

    It is correctly rounded for integers too, of which the wide ones have more digits
    than float32.
    """
    dtype = real_dtype(first.dtype)
    if jnp.issubdtype(first.dtype, jnp.integer) and first.dtype.itemsize == 4:
        # By halves of 16 bits, of which each difference is exact.
        (a, b), (c, d) = (
            (each >> 16, each & jnp.array(0xFFFF, each.dtype))
            for each in (first, second)
        )
        high, low = a.astype(dtype) - c.astype(dtype), b.astype(dtype) - d.astype(dtype)
        return high * jnp.array(65536, dtype) + low
    return first.astype(dtype) - second.astype(dtype)


def symmetric_abs(x: Array) -> Array:
    """Return |x|, with the derivative 0 at 0 where JAX takes 1."""
    return x * jnp.sign(x)


def to_device(*arrays: Any) -> tuple[Array, ...]:
    """Return arrays of one dtype on the device, moved by a common point if need be.

    64-bit arrays of NumPy lose digits on the device where double precision is off, so
    the middle of the last array is subtracted from all of them on the host.
    """
    dtypes = {np.result_type(each) for each in arrays if isinstance(each, np.ndarray)}
    wide = any(dtype.itemsize == 8 and dtype.kind in "iuf" for dtype in dtypes)
    if (
        wide
        and not _in_double()
        and all(isinstance(each, np.ndarray) for each in arrays)
        and len(arrays[-1])
    ):
        center = middle(np.asarray(arrays[-1]), np).astype(np.float64)
        return tuple(jnp.asarray(_moved(each, center)) for each in arrays)
    found = [jnp.asarray(each) for each in arrays]
    if len({each.dtype for each in found}) > 1:
        found = [each.astype(real_dtype(each.dtype)) for each in found]
        dtype = max((each.dtype for each in found), key=lambda dtype: dtype.itemsize)
        found = [each.astype(dtype) for each in found]
    return tuple(found)


def _moved(array: np.ndarray, center: np.ndarray) -> np.ndarray:
    # In float64, and rounded piece by piece.
    out = np.empty(array.shape, np.float32)
    return np.subtract(array, center, out=out, casting="unsafe", dtype=np.float64)


def middle(rows: Any, numpy: Any = jnp, num: int = 101) -> Any:
    """Return a point amid the rows, in their dtype: the median of some, by coordinate.

    NaN is sorted to the end, and so is no median unless most are NaN.
    """
    some = rows[:: max(1, len(rows) // num)]
    return numpy.sort(some, axis=0)[(len(some) - 1) // 2]


def means(rows: Any) -> Array:
    """Return the mean over the leading axis, exact to rounding whatever the offset."""
    rows = jnp.asarray(rows)
    center = middle(rows)
    return as_real(center) + jnp.mean(difference(rows, center[None]), axis=0)


def variances(rows: Any, ddof: int = 0) -> Array:
    """Return the variance over the leading axis, from differences to a middle row.

    NaN where an entry is not finite.
    """
    rows = jnp.asarray(rows)
    return jnp.var(difference(rows, middle(rows)[None]), axis=0, ddof=ddof)
