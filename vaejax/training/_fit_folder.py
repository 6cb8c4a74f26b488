"""The folder of a run of `fit`: checkpoints, and the records of its epochs.

The records are written before the checkpoint of their step, and cut to it when the run
goes on, so that a kill between the two changes nothing.
"""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vaejax import checkpoints
from vaejax.training._sources import num_examples
from vaejax.training._values import sample_of
from vaejax.training.records import EpochRecord, from_json, to_json
from vaejax.training.steps import TrainState

_FORMAT = 1
# Examples whose bytes tell one data set from another.
_NUM_DIGESTED = 64


class Folder(NamedTuple):
    """A folder, and what identifies the run in it."""

    path: Path
    about: dict[str, Any]

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def history(self) -> Path:
        return self.path / "history.json"


def folder_of(
    directory: str | Path, state: TrainState, data: Any, batch_size: int
) -> Folder:
    """Return the folder of a run."""
    about = {
        "format": _FORMAT,
        "key": f"{jax.random.key_impl(state.key)} {_bits(state)}",
        "batch_size": int(batch_size),
        "num_examples": num_examples(data),
        "data_digest": checkpoints.digest(sample_of(data, _NUM_DIGESTED)),
    }
    return Folder(Path(directory), about)


def _bits(state: TrainState) -> list[int]:
    return np.ravel(jax.random.key_data(state.key)).tolist()


def resume(
    folder: Folder, state: TrainState, last_step: int
) -> tuple[TrainState, list[EpochRecord]]:
    """Return the state of the last checkpoint, if it has more steps, and its records.

    Raises:
      ValueError: the folder holds another run, or one with more steps than the last.
    """
    history = _read_history(folder)
    latest = checkpoints.latest(folder.checkpoints)
    if latest is not None and history is None:
        raise ValueError(
            f"fit: {folder.path} has checkpoints and no {folder.history.name}, so "
            "that they are not those of fit; give another directory."
        )
    if latest is not None and latest > last_step:
        raise ValueError(
            f"fit: the run in {folder.path} has {latest} steps and this call ends "
            f"after {last_step}; give more epochs, or another directory."
        )
    if latest is not None and latest >= int(state.step):
        state = checkpoints.restore(folder.checkpoints, state)
    done = int(state.step)
    return state, [record for record in history or [] if record.step <= done]


def _read_history(folder: Folder) -> list[EpochRecord] | None:
    """Return the records, None where there are none; raise for those of another run."""
    if not folder.history.exists():
        return None
    try:
        about, history = from_json(folder.history.read_text())
    except ValueError as error:
        warnings.warn(
            f"fit: {folder.history} cannot be read ({error}); the run goes on from its "
            "checkpoint, without the records of the epochs before.",
            stacklevel=5,
        )
        return []
    for name, here in folder.about.items():
        there = about.get(name)
        if there != here:
            raise ValueError(
                f"fit: the run in {folder.path} has {name} {there} and this call has "
                f"{here}; give another directory, or what the run was started with."
            )
    return history


def save(folder: Folder, state: TrainState, history: list[EpochRecord]) -> None:
    """Write the records and the checkpoint of a state."""
    folder.path.mkdir(parents=True, exist_ok=True)
    checkpoints.write_atomically(folder.history, to_json(folder.about, history))
    checkpoints.save(folder.checkpoints, state, step=int(state.step))
