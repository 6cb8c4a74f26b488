"""Examples a few at a time, with a progress bar."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from experiments.harness import distributed
from vaejax.base import PyTree, batch_size_of


def progress_bar(total: int, description: str, initial: int = 0) -> tqdm:
    """Return a bar over examples, shown by the first process alone."""
    return tqdm(
        total=total,
        initial=initial,
        unit="example",
        dynamic_ncols=True,
        desc=description,
        disable=not distributed.is_first(),
    )


def part_of(examples: PyTree, first: int, size: int) -> PyTree:
    """Return at most `size` examples, from number `first` on."""
    return jax.tree.map(lambda leaf: leaf[first : first + size], examples)


def in_parts(
    examples: PyTree,
    size: int,
    description: str,
    check_interrupts: Callable[[], None],
) -> Iterator[tuple[int, PyTree]]:
    """Iterate over consecutive parts of the examples, each with its first number.

    After each part the bar moves and `check_interrupts` is called.
    """
    num = batch_size_of(examples)
    with progress_bar(num, description) as progress:
        for first in range(0, num, size):
            part = part_of(examples, first, size)
            yield first, part
            progress.update(batch_size_of(part))
            check_interrupts()


def joined(parts: list[Any], axis: int) -> Any:
    """Return pytrees of arrays on the host as one, along an axis."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=axis), *parts)
