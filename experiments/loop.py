"""The training loop of one model: an epoch, a line of metrics, a checkpoint; from the last checkpoint, if any."""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

import vaejax
from experiments import evaluation, folder, processes
from experiments.base import Experiment
from experiments.errors import RunError, UsageError
from experiments.members import Members, fitting, in_pieces, pieces
from vaejax import checkpoints, sharding
from vaejax.base import PyTree
from vaejax.training import TrainState


def train(
    path: Path,
    config: Any,
    experiment: Experiment,
    members: Members,
    mesh: jax.sharding.Mesh,
    check_interrupts: Callable[[], None],
    description: str,
) -> TrainState:
    """Trains the members from where the folder's last checkpoint left them, and returns their states."""
    states = _initial(experiment, members)
    layout = sharding.fully_sharded(mesh, states) if config.shard_parameters else sharding.replicated(mesh)
    if jax.process_count() > 1:
        states = sharding.put(states, layout)
    states = _restored(path / "checkpoints", states)
    done = int(members.first(states.step)) // experiment.steps_per_epoch
    path.mkdir(parents=True, exist_ok=True)
    folder.cut_metrics(path, done)
    print(_describe(experiment, members, config, states, done, mesh), flush=True)

    data = sharding.put(experiment.train, sharding.replicated(mesh))
    # Compiled beforehand, so that the seconds of the first epoch are an epoch's.
    at_once = members.num if mesh.size > 1 else config.members_at_once
    epoch, at_once = _compiled_epoch(experiment, members, states, data, at_once, mesh, layout)
    if at_once >= members.num:
        states = sharding.put(states, layout) if jax.process_count() == 1 else states
    test_elbo = evaluation.make_test_elbo(experiment, members, at_once)
    num_examples = experiment.steps_per_epoch * experiment.batch_size
    with tqdm(
        total=config.epochs,
        initial=done,
        unit="epoch",
        dynamic_ncols=True,
        desc=description,
        disable=not processes.is_first(),
    ) as progress:
        for number in range(done + 1, config.epochs + 1):
            started = time.perf_counter()
            states, metrics = epoch(states, data)
            metrics = jax.device_get(metrics)
            seconds = time.perf_counter() - started
            row = {"epoch": number, "step": number * experiment.steps_per_epoch, "seconds": round(seconds, 3)}
            row |= {
                "train": _means(members, metrics.loss, metrics.terms),
                "test": test_elbo(sharding.gather(states, mesh)),
            }
            _check_finite(row, members, path)
            folder.append_metrics(path, row)
            checkpoints.save(path / "checkpoints", states, step=row["step"])
            check_interrupts()
            progress.update()
            progress.set_postfix_str(
                f"train {_mean(row['train']['loss']):.2f}, test {_mean(row['test']['negative_elbo']):.2f} nats, "
                f"{num_examples * members.num / seconds:,.0f} images/s"
            )
    return sharding.gather(states, mesh)


def make_mesh(num_devices: int | None, batch_size: int) -> jax.sharding.Mesh:
    """The devices that share each batch; UsageError where there are not as many or they cannot share it."""
    try:
        mesh = sharding.make_mesh(num_devices)
    except ValueError as error:
        raise UsageError(f"--num-devices: {error}") from error
    if batch_size % mesh.size:
        raise UsageError(
            f"--batch-size is {batch_size} and cannot be shared by {mesh.size} devices; give a multiple, or another "
            "--num-devices."
        )
    return mesh


def _initial(experiment: Experiment, members: Members) -> TrainState:
    """The states before the first step, of all members."""
    recipe = experiment.recipe(experiment.hyperparameters)
    init = members.lift(partial(vaejax.init_train_state, experiment.vae, recipe.optimizer))
    return jax.jit(init)(members.keys, experiment.example)


def _restored(directory: Path, states: TrainState) -> TrainState:
    if checkpoints.latest(directory) is None:
        return states
    try:
        return checkpoints.restore(directory, states)
    except ValueError as error:
        raise RunError(f"{error} To start afresh, give another --out.") from error


