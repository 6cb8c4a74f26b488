"""The training loop of one model: an epoch, a line of metrics, a checkpoint.

It goes on from the last checkpoint, if there is one.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import vaejax
from experiments.harness import (
    averages,
    config_file,
    distributed,
    divergence,
    evaluation,
    manifest,
    run_dir,
    stand_in,
)
from experiments.harness.epoch_program import compiled_epoch, make_init, streamed_epoch
from experiments.harness.errors import RunError
from experiments.harness.job import Job, streams
from experiments.harness.members import Members, in_pieces
from vaejax import checkpoints
from vaejax.base import PyTree
from vaejax.training import TrainState

# Steps in a row without a finite gradient after which a member counts as lost.
PERSISTENT = 100


def train(
    job: Job,
    check_interrupts: Callable[[], None],
    on_epoch: Callable[[dict[str, Any]], None] = lambda row: None,
    check_folder: Callable[[], None] = lambda: None,
) -> TrainState:
    """Train the members from where the folder's last checkpoint left them.

    Args:
      job: what is trained.
      check_interrupts: called after every epoch is saved; it raises to end the run.
      on_epoch: called with the epoch's line of metrics.
      check_folder: called before anything is written; it raises where the folder is no
        longer this run's.

    Returns:
      The states, with the parameters to evaluate: the best on validation data, or the
      average, or the last.
    """
    states, layout, environments, last = _start(job)
    metadata = trained_with(job) | {"environments": _add_environment(job, environments)}
    done = int(job.members.first(states.step)) // job.experiment.steps_per_epoch
    check_folder()
    job.path.mkdir(parents=True, exist_ok=True)
    run_dir.cut_metrics(job.path, done, last)
    print(_describe(job, states, done), flush=True)

    if streams(job.experiment):
        data, at_once = job.experiment.train, job.members.num
        epoch = streamed_epoch(job, layout)
    else:
        data = vaejax.training.place_on_devices(job.experiment.train, job.replicated)
        epoch, at_once = compiled_epoch(job, states, data, layout)
    if at_once == job.members.num and jax.process_count() == 1:
        states = vaejax.training.place_on_devices(states, layout)
    measure, stop = _make_measure(job, at_once), _make_stop(job, layout)
    untrained = (last or {}).get(divergence.NAME)
    with _progress(job, done) as progress:
        for number in range(done + 1, job.config.epochs + 1):
            if _all_stopped(states):
                print(
                    f"\nno better validation loss for {job.config.patience} epochs: "
                    "stopped",
                    file=sys.stderr,
                )
                break
            started = time.perf_counter()
            states, metrics = epoch(states, data)
            metrics = jax.device_get(metrics)
            seconds = time.perf_counter() - started
            row = {
                "epoch": number,
                "step": number * job.experiment.steps_per_epoch,
                "seconds": round(seconds, 3),
            }
            row |= {
                "train": _means(job.members, metrics.loss, metrics.terms)
            } | measure(states)
            if number == 1:
                untrained = divergence.first_losses(job.members.stack(metrics.loss))
            row[divergence.NAME] = untrained
            states = stop(states, row)
            _check_finite(job, row, states)
            if number == done + 1:
                divergence.warn(job, row)
            check_folder()
            run_dir.append_metrics(job.path, row)
            check_folder()
            checkpoints.save(
                job.path / "checkpoints",
                states,
                step=row["step"],
                metadata=metadata | {"metrics": json.loads(json.dumps(row))},
            )
            on_epoch(row)
            check_interrupts()
            progress.update()
            progress.set_postfix_str(_postfix(job, row))
    return vaejax.training.best_state(
        vaejax.training.gather_from_devices(states, job.mesh)
    )


def load_states(job: Job) -> TrainState:
    """Return the states of the last checkpoint, as `train` returns them.

    Raises:
      RunError: there is no checkpoint, or it cannot be read.
    """
    if checkpoints.latest(job.path / "checkpoints") is None:
        raise RunError(
            f"{job.path} has no checkpoint yet: its first epoch has not ended. Train "
            "it first."
        )
    return vaejax.training.best_state(
        vaejax.training.gather_from_devices(_start(job).states, job.mesh)
    )


def trained_with(job: Job) -> dict[str, Any]:
    """Return what a state belongs to, which its checkpoint holds beside it."""
    return {
        "config": config_file.options_of(job.config),
        "data_sha256": job.experiment.data_checksum,
        "example": stand_in.shapes_of(job.experiment),
    }


class _Start(NamedTuple):
    """The states to start from.

    Attributes:
      states: the states.
      layout: how they are laid out over the devices.
      environments: where they were trained so far.
      last: the line of metrics of the last epoch, where it is known.
    """

    states: TrainState
    layout: PyTree
    environments: list[dict[str, Any]]
    last: dict[str, Any] | None


def _start(job: Job) -> _Start:
    """The first states, or those of the last checkpoint."""
    states = make_init(job)(job.members.keys, job.experiment.example)
    layout = (
        vaejax.training.fully_sharded(job.mesh, states)
        if job.config.shard_parameters
        else job.replicated
    )
    if jax.process_count() > 1:
        states = vaejax.training.place_on_devices(states, layout)
    if checkpoints.latest(job.path / "checkpoints") is None:
        return _Start(states, layout, [], None)
    try:
        saved = checkpoints.read_metadata(job.path / "checkpoints")
        _check_trained_with(job, saved)
        states = checkpoints.restore(job.path / "checkpoints", states)
    except ValueError as error:
        raise RunError(
            f"{error} To start from the beginning, give another --out."
        ) from error
    return _Start(states, layout, saved.get("environments", []), saved.get("metrics"))


def _check_trained_with(job: Job, saved: dict[str, Any]) -> None:
    """Raise RunError where a checkpoint was trained with other options or data."""
    now = trained_with(job)
    # The data are compared by their content, wherever they lie.
    differing = [
        option
        for option, value in saved.get("config", {}).items()
        if option not in ("data", "data_dir", "extended_from")
        and value != now["config"].get(option)
        and not (option == "epochs" and value in job.config.extended_from)
    ]
    if differing:
        option = differing[0]
        raise RunError(
            f"config.json says {config_file.flag(option)} "
            f"{now['config'].get(option)}, and the checkpoint in {job.path} was "
            f"trained with {saved['config'][option]}; put the old value back, or start "
            "another run."
        )
    if saved.get("data_sha256", now["data_sha256"]) != now["data_sha256"]:
        raise RunError(
            f"--data has changed since the checkpoint in {job.path} was trained; start "
            "another run."
        )


def _add_environment(job: Job, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The environments with this process's as the last; say where they differ."""
    now = manifest.environment()
    if before and (changes := manifest.changes(before[-1], now)):
        print(
            f"{job.path}: trained so far with {changes}: the result is the same up to "
            "rounding and its consequences, not bit for bit",
            file=sys.stderr,
        )
    return [*(one for one in before if one != now), now]


