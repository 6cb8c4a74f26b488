"""The models of a run whose data are gone: built on stand-ins of the same shape."""

import dataclasses
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.harness import run_dir
from experiments.harness.config import Config
from experiments.harness.errors import RunError, UsageError
from experiments.harness.experiment import Comparison, Experiment, as_comparison
from experiments.harness.programs import Program
from vaejax import checkpoints

SCHEMA = "schema.json"


def shapes_of(experiment: Experiment) -> dict[str, Any] | None:
    """Return shape and dtype of an example, where it is a single array."""
    leaves = jax.tree.leaves(experiment.train)
    if len(leaves) != 1 or not hasattr(leaves[0], "dtype"):
        return None
    return {"shape": list(leaves[0].shape[1:]), "dtype": str(leaves[0].dtype)}


def comparison(program: Program, path: Path, config: Config) -> Comparison:
    """Return the models of a run, with stand-ins for their data.

    Raises:
      UsageError: the program, or a run of this kind, cannot do without its data.
    """
    saved = _metadata(path)
    if program.without_data is not None:
        schema = run_dir.read_json(path / SCHEMA)
        found = as_comparison(program.without_data(config, schema))
    else:
        found = _on_stand_ins(program, config, saved.get("example"))
    # The checksum is that of the data that the checkpoint was trained on.
    arms = {
        arm: one._replace(data_checksum=saved["data_sha256"])
        for arm, one in found.arms.items()
    }
    return found._replace(arms=arms)


def _on_stand_ins(
    program: Program, config: Config, example: dict[str, Any] | None
) -> Comparison:
    needs = f"{program.name} cannot build its model without them."
    if example is None:
        raise UsageError(needs)
    batch = getattr(config, "batch_size", 1)
    train = _array(batch + config.num_validation, example)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "data.npz")
        np.savez(file, train_images=train, test_images=train[:2])
        try:
            own = dataclasses.replace(config, data=str(file), data_dir=None)
            return as_comparison(program.make_experiment(own))
        except (UsageError, ValueError, TypeError, IndexError) as error:
            raise UsageError(needs) from error


def _array(num: int, example: dict[str, Any]) -> np.ndarray:
    """Examples that alternate between the ends of the range of pixels."""
    dtype = np.dtype(example["dtype"])
    array = np.zeros((max(num, 2), *example["shape"]), dtype)
    array[1::2] = 255 if dtype == np.uint8 else 1
    return array


def _metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of the first checkpoint of a run."""
    folders = [path / "checkpoints", *sorted(path.glob("*/checkpoints"))]
    for folder in folders:
        if checkpoints.latest(folder) is not None:
            try:
                return checkpoints.read_metadata(folder)
            except ValueError as error:
                raise RunError(str(error)) from error
    raise RunError(f"{path} has no checkpoint yet: its first epoch has not ended.")
