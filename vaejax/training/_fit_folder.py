"""The directory of a run of `fit`: checkpoints, with the records of the run in them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vaejax import checkpoints
from vaejax.training._sources import num_examples
from vaejax.training._values import sample_of
from vaejax.training.records import EpochRecord, from_metadata, to_metadata
from vaejax.training.steps import TrainState

_FORMAT = 1
# Examples whose bytes tell one data set from another.
_NUM_DIGESTED = 64


class Folder(NamedTuple):
    """A directory, and what identifies the run in it."""

    path: Path
    about: dict[str, Any]


def folder_of(
    directory: str | Path, state: TrainState, data: Any, batch_size: int
) -> Folder:
    """Return the directory of a run."""
    bits = np.ravel(jax.random.key_data(state.key)).tolist()
    about = {
        "format": _FORMAT,
        "key": f"{jax.random.key_impl(state.key)} {bits}",
        "batch_size": int(batch_size),
        "num_examples": num_examples(data),
        "data_digest": checkpoints.digest(sample_of(data, _NUM_DIGESTED)),
    }
    return Folder(Path(directory), about)


def resume(
    folder: Folder, state: TrainState, last_step: int
) -> tuple[TrainState, list[EpochRecord]]:
    """Return the state of the last checkpoint, if it has more steps, and its records.

    Raises:
      ValueError: the directory holds another run, or one with more steps than the last.
    """
    latest = checkpoints.latest(folder.path)
    if latest is None:
        return state, []
    metadata = checkpoints.read_metadata(folder.path)
    _check_same(folder, metadata.get("fit"))
    if latest > last_step:
        raise ValueError(
            f"fit: the run in {folder.path} has {latest} steps and this call ends "
            f"after {last_step}; give more epochs, or another directory."
        )
    if latest >= int(state.step):
        state = checkpoints.restore(folder.path, state)
    done, history = int(state.step), from_metadata(metadata["records"])
    return state, [record for record in history if record.step <= done]


def _check_same(folder: Folder, about: Any) -> None:
    if not isinstance(about, dict):
        raise ValueError(
            f"fit: the checkpoints in {folder.path} are not those of fit; give another "
            "directory."
        )
    for name, here in folder.about.items():
        there = about.get(name)
        if there != here and name == "data_digest":
            raise ValueError(
                f"fit: the run in {folder.path} was trained on other values; give "
                "another directory, or the data that the run was started with."
            )
        if there != here:
            raise ValueError(
                f"fit: the run in {folder.path} has {name} {there} and this call has "
                f"{here}; give another directory, or what the run was started with."
            )


def save(folder: Folder, state: TrainState, history: list[EpochRecord]) -> None:
    """Write the checkpoint of a state, with the records of the run so far."""
    metadata = {"fit": folder.about, "records": to_metadata(history)}
    with _later_interrupts():
        checkpoints.save(folder.path, state, step=int(state.step), metadata=metadata)


@contextmanager
def _later_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back to the end: amid a write it becomes an error of the writer."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    received: list[int] = []
    previous = signal.signal(signal.SIGINT, lambda number, _: received.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if received:
            signal.raise_signal(signal.SIGINT)