def _make_measure(job: Job, at_once: int) -> Callable[[TrainState], dict[str, Any]]:
    """A function of states: test and validation numbers, and own diagnostics."""
    parts = {"test": job.experiment.test, "validation": job.experiment.validation}
    elbos = {
        name: evaluation.make_mean_elbo(job.experiment, part, job.members, at_once)
        for name, part in parts.items()
        if part is not None
    }
    diagnostics = job.experiment.diagnostics
    if diagnostics is not None:
        diagnose = in_pieces(
            jax.jit(job.members.lift(diagnostics)), job.members.num, at_once
        )

    def measure(states: TrainState) -> dict[str, Any]:
        evaluated = vaejax.training.averaged_state(
            vaejax.training.gather_from_devices(states, job.mesh)
        )
        numbers = {name: elbo(evaluated) for name, elbo in elbos.items()}
        if diagnostics is not None:
            values = job.members.stack(jax.device_get(diagnose(evaluated)))
            numbers["diagnostics"] = {
                name: averages.plain(value) for name, value in values.items()
            }
        return numbers

    return measure


def _make_stop(job: Job, layout: PyTree) -> Callable[[TrainState, dict], TrainState]:
    """A function of states and a line of metrics that applies early stopping."""
    patience = job.config.patience
    if patience is None:
        return lambda states, row: states

    def update(member: tuple[TrainState, jax.Array]) -> TrainState:
        return vaejax.training.update_early_stopping(*member, patience=patience)

    compiled = jax.jit(
        job.members.lift(update),
        out_shardings=layout if job.config.shard_parameters else None,
    )

    def stop(states: TrainState, row: dict) -> TrainState:
        losses = np.asarray(
            row["validation"]["negative_elbo"], np.float32
        )  # None becomes NaN
        return compiled((states, losses[0] if job.members.num == 1 else losses))

    return stop


