"""The harness of every experiment: command line, loop, run folder, resume, summary.

An experiment is a frozen dataclass of numbers (a subclass of `Config`) and a function
`make_experiment(config) -> Experiment`.
"""

import dataclasses
import importlib.util
import logging
import math
import sys
import time
import types
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import tyro

from experiments.harness import (
    callbacks,
    distributed,
    evaluation,
    interrupts,
    loop,
    report,
    run_dir,
    sweeps,
)
from experiments.harness.errors import RunError, UsageError
from experiments.harness.experiment import (
    About,
    Comparison,
    Experiment,
    Recipe,
    Result,
    steps_per_epoch,
)
from experiments.harness.interrupts import Interrupted
from experiments.harness.members import Members, parse_sweep
from vaejax import checkpoints, datasets
from vaejax.base import batch_size_of
from vaejax.training import TrainState

__all__ = [
    "About",
    "Comparison",
    "Config",
    "Experiment",
    "Recipe",
    "Result",
    "UsageError",
    "hold_out",
    "load",
    "main",
    "run",
    "steps_per_epoch",
]


@dataclasses.dataclass(frozen=True)
class Config:
    """The options that every experiment takes."""

    seed: int = 0
    """Seed of the first run: it decides the parameters, the noise and the order of the
    data.
    """
    num_seeds: int = 1
    """Train that many seeds (seed, seed + 1, ...) in one program and report mean and
    std over them.
    """
    epochs: int = 1
    """Passes over the training data."""
    data: str = "mnist"
    """Data set: mnist (bundled), another of the catalogue, one of TFDS, a path to an
    .npz, or to a folder: with images in train/ and test/, or with train.npy and
    test.npy, which are not loaded into memory.
    """
    data_dir: Path | None = None
    """Folder with the official files of --data, where they are not to be downloaded."""
    out: Path | None = None
    """Folder of the run; by default the next free of runs/NAME-0001, runs/NAME-0002,
    ...
    """
    resume: bool = False
    """Continue the run in --out (by default the newest of this experiment) from its
    last checkpoint.
    """
    clip_norm: float | None = None
    """Scale gradients down to this global norm where they are larger."""
    average: float | None = None
    """Evaluate an exponential moving average of the parameters with this decay, such as
    0.999.
    """
    num_validation: int = 0
    """Training examples held out, the last ones, and evaluated after each epoch."""
    patience: int | None = None
    """Stop after that many epochs without a smaller validation loss, and take the best
    parameters.
    """
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    """In which the networks compute; parameters, optimizer and log-densities stay
    float32.
    """
    tensorboard: bool = False
    """Write TensorBoard event files into the run's folder too (the extra
    `tensorboard`).
    """
    sweep: tuple[str, ...] = ()
    """NAME=VALUE,VALUE,... ...: train every seed at each value (of several names, each
    combination) and compare.
    """
    members_at_once: int | None = None
    """Members (seeds times swept values) trained together; by default as many as memory
    holds.
    """
    num_devices: int | None = None
    """Devices that share each batch; by default all there are."""
    shard_parameters: bool = False
    """Spread parameters and the optimizer's state over the devices too (FSDP), for
    models that one cannot hold.
    """
    distributed: str | None = None
    """Run in several processes: auto (SLURM, Kubernetes, MPI, TPU pods), or
    HOST:PORT,PROCESSES,INDEX.
    """


