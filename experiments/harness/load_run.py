"""Load the trained model of a run folder, with or without its data."""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import vaejax
from experiments.harness import loop, manifest, run, run_dir, stand_in
from experiments.harness.config import Config
from experiments.harness.data_sets import load_images
from experiments.harness.errors import RunError, UsageError
from experiments.harness.experiment import (
    Comparison,
    Experiment,
    Rows,
    as_comparison,
)
from experiments.harness.job import Job, make_mesh
from experiments.harness.programs import Program, load_program
from vaejax.base import VAE, Params
from vaejax.training import TrainState

# Rows that are encoded or decoded together.
ROWS_AT_ONCE = 1000


class LoadedRun(NamedTuple):
    """One trained model.

    Attributes:
      name: the name of its program.
      config: the options of its run.
      experiment: the model and its data; None where the data were not loaded.
      state: the state of the member, with the parameters to evaluate.
      description: words that tell the model from others of the run, for a title.
      labels: labels of the test examples, `[examples]`, or None where they have none.
      vae: the model.
      rows: how rows of the user's file become examples; None but for `own_data`.
      missing: why the data were not loaded; empty where they were.
    """

    name: str
    config: Config
    experiment: Experiment | None
    state: TrainState
    description: str
    labels: np.ndarray | None
    vae: VAE
    rows: Rows | None = None
    missing: str = ""

    @property
    def params(self) -> Params:
        """The parameters to evaluate."""
        return self.state.params

    @property
    def schema(self) -> Any:
        """The columns of the file that the model was trained on, or its units."""
        return self._require_rows().schema

    def require_data(self) -> Experiment:
        """Return the experiment with its data; UsageError where they are missing."""
        if self.experiment is None:
            raise UsageError(
                f"the data of the run are needed here and are not there: {self.missing}"
            )
        return self.experiment

    def encode_rows(self, frame: Any) -> np.ndarray:
        """Return the codes of new rows, the points that stand for q(z|x).

        Args:
          frame: rows in the units of the file, with its columns by name: a path, a
            DataFrame, or a dict of columns; for a run on arrays, an array
            `[rows, ...]`.

        Returns:
          Codes, `[rows, latent_size]`.
        """
        examples = self._require_rows().examples_of(frame)
        return in_batches(
            jax.jit(lambda params, xs: vaejax.embed(self.vae, params, xs)),
            self.params,
            examples,
        )

    def decode_rows(self, z: Any) -> Any:
        """Return the rows that codes stand for, in the units of the file.

        Args:
          z: codes, `[rows, latent_size]`, such as those of `encode_rows`.

        Returns:
          Columns by name, with classes as their strings; for a run on arrays, an array.
        """
        rows, vae = self._require_rows(), self.vae
        codes = np.asarray(z, np.float32)
        if codes.ndim != 2:
            raise UsageError(
                f"decode_rows: z has shape {codes.shape}; give [rows, latent_size]."
            )
        decode = jax.jit(
            jax.vmap(
                lambda params, code: rows.point(None, vae.decode(params, code)),
                in_axes=(None, 0),
            )
        )
        return rows.rows_of(in_batches(decode, self.params, codes))

    def _require_rows(self) -> Rows:
        if self.rows is None:
            raise UsageError(
                f"{self.name} keeps no schema of its file, which own_data does; encode "
                "arrays with vaejax.embed(run.vae, run.params, xs)."
            )
        return self.rows


def load_run(
    path: str | Path,
    *,
    arm: str | None = None,
    member: int = 0,
    with_data: bool = True,
) -> LoadedRun:
    """Load one trained model from a run folder, from any working directory.

    Args:
      path: the folder.
      arm: the name of one of the models that the run compares; the first by default.
      member: the number of one of its seeds (and settings, setting after setting),
        from 0.
      with_data: whether to load the data too. Where they are gone or have changed, the
        model comes without them, and `missing` says why.

    Returns:
      The model with its state, and with its data where they are there.

    Raises:
      UsageError: the folder holds no run of this version, or not that arm or member; or
        the program cannot build its model without the data, which are missing.
      RunError: its checkpoint is missing or damaged.
    """
    path = Path(os.path.expanduser(path)).absolute()
    program = _program_of(path)
    try:
        return _load(program, path, arm, member, with_data)
    except (UsageError, RunError) as error:
        raise type(error)(f"{path} cannot be looked at: {error}") from error


def in_batches(function: Any, params: Params, xs: Any) -> np.ndarray:
    """Return `function(params, xs)` of examples `[num, ...]`, computed in parts."""
    num = len(jax.tree.leaves(xs)[0])
    firsts = range(0, max(num, 1), ROWS_AT_ONCE)
    parts = [
        [leaf[first : first + ROWS_AT_ONCE] for leaf in jax.tree.leaves(xs)]
        for first in firsts
    ]
    structure = jax.tree.structure(xs)
    return np.concatenate(
        [
            jax.device_get(function(params, jax.tree.unflatten(structure, part)))
            for part in parts
        ]
    )


def _load(
    program: Program, path: Path, arm: str | None, member: int, with_data: bool
) -> LoadedRun:
    own = dataclasses.replace(program.config_type(), resume=True, out=path)
    config = run_dir.saved_config(program.name, own)
    comparison, missing = _comparison(program, path, config, with_data)
    arms = comparison.arms
    if arm is not None and arm not in arms:
        raise UsageError(f"--arm is {arm!r}; {path} has {', '.join(map(repr, arms))}.")
    arm = next(iter(arms)) if arm is None else arm
    experiment, members = arms[arm], run.members_of(config, comparison)
    if not 0 <= member < members.num:
        raise UsageError(
            f"--member is {member}; {path} has {members.num}, numbered from 0."
        )
    mesh = make_mesh(1, experiment.batch_size)
    states = loop.load_states(Job(path / arm, config, experiment, members, mesh, arm))
    description = ", ".join(filter(None, [program.name, arm, members.name(member)]))
    return LoadedRun(
        program.name,
        config,
        None if missing else experiment,
        members.member(states, member),
        description,
        None if missing else _labels(config, experiment),
        experiment.vae,
        experiment.rows,
        missing,
    )


def _comparison(
    program: Program, path: Path, config: Config, with_data: bool
) -> tuple[Comparison, str]:
    """The models of a run, and why their data are stand-ins, if they are."""
    if not with_data:
        return stand_in.comparison(program, path, config), "they were not asked for."
    try:
        comparison = as_comparison(program.make_experiment(config))
        first = next(iter(comparison.arms.values()))
        manifest.check_data(path, first.data_checksum)
        return comparison, ""
    except (UsageError, OSError) as error:
        try:
            return stand_in.comparison(program, path, config), str(error)
        except UsageError as other:
            raise UsageError(f"{error} {other}") from error


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
