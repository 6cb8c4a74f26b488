"""A run of a program: a plan, training, the analysis, and the run folder."""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax

from experiments.harness import (
    callbacks,
    distributed,
    interrupts,
    loop,
    report,
    resources,
    run_dir,
)
from experiments.harness.config import Config, check_options, may_be_zero
from experiments.harness.errors import UsageError
from experiments.harness.experiment import ONLY, Comparison, Experiment, Trained
from experiments.harness.interrupts import Interrupted
from experiments.harness.job import Job, check_streams, make_mesh
from experiments.harness.members import Members, parse_sweep
from experiments.harness.programs import Program
from vaejax import checkpoints


class Plan(NamedTuple):
    """A run before its training: everything that may be refused has been checked.

    Attributes:
      program: the program.
      config: its options.
      path: the folder of the run.
      comparison: the models.
      members: the seeds and settings of each model.
      mesh: the devices that share each batch.
    """

    program: Program
    config: Config
    path: Path
    comparison: Comparison
    members: Members
    mesh: jax.sharding.Mesh

    @property
    def data_checksum(self) -> str:
        return next(iter(self.comparison.arms.values())).data_checksum


def run(
    program: Program, config: Config, *, on_epoch: callbacks.OnEpoch | None = None
) -> dict[str, Any]:
    """Train, analyze and report, from the start or from the last checkpoint.

    Args:
      program: what is run.
      config: its options. Where `resume` is set, every option must be that of the run
        in the folder.
      on_epoch: called with every line of metrics, by the first process alone, for a
        tracker of one's own.

    Returns:
      The content of summary.json.

    Raises:
      UsageError: an option or the data cannot be used.
      RunError: the run cannot go on.
    """
    started = time.perf_counter()
    plan = make_plan(program, config)
    print(f"run folder: {plan.path}", flush=True)
    write_manifest = partial(
        run_dir.write_manifest,
        plan.path,
        seeds=plan.members.seeds,
        data_checksum=plan.data_checksum,
    )
    write_manifest(params_digest=None)
    try:
        with interrupts.requests() as check_interrupts:
            trained = train(plan, check_interrupts, on_epoch)
            result = program.analyze(trained)
    except Interrupted:
        _say_how_to_continue(plan)
        raise
    seconds = sum(row["seconds"] for rows in trained.history.values() for row in rows)
    summary = {
        "experiment": program.name,
        "data": config.data,
        "epochs": config.epochs,
        "seeds": plan.members.seeds,
    }
    summary |= result.summary | {"training_seconds": round(seconds, 2)}
    run_dir.write_json(plan.path / "summary.json", summary)
    params = {arm: state.params for arm, state in trained.states.items()}
    write_manifest(params_digest=checkpoints.digest(params))
    report.show(
        plan.path, result, program.about, program.description, plan.comparison.arms
    )
    resources.add_to_manifest(plan.path, started)
    print(
        f"done in {time.perf_counter() - started:.0f} s, of which training "
        f"{seconds:.0f} s"
    )
    return summary


def make_plan(program: Program, config: Config) -> Plan:
    """Check all that may be refused, then make the run's folder."""
    check_options(config)
    path = run_dir.find(program.name, config)
    distributed.wait_for_all("folder found")
    comparison = as_comparison(program.make_experiment(config))
    members = members_of(config, comparison)
    first = next(iter(comparison.arms.values()))
    for experiment in comparison.arms.values():
        check_streams(experiment, members)
    mesh = make_mesh(config.num_devices, first.batch_size)
    run_dir.check_data(path, first.data_checksum)
    path = run_dir.create(path, program.name, config)
    distributed.wait_for_all("folder made")
    return Plan(program, config, path, comparison, members, mesh)


def train(
    plan: Plan,
    check_interrupts: interrupts.CheckInterrupts,
    on_epoch: callbacks.OnEpoch | None = None,
) -> Trained:
    """Train every model of a plan in turn."""
    arms = plan.comparison.arms
    states = {
        arm: loop.train(
            Job(
                plan.path / arm,
                plan.config,
                experiment,
                plan.members,
                plan.mesh,
                arm or "training",
            ),
            check_interrupts,
            callbacks.each_epoch(plan.config, plan.path / arm, plan.members, on_epoch),
        )
        for arm, experiment in arms.items()
    }
    history = {arm: run_dir.read_metrics(plan.path / arm) for arm in arms}
    return Trained(
        plan.config,
        arms,
        plan.members,
        states,
        history,
        check_interrupts,
        plan.comparison.context,
    )


def members_of(config: Config, comparison: Comparison) -> Members:
    """Return the seeds and settings that a configuration trains.

    Raises:
      UsageError: --sweep makes no sense.
    """
    arms = comparison.arms
    swept = parse_sweep(config.sweep, next(iter(arms.values())).hyperparameters)
    for name, values in swept.items():
        if 0 in values and not may_be_zero(type(config), name):
            raise UsageError(
                f"--sweep: {name} is 0 in {list(values)}; give positive numbers."
            )
    if swept and len(arms) > 1:
        raise UsageError(
            "--sweep: this experiment compares models and sweeps nothing; leave it out."
        )
    return Members(config.seed, config.num_seeds, swept, comparison.settings)


def as_comparison(experiment: Experiment | Comparison) -> Comparison:
    """Return a single model as a comparison of one, whose folder is the run's own."""
    if isinstance(experiment, Comparison):
        return experiment
    return Comparison({ONLY: experiment})


def _say_how_to_continue(plan: Plan) -> None:
    saved = all(
        checkpoints.latest(plan.path / arm / "checkpoints") is not None
        for arm in plan.comparison.arms
    )
    print(
        f"\n{'saved; ' if saved else ''}continue with: python -m "
        f"experiments.{plan.program.name} --resume --out {plan.path}",
        file=sys.stderr,
    )
