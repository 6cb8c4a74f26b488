"""The training loop: epochs, validation, checkpoints, and what to do when steps fail.

`fit` runs the programs of `make_train_epoch` or `make_streamed_epoch` from the host and
adds nothing to them, so that a loop of one's own gives the same parameters.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vaejax._checks import (
    check_count,
    check_function,
    check_in_range,
    check_options,
    described,
    is_traced,
)
from vaejax.base import LossFn
from vaejax.training._fit_folder import folder_of
from vaejax.training._fit_loop import (
    Loop,
    Plan,
    check_validation,
    is_on_disk,
    make_epoch,
    make_validate,
    train,
)
from vaejax.training._sources import num_examples
from vaejax.training._values import check_values
from vaejax.training.averaging import init_average, with_average
from vaejax.training.early_stopping import best_state, init_early_stopping
from vaejax.training.epochs import steps_per_epoch
from vaejax.training.non_finite import init_skipped_steps
from vaejax.training.records import EpochRecord, has_grown
from vaejax.training.schedules import Schedule
from vaejax.training.steps import TrainState

#: `data -> None`, which raises if one cannot train on them, such as
#: `partial(check_data, vae, params)`.
DataCheck = Callable[[Any], object]
#: `(state, record) -> None`, called after every epoch.
EpochCallback = Callable[[TrainState, EpochRecord], object]


def fit(
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    data: Any,
    num_epochs: int,
    *,
    batch_size: int,
    validation: Any = None,
    validation_loss_fn: LossFn | None = None,
    patience: int | None = None,
    averaging: float | None = None,
    schedules: Mapping[str, Schedule] | None = None,
    directory: str | Path | None = None,
    save_every: int = 1,
    checks: Iterable[DataCheck] = (),
    callbacks: Iterable[EpochCallback] = (),
    progress: bool = True,
    stream: bool | None = None,
) -> tuple[TrainState, list[EpochRecord]]:
    """Train for a number of epochs, and return the state and one record per epoch.

    The parameters are those of a loop over `make_train_epoch`, bit for bit on CPU. The
    data are checked once: they hold examples, and only finite numbers. An epoch in
    which a step is not finite is repeated with such steps skipped, and counted in its
    record; training ends with an error when 100 of them follow each other (all of a
    shorter epoch, but at least 10).

    With a directory, the same call goes on where a run before it was stopped or killed,
    with the same result bit for bit. An exception, such as `KeyboardInterrupt`, leaves
    a checkpoint of the last whole epoch.

    Args:
      loss_fn: `(params, key, batch, **schedules) -> (loss, terms)`, as
        `mean_over_batch` and `loss_of_means` return it.
      optimizer: The optax transformation that the state was made with.
      state: The state to start from, such as `init_train_state` returns.
      data: The examples: arrays `[examples, ...]` or a pytree of them, of which there
        is one copy on the device. Memory maps, and objects with `__len__` and
        `__getitem__(index)`, are streamed, as in `make_streamed_epoch`.
      num_epochs: The number of epochs from `state` on, a positive integer.
      batch_size: Examples per step, a positive integer.
      validation: Examples to evaluate after every epoch, of the same kind. All are
        used, with the same noise each time.
      validation_loss_fn: The loss on them; None takes `loss_fn` without `schedules`,
        hence with its own defaults, so that losses of two epochs can be compared.
      patience: The number of epochs without a smaller validation loss after which to
        stop, a positive integer; None trains to the end.
      averaging: The decay of a moving average of the parameters, in [0, 1), which is
        then evaluated and returned; None takes the parameters themselves.
      schedules: Functions of the step, given to `loss_fn` by name.
      directory: A folder for checkpoints, which have the records in their metadata;
        None keeps none.
      save_every: The number of epochs between two checkpoints, a positive integer; the
        last epoch is always saved.
      checks: Functions of the data and of the validation data that raise where they are
        wrong, such as `partial(check_data, vae, state.params)`.
      callbacks: Functions `(state, record)`, called after every epoch.
      progress: Show a bar on stderr, if tqdm is installed.
      stream: Read the data batch by batch from where they are; None decides by their
        kind.

    Returns:
      The state, with the best parameters if there is a patience, the averaged ones if
      there is an average, and the last ones else; and the records of the run, those
      before an interruption included.

    Raises:
      TypeError: An argument is of the wrong kind, or the optimizer is not the state's.
      ValueError: A number is out of range, the data are empty or not finite, or the
        directory holds another run.
      NonFiniteError: The steps are no longer finite; it has the last finite state.

    Example:
      >>> import jax, jax.numpy as jnp, optax
      >>> from vaejax import TrainState
      >>> from vaejax.training import fit
      >>> def loss_fn(params, key, batch):
      ...     return jnp.mean((batch - params) ** 2), ()
      >>> optimizer, params = optax.sgd(0.5), jnp.zeros(())
      >>> state = TrainState(
      ...     params, optimizer.init(params), jax.random.key(0), jnp.int32(0)
      ... )
      >>> state, history = fit(
      ...     loss_fn, optimizer, state, jnp.ones(8), 3, batch_size=4, progress=False
      ... )
      >>> float(state.params), [record.loss for record in history]
      (1.0, [0.5, 0.0, 0.0])
    """
    checks, callbacks = (
        _as_functions(name, functions)
        for name, functions in (("checks", checks), ("callbacks", callbacks))
    )
    _check_numbers(num_epochs, batch_size, save_every, patience, averaging)
    _check_functions(loss_fn, schedules, checks, callbacks)
    _check_state(state, optimizer)
    _check_data(data, validation, checks, needs_validation=patience is not None)
    is_streamed = stream if stream is not None else is_on_disk(data)
    num_steps = steps_per_epoch(num_examples(data), batch_size)
    _check_start(state, num_steps, is_streamed)
    plan = Plan(
        loss_fn,
        optimizer,
        tuple((schedules or {}).items()),
        batch_size,
        None if averaging is None else float(averaging),
    )
    validation_loss_fn = validation_loss_fn or loss_fn
    if validation is not None:
        check_validation(
            validation_loss_fn, state.params, state.key, validation, batch_size
        )
    validate = make_validate(validation_loss_fn, validation, batch_size, state.key)
    folder = None
    if directory is not None:
        folder = folder_of(directory, state, data, batch_size)
    loop = Loop(
        make_epoch(plan, data, is_streamed),
        validate,
        num_steps,
        patience,
        folder,
        save_every,
        callbacks,
    )
    if averaging is not None and "average" not in (state.extra or {}):
        _warn_of_average(averaging, num_epochs * num_steps)
    last_step = int(state.step) + num_epochs * num_steps
    begun = _with_entries(state, averaging is not None, patience is not None)
    after, history = train(loop, begun, last_step, progress)
    if patience is None:
        _warn_of_divergence(history)
    return _evaluated(after, like=state), history


def _with_entries(state: TrainState, has_average: bool, stops: bool) -> TrainState:
    """Return the state with what the loop keeps in `extra`."""
    if has_average and "average" not in (state.extra or {}):
        state = init_average(state)
    if stops:
        state = init_early_stopping(state)
    return init_skipped_steps(state)


def _evaluated(state: TrainState, like: TrainState) -> TrainState:
    """Return the state to evaluate, without counts that the caller did not keep."""
    state = best_state(state)
    if "skipped" in (like.extra or {}):
        return state
    extra = {name: entry for name, entry in state.extra.items() if name != "skipped"}
    return state._replace(extra=extra or ())


def _check_numbers(
    num_epochs: int,
    batch_size: int,
    save_every: int,
    patience: int | None,
    averaging: float | None,
) -> None:
    check_count("fit: num_epochs", num_epochs)
    check_count("fit: batch_size", batch_size)
    check_count("fit: save_every", save_every)
    if patience is not None:
        check_count("fit: patience", patience)
    if averaging is not None:
        check_in_range("fit: averaging", averaging, 0, 1, open_high=True)
        with_average(lambda state, batch: (state, batch), averaging)


def _warn_of_divergence(history: list[EpochRecord]) -> None:
    first, last = history[0], history[-1]
    if len(history) > 1 and has_grown(np.array([first.loss, last.loss])):
        warnings.warn(
            f"fit: the loss was {first.loss:.4g} in epoch {first.epoch} and is "
            f"{last.loss:.4g} in epoch {last.epoch}: training has diverged; give a "
            "smaller learning rate.",
            stacklevel=3,
        )


def _warn_of_average(decay: float, steps: int) -> None:
    if (share := float(np.float32(decay)) ** steps) > 0.5:
        warnings.warn(
            f"fit: averaging is {decay}: after {steps} steps the average, which is "
            f"evaluated, is {share:.0%} initial parameters; "
            f"{0.01 ** (1 / steps):.4g} would leave 1 % of them.",
            stacklevel=3,
        )


def _as_functions(name: str, functions: Any) -> tuple:
    if not isinstance(functions, Iterable):
        raise TypeError(
            f"fit: {name} is {described(functions)}; give a list of functions, such as "
            f"{name}=[function]."
        )
    return tuple(functions)


def _check_functions(
    loss_fn: Any, schedules: Mapping[str, Any] | None, checks: tuple, callbacks: tuple
) -> None:
    check_function("fit: loss_fn", loss_fn)
    check_options("fit", loss_fn, schedules or {})
    for name, schedule in (schedules or {}).items():
        check_function(f"fit: the schedule of {name}", schedule)
    for check in checks:
        check_function("fit: one of checks", check)
    for callback in callbacks:
        check_function("fit: one of callbacks", callback)


def _check_state(state: Any, optimizer: Any) -> None:
    if not isinstance(state, TrainState):
        raise TypeError(
            f"fit: state is a {type(state).__name__}; give a TrainState, as "
            "init_train_state(vae, optimizer, key, x) returns it."
        )
    if is_traced(state.step):
        raise TypeError("fit: state is traced; fit is a loop on the host, outside jit.")
    if jnp.ndim(state.step):
        raise ValueError(
            f"fit: state is {jnp.shape(state.step)} stacked states; give one, and map "
            "make_train_epoch over several with jax.vmap."
        )
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(
            f"fit: optimizer is a {type(optimizer).__name__}; give an optax "
            "transformation, such as optax.adam(1e-3)."
        )
    wanted = jax.tree.structure(jax.eval_shape(optimizer.init, state.params))
    if wanted != jax.tree.structure(state.opt_state):
        raise TypeError(
            "fit: state.opt_state is not that of optimizer; give the optimizer that "
            "init_train_state was given."
        )


def _check_data(
    data: Any, validation: Any, checks: Iterable[DataCheck], *, needs_validation: bool
) -> None:
    if needs_validation and validation is None:
        raise ValueError("fit: patience needs validation data; give validation.")
    for name, part in (("data", data), ("validation", validation)):
        if part is not None:
            check_values(f"fit: {name}", part)
            for check in checks:
                check(part)


def _check_start(state: TrainState, num_steps: int, is_streamed: bool) -> None:
    if is_streamed and int(state.step) % num_steps:
        raise ValueError(
            f"fit: state.step is {int(state.step)}, inside an epoch of {num_steps} "
            "steps, and a stream starts with one; give state._replace(step="
            "jnp.int32(0)), or stream=False."
        )
