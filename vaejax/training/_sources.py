"""Data on the host: arrays `[examples, ...]`, or an object that gives one by index."""

from typing import Any

import jax
import numpy as np

from vaejax.base import PyTree, batch_size_of


def num_examples(source: Any, name: str = "the source") -> int:
    """Return the number of examples of a source; raise a TypeError if it is none."""
    if is_random_access(source):
        return len(source)
    leaves = jax.tree.leaves(source)
    # JAX takes a list of examples for a pytree of as many arrays, whose leading axes
    # are not over examples.
    if isinstance(source, list) or not all(
        hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves
    ):
        raise TypeError(
            f"{name} is a {type(source).__name__}; give an array, a pytree of "
            "arrays, or an object with __len__ and __getitem__(index)."
        )
    return batch_size_of(source)


def is_random_access(source: Any) -> bool:
    """Return true for an object that gives examples by index, unlike a pytree."""
    if (
        isinstance(source, str | bytes)
        or hasattr(source, "dtype")
        or not jax.tree_util.all_leaves([source])
    ):
        return False
    return hasattr(source, "__len__") and (
        hasattr(source, "__getitems__") or hasattr(source, "__getitem__")
    )


def read(source: Any, indices: np.ndarray) -> PyTree:
    """Return examples of an object that gives them by index, stacked along axis 0."""
    numbers = indices.tolist()
    if hasattr(source, "__getitems__"):
        examples = source.__getitems__(numbers)
    else:
        examples = [source[number] for number in numbers]
    if len(examples) != len(numbers):
        raise ValueError(
            f"the source gave {len(examples)} examples for {len(numbers)} indices; "
            "give one for each."
        )
    try:
        return jax.tree.map(lambda *leaves: np.stack(leaves), *examples)
    except ValueError as error:
        shapes = [str(jax.tree.map(np.shape, example)) for example in examples]
        other = next(
            (place for place, shape in enumerate(shapes) if shape != shapes[0]), None
        )
        if other is None:
            raise
        raise ValueError(
            f"example {numbers[0]} of the source has shape {shapes[0]} and example "
            f"{numbers[other]} {shapes[other]}; give examples of one shape."
        ) from error
