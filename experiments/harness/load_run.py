"""The model of a run's folder, for what is done with it afterwards."""

import dataclasses
import importlib
import json
import pkgutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import experiments
from experiments.harness import loop, run, run_dir
from experiments.harness.errors import RunError, UsageError
from experiments.harness.experiment import Experiment
from vaejax.base import batch_size_of
from vaejax.training import TrainState


class Restored(NamedTuple):
    """One trained model.

    Attributes:
      name: of its experiment.
      config: the options of its run.
      experiment: the model, and its data.
      state: of the member, with the parameters to evaluate.
      description: which model it is, for a title.
      labels: of the test examples, `[examples]`, or None where they have none.
    """

    name: str
    config: Any
    experiment: Experiment
    state: TrainState
    description: str
    labels: np.ndarray | None


def restore(path: Path, *, arm: str | None = None, member: int = 0) -> Restored:
    """The model that a run's folder holds.

    Args:
      path: of the folder.
      arm: which of the models that the run compares; the first by default.
      member: which of its seeds (and settings, setting after setting), from 0.

    Raises:
      UsageError: the folder holds no run of this version, or not that arm or member, or
        the data have changed.
      RunError: its checkpoint is missing or damaged.
    """
    name = _experiment_of(path)
    try:
        return _restore(name, path, arm, member)
    except (UsageError, RunError) as error:
        raise type(error)(f"{path} cannot be looked at: {error}") from error


def _restore(name: str, path: Path, arm: str | None, member: int) -> Restored:
    module = importlib.import_module(f"experiments.{name}")
    options = dataclasses.replace(module.Config(), resume=True, out=path)
    _, config = run_dir.find(name, options, lambda defaults: defaults)
    arms, _, settings = run.as_comparison(module.make_experiment(config))
    if arm is not None and arm not in arms:
        raise UsageError(f"--arm is {arm!r}; {path} has {', '.join(map(repr, arms))}.")
    arm = next(iter(arms)) if arm is None else arm
    experiment, members = arms[arm], run.members_of(config, arms, settings)
    if not 0 <= member < members.num:
        raise UsageError(
            f"--member is {member}; {path} has {members.num}, numbered from 0."
        )
    run_dir.check_data(path, experiment.data_checksum)
    mesh = loop.make_mesh(1, experiment.batch_size)
    states = loop.restore(loop.Job(path / arm, config, experiment, members, mesh, arm))
    description = ", ".join(filter(None, [name, arm, members.name(member)]))
    return Restored(
        name,
        config,
        experiment,
        members.member(states, member),
        description,
        _labels(config, experiment),
    )


def _experiment_of(path: Path) -> str:
    file = path / "config.json"
    if not file.exists():
        raise UsageError(
            f"{path} holds no run (no config.json); give the folder of one, such as "
            "runs/mnist-0001."
        )
    try:
        name = str(json.loads(file.read_text())["experiment"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{file} is damaged ({error}); train the model afresh."
        ) from error
    # A name from a file decides what is imported: only the programs of this package
    # that train.
    known = {module.name for module in pkgutil.iter_modules(experiments.__path__)}
    if name not in known or not hasattr(
        importlib.import_module(f"experiments.{name}"), "make_experiment"
    ):
        raise UsageError(
            f"{file} names the experiment {name!r}, which this version does not have."
        )
    return name


def _labels(config: Any, experiment: Experiment) -> np.ndarray | None:
    """Of sets of images; other data come without."""
    try:
        _, test = run.load(config)
    except UsageError:
        return None
    is_same = (
        test.labels is not None
        and test.labels.ndim == 1
        and len(test.labels) == batch_size_of(experiment.test)
    )
    return test.labels if is_same else None
