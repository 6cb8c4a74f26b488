"""One record for each epoch that `fit` trains, and as a checkpoint holds them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from vaejax.base import PyTree


class EpochRecord(NamedTuple):
    """Numbers of one epoch, of plain Python types.

    Attributes:
      epoch: The number of the epoch, from 1: the steps so far over those of an epoch.
      step: The number of steps after it, `TrainState.step`.
      loss: The mean training loss over the epoch's finite steps; NaN without any.
      terms: The means of the loss's terms by their path, `{"kl": 25.1}`; lists for
        terms of several numbers.
      validation_loss: The loss on the validation data after the epoch, None without
        them.
      skipped_steps: The number of steps that were not finite and changed nothing.
      seconds: The time of the epoch; that of the first includes compilation.

    Example:
      >>> from vaejax.training import EpochRecord
      >>> record = EpochRecord(1, 100, 150.2, {"kl": 20.1}, 140.3, 0, 0.5)
      >>> record.terms["kl"], record.skipped_steps
      (20.1, 0)
    """

    epoch: int
    step: int
    loss: float
    terms: dict[str, Any]
    validation_loss: float | None
    skipped_steps: int
    seconds: float


def mean_of_finite(steps: Any) -> Any:
    """Return the mean over steps that are finite, a number or nested lists of them."""
    steps = np.asarray(steps, np.float64)
    finite = np.isfinite(steps)
    with np.errstate(invalid="ignore"):
        mean = np.where(finite, steps, 0).sum(axis=0) / finite.sum(axis=0)
    return mean.tolist()


def means_of_terms(terms: PyTree) -> dict[str, Any]:
    """Return means over an epoch's steps of all terms, by their path.

    A term of one number in an axis of its own is left out: it repeats another.
    """
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): mean_of_finite(leaf)
        for path, leaf in jax.tree.leaves_with_path(terms)
        if np.issubdtype(np.asarray(leaf).dtype, np.number)
        and (np.ndim(leaf) == 1 or np.prod(np.shape(leaf)[1:]) > 1)
    }


def to_metadata(history: list[EpochRecord]) -> list[dict[str, Any]]:
    """Return records as JSON holds them, numbers that are not finite as texts."""
    return [_with_texts(record._asdict()) for record in history]


def from_metadata(records: list[dict[str, Any]]) -> list[EpochRecord]:
    """Return records as they were before `to_metadata`."""
    return [EpochRecord(**_with_numbers(record)) for record in records]


def _with_texts(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _map(_with_texts, value)


def _with_numbers(value: Any) -> Any:
    return float(value) if isinstance(value, str) else _map(_with_numbers, value)


def _map(function: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, list):
        return [function(each) for each in value]
    if isinstance(value, dict):
        return {name: function(each) for name, each in value.items()}
    return value


def progress_text(record: EpochRecord) -> str:
    """Return the losses of an epoch for a progress bar."""
    text = f"loss {record.loss:.4g}"
    if record.validation_loss is not None:
        text += f", validation {record.validation_loss:.4g}"
    if record.skipped_steps:
        text += f", {record.skipped_steps} steps skipped"
    return text


def has_grown(losses: np.ndarray) -> bool:
    """Return whether losses end an order of magnitude above where they started."""
    if not math.isfinite(losses[0]):
        return False
    last = np.median(losses[-max(1, len(losses) // 4) :])
    return bool(last > losses[0] + 9 * max(abs(losses[0]), 1))
