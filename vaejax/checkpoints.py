"""Checkpoints over orbax: atomic, verified when they are read, typed PRNG keys
included. Knows no VAE.

A checkpoint is any pytree of arrays, such as a `TrainState`, under a step number.
Beside it stand a description of every leaf and a digest of the bytes, so that a
checkpoint of another model, dtype or PRNG implementation, or one with a flipped bit, is
refused with a sentence; orbax alone casts the first silently and returns the last.
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
    """The checkpoint is whole, but of another state than the one asked for."""


def save(directory: str | Path, state: PyTree, *, step: int, keep: int = 2) -> None:
    """Writes `state` as the checkpoint of `step`; the newest `keep` stay. A kill at any
    moment leaves the others whole.

    A checkpoint of the same step is replaced: a run that fell back from a damaged one
    comes by its step again.

    Raises:
      OSError: the directory cannot be written.
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
    except (
        Exception
    ) as error:  # A full disk or a quota makes the writers below raise almost anything.
        reason = (
            str(error).strip().rpartition(": ")[2].partition(" [")[0]
            or type(error).__name__
        )
        failure = OSError(
            errno.EIO, f"the checkpoint cannot be written ({reason})", str(directory)
        )
        # What they leave half done complains when Python ends, unless it is collected
        # before.
        del error, items
        gc.collect()
        raise failure from None


def steps(directory: str | Path) -> list[int]:
    """The steps of the complete checkpoints in a directory, in order; empty where there
    are none.
    """
    if not Path(directory).is_dir():
        return []
    with _manager(directory) as manager:
        return sorted(manager.all_steps())


def latest(directory: str | Path) -> int | None:
    """The step of the newest complete checkpoint, or None."""
    return max(steps(directory), default=None)


def restore(directory: str | Path, like: PyTree, *, step: int | None = None) -> PyTree:
    """The checkpoint of `step`, or the newest that can be read, as a pytree like
    `like`.

    Args:
      directory: where `save` wrote.
      like: a pytree of the same structure, shapes, dtypes and PRNG implementation. Its
        values are not used; its shardings are.
      step: that step and no other. None falls back from a damaged newest checkpoint to
        the one before it, with a warning.

    Raises:
      FileNotFoundError: there is no such checkpoint.
      CheckpointMismatchError: (a ValueError) it is of another model, dtype or PRNG
        implementation.
      ValueError: none can be read.
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
        except (
            Exception
        ) as error:  # A damaged file makes the readers below raise almost anything.
            # Their first sentence says what; the rest is addresses.
            reason = (
                str(error).strip().partition(". ")[0].partition("\n")[0]
                or type(error).__name__
            )
            failures.append(f"step {candidate}: {reason}")
            if candidate != wanted[-1]:
                message = f"the checkpoint of {failures[-1]} ({directory}); falling back to the one before it."
                warnings.warn(message, stacklevel=2)
    raise ValueError(
        f"no checkpoint in {directory} can be read: {'; '.join(failures)}."
    )


def digest(tree: PyTree) -> str:
    """SHA-256, in hexadecimal, of every leaf's path, dtype, shape and bytes: equal for
    trees that are bitwise equal.
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
    """The dtype and shape of each leaf by its path; the dtype of a typed key names its
    implementation.
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
