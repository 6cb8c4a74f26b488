"""Training on data that exceed the memory of the device, or of the host.

The step is the same; a thread reads its batches from where the data lie. The order is
that of `make_train_epoch`, a function of (key, step) alone, so that streamed and
resident training see the same batches, whatever the number of processes: each of them
reads the examples of its own devices. In memory are only the dispatches under way, and
four bytes per example for the order of each key.
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
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from vaejax._checks import check_count, check_function, check_state
from vaejax.base import Array, Key, PyTree
from vaejax.training._sources import is_random_access, num_examples, read
from vaejax.training.epochs import epoch_order, steps_per_epoch
from vaejax.training.steps import TrainState

#: `(state, batch, *own) -> (state, metrics)`, a `TrainStep` where nothing is own.
StreamedStep = Callable[..., tuple[TrainState, PyTree]]
#: `(state, source, *own) -> (state, metrics)`; metrics of every step.
StreamedEpoch = Callable[..., tuple[TrainState, PyTree]]


def make_streamed_epoch(
    step: StreamedStep,
    batch_size: int,
    *,
    steps_per_dispatch: int = 16,
    batch_sharding: Sharding | None = None,
    state_sharding: PyTree = None,
    prefetch: int = 2,
) -> StreamedEpoch:
    """Return an epoch over data on the host; a call runs to the end of the epoch.

    The epoch is a loop on the host around one compiled program, a `lax.scan` of the
    step over the batches of a dispatch, while a thread reads the next dispatches. The
    batch of a step is the one that `make_train_epoch` takes, so the parameters are the
    same too (to the last bit where the compiler rounds both programs alike, as on CPU).
    A call may start anywhere in an epoch and, unlike one of `make_train_epoch`, stops
    at its end. The epoch compiles its own program, so it is never wrapped in `jax.jit`
    or `jax.vmap`; the state is donated: use the one returned.

    Many members train together where the leaves of the state have a leading axis, as
    `jax.vmap` of `init_train_state` makes it. Members with one key see the same
    batches, which are read once; another key has an order of its own.

    With several processes and a `batch_sharding` over the devices of all, each process
    reads from its source the examples that its devices need, and no others; all call
    the epoch with the same state. The batches do not depend on the number of processes,
    so training can go on with another one.

    Args:
      step: `(state, batch) -> (state, metrics)`, as `make_train_step` returns it, or
        `(state, batch, *own)`.
      batch_size: Examples per step, a positive integer.
      steps_per_dispatch: Steps per compiled program, a positive integer. More of them
        amortize its call, and take more memory. With 1 there is no loop on the device:
        for convolutions on CPU, which are several times slower inside one.
      batch_sharding: The layout of a batch over devices, as `batch_sharding(mesh)`
        returns it; None leaves it to the compiler.
      state_sharding: The layout of the state that is returned, as `fully_sharded`
        returns it; None leaves it to the compiler.
      prefetch: The number of dispatches that are read ahead, a positive integer.

    Returns:
      `epoch(state, source, *own) -> (state, metrics)`, with the metrics of every step,
      `[steps, ...]`, or `[members, steps, ...]`. The source is an array `[examples,
      ...]`, a memory map, or a pytree of such arrays with equal leading axes; or an
      object with `__len__` and `__getitems__(indices) -> examples` or
      `__getitem__(index) -> example`, such as the data sources of tensorflow-datasets
      and of grain. An example is a pytree of arrays or numbers, all of one shape. The
      step is given `own`, such as a learning rate, which has a leading axis where the
      state has one. When called, the epoch raises a TypeError if the source is none of
      these or holds anything but numbers, a ValueError if it holds less than one batch
      or examples of different shapes or if the members are not at the same step, and
      whatever the source raises.

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
    order_of = jax.jit(epoch_order, static_argnums=2)
    dispatch = _make_dispatch(step, batch_sharding, state_sharding)
    columns = _own_columns(batch_size, batch_sharding)

    def epoch(
        state: TrainState, source: Any, *own: PyTree
    ) -> tuple[TrainState, PyTree]:
        check_state(state)
        num = num_examples(source)
        num_steps = steps_per_epoch(num, batch_size)
        number, first = divmod(_step_of(state), num_steps)
        orders, order_of_member = _orders(order_of, state, number, num)
        rest = orders[..., first * batch_size : num_steps * batch_size]
        batches = rest.reshape(*rest.shape[:-1], -1, batch_size)
        dispatches = (
            batches[..., at : at + steps_per_dispatch, :]
            for at in range(0, batches.shape[-2], steps_per_dispatch)
        )
        read_own = partial(_gather, source, columns)
        put = partial(_put, batch_size, batch_sharding, batches.ndim)
        metrics: list[PyTree] = []
        with closing(_map_ahead(read_own, dispatches, prefetch)) as stacks:
            for stack in stacks:
                state, reported = dispatch(state, put(stack), order_of_member, own)
                # Waits for the dispatch before this one, so that the host does not run
                # ahead and fill the device with batches.
                metrics[-1:] = jax.device_get(metrics[-1:])
                metrics.append(reported)
        axis = batches.ndim - 2
        return state, jax.tree.map(
            lambda *leaves: jnp.asarray(np.concatenate(leaves, axis)),
            *jax.device_get(metrics),
        )

    return epoch


