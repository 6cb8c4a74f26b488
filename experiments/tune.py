"""Search of a program's options, many trials in one program.

Trials are asked of Optuna, a batch at a time. All trials and seeds of a batch that have
the same shapes are trained together as members of one compiled program, and the mean of
their validation losses over seeds is told back. After each rung, one trial in
REDUCTION-FACTOR goes on; the others are taken out of the program. Validation data
decide, which are held out of the training data; the test set is not looked at.

--search says what is searched, once for each option: `learning_rate=log:1e-4:1e-2` is a
range on a logarithmic scale, `beta=0.5:4` a range, `latent_size=10,20,40` one of these
values. An option that --sweep of the program takes costs no other program; any other
one, such as a size, needs one for each of its values in a batch. Options of the program
stand at the end, after `--`. The first trial has the program's own values, where they
are within the ranges.

Command: python -m experiments.tune mnist --trials 32 --num-seeds 4
--search learning_rate=log:1e-4:1e-2 --search beta=0.5:4 -- --epochs 10
"""

import dataclasses
import importlib.util
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro

from experiments import harness
from experiments.harness import (
    UsageError,
    cli,
    interrupts,
    manifest,
    report,
    resources,
    run_dir,
)
from experiments.harness.config import NonNegativeInt, check_options
from experiments.harness.interrupts import Interrupted
from experiments.harness.job import make_mesh
from experiments.harness.programs import Program, program_of_command

ABOUT = harness.About(
    what="a search of any program's options, many trials in one program",
    paper="",
    cost="that of the trials; bad ones are stopped early",
    expected="",
)

# Options of a program that the search has itself, and those that make no sense in one.
_OWN = ("seed", "num_seeds", "num_validation", "out", "resume")
_REFUSED = ("sweep", "patience", "tensorboard", "extend", "distributed")


@dataclasses.dataclass(frozen=True)
class Config:
    program: Annotated[str, tyro.conf.Positional] = "mnist"
    """Name of a program that trains a single model."""
    search: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Option to search and its values, NAME=LOW:HIGH, NAME=log:LOW:HIGH or
    NAME=VALUE,VALUE,...; by default the learning rate, within a factor of ten.
    """
    trials: int = 32
    """Number of settings to try."""
    trials_at_once: int = 8
    """Trials of a batch, which are trained together; what Optuna proposes for the next
    batch depends on their losses.
    """
    seed: NonNegativeInt = 0
    """First seed of every trial, and seed of the proposals."""
    num_seeds: int = 1
    """Number of seeds of every trial; the mean over them counts."""
    num_validation: int = 10_000
    """Training examples held out, the last ones, which decide between the trials."""
    reduction_factor: int = 2
    """One trial in so many goes on after a rung; 1 stops none."""
    first_rung: int | None = None
    """Epochs up to the first rung, a tenth of all by default; each further rung comes
    after REDUCTION-FACTOR times as many.
    """
    out: Path | None = None
    """Folder of the search; by default the next free of runs/tune-0001, ..."""
    resume: bool = False
    """Continue the search in --out (by default the newest) from its last checkpoint."""
    options: Annotated[tuple[str, ...], tyro.conf.Suppress] = ()
    """Options of the program; they are given after `--`."""

    distributed: ClassVar[str | None] = None


def program_config(program: Program, config: Config) -> Any:
    """Return the options of the program, as given after `--`.

    Raises:
      UsageError: one of them is an option of the search, or makes no sense in one.
    """
    prog = f"python -m experiments.tune {program.name} --"
    found = tyro.cli(program.config_type, args=list(config.options), prog=prog)
    default = program.config_type()
    for name in (*_OWN, *_REFUSED):
        if getattr(found, name) != getattr(default, name):
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} stands after `--`, among the options of {program.name}; "
                f"{'give it before' if name in _OWN else 'leave it out'}."
            )
    own = {name: getattr(config, name) for name in _OWN[:3]}
    return dataclasses.replace(found, **own)


def make_plan(config: Config) -> Any:
    """Check all that may be refused, before anything is written.

    Raises:
      UsageError: an option has a value that it cannot have.
    """
    from experiments.tuning import search, space, trials

    program = program_of_command(config.program)
    options = program_config(program, config)
    check_options(options)
    searched = space.parse_space(config.search, options)
    experiment = search.make_experiment(program, options)
    return search.Plan(
        program,
        options,
        searched,
        experiment,
        make_mesh(options.num_devices, experiment.batch_size),
        config.trials,
        min(config.trials_at_once, config.trials),
        trials.rungs(options.epochs, config.first_rung, config.reduction_factor),
        config.reduction_factor,
    )


def tune(config: Config) -> dict[str, Any]:
    """Search, print and write; return the content of summary.json."""
    started = time.perf_counter()
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("tuning needs Optuna; install the extra `tune`.")
    check_options(config)
    from experiments.tuning import report as tuning_report, search

    # Given again with --resume, what is searched is the same.
    config = dataclasses.replace(config, search=tuple(dict.fromkeys(config.search)))
    plan = make_plan(config)
    words = tuning_report.changed_options(plan.config, without=_OWN)
    config = dataclasses.replace(config, options=tuple(words))
    found = run_dir.find("tune", config)
    checksum = plan.experiment.data_checksum
    manifest.check_data(found, checksum)
    with run_dir.claimed(found, "tune", config) as claim:
        path = claim.path
        print(f"folder: {path}", flush=True)
        manifest.write(
            path,
            command=command_of(config),
            seeds=list(range(config.seed, config.seed + config.num_seeds)),
            data_checksum=checksum,
            params_digest=None,
        )
        try:
            with interrupts.requests() as check_interrupts:
                progress = search.run(plan, path, claim.check, check_interrupts)
        except Interrupted:
            continuing = run_dir.command_to_continue("tune", path)
            print(f"\ncontinue with: {continuing}", file=sys.stderr)
            raise
        result = tuning_report.result(plan, progress)
        summary = {
            "experiment": "tune",
            "data": plan.config.data,
            "seeds": list(range(config.seed, config.seed + config.num_seeds)),
        } | result.summary
        claim.check()
        run_dir.write_json(path / "summary.json", summary)
        report.show(path, result, ABOUT, str(__doc__))
        resources.add_to_manifest(path, started)
    print(f"done in {time.perf_counter() - started:.0f} s; train at the best settings:")
    print(f"  {summary['command']}")
    return summary


def command_of(config: Config) -> str:
    """Return the command that repeats a search, quoted."""
    words = ["python", "-m", "experiments.tune", config.program]
    for item in config.search:
        words += ["--search", item]
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if isinstance(value, int) and not isinstance(value, bool):
            words += [f"--{field.name.replace('_', '-')}", str(value)]
    return shlex.join([*words, *(["--", *config.options] if config.options else [])])


if __name__ == "__main__":
    cli.around(Config, tune)
