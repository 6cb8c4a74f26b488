"""The loop of `fit`: programs of an epoch and of validation, and the host's part."""

import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaejax._programs import run
from vaejax.base import Array, Key, LossFn, Params, PyTree, TrainStep
from vaejax.training import _fit_folder
from vaejax.training._progress import Progress
from vaejax.training._sources import is_random_access, num_examples, read
from vaejax.training.averaging import averaged_state, with_average
from vaejax.training.early_stopping import has_stopped, update_early_stopping
from vaejax.training.epochs import make_train_epoch
from vaejax.training.non_finite import NonFiniteError, is_finite, with_skipped_steps
from vaejax.training.records import (
    EpochRecord,
    has_grown,
    mean_of_finite,
    means_of_terms,
    progress_text,
)
from vaejax.training.schedules import Schedule
from vaejax.training.steps import (
    _VALIDATION,
    StepMetrics,
    TrainState,
    make_train_step,
)
from vaejax.training.streaming import make_streamed_epoch

# Skipped steps in a row after which training has failed, and of a short epoch.
_PERSISTENT, _AT_LEAST = 100, 10

#: `(state, is_guarded) -> (state, metrics)` of one epoch of the data.
Epoch = Callable[[TrainState, bool], tuple[TrainState, StepMetrics]]


class Plan(NamedTuple):
    """The functions of a step, which tell one program from another."""

    loss_fn: LossFn
    optimizer: optax.GradientTransformation
    schedules: tuple[tuple[str, Schedule], ...]
    batch_size: int
    averaging: float | None


class Loop(NamedTuple):
    """The host's part of every epoch."""

    epoch: Epoch
    validate: Callable[[Params], float] | None
    num_steps: int
    patience: int | None
    folder: _fit_folder.Folder | None
    save_every: int
    callbacks: tuple[Callable[[TrainState, EpochRecord], object], ...]


class _Done(NamedTuple):
    """All that has been trained so far."""

    state: TrainState
    history: list[EpochRecord]


def is_on_disk(data: Any) -> bool:
    """Return whether data are read by index, or from a memory map."""
    return is_random_access(data) or any(map(_is_mapped, jax.tree.leaves(data)))


def _is_mapped(leaf: Any) -> bool:
    while isinstance(leaf, np.ndarray):
        if isinstance(leaf, np.memmap):
            return True
        leaf = leaf.base
    return False


def make_epoch(plan: Plan, data: Any, is_streamed: bool) -> Epoch:
    """Return an epoch over data that are placed on the device once, or streamed."""
    if not is_streamed:
        placed = jax.tree.map(jnp.asarray, data)
        return lambda state, is_guarded: run(_epoch, (plan, is_guarded), state, placed)
    epochs = {
        is_guarded: make_streamed_epoch(_step(plan, is_guarded), plan.batch_size)
        for is_guarded in (False, True)
    }
    # A streamed epoch takes the buffers of its state, which may be needed again.
    return lambda state, is_guarded: epochs[is_guarded](
        jax.tree.map(jnp.copy, state), data
    )


def _epoch(
    plan: Plan, is_guarded: bool, state: TrainState, data: PyTree
) -> tuple[TrainState, PyTree]:
    return make_train_epoch(_step(plan, is_guarded), plan.batch_size)(state, data)


def _step(plan: Plan, is_guarded: bool) -> TrainStep:
    step = make_train_step(plan.loss_fn, plan.optimizer, dict(plan.schedules) or None)
    if plan.averaging is not None:
        step = with_average(step, plan.averaging)
    return with_skipped_steps(step) if is_guarded else step


def make_validate(
    loss_fn: LossFn, data: Any, batch_size: int, key: Key
) -> Callable[[Params], float] | None:
    """Return the mean loss over all validation data, as a function of parameters."""
    if data is None:
        return None
    key = jax.random.fold_in(key, _VALIDATION)
    if not is_random_access(data):
        data = jax.tree.map(np.asanyarray, data)

    def validate(params: Params) -> float:
        total = 0.0
        for number, batch in enumerate(_batches(data, batch_size)):
            loss = run(_loss, (loss_fn,), params, key, np.int32(number), batch)
            total += float(loss) * num_examples(batch)
        return total / num_examples(data)

    return validate


def check_validation(
    loss_fn: LossFn, params: Params, key: Key, data: Any, batch_size: int
) -> None:
    """Raise what the loss raises on validation data before an epoch is trained."""
    batch = next(_batches(data, batch_size))
    try:
        jax.eval_shape(partial(_loss, loss_fn), params, key, np.int32(0), batch)
    except TypeError as error:
        error.add_note(
            "fit: the loss of validation data is computed without the schedules; give "
            "validation_loss_fn where it needs them."
        )
        raise


def _loss(
    loss_fn: LossFn, params: Params, key: Key, number: Array, batch: PyTree
) -> Array:
    return loss_fn(params, jax.random.fold_in(key, number), batch)[0]


