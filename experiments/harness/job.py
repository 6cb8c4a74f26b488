"""One model to train: its data, its members, and the devices that it trains on."""

from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

import vaejax
from experiments.harness.config import Config
from experiments.harness.errors import UsageError
from experiments.harness.experiment import Experiment
from experiments.harness.members import Members


class Job(NamedTuple):
    """One model to train.

    Attributes:
      path: the folder of its metrics and checkpoints.
      config: the options of the run.
      experiment: the model, its recipe and data.
      members: the seeds and settings.
      mesh: the devices that share each batch.
      description: label of the progress bar.
    """

    path: Path
    config: Config
    experiment: Experiment
    members: Members
    mesh: jax.sharding.Mesh
    description: str

    @property
    def replicated(self) -> jax.sharding.Sharding:
        return vaejax.training.replicated_sharding(self.mesh)


def make_mesh(num_devices: int | None, batch_size: int) -> jax.sharding.Mesh:
    """Return the devices that share each batch.

    Raises:
      UsageError: there are not as many, or they cannot share it.
    """
    try:
        mesh = vaejax.training.make_mesh(num_devices=num_devices)
    except ValueError as error:
        raise UsageError(f"--num-devices: {error}") from error
    if jax.process_count() > 1 and mesh.size < jax.device_count():
        raise UsageError(
            f"--num-devices is {num_devices} and the {jax.process_count()} processes "
            f"have {jax.device_count()} "
            "devices; several processes use all of theirs: leave it out."
        )
    if batch_size % mesh.size:
        raise UsageError(
            f"--batch-size is {batch_size} and cannot be shared by {mesh.size} "
            "devices; give a multiple, or another "
            "--num-devices."
        )
    return mesh


def streams(experiment: Experiment) -> bool:
    """Return whether the training data stay in a file and are read when needed."""
    return any(
        isinstance(leaf, np.memmap) for leaf in jax.tree.leaves(experiment.train)
    )
