"""The harness of every experiment: command line, loop, run folder, resume, summary.

An experiment is a frozen dataclass of numbers (a subclass of `Config`) and a function `make_experiment(config) ->
Experiment`.
"""

import dataclasses
import importlib
import math
import sys
import time
import types
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
import tyro
from tqdm import tqdm

import vaejax
from experiments import evaluation, folder, interrupts, report
from experiments.folder import RunError, UsageError
from experiments.interrupts import Interrupted
from experiments.members import Members
from vaejax import checkpoints, datasets, latent
from vaejax.base import Example, Key, KlFn, Params, PyTree, batch_size_of
from vaejax.training import TrainState


@dataclasses.dataclass(frozen=True)
class Config:
    """The options that every experiment takes."""

    seed: int = 0
    """Seed of the first run: it decides the parameters, the noise and the order of the data."""
    num_seeds: int = 1
    """Train that many seeds (seed, seed + 1, ...) in one program and report mean and std over them."""
    epochs: int = 1
    """Passes over the training data."""
    data: str = "mnist"
    """Data set: mnist (bundled), fashion_mnist or another of the catalogue, one of TFDS, or a path to an .npz."""
    data_dir: Path | None = None
    """Folder with the official files of --data, where they are not to be downloaded."""
    out: Path | None = None
    """Folder of the run; by default the next free of runs/NAME-0001, runs/NAME-0002, ..."""
    resume: bool = False
    """Continue the run in --out (by default the newest of this experiment) from its last checkpoint."""


class About(NamedTuple):
    """An experiment's entry in the catalogue (`python -m experiments`)."""

    what: str
    paper: str
    cost: str
    expected: str


class Experiment(NamedTuple):
    """What `make_experiment` assembles and the harness runs.

    Attributes:
      vae: the model.
      loss_fn: what training minimises, over a batch of `train`.
      optimizer: an optax transformation.
      batch_size: examples a step.
      train: training data as the step takes them, `[examples, ...]`.
      test: test data as the model sees them, drawn once where they are random, `[examples, ...]`.
      data_checksum: of the training and test data as loaded.
      binarization: "dynamic", "static" or "none": which of the published columns the numbers belong in.
      figures: `(params, key, history) -> {name: Figure}` of one member.
      num_samples: importance samples of the test NLL.
      kl_fn: how the KL of this posterior and prior is evaluated.
      point: which latent stands for a posterior when active units are counted.
    """

    vae: vaejax.VAE
    loss_fn: Callable
    optimizer: optax.GradientTransformation
    batch_size: int
    train: PyTree
    test: PyTree
    data_checksum: str
    binarization: str
    figures: Callable[[Params, Key, list[dict]], Mapping[str, Any]]
    num_samples: int = 500
    kl_fn: KlFn = vaejax.kl_closed_form
    point: latent.Readout = latent.mean

    @property
    def example(self) -> Example:
        return jax.tree.map(lambda leaf: leaf[0], self.test)

    @property
    def steps_per_epoch(self) -> int:
        return steps_per_epoch(self.train, self.batch_size)


class Result(NamedTuple):
    """What a finished run has to say.

    Attributes:
      summary: what it adds to summary.json.
      headline: the result in a few words.
      about: the sentence above the numbers: data, binarisation, seeds, unit.
      rows: the numbers, as (name, value with its error bar, what it is and was measured with).
      figures: draws them, by name; called when the numbers are written.
      captions: of the figures that the report has no words for.
    """

    summary: dict[str, Any]
    headline: str
    about: str
    rows: list[tuple[str, str, str]]
    figures: Callable[[], Mapping[str, Any]]
    captions: Mapping[str, str] = types.MappingProxyType({})

    def table(self) -> str:
        widths = [max(len(row[column]) for row in self.rows) for column in (0, 1)]
        lines = [f"  {name:{widths[0]}s}  {value:>{widths[1]}s}  {note}" for name, value, note in self.rows]
        return "\n".join([self.about, *lines])


class Comparison(NamedTuple):
    """Several models, trained in turn and concluded on together.

    Attributes:
      arms: the models by name; each has its own folder in the run's.
      conclude: `(members, states, histories, check_interrupts) -> Result`, the middle two by name of the arm.
    """

    arms: dict[str, Experiment]
    conclude: Callable[..., Result]


def steps_per_epoch(train: PyTree, batch_size: int) -> int:
    """Whole batches in the training data; UsageError where there is none."""
    num_examples = batch_size_of(train)
    if batch_size > num_examples:
        raise UsageError(f"--batch-size is {batch_size} and there are {num_examples} training examples; give fewer.")
    return num_examples // batch_size


