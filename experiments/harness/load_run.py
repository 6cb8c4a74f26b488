"""Load the trained model of a run folder."""

import dataclasses
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.harness import loop, manifest, run, run_dir
from experiments.harness.config import Config
from experiments.harness.data_sets import load_images
from experiments.harness.errors import RunError, UsageError
from experiments.harness.experiment import Experiment
from experiments.harness.job import Job, make_mesh
from experiments.harness.programs import Program, load_program
from vaejax.training import TrainState


class LoadedRun(NamedTuple):
    """One trained model.

    Attributes:
      name: the name of its program.
      config: the options of its run.
      experiment: the model and its data.
      state: the state of the member, with the parameters to evaluate.
      description: words that tell the model from others of the run, for a title.
      labels: labels of the test examples, `[examples]`, or None where they have none.
    """

    name: str
    config: Config
    experiment: Experiment
    state: TrainState
    description: str
    labels: np.ndarray | None


def load_run(path: str | Path, *, arm: str | None = None, member: int = 0) -> LoadedRun:
    """Load one trained model from a run folder.

    Args:
      path: the folder.
      arm: the name of one of the models that the run compares; the first by default.
      member: the number of one of its seeds (and settings, setting after setting),
        from 0.

    Returns:
      The model with its data and its state.

    Raises:
      UsageError: the folder holds no run of this version, or not that arm or member, or
        the data have changed.
      RunError: its checkpoint is missing or damaged.
    """
    path = Path(path)
    program = _program_of(path)
    try:
        return _load(program, path, arm, member)
    except (UsageError, RunError) as error:
        raise type(error)(f"{path} cannot be looked at: {error}") from error


def _load(program: Program, path: Path, arm: str | None, member: int) -> LoadedRun:
    own = dataclasses.replace(program.config_type(), resume=True, out=path)
    config = run_dir.saved_config(program.name, own)
    comparison = run.as_comparison(program.make_experiment(config))
    arms = comparison.arms
    if arm is not None and arm not in arms:
        raise UsageError(f"--arm is {arm!r}; {path} has {', '.join(map(repr, arms))}.")
    arm = next(iter(arms)) if arm is None else arm
    experiment, members = arms[arm], run.members_of(config, comparison)
    if not 0 <= member < members.num:
        raise UsageError(
            f"--member is {member}; {path} has {members.num}, numbered from 0."
        )
    manifest.check_data(path, experiment.data_checksum)
    mesh = make_mesh(1, experiment.batch_size)
    states = loop.load_states(Job(path / arm, config, experiment, members, mesh, arm))
    description = ", ".join(filter(None, [program.name, arm, members.name(member)]))
    return LoadedRun(
        program.name,
        config,
        experiment,
        members.member(states, member),
        description,
        _labels(config, experiment),
    )


def _program_of(path: Path) -> Program:
    file = path / "config.json"
    if not file.exists():
        raise UsageError(
            f"{path} holds no run (no config.json); give the folder of one, such as "
            "runs/mnist-0001."
        )
    try:
        name = str(json.loads(file.read_text())["experiment"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{file} is damaged ({error}); train the model again."
        ) from error
    try:
        return load_program(name)
    except LookupError as error:
        raise UsageError(
            f"{file} names the experiment {name!r}, which this version does not have."
        ) from error


def _labels(config: Config, experiment: Experiment) -> np.ndarray | None:
    """Labels of the test images; other data come without."""
    try:
        _, test = load_images(config)
    except UsageError:
        return None
    is_same = (
        test.labels is not None
        and test.labels.ndim == 1
        and len(test.labels) == experiment.num_test_examples
    )
    return test.labels if is_same else None
