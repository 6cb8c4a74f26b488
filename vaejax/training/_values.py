"""Values of data on the host: the first wrong one and its place, read in chunks."""

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vaejax.base import PyTree
from vaejax.columns import MaskedEvent
from vaejax.training._sources import is_random_access, num_examples, read

# Examples of a source that is read by index, or of data that are transformed first.
NUM_SAMPLE = 256


class Part(NamedTuple):
    """One array of data, `[examples, ...]`, and its name in messages."""

    name: str
    array: np.ndarray


class Wrong(NamedTuple):
    """The first wrong value of an array, and its index."""

    value: Any
    index: tuple[int, ...]


def parts_of(name: str, data: PyTree) -> list[Part]:
    """Return the arrays of data on the host, named by their place in the pytree.

    Memory maps stay what they are.
    """
    return [
        Part(f"{name}{jax.tree_util.keystr(path)}", _on_host(leaf))
        for path, leaf in jax.tree.leaves_with_path(data)
    ]


def _on_host(leaf: Any) -> np.ndarray:
    return leaf if isinstance(leaf, np.ndarray) else np.asarray(leaf)


def sample_of(data: Any, num: int = NUM_SAMPLE) -> PyTree:
    """Return examples at even distances, as arrays `[examples, ...]` on the host."""
    size = num_examples(data)
    indices = np.unique(np.linspace(0, size - 1, min(size, num)).astype(int))
    if is_random_access(data):
        return read(data, indices)
    return jax.tree.map(lambda leaf: np.asarray(leaf[indices]), data)


def without_missing(data: PyTree) -> PyTree:
    """Return data whose missing cells hold 0, and all else as it is."""

    def fill(node: Any) -> Any:
        if not isinstance(node, MaskedEvent):
            return node
        mask: Any = np.asarray(node.mask)

        def filled(leaf: Any) -> Any:
            array = np.asarray(leaf)
            # Arrays that do not fit are refused by what scores them. A mask of fewer
            # axes is of whole parts of an example.
            if array.shape[: mask.ndim] != mask.shape:
                return array
            of_cells = mask.reshape(mask.shape + (1,) * (array.ndim - mask.ndim))
            return np.where(of_cells, array, np.zeros((), array.dtype))

        values: Any = jax.tree.map(filled, node.values)
        return node._replace(values=values, mask=mask)

    return jax.tree.map(fill, data, is_leaf=lambda node: isinstance(node, MaskedEvent))


def check_values(name: str, data: Any) -> None:
    """Raise unless data hold examples, all of finite numbers that the device can hold.

    Of a source that is read by index, some examples are checked.
    """
    if is_random_access(data):
        if not len(data):
            raise ValueError(f"{name} is empty; give at least one example.")
        data = sample_of(data)
    for path, leaf in jax.tree.leaves_with_path(without_missing(data)):
        _check_array(f"{name}{jax.tree_util.keystr(path)}", leaf)
    num_examples(data, name)


def _check_array(name: str, leaf: Any) -> None:
    if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
        return  # `num_examples` says what the data are instead
    if isinstance(leaf, np.ma.MaskedArray):
        raise ValueError(
            f"{name} is a masked array; fill in or leave out what is missing, or give "
            "MaskedEvent(data.filled(0), ~np.ma.getmaskarray(data)) to a model that "
            "takes it, such as table_vae."
        )
    if not (
        jnp.issubdtype(leaf.dtype, np.number) or jnp.issubdtype(leaf.dtype, np.bool_)
    ):
        raise TypeError(f"{name} holds {leaf.dtype}; give numbers only.")
    if leaf.ndim and not math.prod(leaf.shape):
        raise ValueError(
            f"{name} is empty, of shape {list(leaf.shape)}; give at least one example "
            "with at least one value."
        )
    check_representable(Part(name, _on_host(leaf)))


def check_representable(part: Part, *, is_example: bool = False) -> None:
    """Raise where a value is not finite, or does not fit the dtype of the device."""
    device = jax.dtypes.canonicalize_dtype(part.array.dtype)
    if jnp.issubdtype(device, jnp.integer):
        if part.array.dtype == device:
            return
        limits = jnp.iinfo(device)
        wrong = first_wrong(
            part.array, lambda values: (values >= limits.min) & (values <= limits.max)
        )
        remedy = f"it does not fit {device}: scale it, or turn on jax_enable_x64"
    elif jnp.issubdtype(device, np.bool_):
        return
    else:

        def is_right(values: np.ndarray) -> np.ndarray:
            with np.errstate(over="ignore"):
                return np.isfinite(values.astype(device))

        wrong = first_wrong(part.array, is_right)
        remedy = "fill in, or leave out, what is missing or infinite"
        if wrong and np.isfinite(wrong.value):
            remedy = f"it is infinite in {device}: scale the data"
    if wrong:
        raise ValueError(f"{described(part.name, wrong, is_example)}; {remedy}.")


def first_wrong(
    array: np.ndarray,
    is_right: Callable[[np.ndarray], Any],
    mask: np.ndarray | None = None,
) -> Wrong | None:
    """Return the first value that is not right, or None where all are.

    With a mask, `[examples, ...]`, only values where it is true are judged.
    """
    for start, chunk in _chunks(array):
        wrong = ~np.asarray(is_right(chunk))
        if mask is not None:
            wrong = wrong & mask[start : start + len(chunk)]
        if wrong.any():
            place = tuple(int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
            index = (start + place[0], *place[1:]) if place else ()
            return Wrong(chunk[place], index)
    return None


def described(name: str, wrong: Wrong, is_example: bool = False) -> str:
    """Return a value and its place, such as "xs holds nan in example 3 (at [3, 0])"."""
    if is_example:
        place = f" (at {list(wrong.index)})" if wrong.index else ""
    else:
        place = f" in example {wrong.index[0]} (at {list(wrong.index)})"
    return f"{name} holds {wrong.value!s}{place}"


def _chunks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    start = 0
    # `import vaejax` loads no file of the data sets but the transforms.
    from vaejax.datasets import iterate_chunks

    for chunk in iterate_chunks(array):
        yield start, chunk
        start += len(chunk) if chunk.ndim else 1


def extremes(array: np.ndarray) -> tuple[float, float]:
    """Return the smallest and the largest value."""
    low, high = math.inf, -math.inf
    for _, chunk in _chunks(array):
        low, high = min(low, float(chunk.min())), max(high, float(chunk.max()))
    return low, high


def moments(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of every dimension over the examples."""
    with np.errstate(over="ignore", invalid="ignore"):
        mean, stddev = _moments(array, 1.0)
    if np.isfinite(stddev).all():
        return mean, stddev
    # Over a power of 2, which rounds nothing, no square is infinite.
    exponent = math.frexp(max(map(abs, extremes(array))))[1]
    return _moments(array, 2.0 ** (exponent - 1))


def _moments(array: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
    # About the first example, so that a large offset costs no digits.
    origin = array[0].astype(np.float64) / scale
    total, squares = np.zeros_like(origin), np.zeros_like(origin)
    for _, chunk in _chunks(array):
        moved = chunk.astype(np.float64) / scale - origin
        total += moved.sum(axis=0)
        squares += np.square(moved).sum(axis=0)
    mean = total / len(array)
    stddev = np.sqrt(np.maximum(squares / len(array) - mean**2, 0))
    return scale * (origin + mean), scale * stddev
