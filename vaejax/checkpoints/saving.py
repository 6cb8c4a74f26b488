"""Checkpoints of a run: written, found and read again by the step."""

import json
import operator
import os
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from vaejax._checks import check_count
from vaejax._files import one_line
from vaejax.base import PyTree
from vaejax.checkpoints._digests import check_arrays, describe, digests
from vaejax.checkpoints._files import (
    FORMAT,
    CheckpointMismatchError,
    abstract,
    open_manager,
    read_leaves,
    read_meta,
    read_tree,
    sha256_of,
    write,
)


def save(
    directory: str | Path,
    state: PyTree,
    *,
    step: int,
    keep: int = 2,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a state as the checkpoint of a step, atomically.

    A kill at any moment leaves the checkpoints that were there. One of the same step is
    replaced, since a run that fell back from a damaged checkpoint reaches its step
    again.

    Args:
      directory: The folder of the checkpoints; it is created if needed.
      state: Any pytree of arrays, such as a `TrainState`; typed keys included. Numbers
        of Python are refused, since they would come back as arrays.
      step: The number of the checkpoint, a non-negative integer, among the `keep`
        largest of those that are there.
      keep: The number of newest checkpoints that stay, a positive integer.
      metadata: What `read_metadata` returns, such as the configuration: a mapping of
        texts, numbers, None, lists and mappings, as JSON holds them.

    Raises:
      TypeError: A leaf is no array, or has a dtype that JAX would change; `step` is no
        integer; `metadata` is not JSON.
      ValueError: The state has no leaf, or one that is traced or was donated; `step` is
        negative or would be removed at once; `keep` is not positive; the path of the
        directory is not UTF-8, or has a backslash.
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
    step = _check_step(step)
    check_count("checkpoints.save: keep", keep)
    _check_directory(directory)
    check_arrays(state)
    leaves = describe(state)
    if not leaves:
        raise ValueError("the state has no leaf; give a pytree with an array.")
    metadata = _check_json({} if metadata is None else metadata)
    _check_stays(directory, step, keep)
    whole, parts = digests(state)
    meta = {
        "format": FORMAT,
        "leaves": leaves,
        "leaves_digest": sha256_of(leaves),
        "digest": whole,
        "leaf_digests": parts,
        "metadata": metadata,
        "metadata_digest": sha256_of(metadata),
    }
    write(directory, step, keep, _numbered(jax.tree.leaves(state)), meta)


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
    if not os.path.isdir(directory):
        return []
    # orbax gives a step its name when it is complete.
    return sorted(
        int(entry.name)
        for entry in Path(directory).iterdir()
        if re.fullmatch(r"0|[1-9][0-9]{0,18}", entry.name) and entry.is_dir()
    )


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


def read_metadata(directory: str | Path, *, step: int | None = None) -> dict[str, Any]:
    """Return the metadata that were saved with a checkpoint.

    Args:
      directory: The folder that `save` wrote to.
      step: The step of the checkpoint; None takes the newest that can be read, as
        `restore` does.

    Returns:
      The metadata; empty where none were given.

    Raises:
      FileNotFoundError: There is no checkpoint, or none of that step.
      ValueError: No checkpoint can be read, or not that of the step.

    Example:
      >>> import tempfile
      >>> import jax.numpy as jnp
      >>> from vaejax import checkpoints
      >>> metadata = {"config": {"learning_rate": 0.001}}
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     checkpoints.save(directory, jnp.ones(3), step=10, metadata=metadata)
      ...     checkpoints.read_metadata(directory)
      {'config': {'learning_rate': 0.001}}
    """

    def read(candidate: int) -> dict[str, Any]:
        with open_manager(directory) as manager:
            return read_meta(manager, candidate).get("metadata", {})

    return _newest_readable(directory, step, read)


def restore(
    directory: str | Path,
    like: PyTree,
    *,
    step: int | None = None,
    part: str | None = None,
) -> PyTree:
    """Return a checkpoint as a pytree with the structure of `like`.

    Its bytes are compared with the digests that were saved. If the newest checkpoint is
    damaged, the one before it is returned, with a warning.

    Args:
      directory: The folder that `save` wrote to.
      like: A pytree with the structure, shapes, dtypes and PRNG implementation of the
        state, of arrays or `jax.ShapeDtypeStruct`s. Its values are not used; its
        shardings are.
      step: The step of the checkpoint; None takes the newest that can be read.
      part: The field or key of the state to restore, such as "params"; `like` is then
        like this part, and nothing else is read. None restores the whole state.

    Returns:
      The state, or its part, bitwise as it was saved.

    Raises:
      FileNotFoundError: There is no checkpoint, or none of that step.
      CheckpointMismatchError: The checkpoint is of another model, dtype or PRNG
        implementation, or has no such part; a ValueError.
      ValueError: No checkpoint can be read, or not that of the step.

    Example:
      >>> import tempfile
      >>> import jax.numpy as jnp
      >>> from vaejax import checkpoints
      >>> state = {"params": jnp.arange(3.0), "step": jnp.int32(7)}
      >>> with tempfile.TemporaryDirectory() as directory:
      ...     checkpoints.save(directory, state, step=10)
      ...     params = checkpoints.restore(directory, jnp.zeros(3), part="params")
      >>> params.tolist()
      [0.0, 1.0, 2.0]
    """
    return _newest_readable(
        directory, step, lambda candidate: _read(directory, candidate, like, part)
    )


def _newest_readable(
    directory: str | Path, step: int | None, read: Callable[[int], Any]
) -> Any:
    """Read the step, or the newest that `read` can read."""
    _check_directory(directory)
    available = steps(directory)
    wanted = sorted(available, reverse=True) if step is None else [step]
    if not set(wanted) & set(available):
        raise FileNotFoundError(
            f"no checkpoint{'' if step is None else f' of step {step}'} in "
            f"{one_line(directory)} (steps there: {available}); give the directory and "
            "a step that save wrote."
        )
    failures = []
    for candidate in wanted:
        try:
            return read(candidate)
        except CheckpointMismatchError:
            raise
        # A damaged file makes orbax and what it calls raise almost anything.
        except Exception as error:
            failures.append(f"step {candidate}: {_first_sentence(error)}")
            if candidate != wanted[-1]:
                message = (
                    f"the checkpoint of {failures[-1]} ({one_line(directory)}); "
                    "falling back to the one before it."
                )
                warnings.warn(message, stacklevel=3)
    raise ValueError(
        f"no checkpoint in {one_line(directory)} can be read: {'; '.join(failures)}."
    )


def _check_step(step: Any) -> int:
    try:
        if isinstance(step, bool):
            raise TypeError
        number = operator.index(step)
    except TypeError:
        raise TypeError(
            f"step is {step!r}; give a non-negative integer, such as int(state.step)."
        ) from None
    if number < 0:
        raise ValueError(f"step is {number}; give a non-negative integer.")
    return number


def _check_directory(directory: str | Path) -> None:
    """Check a path for what the storage of arrays cannot open."""
    path = str(Path(directory).absolute())
    is_utf8 = path == path.encode(errors="ignore").decode()
    if "\\" in path or "\0" in path or not is_utf8:
        raise ValueError(
            f"directory is {one_line(path)}; give one whose path is UTF-8 and has no "
            "backslash and no NUL."
        )


def _check_json(metadata: Any) -> dict[str, Any]:
    try:
        copy = json.loads(json.dumps(metadata, allow_nan=False))
        is_same = isinstance(copy, dict) and copy == metadata
    except (TypeError, ValueError, RecursionError):
        is_same = False
    if not is_same:
        raise TypeError(
            "metadata is not a mapping that JSON returns as it was given; use texts, "
            "finite numbers, None, lists, and mappings with texts as keys."
        )
    return copy


def _check_stays(directory: str | Path, step: int, keep: int) -> None:
    newer = [other for other in steps(directory) if other > step]
    if len(newer) >= keep:
        raise ValueError(
            f"step is {step}, and {one_line(directory)} has checkpoints of steps "
            f"{newer}, of which keep={keep} stay: the new one would be removed at "
            "once; give a larger keep or another directory."
        )


def _read(directory: str | Path, step: int, like: PyTree, part: str | None) -> PyTree:
    with open_manager(directory) as manager:
        meta = read_meta(manager, step)
        where = f"{one_line(directory)} (step {step})"
        saved = _of_part(meta["leaves"], part, where)
        _check_same(
            {path: meta["leaves"][whole] for path, whole in saved.items()},
            describe(like),
            where,
        )
        if meta.get("format", 1) == 1:
            return read_tree(manager, step, like, part, meta)
        index = {path: number for number, path in enumerate(meta["leaves"])}
        numbers = [index[saved[path]] for path in describe(like)]
        target = {
            str(number): abstract(leaf)
            for number, leaf in zip(numbers, jax.tree.leaves(like), strict=True)
        }
        found = read_leaves(manager, step, target)
    state = jax.tree.unflatten(
        jax.tree.structure(like), [found[str(number)] for number in numbers]
    )
    if digests(state)[1] != [meta["leaf_digests"][number] for number in numbers]:
        raise ValueError("its bytes are not the ones that were saved")
    return state


def _of_part(leaves: dict[str, str], part: str | None, where: str) -> dict[str, str]:
    """The paths of a part's leaves within the part, and within the state."""
    if part is None:
        return {path: path for path in leaves}
    prefixes = (f".{part}", f"[{part!r}]")
    found = {
        path.removeprefix(prefix): path
        for prefix in prefixes
        for path in leaves
        if path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in "[."
    }
    if not found:
        raise CheckpointMismatchError(
            f"the checkpoint in {where} has no part {part!r}; its leaves are "
            f"{', '.join(list(leaves)[:3])}, ... ({len(leaves)} in all)."
        )
    return found


def _numbered(leaves: list[Any]) -> dict[str, Any]:
    return {str(number): leaf for number, leaf in enumerate(leaves)}


def _first_sentence(error: Exception) -> str:
    # The rest of a message of orbax is addresses.
    first = str(error).strip().partition(". ")[0].partition("\n")[0].rstrip(".")
    return one_line(first) or type(error).__name__


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
