"""The search: batches of trials, one after another, until there are enough.

trials.json is written after every epoch, before the states are: what a kill leaves is
cut back to the last checkpoint, and goes on from there with the same trials.
"""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from tqdm import tqdm

from experiments.harness import Config, Experiment, UsageError, run_dir
from experiments.harness.experiment import Comparison
from experiments.harness.job import streams
from experiments.harness.programs import Program
from experiments.tuning import trials as trials_module
from experiments.tuning.space import Space, own_settings, split
from experiments.tuning.training import Group, Trainer, make_trainer
from experiments.tuning.trials import RUNNING, Trial, best_of

FILE = "trials.json"


class Plan(NamedTuple):
    """A search before its first trial: everything that may be refused has been checked.

    Attributes:
      program: the program that is tuned.
      config: its options.
      space: what is searched.
      experiment: its model under these options.
      mesh: the devices that share each batch.
      trials: the number of trials.
      at_once: the number of trials in a batch.
      rungs: the epochs after which trials are judged.
      factor: one trial in so many goes on after a rung.
    """

    program: Program
    config: Config
    space: Space
    experiment: Experiment
    mesh: jax.sharding.Mesh
    trials: int
    at_once: int
    rungs: Sequence[int]
    factor: int


class Progress(NamedTuple):
    """The state of a search.

    Attributes:
      trials: the trials so far.
      seconds: the seconds of their training and validation.
    """

    trials: list[Trial]
    seconds: float


def make_experiment(program: Program, config: Config) -> Experiment:
    """Return the single model of a program.

    Raises:
      UsageError: the program trains several, holds out no validation data, or streams
        its training data.
    """
    found = program.make_experiment(config)
    if isinstance(found, Comparison):
        if len(found.arms) > 1 or found.settings:
            raise UsageError(
                f"{program.name} compares several models or settings; tune a program "
                "that trains a single one, such as mnist."
            )
        (found,) = found.arms.values()
    if found.validation is None:
        raise UsageError(
            f"{program.name} holds out no validation data, which decide between the "
            "trials; tune another program."
        )
    if streams(found):
        raise UsageError(
            "--data: images in .npy files are streamed, and a search keeps its "
            "training data on the device; give the images as an .npz."
        )
    return found


def read(path: Path) -> Progress:
    """Return how far the search in a folder is.

    Raises:
      UsageError: its file is damaged.
    """
    if not (path / FILE).exists():
        return Progress([], 0.0)
    saved = run_dir.read_json(path / FILE)
    try:
        return Progress([Trial(**one) for one in saved["trials"]], saved["seconds"])
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path / FILE} is damaged ({error}).") from error


def run(
    plan: Plan,
    path: Path,
    check_folder: Callable[[], None],
    check_interrupts: Callable[[], None],
) -> Progress:
    """Run the search from where the folder's last checkpoint left it.

    Args:
      plan: what is searched.
      path: the folder of the search.
      check_folder: called before anything is written.
      check_interrupts: called after every epoch is saved; it raises to end the search.
    """
    batches = _Batches(plan, path, check_folder, check_interrupts)
    with batches.bar:
        while batches.ask():
            batches.train()
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
    return Progress(batches.trials, batches.seconds)


