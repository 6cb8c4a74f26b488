"""The compiled program of an epoch, of all members or as many as memory holds."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import optax

import vaejax
from experiments.harness.experiment import Recipe
from experiments.harness.job import Job
from experiments.harness.members import fitting, in_pieces, pieces
from vaejax.base import Key, PyTree
from vaejax.training import TrainState

# Steps that optax may skip in a row; giving up is decided here, with a message.
ANY_NUMBER = 2**31 - 1


def recipe_of(job: Job, hyperparameters: dict[str, Any]) -> Recipe:
    """Return the recipe with clipped gradients, if asked for; NaN steps are skipped."""
    recipe = job.experiment.recipe(hyperparameters)
    optimizer = recipe.optimizer
    if job.config.clip_norm is not None:
        optimizer = optax.chain(
            optax.clip_by_global_norm(job.config.clip_norm), optimizer
        )
    return recipe._replace(optimizer=optax.apply_if_finite(optimizer, ANY_NUMBER))


def make_init(job: Job) -> Callable[[Key, PyTree], TrainState]:
    """Return `init(keys, example)`: the first states of all members, compiled."""
    optimizer = recipe_of(job, dict(job.experiment.hyperparameters)).optimizer

    def init(key: Key, x: PyTree) -> TrainState:
        state = vaejax.init_train_state(job.experiment.vae, optimizer, key, x)
        state = (
            vaejax.training.init_average(state)
            if job.config.average is not None
            else state
        )
        return (
            vaejax.training.init_early_stopping(state)
            if job.config.patience is not None
            else state
        )

    return jax.jit(job.members.lift(init))


def _step(job: Job, swept: dict[str, Any]) -> Callable:
    step = vaejax.make_train_step(
        *recipe_of(job, dict(job.experiment.hyperparameters) | swept)
    )
    return (
        step
        if job.config.average is None
        else vaejax.training.with_average(step, job.config.average)
    )


def _batches(job: Job) -> jax.sharding.Sharding | None:
    return vaejax.training.batch_sharding(job.mesh) if job.mesh.size > 1 else None


def streamed_epoch(
    job: Job, layout: PyTree
) -> Callable[[TrainState, PyTree], tuple[TrainState, PyTree]]:
    """Return `epoch(states, data)` over all members, whose data stay in a file."""

    def step(
        state: TrainState, batch: PyTree, swept: dict[str, Any]
    ) -> tuple[TrainState, PyTree]:
        one = _step(job, swept)
        if job.config.patience is not None:
            # A member stops between epochs, so that freezing a step freezes an epoch.
            one = vaejax.training.with_early_stopping(one)
        return one(state, batch)

    epoch = vaejax.training.make_streamed_epoch(
        step,
        job.experiment.batch_size,
        batch_sharding=_batches(job),
        state_sharding=layout if job.mesh.size > 1 else None,
    )
    swept = vaejax.training.place_on_devices(
        job.members.hyperparameters, job.replicated
    )
    return lambda states, data: epoch(states, data, swept)


def _epoch_of_one(
    job: Job, member: tuple[dict, TrainState], data: PyTree
) -> tuple[TrainState, PyTree]:
    swept, state = member
    epoch = vaejax.make_train_epoch(
        _step(job, swept), job.experiment.batch_size, batch_sharding=_batches(job)
    )
    return (
        vaejax.training.with_early_stopping(epoch)
        if job.config.patience is not None
        else epoch
    )(state, data)


def compiled_epoch(
    job: Job, states: TrainState, data: PyTree, layout: PyTree
) -> tuple[Callable[[TrainState, PyTree], tuple[TrainState, PyTree]], int]:
    """Return `epoch(states, data)` over all members, and how many it trains at once.

    By default that is as many as fit.
    """
    epoch, at_once = epoch_of_settings(job, states, data, layout)
    swept = job.members.hyperparameters
    swept = vaejax.training.place_on_devices(swept, job.replicated)
    return lambda states, data: epoch(states, swept, data), at_once


def epoch_of_settings(
    job: Job, states: TrainState, data: PyTree, layout: PyTree
) -> tuple[Callable[[TrainState, PyTree, PyTree], tuple[TrainState, PyTree]], int]:
    """Return `epoch(states, swept, data)` over members of any settings.

    It is compiled beforehand, so that the seconds of the first epoch are an epoch's.

    Args:
      job: what is trained; of its members only the number and the swept options count.
      states: the states of as many members.
      data: the training data.
      layout: how the states are laid out over the devices.

    Returns:
      The function, whose `swept` is `members.hyperparameters`; and how many members it
      trains at once.
    """
    members, one = job.members, partial(_epoch_of_one, job)
    # The swept values come again at every epoch, and must not be donated with the
    # states.
    program = jax.jit(
        lambda states, swept, data: members.lift(one)((swept, states), data),
        donate_argnums=0,
        out_shardings=(layout, job.replicated),
    )
    swept = vaejax.training.place_on_devices(members.hyperparameters, job.replicated)

    def compiled(num: int) -> jax.stages.Compiled:
        if num == members.num:
            placed = (
                states
                if jax.process_count() > 1
                else vaejax.training.place_on_devices(states, layout)
            )
            return program.lower(placed, swept, data).compile()
        part = jax.tree.map(
            lambda leaf: leaf[pieces(members.num, num)[0]], (states, swept)
        )
        return program.lower(
            *vaejax.training.place_on_devices(part, job.replicated), data
        ).compile()

    # Members spread over devices are all trained at once.
    at_once = (
        members.num
        if job.mesh.size > 1
        else min(job.config.members_at_once or members.num, members.num)
    )
    executable = compiled(at_once)
    if job.config.members_at_once is None and job.mesh.size == 1:
        at_once = fitting(members.num, _bytes(executable))
        if at_once < members.num:
            print(
                f"{members.num} members do not fit into memory together: {at_once} at "
                "a time",
                file=sys.stderr,
            )
            executable = compiled(at_once)
    apply = in_pieces(
        lambda stacked, data: executable(*stacked, data),
        members.num,
        at_once,
        job.replicated,
    )
    return lambda states, swept, data: apply((states, swept), data), at_once


def _bytes(executable: jax.stages.Compiled) -> int:
    """Bytes that a program needs on each device, beside the data."""
    analysis = executable.memory_analysis()
    return (
        analysis.temp_size_in_bytes + analysis.output_size_in_bytes if analysis else 0
    )
