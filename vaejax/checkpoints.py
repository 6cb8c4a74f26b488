"""Checkpoints over orbax: atomic, verified when they are read, with typed PRNG keys.

A checkpoint is any pytree of arrays, such as a `TrainState`, under a step number.
Beside it stand a description of every leaf and a digest of the bytes, so that a
checkpoint of another model, dtype or PRNG implementation, or one with a flipped bit, is
refused with a message; orbax alone casts the first silently and returns the last.
`write_atomically` is for the other files of a run.
"""

import errno
import gc
import hashlib
import json
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import is_key
from vaejax._files import write_atomically
from vaejax.base import PyTree

__all__ = [
    "CheckpointMismatchError",
    "describe",
    "digest",
    "latest",
    "restore",
    "save",
    "steps",
    "write_atomically",
]


class CheckpointMismatchError(ValueError):
    """The error for a checkpoint that is intact, but of another kind of state."""


def save(directory: str | Path, state: PyTree, *, step: int, keep: int = 2) -> None:
    """Write a state as the checkpoint of a step, atomically.

    A kill at any moment leaves the checkpoints that were there. One of the same step is
    replaced, since a run that fell back from a damaged checkpoint reaches its step
    again.

    Args:
      directory: The folder of the checkpoints; it is created if needed.
      state: Any pytree of arrays, such as a `TrainState`; typed keys included.
      step: The number of the checkpoint, a non-negative integer.
      keep: The number of newest checkpoints that stay, a positive integer.

    Raises:
      OSError: The directory cannot be written.

    Example:
      >>> import tempfile
      >>> import jax, jax.numpy as jnp
      >>> from vaejax import checkpoints
      >>> state = {"w": jnp.arange(3.0), "key": jax.random.key(0)}
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     checkpoints.save(directory, state, step=10)
      ...     restored = checkpoints.restore(directory, state)
      >>> checkpoints.digest(restored) == checkpoints.digest(state)
      True
    """
    import orbax.checkpoint as ocp

    leaves = describe(state)
    meta = {"leaves": leaves, "leaves_digest": _sha256(leaves), "digest": digest(state)}
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)
    )
    try:
        with _manager(directory, keep=keep, create=True) as manager:
            if step in manager.all_steps():
                manager.delete(step)
            manager.save(step, args=items, force=True)
    except OSError:
        raise
    # A full disk or a quota makes orbax and what it calls raise almost anything.
    except Exception as error:
        message = str(error).strip().rpartition(": ")[2].partition(" [")[0]
        failure = OSError(
            errno.EIO,
            f"the checkpoint cannot be written ({message or type(error).__name__})",
            str(directory),
        )
        # What they leave half done complains when Python ends, unless it is collected
        # before.
        del error, items
        gc.collect()
        raise failure from None


def steps(directory: str | Path) -> list[int]:
    """Return the steps of the complete checkpoints in a directory, in ascending order.

    Args:
      directory: The folder that `save` wrote to; it may be missing.

    Returns:
      The steps; an empty list if there are none.

    Example:
      >>> import tempfile
      >>> from vaejax import checkpoints
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     checkpoints.steps(directory)
      []
    """
    if not Path(directory).is_dir():
        return []
    with _manager(directory) as manager:
        return sorted(manager.all_steps())


def latest(directory: str | Path) -> int | None:
    """Return the step of the newest complete checkpoint in a directory.

    Args:
      directory: The folder that `save` wrote to; it may be missing.

    Returns:
      The step, or None if there is no checkpoint.

    Example:
      >>> from vaejax import checkpoints
      >>> print(checkpoints.latest("a folder that does not exist"))
      None
    """
    return max(steps(directory), default=None)


