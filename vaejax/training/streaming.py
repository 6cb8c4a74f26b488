"""Training on data that do not fit the device, or the host: the same step, fed by a
thread from where the data lie.

The order is that of `make_train_epoch`, a function of (key, step) alone, so that
streamed and resident training see the same batches. Only the dispatches under way are
in memory, and four bytes an example for the order.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import check_count
from vaejax.base import PyTree, batch_size_of
from vaejax.training.epochs import epoch_order, steps_per_epoch
from vaejax.training.steps import TrainState


def make_streamed_epoch(
    step: Callable,
    batch_size: int,
    *,
    steps_per_dispatch: int = 16,
    batch_sharding: jax.sharding.Sharding | None = None,
    prefetch: int = 2,
) -> Callable[[TrainState, Any], tuple[TrainState, PyTree]]:
    """`epoch(state, source) -> (state, metrics)`: what is left of an epoch, with the
    data on the host. Never jit it.

    It is a loop on the host around one compiled program, a `lax.scan` of the step over
    the batches of a dispatch, while a thread reads the next dispatches. The batch of a
    step is the one that `make_train_epoch` takes, so the parameters are the same too
    (to the last bit where the compiler rounds both programs alike, as on CPU). The call
    may start anywhere in an epoch and, unlike `make_train_epoch`, stops at its end. The
    state is donated: use the one returned.

    The source is one of
    - an array `[examples, ...]`, also a memory map, or a pytree of arrays with equal
    leading axes;
    - an object with `__len__` and `__getitems__(indices) -> examples`, or
      `__getitem__(index) -> example`, such as the data sources of tensorflow-datasets
      and of grain; an example is a pytree of arrays or numbers, of one shape.

    Args:
      step: `(state, batch) -> (state, metrics)`.
      batch_size: examples a step.
      steps_per_dispatch: steps a program takes; more of them amortize its call, and
        take more memory. With 1 there is no loop on the device: for convolutions on
        CPU, which are several times slower inside one.
      batch_sharding: how a batch is laid out over devices; None leaves it to the
        compiler.
      prefetch: dispatches that are read ahead.

    Returns:
      The function; its metrics are those of every step, stacked along a leading axis
      `[steps]`. It raises what the
      source raises; a ValueError where the data are fewer than one batch or the
      examples differ in shape; a TypeError
      where the source is none of these, or its examples hold something else than
      numbers.

    Raises:
      ValueError: a count is not positive.

    Example:
      images = np.load("train.npy", mmap_mode="r")
      state, metrics = make_streamed_epoch(step, 128)(state, images)
    """
    for name, value in (
        ("batch_size", batch_size),
        ("steps_per_dispatch", steps_per_dispatch),
        ("prefetch", prefetch),
    ):
        check_count(name, value)
    dispatch = jax.jit(partial(_scan, step, batch_sharding), donate_argnums=0)
    order_of = jax.jit(epoch_order, static_argnums=2)

    def epoch(state: TrainState, source: Any) -> tuple[TrainState, PyTree]:
        num_examples = _num_examples(source)
        num_steps = steps_per_epoch(num_examples, batch_size)
        number, first = divmod(int(state.step), num_steps)
        order = np.asarray(order_of(state.key, number, num_examples))
        batches = order[first * batch_size : num_steps * batch_size].reshape(
            -1, batch_size
        )
        dispatches = (
            batches[at : at + steps_per_dispatch]
            for at in range(0, len(batches), steps_per_dispatch)
        )
        metrics: list[PyTree] = []
        with closing(
            _map_ahead(partial(_gather, source), dispatches, prefetch)
        ) as stacks:
            for stack in stacks:
                state, reported = dispatch(state, _put(stack, batch_sharding))
                # Waits for the dispatch before this one, lest the host run ahead and
                # fill the device with batches.
                metrics[-1:] = jax.device_get(metrics[-1:])
                metrics.append(reported)
        return state, jax.tree.map(
            lambda *leaves: jnp.asarray(np.concatenate(leaves)), *metrics
        )

    return epoch


def _scan(
    step: Callable,
    batch_sharding: jax.sharding.Sharding | None,
    state: TrainState,
    batches: PyTree,
) -> tuple[TrainState, PyTree]:
    def body(state: TrainState, batch: PyTree) -> tuple[TrainState, PyTree]:
        if batch_sharding is not None:
            batch = jax.lax.with_sharding_constraint(batch, batch_sharding)
        return step(state, batch)

    return jax.lax.scan(body, state, batches)


def _put(stack: PyTree, batch_sharding: jax.sharding.Sharding | None) -> PyTree:
    """On the devices, each batch laid out as told; the axis of steps is not divided."""
    if isinstance(batch_sharding, jax.sharding.NamedSharding):
        spec = jax.sharding.PartitionSpec(None, *batch_sharding.spec)
        batch_sharding = jax.sharding.NamedSharding(batch_sharding.mesh, spec)
    return jax.device_put(stack, batch_sharding)


def _num_examples(source: Any) -> int:
    """Of a source; TypeError where it is none."""
    if _is_random_access(source):
        return len(source)
    leaves = jax.tree.leaves(source)
    # The axis of a list of examples is not theirs: it would be taken for a pytree of as
    # many arrays.
    if isinstance(source, list) or not all(
        hasattr(leaf, "shape") and hasattr(leaf, "dtype") for leaf in leaves
    ):
        raise TypeError(
            f"the source is a {type(source).__name__}; give an array, a pytree of "
            "arrays, or an object with __len__ "
            "and __getitem__(index)."
        )
    return batch_size_of(source)


def _is_random_access(source: Any) -> bool:
    """Whether it is an object that gives examples by index: neither an array nor a
    container of arrays.
    """
    if (
        isinstance(source, str | bytes)
        or hasattr(source, "dtype")
        or not jax.tree_util.all_leaves([source])
    ):
        return False
    return hasattr(source, "__len__") and (
        hasattr(source, "__getitems__") or hasattr(source, "__getitem__")
    )


def _map_ahead(function: Callable, arguments: Iterable, number: int) -> Iterator:
    """`map`, with so many results computed ahead by a thread, which ends with the
    iterator however that ends.
    """
    waiting = iter(arguments)
    executor = ThreadPoolExecutor(1, thread_name_prefix="vaejax-streaming")
    try:
        futures = deque(
            executor.submit(function, argument) for argument in islice(waiting, number)
        )
        while futures:
            result = futures.popleft().result()
            futures.extend(
                executor.submit(function, argument) for argument in islice(waiting, 1)
            )
            yield result
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _gather(source: Any, indices: np.ndarray) -> PyTree:
    """The examples of indices `[steps, batch]` as a pytree of arrays `[steps, batch,
    ...]`.
    """
    if _is_random_access(source):
        examples = _read(source, indices.ravel())
        gathered = jax.tree.map(
            lambda leaf: leaf.reshape(*indices.shape, *leaf.shape[1:]), examples
        )
    else:
        gathered = jax.tree.map(lambda leaf: np.asarray(leaf[indices]), source)
    for leaf in jax.tree.leaves(gathered):
        if not (jnp.issubdtype(leaf.dtype, np.number) or leaf.dtype == np.bool_):
            raise TypeError(
                f"the source's examples hold {leaf.dtype}; give numbers only."
            )
    return gathered


def _read(source: Any, indices: np.ndarray) -> PyTree:
    """Examples one by one from an object that gives them by index, stacked along a
    leading axis.
    """
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
            f"{numbers[other]} {shapes[other]}; "
            "give examples of one shape."
        ) from error
