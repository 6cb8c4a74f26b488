"""Callbacks that run after every epoch: TensorBoard, and any function of the user's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.harness import distributed
from experiments.harness.config import Config
from experiments.harness.members import Members

OnEpoch = Callable[[dict[str, Any]], None]
"""A function of a line of metrics."""


def each_epoch(
    config: Config, path: Path, members: Members, on_epoch: OnEpoch | None
) -> OnEpoch:
    """Return one callback for all that --tensorboard and the caller ask for."""
    listeners = [tensorboard(path, members)] if config.tensorboard else []
    listeners += [on_epoch] if on_epoch else []

    def tell(row: dict[str, Any]) -> None:
        for listener in listeners:
            listener(row)

    return tell


def of_process(on_epoch: OnEpoch, *, by_all: bool = False) -> OnEpoch:
    """Return the callback of this process, which is silent in all but the first one."""
    return on_epoch if by_all else distributed.by_first(on_epoch)


def tensorboard(path: Path, members: Members) -> OnEpoch:
    """Return a callback that writes each line of metrics as TensorBoard scalars.

    It needs no TensorFlow. Each member is a TensorBoard run of its own.
    """
    from tensorboardX import SummaryWriter

    writers: list[SummaryWriter] = []

    @distributed.by_first
    def write(row: dict[str, Any]) -> None:
        if not writers:
            # Lines of a run that is resumed and were written before it was killed are
            # replaced.
            writers.extend(
                SummaryWriter(
                    str(path / "tensorboard" / members.name(index)),
                    purge_step=row["step"],
                )
                for index in range(members.num)
            )
        for part, numbers in row.items():
            if isinstance(numbers, Mapping):
                for name, values in numbers.items():
                    if any(isinstance(value, list) for value in values):
                        continue  # of each dimension: no scalar
                    for writer, value in zip(writers, values, strict=True):
                        writer.add_scalar(
                            f"{part}/{name}",
                            float("nan") if value is None else value,
                            row["step"],
                        )
        for writer in writers:
            writer.flush()

    return write