def _all_stopped(states: TrainState) -> bool:
    return bool(jnp.all(vaejax.training.has_stopped(states)))


def _describe(job: Job, states: TrainState, done: int) -> str:
    num_parameters = sum(
        leaf.size for leaf in jax.tree.leaves(job.members.first(states.params))
    )
    num_examples = job.experiment.steps_per_epoch * job.experiment.batch_size
    half = (
        ""
        if job.config.compute_dtype == "float32"
        else f", networks in {job.config.compute_dtype}"
    )
    epochs = "1 epoch" if job.config.epochs == 1 else f"{job.config.epochs} epochs"
    return (
        f"{num_parameters:,} parameters, {num_examples:,} examples per epoch, "
        f"{job.members.describe()}, {epochs}{f' ({done} done)' if done else ''}{half}, "
        f"on {job.mesh.size} x {jax.devices()[0].device_kind}"
    )


def _progress(job: Job, done: int) -> tqdm:
    return tqdm(
        total=job.config.epochs,
        initial=done,
        unit="epoch",
        dynamic_ncols=True,
        desc=job.description,
        disable=not distributed.is_first(),
    )


def _postfix(job: Job, row: dict) -> str:
    num_examples = (
        job.experiment.steps_per_epoch * job.experiment.batch_size * job.members.num
    )
    return (
        f"train {_mean(row['train']['loss']):.2f}, test "
        f"{_mean(row['test']['negative_elbo']):.2f} nats, "
        f"{num_examples / max(row['seconds'], 1e-3):,.0f} examples/s"
    )


def _means(members: Members, loss: np.ndarray, terms: Any) -> dict[str, list]:
    """Means over an epoch's finite steps, one for each member, or a list of each.

    Terms of one number in an axis of their own are left out: they repeat another.
    """
    series = {"loss": loss}
    for place, term in jax.tree.leaves_with_path(terms):
        if np.ndim(term) == np.ndim(loss) or (
            np.ndim(term) == np.ndim(loss) + 1 and term.shape[-1] > 1
        ):
            series[jax.tree_util.keystr(place, simple=True, separator="/")] = term
    return {
        name: averages.plain(_mean_of_finite(members.stack(term)))
        for name, term in series.items()
    }


def _mean_of_finite(steps: np.ndarray) -> np.ndarray:
    """`[members, steps, ...]` to `[members, ...]`; NaN where no step was finite."""
    finite = np.isfinite(steps)
    with np.errstate(invalid="ignore"):
        return np.where(finite, steps, 0).sum(axis=1, dtype=np.float64) / finite.sum(
            axis=1
        )


def _mean(values: list[float | None]) -> float:
    """The mean over the members that have not diverged."""
    return float(np.mean([value for value in values if value is not None]))


def _check_finite(job: Job, row: dict, states: TrainState) -> None:
    """Add the skipped steps to the line; raise RunError once every member is lost."""
    counts = jax.device_get(
        (states.opt_state.notfinite_count, states.opt_state.total_notfinite)
    )
    in_a_row, skipped = (np.atleast_1d(count) for count in counts)
    if skipped.any():
        row["skipped_steps"] = skipped.tolist()
    # A short epoch is judged at its end, but never by a few steps.
    patience = min(PERSISTENT, max(job.experiment.steps_per_epoch, 10))
    lost = [
        index
        for index, loss in enumerate(row["test"]["negative_elbo"])
        if loss is None
        or row["train"]["loss"][index] is None
        or in_a_row[index] >= patience
    ]
    if not lost:
        return
    names = "; ".join(job.members.name(index) for index in lost[:5])
    message = (
        f"epoch {row['epoch']}: loss or gradient is not finite for {names} "
        f"({in_a_row[lost[0]]} steps in a row, {skipped[lost[0]]} skipped in all)"
    )
    if len(lost) == job.members.num:
        raise RunError(
            f"{message}; try a smaller --learning-rate, or --clip-norm. What was "
            f"trained until then is in {job.path}."
        )
    print(f"\n{message}", file=sys.stderr)
