"""The dtypes in which callers hold data, and small data that are exact in each."""

import inspect

import jax.numpy as jnp
import numpy as np

DTYPES = {
    np.dtype(dtype).name: np.dtype(dtype)
    for dtype in (
        bool,
        *(np.int8, np.int16, np.int32, np.int64),
        *(np.uint8, np.uint16, np.uint32, np.uint64),
        *(np.float16, jnp.bfloat16, np.float32, np.float64),
    )
}


def table(shape, dtype, seed=0, offset=0):
    """Return a NumPy array of numbers that every dtype but bool holds exactly."""
    largest = 2 if np.dtype(dtype).kind == "b" else 101
    numbers = np.random.default_rng(seed).integers(0, largest, shape) + offset
    return numbers.astype(dtype)


def functions_of(package):
    """Return the names of the public functions of a package."""
    return {
        name for name in package.__all__ if inspect.isfunction(getattr(package, name))
    }