def _compiled_epoch(
    experiment: Experiment,
    members: Members,
    states: TrainState,
    data: PyTree,
    at_once: int | None,
    mesh: jax.sharding.Mesh,
    layout: PyTree,
) -> tuple[Callable[[TrainState, PyTree], tuple[TrainState, PyTree]], int]:
    """`epoch(states, data)` over all members, and how many of them it trains at once: by default all that fit."""

    def one(member: tuple[dict, TrainState], data: PyTree) -> tuple[TrainState, PyTree]:
        swept, state = member
        step = vaejax.make_train_step(*experiment.recipe(experiment.hyperparameters | swept))
        batches = sharding.batch_sharding(mesh) if mesh.size > 1 else None
        return vaejax.make_train_epoch(step, experiment.batch_size, batch_sharding=batches)(state, data)

    # The swept values come again at every epoch, and must not be donated with the states.
    replicated = sharding.replicated(mesh)
    program = jax.jit(
        lambda states, swept, data: members.lift(one)((swept, states), data),
        donate_argnums=0,
        out_shardings=(layout, replicated),
    )
    swept = sharding.put(members.hyperparameters, replicated)

    def compiled(num: int) -> jax.stages.Compiled:
        if num == members.num:
            placed = states if jax.process_count() > 1 else sharding.put(states, layout)
            return program.lower(placed, swept, data).compile()
        part = jax.tree.map(lambda leaf: leaf[pieces(members.num, num)[0]], (states, swept))
        return program.lower(*sharding.put(part, replicated), data).compile()

    executable = compiled(at_once or members.num)
    if at_once is None:
        at_once = fitting(members.num, _bytes(executable))
        if at_once < members.num:
            print(f"{members.num} members do not fit into memory together: {at_once} at a time", file=sys.stderr)
            executable = compiled(at_once)
    apply = in_pieces(lambda stacked, data: executable(*stacked, data), members.num, at_once, replicated)
    return lambda states, data: apply((states, swept), data), at_once


def _bytes(executable: jax.stages.Compiled) -> int:
    """What a program needs on each device, beside the data that are there already."""
    analysis = executable.memory_analysis()
    return analysis.temp_size_in_bytes + analysis.output_size_in_bytes if analysis else 0


def _describe(
    experiment: Experiment, members: Members, config: Any, states: TrainState, done: int, mesh: jax.sharding.Mesh
) -> str:
    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(members.first(states.params)))
    num_examples = experiment.steps_per_epoch * experiment.batch_size
    return (
        f"{num_parameters:,} parameters, {num_examples:,} examples an epoch, {members.describe()}, "
        f"{config.epochs} epochs{f' ({done} done)' if done else ''}, on {mesh.size} x {jax.devices()[0].device_kind}"
    )


def _means(members: Members, loss: np.ndarray, terms: Any) -> dict[str, list[float | None]]:
    """Means over an epoch's steps, one for each member; of the terms, those that are one number a step."""
    series = {"loss": loss}
    for place, term in jax.tree.leaves_with_path(terms):
        if np.ndim(term) == np.ndim(loss):
            series[jax.tree_util.keystr(place, simple=True, separator="/")] = term
    return {name: evaluation.plain(np.mean(members.stack(term), axis=1)) for name, term in series.items()}


def _mean(values: list[float | None]) -> float:
    """Over the members that have not diverged."""
    return float(np.mean([value for value in values if value is not None]))


def _check_finite(row: dict, members: Members, path: Path) -> None:
    """RunError once no member has a finite loss left; one that diverges among others is named and disturbs none."""
    for part, name in (("train", "loss"), ("test", "negative_elbo")):
        diverged = [members.name(index) for index, value in enumerate(row[part][name]) if value is None]
        if len(diverged) == members.num:
            raise RunError(
                f"the {part} {name.replace('_', ' ')} of {'; '.join(diverged[:5])} is not finite in epoch "
                f"{row['epoch']}; try a smaller --learning-rate. What was trained until then is in {path}."
            )
        if diverged:
            print(f"\nepoch {row['epoch']}: the {part} loss is not finite for {'; '.join(diverged)}", file=sys.stderr)