def load(config: Config) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Training and test part of the data set that --data names; UsageError where there
    is none.
    """
    try:
        train, test = (
            datasets.load(config.data, split=split, directory=config.data_dir)
            for split in ("train", "test")
        )
    except ValueError as error:
        raise UsageError(f"--data: {error}") from error
    shapes = train.images.shape[1:], test.images.shape[1:]
    if shapes[0] != shapes[1]:
        raise UsageError(
            f"--data: images are {shapes[0]} for training and {shapes[1]} for test; "
            "make them the same."
        )
    if len(test.images) < 2:
        raise UsageError(
            "--data: there is one test image; variances over the test set need at "
            "least 2."
        )
    return train, test


def hold_out(
    train: datasets.Dataset, num: int
) -> tuple[datasets.Dataset, datasets.Dataset | None]:
    """The training part without its last `num` examples, and these; UsageError where
    too few are left.
    """
    if not num:
        return train, None
    if num >= len(train.images):
        raise UsageError(
            f"--num-validation is {num} and there are {len(train.images)} training "
            "examples; give fewer."
        )
    parts = [
        datasets.Dataset(
            train.images[part], None if train.labels is None else train.labels[part]
        )
        for part in (slice(None, -num), slice(-num, None))
    ]
    return parts[0], parts[1]


def main(
    config_type: type[Config], make_experiment: Callable[[Any], Experiment | Comparison]
) -> None:
    """The command line: parses, runs, answers a user's mistake in one line (exit status
    2; 1 where the run failed).
    """
    module = importlib.import_module(make_experiment.__module__)
    name = Path(module.__file__).stem
    # Errors are told here, in a line; the traceback that orbax logs of a failed save is
    # not.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    parse = partial(
        tyro.cli,
        config_type,
        prog=f"python -m experiments.{name}",
        description=module.__doc__,
    )
    config = parse()
    try:
        distributed.join(config.distributed)
        run(name, config, make_experiment, lambda defaults: parse(default=defaults))
    except (UsageError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        distributed.leave(2 if isinstance(error, UsageError) else 1)
    except OSError as error:
        reason = f"{error.filename or 'a file'}: {error.strerror or error}"
        distributed.leave_quietly(
            1, f"error: {reason}; mend that and continue with --resume"
        )
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        reason = str(error).strip().partition("\n")[0]
        print(
            f"error: another process is gone ({reason}); start all again with --resume",
            file=sys.stderr,
        )
        distributed.leave(1)
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_status)


def run(
    name: str,
    config: Any,
    make_experiment: Callable[[Any], Experiment | Comparison],
    parse: Callable[[Any], Any] | None = None,
    on_epoch: callbacks.OnEpoch | None = None,
) -> dict:
    """Trains, evaluates and draws an experiment, or finishes one that was interrupted.
    Returns its summary.

    `parse` reads the command line again over other defaults (see `folder.find`); None
    where there is no command line. `on_epoch` is called with every line of metrics, by
    the first process alone, for a tracker of one's own.
    """
    started = time.perf_counter()
    path, config, arms, conclude, members, mesh = _prepare(
        name, config, make_experiment, parse
    )
    print(f"run folder: {path}", flush=True)
    data_checksum = next(iter(arms.values())).data_checksum
    write_manifest = partial(
        run_dir.write_manifest, path, seeds=members.seeds, data_checksum=data_checksum
    )
    write_manifest(params_digest=None)
    try:
        with interrupts.requests() as check_interrupts:
            states = {
                arm: loop.train(
                    loop.Job(
                        path / arm, config, experiment, members, mesh, arm or "training"
                    ),
                    check_interrupts,
                    _on_epoch(config, path / arm, members, on_epoch),
                )
                for arm, experiment in arms.items()
            }
            history = {arm: run_dir.read_metrics(path / arm) for arm in arms}
            result = conclude(members, states, history, check_interrupts)
    except Interrupted:
        saved = all(
            checkpoints.latest(path / arm / "checkpoints") is not None for arm in arms
        )
        print(
            f"\n{'saved; ' if saved else ''}continue with: python -m "
            f"experiments.{name} --resume --out {path}",
            file=sys.stderr,
        )
        raise
    training_seconds = sum(row["seconds"] for rows in history.values() for row in rows)
    summary = {
        "experiment": name,
        "data": config.data,
        "epochs": config.epochs,
        "seeds": members.seeds,
    }
    summary |= result.summary | {"training_seconds": round(training_seconds, 2)}
    run_dir.write_json(path / "summary.json", summary)
    write_manifest(
        params_digest=checkpoints.digest(
            {arm: state.params for arm, state in states.items()}
        )
    )
    show(path, arms, result, sys.modules[make_experiment.__module__])
    print(
        f"done in {time.perf_counter() - started:.0f} s, of which training "
        f"{training_seconds:.0f} s"
    )
    return summary


def _prepare(
    name: str,
    config: Any,
    make_experiment: Callable,
    parse: Callable[[Any], Any] | None,
) -> tuple:
    """All that may be refused, before anything is written; then the run's folder."""
    check_options(config)
    path, config = run_dir.find(name, config, parse)
    distributed.wait_for_all("folder found")
    arms, conclude, settings = as_comparison(make_experiment(config))
    members, first = members_of(config, arms, settings), next(iter(arms.values()))
    for experiment in arms.values():
        loop.check_streams(experiment, members)
    mesh = loop.make_mesh(config.num_devices, first.batch_size)
    run_dir.check_data(path, first.data_checksum)
    path = run_dir.create(path, name, config)
    distributed.wait_for_all("folder made")
    return path, config, arms, conclude, members, mesh