def _step_of(state: TrainState) -> int:
    """Return the step of a state, which is the same for all of its members."""
    steps = np.unique(jax.device_get(state.step))
    if len(steps) != 1:
        raise ValueError(
            f"the members of the state are at steps {steps.tolist()}; train those of "
            "one step together."
        )
    return int(steps[0])


def _orders(
    order_of: Callable[[Key, int, int], Array],
    state: TrainState,
    number: int,
    num: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the order of each key, `[num]` or `[keys, num]`, and each member's."""
    # On this host alone: the state may lie on the devices of several.
    data = np.asarray(jax.device_get(jax.random.key_data(state.key)))
    implementation = jax.random.key_impl(state.key)

    def order(data: np.ndarray) -> np.ndarray:
        key = jax.random.wrap_key_data(jnp.asarray(data), impl=implementation)
        return np.asarray(order_of(key, number, num))

    if not state.key.ndim:
        return order(data), np.zeros((), np.int32)
    different, order_of_member = np.unique(data, axis=0, return_inverse=True)
    orders = np.stack([order(one) for one in different])
    return orders, order_of_member.ravel().astype(np.int32)


def _make_dispatch(
    step: StreamedStep,
    batch_sharding: Sharding | None,
    state_sharding: PyTree,
) -> Callable[..., tuple[TrainState, PyTree]]:
    """Return the compiled program of a few steps, of one member or of all."""
    run = partial(_scan, step, batch_sharding)

    @partial(jax.jit, donate_argnums=0)
    def dispatch(
        state: TrainState, batches: PyTree, order_of_member: Array, own: tuple
    ) -> tuple[TrainState, PyTree]:
        if jnp.ndim(state.step):
            num_keys = jax.tree.leaves(batches)[0].shape[0]
            place = 0 if num_keys == 1 else order_of_member
            batches = jax.tree.map(lambda leaf: leaf[place], batches)
            in_axes = (0, None if num_keys == 1 else 0, 0)
            state, metrics = jax.vmap(run, in_axes)(state, batches, own)
        else:
            state, metrics = run(state, batches, own)
        if isinstance(batch_sharding, NamedSharding):
            # Every process reads them.
            whole = NamedSharding(batch_sharding.mesh, PartitionSpec())
            metrics = jax.lax.with_sharding_constraint(metrics, whole)
        if state_sharding is not None:
            state = jax.lax.with_sharding_constraint(state, state_sharding)
        return state, metrics

    return dispatch


def _scan(
    step: StreamedStep,
    batch_sharding: Sharding | None,
    state: TrainState,
    batches: PyTree,
    own: tuple,
) -> tuple[TrainState, PyTree]:
    def body(state: TrainState, batch: PyTree) -> tuple[TrainState, PyTree]:
        if batch_sharding is not None:
            batch = jax.lax.with_sharding_constraint(batch, batch_sharding)
        return step(state, batch, *own)

    return jax.lax.scan(body, state, batches)


def _own_columns(batch_size: int, batch_sharding: Sharding | None) -> np.ndarray | None:
    """Return the places in a batch that devices of this process need; None is all."""
    if jax.process_count() == 1 or not isinstance(batch_sharding, NamedSharding):
        return None
    needed = np.zeros(batch_size, bool)
    places = batch_sharding.addressable_devices_indices_map((batch_size,))
    for place in places.values():
        needed[place] = True
    return np.flatnonzero(needed)


def _put(
    batch_size: int, batch_sharding: Sharding | None, num_axes: int, stack: PyTree
) -> PyTree:
    """Place batches on the devices; of their axes, the last of `num_axes` is shared.

    They are `[steps, batch, ...]` or `[keys, steps, batch, ...]`.
    """
    if not isinstance(batch_sharding, NamedSharding):
        return jax.device_put(stack, batch_sharding)
    spec = PartitionSpec(*[None] * (num_axes - 1), *batch_sharding.spec)
    sharding = NamedSharding(batch_sharding.mesh, spec)
    if jax.process_count() == 1:
        return jax.device_put(stack, sharding)

    def of_all(leaf: np.ndarray) -> Array:
        shape = (*leaf.shape[: num_axes - 1], batch_size, *leaf.shape[num_axes:])
        return jax.make_array_from_process_local_data(sharding, leaf, shape)

    return jax.tree.map(of_all, stack)


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


def _gather(source: Any, columns: np.ndarray | None, indices: np.ndarray) -> PyTree:
    """Return the examples of indices `[..., batch]`, or of their columns alone."""
    if columns is not None:
        indices = indices[..., columns]
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