def _batches(data: Any, batch_size: int) -> Iterator[PyTree]:
    """Yield all of the data in order, on the host."""
    for start in range(0, num_examples(data), batch_size):
        part = slice(start, min(start + batch_size, num_examples(data)))
        if is_random_access(data):
            yield read(data, np.arange(part.start, part.stop))
        else:
            yield jax.tree.map(lambda leaf, part=part: np.asarray(leaf[part]), data)


def train(
    loop: Loop, state: TrainState, last_step: int, is_shown: bool
) -> tuple[TrainState, list[EpochRecord]]:
    """Return the state after the last step, or after early stopping, and the records.

    Whatever ends the loop, all whole epochs are in the folder then.
    """
    history: list[EpochRecord] = []
    if loop.folder is not None:
        state, history = _fit_folder.resume(loop.folder, state, last_step)
    done, saved = _Done(state, history), int(state.step)
    num_left = -(-(last_step - saved) // loop.num_steps)
    number = saved // loop.num_steps
    progress = Progress(number + num_left, number, is_shown=is_shown)
    try:
        for index in range(num_left):
            if has_stopped(done.state):
                break
            done = _next(loop, done, is_first=index == 0)
            is_last = index + 1 == num_left or bool(has_stopped(done.state))
            if loop.folder and (is_last or (index + 1) % loop.save_every == 0):
                _fit_folder.save(loop.folder, *done)
                saved = int(done.state.step)
            progress.advance(progress_text(done.history[-1]))
            for callback in loop.callbacks:
                callback(done.state, done.history[-1])
    finally:
        progress.close()
        if loop.folder is not None and saved < int(done.state.step):
            _fit_folder.save(loop.folder, *done)
    return done


def _next(loop: Loop, done: _Done, *, is_first: bool) -> _Done:
    """Return what is done after one more epoch."""
    started = time.perf_counter()
    before = done.state
    state, metrics = _train_epoch(loop, before)
    losses = np.asarray(metrics.loss)
    seconds = time.perf_counter() - started
    skipped = int(state.extra["skipped"].total - before.extra["skipped"].total)
    epoch = -(-int(state.step) // loop.num_steps)
    _check_persistence(loop, done, state, epoch, losses)
    if is_first:
        _warn_of_growth(losses, epoch)
    validation_loss = None
    if loop.validate is not None:
        validation_loss = loop.validate(averaged_state(state).params)
    if loop.patience is not None:
        state = run(_stop, (loop.patience,), state, np.float32(validation_loss))
    record = EpochRecord(
        epoch=epoch,
        step=int(state.step),
        loss=mean_of_finite(losses),
        terms=means_of_terms(jax.device_get(metrics.terms)),
        validation_loss=validation_loss,
        skipped_steps=skipped,
        seconds=seconds,
    )
    if skipped and not any(each.skipped_steps for each in done.history):
        warnings.warn(
            f"fit: {skipped} of {loop.num_steps} steps of epoch {epoch} were not "
            "finite and were skipped; records count them as skipped_steps.",
            stacklevel=4,
        )
    return _Done(state, [*done.history, record])


def _train_epoch(loop: Loop, state: TrainState) -> tuple[TrainState, StepMetrics]:
    """Train one epoch; if it is not finite, train it again with guarded steps.

    From then on all are guarded. The plain program is the cheaper one by far.
    """
    if not int(state.extra["skipped"].total):
        after, metrics = loop.epoch(state, False)
        if run(is_finite, (), state, after, metrics.loss):
            return after, metrics
    return loop.epoch(state, True)


def _stop(patience: int, state: TrainState, loss: Array) -> TrainState:
    return update_early_stopping(state, loss, patience=patience)


def _check_persistence(
    loop: Loop, done: _Done, state: TrainState, epoch: int, losses: np.ndarray
) -> None:
    total, in_a_row = (int(count) for count in state.extra["skipped"])
    if in_a_row < min(_PERSISTENT, max(loop.num_steps, _AT_LEAST)):
        return
    what = "gradient" if np.isfinite(losses[-1]) else "loss"
    where = "the error's state and history"
    if loop.folder is not None:
        where = f"{loop.folder.path}, as of the epoch before, and in {where}"
    raise NonFiniteError(
        f"fit: epoch {epoch}: the {what} is not finite for {in_a_row} steps in a row "
        f"({total} skipped in all); give a smaller learning rate, or clip gradients "
        f"with optax.clip_by_global_norm. What was trained until then is in {where}.",
        state,
        done.history,
    )


def _warn_of_growth(losses: np.ndarray, epoch: int) -> None:
    if has_grown(losses):
        warnings.warn(
            f"fit: in epoch {epoch} the loss went from {losses[0]:.4g} to "
            f"{losses[-1]:.4g}; give a smaller learning rate.",
            stacklevel=5,
        )
