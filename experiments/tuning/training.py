"""The training of a batch of trials, all together where their shapes are the same.

A trial is one member of a program per seed. Trials that differ only in what the program
takes as an argument form a group; each group is one program, and between two rungs its
trials that have stopped are taken out, so that the program computes nothing for them.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import vaejax
from experiments.harness import Config, Experiment, evaluation
from experiments.harness.epoch_program import epoch_of_settings, make_init
from experiments.harness.job import Job
from experiments.harness.members import Members
from experiments.tuning.trials import RUNNING, Trial
from vaejax import checkpoints
from vaejax.base import PyTree
from vaejax.training import TrainState


class Programs(NamedTuple):
    """The compiled programs of a number of members.

    Attributes:
      epoch: `(states, swept, data) -> (states, metrics)`.
      losses: the validation loss of every member.
      at_once: the number of members that are trained at once.
    """

    epoch: Callable[..., tuple[TrainState, PyTree]]
    losses: Callable[[TrainState], list[float | None]]
    at_once: int


@dataclasses.dataclass(frozen=True)
class Trainer:
    """Model, data and compiled programs of all trials with the same shapes.

    Attributes:
      config: the options of the program, with the settings that shapes depend on.
      experiment: the model and its data.
      mesh: the devices that share each batch.
      data: the training data, on the devices.
      compiled: the programs that were needed so far, by the number of members.
      inits: those that make first states, likewise.
    """

    config: Config
    experiment: Experiment
    mesh: jax.sharding.Mesh
    data: PyTree
    compiled: dict[int, Programs] = dataclasses.field(default_factory=dict)
    inits: dict[int, Callable[..., TrainState]] = dataclasses.field(
        default_factory=dict
    )

    def job(self, trials: Sequence[Trial]) -> Job:
        """Return the job of training some trials together."""
        varied = {
            str(trial.number): {
                name: value
                for name, value in trial.settings.items()
                if name in self.experiment.hyperparameters
            }
            for trial in trials
        }
        members = Members(self.config.seed, self.config.num_seeds, named=varied)
        return Job(Path(), self.config, self.experiment, members, self.mesh, "")

    def init(self, job: Job) -> TrainState:
        """Return the first states of a job."""
        num = job.members.num
        if num not in self.inits:
            self.inits[num] = make_init(job)
        return self.inits[num](job.members.keys, self.experiment.example)

    def programs(self, job: Job, states: TrainState) -> Programs:
        """Return the compiled programs of as many members as a job has."""
        num = job.members.num
        if num not in self.compiled:
            epoch, at_once = epoch_of_settings(job, states, self.data, job.replicated)
            measure = evaluation.make_mean_elbo(
                self.experiment, self.experiment.validation, job.members, at_once
            )
            self.compiled[num] = Programs(
                epoch, lambda states: measure(states)["negative_elbo"], at_once
            )
        return self.compiled[num]


def make_trainer(
    config: Config, experiment: Experiment, mesh: jax.sharding.Mesh
) -> Trainer:
    """Return the trainer of an experiment, its data placed on the devices."""
    everywhere = vaejax.training.replicated_sharding(mesh)
    data = vaejax.training.place_on_devices(experiment.train, everywhere)
    return Trainer(config, experiment, mesh, data)


@dataclasses.dataclass
class Group:
    """Trials that are trained together, and how far they are.

    Attributes:
      trainer: what they are trained with.
      path: the folder of their checkpoints.
      trials: the trials that the states are of.
      states: their states, with an axis of members where there are several; None
        before the first epoch.
      epoch: the epochs that they have had.
    """

    trainer: Trainer
    path: Path
    trials: list[Trial]
    states: TrainState | None = None
    epoch: int = 0

    def restore(self) -> None:
        """Take the states of the last checkpoint, where there is one."""
        if checkpoints.latest(self.path) is None:
            return
        saved = checkpoints.read_metadata(self.path)
        by_number = {trial.number: trial for trial in self.trials}
        self.trials = [by_number[number] for number in saved["trials"]]
        job = self.trainer.job(self.trials)
        like = jax.eval_shape(lambda: self.trainer.init(job))
        self.states = checkpoints.restore(self.path, like)
        self.epoch = saved["epoch"]

    def keep(self, trials: Mapping[int, Trial]) -> None:
        """Drop the trials that are not running, and their states."""
        places = [
            place
            for place, trial in enumerate(self.trials)
            if trials[trial.number].state == RUNNING
        ]
        kept = [trials[self.trials[place].number] for place in places]
        if kept and len(kept) < len(self.trials) and self.states is not None:
            job, others = self.trainer.job(self.trials), self.trainer.job(kept)
            self.states = _taken(self.states, job.members, others.members, places)
        self.trials = kept

    def train(self) -> list[Trial]:
        """Train all trials for an epoch; return them with its losses."""
        job = self.trainer.job(self.trials)
        if self.states is None:
            self.states = self.trainer.init(job)
        programs = self.trainer.programs(job, self.states)
        place = partial(vaejax.training.place_on_devices, shardings=job.replicated)
        # Of members that wait for their turn, the program takes some at a time.
        if programs.at_once == job.members.num:
            self.states = place(self.states)
        self.states, _ = programs.epoch(
            self.states, place(job.members.hyperparameters), self.trainer.data
        )
        self.epoch += 1
        losses = programs.losses(
            vaejax.training.averaged_state(
                vaejax.training.gather_from_devices(self.states, job.mesh)
            )
        )
        self.trials = [
            dataclasses.replace(
                trial,
                losses=[
                    *trial.losses[: self.epoch - 1],
                    job.members.of_setting(losses, index),
                ],
            )
            for index, trial in enumerate(self.trials)
        ]
        return self.trials

    def save(self) -> None:
        """Write a checkpoint, which `restore` goes on from."""
        numbers = [trial.number for trial in self.trials]
        checkpoints.save(
            self.path,
            self.states,
            step=self.epoch,
            metadata={"trials": numbers, "epoch": self.epoch},
        )


def _taken(
    states: TrainState, before: Members, after: Members, places: Sequence[int]
) -> TrainState:
    """The states of the trials at some places among others."""
    seeds = np.arange(before.num_seeds)
    members = np.concatenate([place * before.num_seeds + seeds for place in places])
    taken = jax.tree.map(lambda leaf: leaf[members], before.stack(states))
    return jax.tree.map(lambda leaf: leaf[0], taken) if after.num == 1 else taken