def show(
    path: Path, arms: Mapping[str, Experiment], result: Result, module: types.ModuleType
) -> None:
    """Figures and report into the folder, numbers onto the screen."""
    figures, files = result.figures(), result.files()
    run_dir.write_figures(path, figures)
    run_dir.write_files(path, files)
    report.write(path, module, result, list(figures), files)
    print("\n" + result.table() + "\n")
    print(f"in {path}: report.html, summary.json, manifest.json, and figures/")
    for arm in arms:
        print(f"in {path / arm}: metrics.jsonl, checkpoints/")
    for figure in figures:
        print(f"  figures/{figure}.png")
    for file in files:
        print(f"  {file}")


def _on_epoch(
    config: Any, path: Path, members: Members, on_epoch: callbacks.OnEpoch | None
) -> callbacks.OnEpoch:
    listeners = [callbacks.tensorboard(path, members)] if config.tensorboard else []
    listeners += [distributed.by_first(on_epoch)] if on_epoch else []

    def tell(row: dict[str, Any]) -> None:
        for listener in listeners:
            listener(row)

    return tell


def members_of(
    config: Any,
    arms: Mapping[str, Experiment],
    settings: Mapping[str, Mapping[str, float]],
) -> Members:
    """The seeds and settings that a configuration trains; UsageError where --sweep
    makes no sense.
    """
    swept = parse_sweep(config.sweep, next(iter(arms.values())).hyperparameters)
    for name, values in swept.items():
        if 0 in values and name not in MAY_BE_ZERO:
            raise UsageError(
                f"--sweep: {name} is 0 in {list(values)}; give positive numbers."
            )
    if swept and len(arms) > 1:
        raise UsageError(
            "--sweep: this experiment compares models and sweeps nothing; leave it out."
        )
    return Members(config.seed, config.num_seeds, swept, settings)


def as_comparison(experiment: Experiment | Comparison) -> Comparison:
    """One model as a comparison of one, whose folder is the run's own."""
    if isinstance(experiment, Comparison):
        return experiment

    def conclude(
        members: Members,
        states: dict,
        history: dict,
        check_interrupts: Callable[[], None],
    ) -> Result:
        return _conclude(experiment, members, states[""], history[""], check_interrupts)

    return Comparison({"": experiment}, conclude)


def _conclude(
    experiment: Experiment,
    members: Members,
    states: TrainState,
    history: list[dict],
    check_interrupts: Callable[[], None],
) -> Result:
    """The numbers and figures of one model."""
    numbers = evaluation.evaluate(experiment, members, states, check_interrupts)
    num_test_examples = batch_size_of(experiment.test)
    summary = {
        "binarization": experiment.binarization,
        "num_test_examples": num_test_examples,
    }
    summary["units"] = "nats per example"
    drawn = "" if experiment.binarization == "none" else "; of the test set: drawn once"
    about = f"{num_test_examples:,} test examples, training binarization: {experiment.binarization}{drawn}; "
    about += f"{members.describe()}; nats per example"
    if members.swept:
        return sweeps.conclude(experiment, members, history, numbers, summary, about)
    test = evaluation.summarize(numbers, experiment)
    first = members.first(states)
    key = jax.random.fold_in(first.key, evaluation.FIGURES)
    return Result(
        summary=summary | {"test": test},
        headline=f"test negative ELBO {test['negative_elbo']['mean']:.2f} nats",
        about=about,
        rows=evaluation.rows(test),
        figures=partial(experiment.figures, first.params, key, history),
        files=partial(experiment.files, first.params, key),
        captions=experiment.captions,
    )


# Options for which 0 means something.
MAY_BE_ZERO = (
    "seed",
    "beta",
    "num_validation",
    "warm_up_epochs",
    "free_bits",
    "word_dropout",
)


def check_options(config: Any) -> None:
    """UsageError where an option has a value that it cannot have."""
    if config.seed + config.num_seeds > 2**31:
        raise UsageError(f"--seed is {config.seed}; seeds must stay below {2**31}.")
    for field in dataclasses.fields(config):
        value, flag = getattr(config, field.name), "--" + field.name.replace("_", "-")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        may_be_zero = field.name in MAY_BE_ZERO
        if not math.isfinite(value) or value < 0 or (value == 0 and not may_be_zero):
            raise UsageError(
                f"{flag} is {value}; give a "
                f"{'non-negative' if may_be_zero else 'positive'} number."
            )
    if not isinstance(config, Config):
        return
    if config.average is not None and config.average >= 1:
        raise UsageError(
            f"--average is {config.average}; give a decay below 1, such as 0.999."
        )
    if config.tensorboard and importlib.util.find_spec("tensorboardX") is None:
        raise UsageError(
            "--tensorboard needs tensorboardX; install the extra `tensorboard`."
        )
    if config.patience is not None and not config.num_validation:
        raise UsageError(
            "--patience needs validation data; hold some out with --num-validation, "
            "such as 10000."
        )