class _Batches:
    """The trials so far, and what the programs of earlier batches leave for later."""

    def __init__(
        self,
        plan: Plan,
        path: Path,
        check_folder: Callable[[], None],
        check_interrupts: Callable[[], None],
    ):
        self.plan, self.path = plan, path
        self.check_folder, self.check_interrupts = check_folder, check_interrupts
        self.trials, self.seconds = read(path)
        mine = make_trainer(plan.config, plan.experiment, plan.mesh)
        self.trainers: dict[str, Trainer] = {"{}": mine}
        self.bar = tqdm(
            total=plan.trials * plan.config.epochs,
            unit="epoch",
            dynamic_ncols=True,
            desc=f"{plan.trials} trials",
        )
        self.show()

    def ask(self) -> bool:
        """Ask for the next batch unless one is running; return whether one is then."""
        plan, trials = self.plan, self.trials
        if any(trial.state == RUNNING for trial in trials):
            return True
        if len(trials) >= plan.trials:
            return False
        self.trials = trials + trials_module.ask(
            plan.space,
            trials,
            num=min(plan.at_once, plan.trials - len(trials)),
            seed=plan.config.seed,
            first=own_settings(plan.space, plan.config),
        )
        self.write()
        return True

    def train(self) -> None:
        """Train the trials of the running batch to their ends."""
        plan, epochs = self.plan, self.plan.config.epochs
        groups = self.groups()
        for rung in (*plan.rungs, epochs):
            for group in groups:
                group.keep({trial.number: trial for trial in self.trials})
                while group.trials and group.epoch < rung:
                    self.epoch(group)
            self.trials = (
                trials_module.judged(self.trials, rung, plan.factor)
                if rung < epochs
                else trials_module.finished(self.trials, epochs)
            )
            self.write()

    def epoch(self, group: Group) -> None:
        """Train a group for an epoch, and write what it has become."""
        started = time.perf_counter()
        self.replace(group.train())
        self.seconds += time.perf_counter() - started
        self.check_folder()
        self.write()
        group.save()
        self.check_interrupts()

    def groups(self) -> list[Group]:
        """Return the running batch by shapes, as the last checkpoints left it."""
        running = next(trial for trial in self.trials if trial.state == RUNNING)
        first = running.number // self.plan.at_once * self.plan.at_once
        batch = self.trials[first : first + self.plan.at_once]
        folder = self.path / "checkpoints" / f"trials-{first:04d}"
        for other in (self.path / "checkpoints").glob("trials-*"):
            if other != folder:
                shutil.rmtree(other)
        by_shapes: dict[str, list[Trial]] = {}
        for trial in batch:
            fixed, _ = split(trial.settings, self.plan.experiment.hyperparameters)
            by_shapes.setdefault(json.dumps(fixed), []).append(trial)
        # Those of another batch would only take memory.
        self.trainers = {
            shapes: self.trainers.get(shapes) or self.trainer(json.loads(shapes))
            for shapes in by_shapes
        }
        groups = []
        for shapes, members in by_shapes.items():
            path = folder / str(members[0].number)
            group = Group(self.trainers[shapes], path, members)
            group.restore()
            self.replace([_cut(trial, group.epoch) for trial in group.trials])
            groups.append(group)
        return groups

    def trainer(self, fixed: dict[str, Any]) -> Trainer:
        config = dataclasses.replace(self.plan.config, **fixed)
        experiment = make_experiment(self.plan.program, config)
        return make_trainer(config, experiment, self.plan.mesh)

    def replace(self, changed: Sequence[Trial]) -> None:
        by_number = {trial.number: trial for trial in changed}
        self.trials = [by_number.get(trial.number, trial) for trial in self.trials]

    def write(self) -> None:
        run_dir.write_json(
            self.path / FILE,
            {
                "trials": [dataclasses.asdict(trial) for trial in self.trials],
                "seconds": round(self.seconds, 3),
            },
        )
        self.show()

    def show(self) -> None:
        """Move the bar; the epochs that stopped trials need no more count as done."""
        epochs = self.plan.config.epochs
        self.bar.n = sum(
            len(trial.losses) if trial.state == RUNNING else epochs
            for trial in self.trials
        )
        stopped = sum(trial.state in trials_module.ENDED_EARLY for trial in self.trials)
        best = best_of(self.trials)
        words = [] if best is None else [f"best {best.value:.2f} (trial {best.number})"]
        self.bar.set_postfix_str(", ".join([*words, f"{stopped} stopped"]))


def _cut(trial: Trial, epochs: int) -> Trial:
    """A running trial with the losses of its checkpoint's epochs alone."""
    if trial.state != RUNNING:
        return trial
    return dataclasses.replace(trial, losses=trial.losses[:epochs])
