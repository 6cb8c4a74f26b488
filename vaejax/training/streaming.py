"""Training on data that exceed the memory of the device, or of the host.

The step is the same; a thread reads its batches from where the data lie. The order is
that of `make_train_epoch`, a function of (key, step) alone, so that streamed and
resident training see the same batches. In memory are only the dispatches under way, and
four bytes per example for the order.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vaejax._checks import check_count, check_function, check_state
from vaejax.base import PyTree, TrainStep
from vaejax.training._sources import is_random_access, num_examples, read
from vaejax.training.epochs import TrainEpoch, epoch_order, steps_per_epoch
from vaejax.training.steps import TrainState


def make_streamed_epoch(
    step: TrainStep,
    batch_size: int,
    *,
    steps_per_dispatch: int = 16,
    batch_sharding: jax.sharding.Sharding | None = None,
    prefetch: int = 2,
) -> TrainEpoch:
    """Return an epoch over data on the host; a call runs to the end of the epoch.

    The epoch is a loop on the host around one compiled program, a `lax.scan` of the
    step over the batches of a dispatch, while a thread reads the next dispatches. The
    batch of a step is the one that `make_train_epoch` takes, so the parameters are the
    same too (to the last bit where the compiler rounds both programs alike, as on CPU).
    A call may start anywhere in an epoch and, unlike one of `make_train_epoch`, stops
    at its end. The epoch compiles its own program, so it is never wrapped in `jax.jit`;
    the state is donated: use the one returned.

    Args:
      step: `(state, batch) -> (state, metrics)`, as `make_train_step` returns it.
      batch_size: Examples per step, a positive integer.
      steps_per_dispatch: Steps per compiled program, a positive integer. More of them
        amortize its call, and take more memory. With 1 there is no loop on the device:
        for convolutions on CPU, which are several times slower inside one.
      batch_sharding: The layout of a batch over devices, as `batch_sharding(mesh)`
        returns it; None leaves it to the compiler.
      prefetch: The number of dispatches that are read ahead, a positive integer.

    Returns:
      `epoch(state, source) -> (state, metrics)`, with the metrics of every step,
      `[steps, ...]`. The source is an array `[examples, ...]`, a memory map, or a
      pytree of such arrays with equal leading axes; or an object with `__len__` and
      `__getitems__(indices) -> examples` or `__getitem__(index) -> example`, such as
      the data sources of tensorflow-datasets and of grain. An example is a pytree of
      arrays or numbers, all of one shape. When called, the epoch raises a TypeError if
      the source is none of these or holds anything but numbers, a ValueError if it
      holds less than one batch or examples of different shapes, and whatever the source
      raises.

    Raises:
      ValueError: A count is not a positive integer.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np
      >>> from vaejax.training import TrainState, make_streamed_epoch
      >>> def step(state, batch):
      ...     return state._replace(step=state.step + 1), jnp.max(batch)
      >>> epoch = make_streamed_epoch(step, batch_size=4)
      >>> state = TrainState((), (), jax.random.key(0), jnp.int32(0))
      >>> state, maxima = epoch(state, np.zeros((10, 3)))
      >>> int(state.step), maxima.shape
      (2, (2,))
    """
    check_function("make_streamed_epoch: step", step)
    for name, value in (
        ("batch_size", batch_size),
        ("steps_per_dispatch", steps_per_dispatch),
        ("prefetch", prefetch),
    ):
        check_count(name, value)
    dispatch = jax.jit(partial(_scan, step, batch_sharding), donate_argnums=0)
    order_of = jax.jit(epoch_order, static_argnums=2)

    def epoch(state: TrainState, source: Any) -> tuple[TrainState, PyTree]:
        check_state(state)
        num = num_examples(source)
        num_steps = steps_per_epoch(num, batch_size)
        number, first = divmod(int(state.step), num_steps)
        order = np.asarray(order_of(state.key, number, num))
        rest = order[first * batch_size : num_steps * batch_size]
        batches = rest.reshape(-1, batch_size)
        dispatches = (
            batches[at : at + steps_per_dispatch]
            for at in range(0, len(batches), steps_per_dispatch)
        )
        stacks = _map_ahead(partial(_gather, source), dispatches, prefetch)
        metrics: list[PyTree] = []
        with closing(stacks):
            for stack in stacks:
                state, reported = dispatch(state, _put(stack, batch_sharding))
                # Waits for the dispatch before this one, so that the host does not run
                # ahead and fill the device with batches.
                metrics[-1:] = jax.device_get(metrics[-1:])
                metrics.append(reported)
        return state, jax.tree.map(
            lambda *leaves: jnp.asarray(np.concatenate(leaves)), *metrics
        )

    return epoch


def _scan(
    step: TrainStep,
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
    """Place batches `[steps, batch, ...]` on the devices, the axis of steps whole."""
    if isinstance(batch_sharding, jax.sharding.NamedSharding):
        spec = jax.sharding.PartitionSpec(None, *batch_sharding.spec)
        batch_sharding = jax.sharding.NamedSharding(batch_sharding.mesh, spec)
    return jax.device_put(stack, batch_sharding)


def _map_ahead(function: Callable, arguments: Iterable, number: int) -> Generator:
    """Map with a number of results computed ahead by a thread.

    The thread ends with the iterator, however that ends.
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
    """Return the examples of indices `[steps, batch]`, `[steps, batch, ...]`."""
    if is_random_access(source):
        examples = read(source, indices.ravel())
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
