"""Descriptions and digests of pytrees of arrays; public in `vaejax.checkpoints`."""

import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import is_key, is_traced
from vaejax.base import PyTree


def digest(tree: PyTree) -> str:
    """Return the SHA-256 of a pytree, equal for trees that are bitwise equal.

    It covers the path, dtype, shape and bytes of every leaf.

    Args:
      tree: Any pytree of arrays, typed keys included.

    Returns:
      64 hexadecimal digits.

    Example:
      >>> import numpy as np
      >>> from vaejax import checkpoints
      >>> zeros, negative = np.zeros(2, np.float32), -np.zeros(2, np.float32)
      >>> len(checkpoints.digest(zeros)), zeros.tolist() == negative.tolist()
      (64, True)
      >>> checkpoints.digest(zeros) == checkpoints.digest(negative)
      False
    """
    return digests(tree)[0]


def digests(tree: PyTree) -> tuple[str, list[str]]:
    """Return the SHA-256 of a pytree, and that of each leaf's bytes."""
    whole, parts = hashlib.sha256(), []
    for path, leaf in jax.tree.leaves_with_path(tree):
        array = _whole(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        content = np.ascontiguousarray(array).tobytes()
        whole.update(
            f"{jax.tree_util.keystr(path)} {_dtype(leaf)} {jnp.shape(leaf)}".encode()
        )
        whole.update(content)
        parts.append(hashlib.sha256(content).hexdigest())
    return whole.hexdigest(), parts


def describe(tree: PyTree) -> dict[str, str]:
    """Return the dtype and shape of each leaf of a pytree by its path.

    Args:
      tree: Any pytree of arrays or `jax.ShapeDtypeStruct`s, typed keys included.

    Returns:
      `{path: "dtype [shape]"}`; the dtype of a typed key names its implementation.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from vaejax import checkpoints
      >>> checkpoints.describe({"key": jax.random.key(0), "w": jnp.zeros((2, 3))})
      {"['key']": 'key<threefry2x32> []', "['w']": 'float32 [2, 3]'}
    """
    leaves = jax.tree.leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): f"{_dtype(leaf)} {list(jnp.shape(leaf))}"
        for path, leaf in leaves
    }


def check_arrays(tree: PyTree) -> None:
    """Check that JAX holds every leaf as it is, and that a file can.

    Raises:
      TypeError: One is no array, or has a dtype that would be changed.
      ValueError: One is traced or was donated, or two have the same path.
    """
    leaves = jax.tree.leaves_with_path(tree)
    for path, leaf in leaves:
        name = jax.tree_util.keystr(path) or "the state"
        if is_traced(leaf):
            raise ValueError(
                f"{name} is traced and has no value yet; save outside of jax.jit."
            )
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic) or isinstance(
            leaf, np.ma.MaskedArray
        ):
            raise TypeError(
                f"{name} is a {type(leaf).__name__}; give an array, such as "
                "jnp.asarray(...) of it."
            )
        if isinstance(leaf, jax.Array) and leaf.is_deleted():
            raise ValueError(
                f"{name} was deleted, as a donated argument is; save the state that "
                "the step returned."
            )
        if not (isinstance(leaf, jax.Array) and is_key(leaf)):
            _check_dtype(name, leaf.dtype)
    if len(describe(tree)) < len(leaves):
        raise ValueError(
            "the state has two leaves with the same path; register its nodes with "
            "jax.tree_util.register_dataclass, which names them."
        )


def _check_dtype(name: str, dtype: np.dtype) -> None:
    import tensorstore

    try:
        held = jax.dtypes.canonicalize_dtype(dtype)
        tensorstore.dtype(dtype)
    except (TypeError, ValueError):
        raise TypeError(
            f"{name} is {dtype}, which a checkpoint cannot hold; convert it to a "
            "numeric dtype of JAX, or leave it out."
        ) from None
    if held != dtype or not dtype.isnative:
        raise TypeError(
            f"{name} is {dtype}, which JAX holds as {held.name}; convert it with "
            f"astype({held.name!r})"
            f"{'' if held == dtype else ', or set jax_enable_x64'}."
        )


def _whole(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and not (
        leaf.is_fully_addressable or leaf.is_fully_replicated
    ):
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)


def _dtype(leaf: Any) -> str:
    return (
        f"key<{key_implementation(leaf)}>"
        if is_key(leaf)
        else str(jnp.result_type(leaf))
    )


def key_implementation(leaf: Any) -> str:
    """Return the name of the PRNG of typed keys, or of their shape and dtype."""
    names: list[str] = []
    jax.eval_shape(lambda key: names.append(str(jax.random.key_impl(key))), leaf)
    return names[0]
