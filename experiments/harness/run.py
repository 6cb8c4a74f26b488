"""A run of a program: a plan, training, the analysis, and the run folder."""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.harness import (
    callbacks,
    config_file,
    distributed,
    divergence,
    generator,
    interrupts,
    loop,
    manifest,
    report,
    resources,
    run_dir,
)
from experiments.harness.config import Config, check_options, may_be_zero
from experiments.harness.errors import RunError, UsageError
from experiments.harness.experiment import Comparison, Trained, as_comparison
from experiments.harness.interrupts import Interrupted
from experiments.harness.job import Job, make_mesh
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
    program: Program,
    config: Config,
    *,
    on_epoch: callbacks.OnEpoch | None = None,
    by_all: bool = False,
) -> dict[str, Any]:
    """Train, analyze and report, from the start or from the last checkpoint.

    Args:
      program: what is run.
      config: its options. Where `resume` is set, every option must be that of the run
        in the folder.
      on_epoch: called with every line of metrics, for a tracker of one's own.
      by_all: whether every process calls it; by default the first one alone.

    Returns:
      The content of summary.json.

    Raises:
      UsageError: an option or the data cannot be used.
      RunError: the run cannot go on.
    """
    started = time.perf_counter()
    if on_epoch:
        on_epoch = callbacks.of_process(on_epoch, by_all=by_all)
    config = run_dir.extended(program.name, config)
    plan = make_plan(program, config)
    for experiment in plan.comparison.arms.values():
        print("".join(f"{line}\n" for line in experiment.notes), end="", flush=True)
    with run_dir.claimed(plan.path, program.name, config) as claim:
        plan = plan._replace(path=claim.path)
        print(f"run folder: {plan.path}", flush=True)
        try:
            with interrupts.requests() as check_interrupts:
                return _run(plan, claim, check_interrupts, on_epoch, started)
        except Interrupted:
            _say_how_to_continue(plan)
            raise


def _run(
    plan: Plan,
    claim: run_dir.Claim,
    check_interrupts: interrupts.CheckInterrupts,
    on_epoch: callbacks.OnEpoch | None,
    started: float,
) -> dict[str, Any]:
    program, config = plan.program, plan.config
    write_manifest = partial(
        manifest.write,
        plan.path,
        command=run_dir.command(program.name, config),
        seeds=plan.members.seeds,
        data_checksum=plan.data_checksum,
    )
    write_manifest(params_digest=None)
    for experiment in plan.comparison.arms.values():
        for name, record in experiment.records.items():
            run_dir.write_json(plan.path / name, record)
    trained = train(plan, check_interrupts, on_epoch, claim.check)
    result = program.analyze(trained)
    seconds = sum(row["seconds"] for rows in trained.history.values() for row in rows)
    summary = {
        "experiment": program.name,
        "data": config.data,
        "epochs": config.epochs,
        "seeds": plan.members.seeds,
    }
    summary |= result.summary | {"training_seconds": round(seconds, 2)}
    if missing := _missing_epochs(trained):
        summary["missing_epochs"] = missing
    if diverged := _diverged(trained):
        summary["diverged"] = diverged
    claim.check()
    run_dir.write_json(plan.path / "summary.json", summary)
    params = {arm: state.params for arm, state in trained.states.items()}
    write_manifest(
        params_digest=checkpoints.digest(params), environments=_environments(plan)
    )
    check_interrupts()
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
    """Check all that may be refused, before anything is written."""
    check_options(config)
    path = run_dir.find(program.name, config)
    distributed.wait_for_all("folder found")
    comparison = as_comparison(program.make_experiment(config))
    members = members_of(config, comparison)
    first = next(iter(comparison.arms.values()))
    mesh = make_mesh(config.num_devices, first.batch_size)
    generator.check(members, mesh.size)
    manifest.check_data(path, first.data_checksum)
    _check_processes(config, comparison)
    _warn_of_average(config, comparison)
    return Plan(program, config, path, comparison, members, mesh)


def train(
    plan: Plan,
    check_interrupts: interrupts.CheckInterrupts,
    on_epoch: callbacks.OnEpoch | None = None,
    check_folder: Callable[[], None] = lambda: None,
) -> Trained:
    """Train every model of a plan in turn."""
    arms = plan.comparison.arms
    states, history, diverged = {}, {}, {}
    for arm, experiment in arms.items():
        path = plan.path / arm
        job = Job(
            path, plan.config, experiment, plan.members, plan.mesh, arm or "training"
        )
        on_each = callbacks.each_epoch(plan.config, path, plan.members, on_epoch)
        states[arm] = loop.train(job, check_interrupts, on_each, check_folder)
        history[arm] = rows = run_dir.read_metrics(path)
        if not rows:
            raise RunError(
                f"{path}/metrics.jsonl has lost all its lines, which the report needs; "
                "put the file back, or start another run. The trained parameters are "
                "in checkpoints/."
            )
        diverged[arm] = divergence.check(job, rows)
    return Trained(
        plan.config,
        arms,
        plan.members,
        states,
        history,
        check_interrupts,
        plan.comparison.context,
        diverged,
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


def _check_processes(config: Config, comparison: Comparison) -> None:
    """Check that all processes of a run do the same, before the first step."""
    options = {
        config_file.flag(name): value
        for name, value in config_file.options_of(config).items()
    }
    data = [experiment.data_checksum for experiment in comparison.arms.values()]
    distributed.check_same(
        options
        | {"the data's SHA-256": data, "commit": manifest.commit()}
        | {f"the version of {name}": v for name, v in manifest.versions().items()}
    )


@distributed.by_first
def _warn_of_average(config: Config, comparison: Comparison) -> None:
    """Say where an average ends nearer to the initial parameters than to others."""
    if config.average is None:
        return
    steps = config.epochs * min(
        experiment.steps_per_epoch for experiment in comparison.arms.values()
    )
    if (share := float(np.float32(config.average)) ** steps) > 0.5:
        print(
            f"warning: --average is {config.average}: after {steps:,} steps the "
            f"average, which is evaluated, is {share:.0%} initial parameters; "
            f"{0.01 ** (1 / steps):.4g} would leave 1 % of them",
            file=sys.stderr,
        )


def _missing_epochs(trained: Trained) -> dict[str, list[int]]:
    """The epochs of each model whose line of metrics was lost."""
    found = {
        arm: run_dir.missing_epochs(
            rows,
            int(trained.members.first(trained.states[arm].step))
            // trained.experiments[arm].steps_per_epoch,
        )
        for arm, rows in trained.history.items()
    }
    return {arm or "training": epochs for arm, epochs in found.items() if epochs}


def _diverged(trained: Trained) -> dict[str, list[str]]:
    """The names of each model's members that have diverged."""
    names = {
        arm: [trained.members.name(member) for member in members]
        for arm, members in trained.diverged.items()
    }
    return {arm or "training": found for arm, found in names.items() if found}


def _environments(plan: Plan) -> list[dict[str, Any]]:
    """Where the parameters were trained, if in more than one environment."""
    found = []
    for arm in plan.comparison.arms:
        saved = checkpoints.read_metadata(plan.path / arm / "checkpoints")
        found += [one for one in saved.get("environments", []) if one not in found]
    return found if len(found) > 1 else []


def _say_how_to_continue(plan: Plan) -> None:
    saved = all(
        checkpoints.latest(plan.path / arm / "checkpoints") is not None
        for arm in plan.comparison.arms
    )
    command = run_dir.command_to_continue(plan.program.name, plan.path)
    print(f"\n{'saved; ' if saved else ''}continue with: {command}", file=sys.stderr)