def restore(directory: str | Path, like: PyTree, *, step: int | None = None) -> PyTree:
    """Return a checkpoint as a pytree with the structure of `like`.

    Its bytes are compared with the digest that was saved. If the newest checkpoint is
    damaged, the one before it is returned, with a warning.

    Args:
      directory: The folder that `save` wrote to.
      like: A pytree with the structure, shapes, dtypes and PRNG implementation of the
        state, of arrays or `jax.ShapeDtypeStruct`s. Its values are not used; its
        shardings are.
      step: The step of the checkpoint; None takes the newest that can be read.

    Returns:
      The state, bitwise as it was saved.

    Raises:
      FileNotFoundError: There is no checkpoint, or none of that step.
      CheckpointMismatchError: The checkpoint is of another model, dtype or PRNG
        implementation; a ValueError.
      ValueError: No checkpoint can be read, or not that of the step.

    Example:
      >>> import tempfile
      >>> import jax.numpy as jnp
      >>> from vaejax import checkpoints
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     checkpoints.save(directory, {"w": jnp.arange(3.0)}, step=10)
      ...     restored = checkpoints.restore(directory, {"w": jnp.zeros(3)}, step=10)
      >>> restored["w"].tolist()
      [0.0, 1.0, 2.0]
    """
    available = steps(directory)
    wanted = sorted(available, reverse=True) if step is None else [step]
    if not set(wanted) & set(available):
        raise FileNotFoundError(
            f"no checkpoint{'' if step is None else f' of step {step}'} in {directory} "
            f"(steps there: {available})."
        )
    failures = []
    for candidate in wanted:
        try:
            return _read(directory, candidate, like)
        except CheckpointMismatchError:
            raise
        # A damaged file makes orbax and what it calls raise almost anything.
        except Exception as error:
            failures.append(f"step {candidate}: {_first_sentence(error)}")
            if candidate != wanted[-1]:
                message = (
                    f"the checkpoint of {failures[-1]} ({directory}); falling back to "
                    "the one before it."
                )
                warnings.warn(message, stacklevel=2)
    raise ValueError(
        f"no checkpoint in {directory} can be read: {'; '.join(failures)}."
    )


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
    sha = hashlib.sha256()
    for path, leaf in jax.tree.leaves_with_path(tree):
        array = _whole(jax.random.key_data(leaf) if is_key(leaf) else leaf)
        sha.update(
            f"{jax.tree_util.keystr(path)} {_dtype(leaf)} {jnp.shape(leaf)}".encode()
        )
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


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


def _read(directory: str | Path, step: int, like: PyTree) -> PyTree:
    import orbax.checkpoint as ocp

    with _manager(directory) as manager:
        meta = manager.restore(
            step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
        ).meta
        # A flipped bit in the description is damage, not another model.
        if _sha256(meta["leaves"]) != meta["leaves_digest"]:
            raise ValueError("its description is not the one that was saved")
        _check_same(dict(meta["leaves"]), describe(like), f"{directory} (step {step})")
        target = jax.tree.map(_abstract, like)
        state = manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
        ).state
    if digest(state) != meta["digest"]:
        raise ValueError("its bytes are not the ones that were saved")
    return state


def _first_sentence(error: Exception) -> str:
    # The rest of a message of orbax is addresses.
    first = str(error).strip().partition(". ")[0].partition("\n")[0]
    return first or type(error).__name__


def _sha256(leaves: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(leaves, sort_keys=True).encode()).hexdigest()


def _check_same(saved: dict[str, str], wanted: dict[str, str], where: str) -> None:
    different = sorted(
        path
        for path in saved.keys() | wanted.keys()
        if saved.get(path) != wanted.get(path)
    )
    if different:
        first = different[0]
        raise CheckpointMismatchError(
            f"the checkpoint in {where} does not fit: {first} is "
            f"{saved.get(first, 'absent')} there and "
            f"{wanted.get(first, 'absent')} here ({len(different)} such leaves); "
            "restore it with the configuration it was saved with."
        )


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    # With an explicit sharding, since orbax otherwise asks for the devices that the
    # checkpoint was written on.
    leaf = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jnp.asarray(leaf)
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _whole(leaf: Any) -> np.ndarray:
    if isinstance(leaf, jax.Array) and not (
        leaf.is_fully_addressable or leaf.is_fully_replicated
    ):
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(leaf, tiled=True)
    return np.asarray(leaf)


def _dtype(leaf: Any) -> str:
    return (
        f"key<{jax.random.key_impl(leaf)}>"
        if is_key(leaf)
        else str(jnp.result_type(leaf))
    )


def _manager(directory: str | Path, *, keep: int | None = None, create: bool = False):
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, create=create, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager(Path(directory).absolute(), options=options)
