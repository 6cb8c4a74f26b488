"""The files of a checkpoint, which orbax writes and reads."""

import errno
import gc
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vaejax._checks import is_key
from vaejax.base import PyTree
from vaejax.checkpoints._digests import digest, key_implementation

# Version 1, which has no number, stores the state as a tree of its own structure;
# version 2 as a flat dictionary of numbered leaves.
FORMAT = 2


class CheckpointMismatchError(ValueError):
    """The error for a checkpoint that is intact, but of another kind of state."""


def write(
    directory: str | Path,
    step: int,
    keep: int,
    leaves: dict[str, Any],
    meta: dict[str, Any],
) -> None:
    """Write the leaves that have elements, and what is known of all; atomically."""
    import orbax.checkpoint as ocp

    # orbax writes no array without elements: its description is all of it.
    stored = {name: leaf for name, leaf in leaves.items() if leaf.size}
    state = {"state": ocp.args.StandardSave(stored)} if stored else {}
    items = ocp.args.Composite(**state, meta=ocp.args.JsonSave(meta))
    try:
        with open_manager(directory, keep=keep, create=True) as manager:
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
        del error, items, state
        gc.collect()
        raise failure from None


def read_meta(manager: Any, step: int) -> dict[str, Any]:
    """Return what was saved beside the leaves, compared with its digests."""
    import orbax.checkpoint as ocp

    args = ocp.args.Composite(meta=ocp.args.JsonRestore())
    meta = manager.restore(step, args=args).meta
    # A flipped bit in the description is damage, not another model.
    if sha256_of(meta["leaves"]) != meta["leaves_digest"]:
        raise ValueError("its description is not the one that was saved")
    if meta.get("format", 1) > FORMAT:
        raise CheckpointMismatchError(
            f"the checkpoint of step {step} was written by a newer version of vaejax "
            f"(format {meta['format']}; this one reads up to {FORMAT}); update vaejax."
        )
    if sha256_of(meta.get("metadata")) != meta.get("metadata_digest", sha256_of(None)):
        raise ValueError("its metadata are not the ones that were saved")
    return meta


def read_leaves(
    manager: Any, step: int, target: dict[str, jax.ShapeDtypeStruct]
) -> dict[str, jax.Array]:
    """Return the leaves of these numbers, laid out as described."""
    import orbax.checkpoint as ocp

    empty = {name: _empty(leaf) for name, leaf in target.items() if not leaf.size}
    wanted = {name: leaf for name, leaf in target.items() if leaf.size}
    if not wanted:
        return empty
    args = ocp.args.PyTreeRestore(
        wanted,
        restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
        partial_restore=True,
    )
    return empty | manager.restore(step, args=ocp.args.Composite(state=args)).state


def read_tree(
    manager: Any, step: int, like: PyTree, part: str | None, meta: dict[str, Any]
) -> PyTree:
    """Return a state of format 1, whose one digest is of all its leaves."""
    import orbax.checkpoint as ocp

    if part is not None:
        raise CheckpointMismatchError(
            "the checkpoint was saved by an earlier version, and only the whole state "
            "can be compared with its digest; restore it without `part`."
        )
    args = ocp.args.StandardRestore(jax.tree.map(abstract, like))
    state = manager.restore(step, args=ocp.args.Composite(state=args)).state
    if digest(state) != meta["digest"]:
        raise ValueError("its bytes are not the ones that were saved")
    return state


def sha256_of(content: Any) -> str:
    """Return the SHA-256 of what JSON makes of a value."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """Return shape, dtype and sharding of a leaf."""
    # With an explicit sharding, since orbax otherwise asks for the devices that the
    # checkpoint was written on.
    leaf = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jnp.asarray(leaf)
    sharding = leaf.sharding or jnp.zeros(()).sharding
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _empty(leaf: jax.ShapeDtypeStruct) -> jax.Array:
    if not is_key(leaf):
        return jax.device_put(jnp.zeros(leaf.shape, leaf.dtype), leaf.sharding)
    one = jax.random.key(0, impl=key_implementation(leaf))
    return jax.device_put(jnp.broadcast_to(one, leaf.shape), leaf.sharding)


def open_manager(
    directory: str | Path, *, keep: int | None = None, create: bool = False
) -> Any:
    """Return orbax's manager of a directory, a context manager."""
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, create=create, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager(Path(directory).absolute(), options=options)