def load(config: Config) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Training and test part of the data set that --data names; UsageError where there is none."""
    try:
        train, test = (
            datasets.load(config.data, split=split, directory=config.data_dir) for split in ("train", "test")
        )
    except ValueError as error:
        raise UsageError(f"--data: {error}") from error
    shapes = train.images.shape[1:], test.images.shape[1:]
    if shapes[0] != shapes[1]:
        raise UsageError(f"--data: images are {shapes[0]} for training and {shapes[1]} for test; make them the same.")
    if len(test.images) < 2:
        raise UsageError("--data: there is one test image; variances over the test set need at least 2.")
    return train, test


def main(config_type: type[Config], make_experiment: Callable[[Any], Experiment | Comparison]) -> None:
    """The command line: parses, runs, answers a user's mistake in one line (exit status 2; 1 where the run failed)."""
    module = importlib.import_module(make_experiment.__module__)
    name = Path(module.__file__).stem
    parse = partial(tyro.cli, config_type, prog=f"python -m experiments.{name}", description=module.__doc__)
    config = parse()
    try:
        run(name, config, make_experiment, lambda defaults: parse(default=defaults))
    except (UsageError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except OSError as error:
        reason = f"{error.filename or 'a file'}: {error.strerror or error}"
        print(f"error: {reason}; mend that and continue with --resume", file=sys.stderr)
        sys.exit(1)
    except Interrupted as interrupted:
        sys.exit(interrupted.exit_status)


def run(
    name: str,
    config: Any,
    make_experiment: Callable[[Any], Experiment | Comparison],
    parse: Callable[[Any], Any] | None = None,
) -> dict:
    """Trains, evaluates and draws an experiment, or finishes one that was interrupted. Returns its summary.

    `parse` reads the command line again over other defaults (see `folder.find`); None where there is no command line.
    """
    started = time.perf_counter()
    _check(config)
    path, config = folder.find(name, config, parse)
    arms, conclude = _as_comparison(make_experiment(config))
    members = Members(config.seed, config.num_seeds)
    data_checksum = next(iter(arms.values())).data_checksum
    folder.check_data(path, data_checksum)
    path = folder.create(path, name, config)
    print(f"run folder: {path}", flush=True)
    write_manifest = partial(folder.write_manifest, path, seeds=members.seeds, data_checksum=data_checksum)
    write_manifest(params_digest=None)
    try:
        with interrupts.requests() as check_interrupts:
            states = {
                arm: train(path / arm, config, experiment, members, check_interrupts, arm or "training")
                for arm, experiment in arms.items()
            }
            history = {arm: folder.read_metrics(path / arm) for arm in arms}
            result = conclude(members, states, history, check_interrupts)
    except Interrupted:
        saved = all(checkpoints.latest(path / arm / "checkpoints") is not None for arm in arms)
        print(
            f"\n{'saved; ' if saved else ''}continue with: python -m experiments.{name} --resume --out {path}",
            file=sys.stderr,
        )
        raise
    training_seconds = sum(row["seconds"] for rows in history.values() for row in rows)
    summary = {"experiment": name, "data": config.data, "epochs": config.epochs, "seeds": members.seeds}
    summary |= result.summary | {"training_seconds": round(training_seconds, 2)}
    folder.write_json(path / "summary.json", summary)
    write_manifest(params_digest=checkpoints.digest({arm: state.params for arm, state in states.items()}))
    figures = result.figures()
    folder.write_figures(path, figures)
    report.write(path, sys.modules[make_experiment.__module__].__doc__, result, list(figures))

    print("\n" + result.table() + "\n")
    print(f"in {path}: report.html, summary.json, manifest.json, and figures/")
    for arm in arms:
        print(f"in {path / arm}: metrics.jsonl, checkpoints/")
    for figure in figures:
        print(f"  figures/{figure}.png")
    print(f"done in {time.perf_counter() - started:.0f} s, of which training {training_seconds:.0f} s")
    return summary


def train(
    path: Path,
    config: Any,
    experiment: Experiment,
    members: Members,
    check_interrupts: Callable[[], None],
    description: str,
) -> TrainState:
    """The loop: an epoch, a line of metrics, a checkpoint; from the last checkpoint where there is one."""
    step = vaejax.make_train_step(experiment.loss_fn, experiment.optimizer)
    epoch = jax.jit(members.lift(vaejax.make_train_epoch(step, experiment.batch_size)), donate_argnums=0)
    init = members.lift(partial(vaejax.init_train_state, experiment.vae, experiment.optimizer))
    states = jax.jit(init)(members.keys, experiment.example)
    if checkpoints.latest(path / "checkpoints") is not None:
        try:
            states = checkpoints.restore(path / "checkpoints", states)
        except ValueError as error:
            raise RunError(f"{error} To start afresh, give another --out.") from error
    done = int(members.first(states.step)) // experiment.steps_per_epoch
    path.mkdir(exist_ok=True)
    folder.cut_metrics(path, done)

    num_parameters = sum(leaf.size for leaf in jax.tree.leaves(members.first(states.params)))
    num_examples = experiment.steps_per_epoch * experiment.batch_size
    print(
        f"{num_parameters:,} parameters, {num_examples:,} examples an epoch, {members.describe()}, "
        f"{config.epochs} epochs{f' ({done} done)' if done else ''}, on {jax.devices()[0].device_kind}"
    )
    data, test_elbo = jax.device_put(experiment.train), evaluation.make_test_elbo(experiment, members)
    # Compiled beforehand, so that the seconds of the first epoch are an epoch's.
    epoch = epoch.lower(states, data).compile()
    with tqdm(total=config.epochs, initial=done, unit="epoch", dynamic_ncols=True, desc=description) as progress:
        for number in range(done + 1, config.epochs + 1):
            started = time.perf_counter()
            states, metrics = epoch(states, data)
            metrics = jax.device_get(metrics)
            seconds = time.perf_counter() - started
            row = {"epoch": number, "step": number * experiment.steps_per_epoch, "seconds": round(seconds, 3)}
            row |= {"train": _means(members, metrics.loss, metrics.terms), "test": test_elbo(states)}
            _check_finite(row, members, path)
            folder.append_metrics(path, row)
            checkpoints.save(path / "checkpoints", states, step=row["step"])
            check_interrupts()
            progress.update()
            progress.set_postfix_str(
                f"train {np.mean(row['train']['loss']):.2f}, test {np.mean(row['test']['negative_elbo']):.2f} nats, "
                f"{num_examples * len(members.seeds) / seconds:,.0f} images/s"
            )
    return states


def _means(members: Members, loss: np.ndarray, terms: Any) -> dict[str, list[float]]:
    """Means over an epoch's steps, one for each member; of the terms, those that are one number a step."""
    series = {"loss": loss}
    for place, term in jax.tree.leaves_with_path(terms):
        if np.ndim(term) == np.ndim(loss):
            series[jax.tree_util.keystr(place, simple=True, separator="/")] = term
    return {name: np.mean(members.stack(term), axis=1).tolist() for name, term in series.items()}


def _as_comparison(experiment: Experiment | Comparison) -> Comparison:
    """One model as a comparison of one, whose folder is the run's own."""
    if isinstance(experiment, Comparison):
        return experiment

    def conclude(members: Members, states: dict, history: dict, check_interrupts: Callable[[], None]) -> Result:
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
    test = evaluation.evaluate(experiment, members, states, check_interrupts)
    num_test_examples = batch_size_of(experiment.test)
    first = members.first(states)
    return Result(
        summary={
            "binarization": experiment.binarization,
            "num_test_examples": num_test_examples,
            "units": "nats per example",
            "test": test,
        },
        headline=f"negative ELBO {test['negative_elbo']['mean']:.2f} nats",
        about=f"{num_test_examples:,} test examples, binarisation: {experiment.binarization}, {members.describe()}; "
        "nats per example",
        rows=evaluation.rows(test),
        figures=partial(experiment.figures, first.params, jax.random.fold_in(first.key, evaluation.FIGURES), history),
    )


def _check(config: Any) -> None:
    if config.seed + config.num_seeds > 2**31:
        raise UsageError(f"--seed is {config.seed}; seeds must stay below {2**31}.")
    for field in dataclasses.fields(config):
        value, flag = getattr(config, field.name), "--" + field.name.replace("_", "-")
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not math.isfinite(value) or value < 0 or (value == 0 and field.name != "seed"):
            raise UsageError(
                f"{flag} is {value}; give a {'non-negative' if field.name == 'seed' else 'positive'} number."
            )


def _check_finite(row: dict, members: Members, path: Path) -> None:
    for part, name in (("train", "loss"), ("test", "negative_elbo")):
        for seed, value in zip(members.seeds, row[part][name], strict=True):
            if not math.isfinite(value):
                raise RunError(
                    f"the {part} {name.replace('_', ' ')} of seed {seed} is {value} in epoch {row['epoch']}; try a "
                    f"smaller --learning-rate. What was trained until then is in {path}."
                )
