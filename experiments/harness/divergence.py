"""Members whose loss is finite, and far above that of the untrained model.

A member counts as diverged where the training loss of its last epoch exceeds that of
the very first step by more than the magnitude of the latter, and by more than one nat
per value of an example. With early stopping it is the epoch with the smallest loss that
counts, since earlier parameters are evaluated then.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from experiments.harness.errors import RunError
from experiments.harness.job import Job

NAME = "untrained_loss"
"""The losses of the first step, one per member, in every line of metrics."""


def first_losses(losses: np.ndarray) -> list[float | None]:
    """Return the loss of each member's first step, None where it is not finite.

    Args:
      losses: the losses of the steps of the first epoch, `[members, steps]`.
    """
    return [float(loss) if np.isfinite(loss) else None for loss in losses[:, 0]]


def limit_of(untrained: float, num_values: int) -> float:
    """Return the loss above which a member has diverged.

    Args:
      untrained: the loss of its first step.
      num_values: the number of values of an example.
    """
    return untrained + max(abs(untrained), num_values)


def diverged(
    rows: Sequence[Mapping[str, Any]], num_values: int, *, stops_early: bool = False
) -> list[int]:
    """Return the numbers of the members that have diverged.

    Args:
      rows: the lines of metrics of the epochs; those of an older version, without the
        loss of the untrained model, judge nothing.
      num_values: the number of values of an example.
      stops_early: whether the parameters of an earlier epoch may be evaluated.
    """
    if not rows:
        return []
    found = []
    for member, untrained in enumerate(rows[-1].get(NAME) or []):
        judged = [row["train"]["loss"][member] for row in rows]
        judged = [loss for loss in judged if loss is not None]
        if untrained is None or not judged:
            continue
        loss = min(judged) if stops_early else judged[-1]
        if loss > limit_of(untrained, num_values):
            found.append(member)
    return found


def warn(job: Job, row: Mapping[str, Any]) -> None:
    """Say on stderr which members are diverging, after an epoch."""
    if found := diverged([row], _num_values(job)):
        print(
            f"\nwarning: epoch {row['epoch']}: {_described(job, row, found)}",
            file=sys.stderr,
        )


def check(job: Job, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of the members that have diverged once training has ended.

    They are named on stderr.

    Raises:
      RunError: every member has.
    """
    stops_early = job.config.patience is not None
    found = diverged(rows, _num_values(job), stops_early=stops_early)
    if not found:
        return found
    message = f"training has diverged: {_described(job, rows[-1], found)}"
    if len(found) == job.members.num:
        raise RunError(
            f"{message}; try a smaller --learning-rate, or --clip-norm. What was "
            f"trained is in {job.path}."
        )
    print(f"\n{message}; numbers leave them out", file=sys.stderr)
    return found


def _num_values(job: Job) -> int:
    return sum(np.size(leaf) for leaf in jax.tree.leaves(job.experiment.example))


def _described(job: Job, row: Mapping[str, Any], members: Sequence[int]) -> str:
    """The losses of the first of the members, now and at the start, with all names."""
    first = members[0]
    names = "; ".join(job.members.name(member) for member in members[:5])
    return (
        f"the training loss is {row['train']['loss'][first]:.4g}, and "
        f"{row[NAME][first]:.4g} untrained, for {names}"
    )
