"""Trials: settings, their losses after every epoch, and which of them go on.

Optuna proposes the settings of a batch of trials from those that have ended; the
batch's own trials are unfinished then, which its sampler takes into account. What it
proposes is a function of the seed and of the trials before, so that a search that was
killed goes on with the same ones.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import optuna

from experiments.tuning.space import Space

RUNNING, COMPLETE, STOPPED, DIVERGED = "running", "complete", "stopped", "diverged"
ENDED_EARLY = (STOPPED, DIVERGED)
# Trials that are drawn at random, before the others are proposed by a model of them.
RANDOM_TRIALS = 8


@dataclasses.dataclass(frozen=True)
class Trial:
    """One setting of the searched options.

    Attributes:
      number: the number of the trial, from 0 on.
      settings: the values of the searched options.
      losses: the validation losses after every epoch so far, `[epochs][seeds]`; None
        where one is not finite.
      state: running, complete, stopped or diverged.
    """

    number: int
    settings: dict[str, Any]
    losses: list[list[float | None]] = dataclasses.field(default_factory=list)
    state: str = RUNNING

    def value_at(self, epoch: int) -> float:
        """Return the mean over seeds after an epoch; infinite where one diverged."""
        losses = self.losses[epoch - 1]
        finite = [loss for loss in losses if loss is not None]
        return float(np.mean(finite)) if len(finite) == len(losses) else math.inf

    @property
    def value(self) -> float:
        """The mean over seeds after the last epoch."""
        return self.value_at(len(self.losses))


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the complete trial with the smallest loss, None where there is none."""
    complete = [trial for trial in trials if trial.state == COMPLETE]
    return min(complete, key=lambda trial: trial.value, default=None)


def ask(
    space: Space,
    trials: Sequence[Trial],
    *,
    num: int,
    seed: int,
    first: Mapping[str, Any] | None = None,
) -> list[Trial]:
    """Return the next trials, as Optuna's tree-structured Parzen estimator proposes.

    Args:
      space: what is searched.
      trials: the trials so far, none of them running.
      num: the number of trials to propose.
      seed: the seed of the search.
      first: the settings of the very first trial, or None to draw them too.
    """
    study = study_of(space, trials, seed=seed)
    if first is not None and not trials:
        study.enqueue_trial(dict(first))
    asked = [study.ask(space) for _ in range(num)]
    return [Trial(len(trials) + i, dict(one.params)) for i, one in enumerate(asked)]


def study_of(space: Space, trials: Sequence[Trial], *, seed: int = 0) -> optuna.Study:
    """Return the trials as a study of Optuna, for its samplers and figures.

    Stopped trials are pruned ones there, with a value for each epoch.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # Another stream for every batch, whether or not the process is the same.
    stream = np.random.SeedSequence([seed, len(trials)]).generate_state(1)[0]
    sampler = optuna.samplers.TPESampler(
        n_startup_trials=RANDOM_TRIALS, constant_liar=True, seed=int(stream)
    )
    study = optuna.create_study(sampler=sampler)
    for trial in trials:
        if trial.state == RUNNING:
            continue
        is_complete = trial.state == COMPLETE
        values = {e: trial.value_at(e) for e in range(1, len(trial.losses) + 1)}
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE
                if is_complete
                else optuna.trial.TrialState.PRUNED,
                value=trial.value if is_complete else None,
                params=trial.settings,
                distributions=space,
                intermediate_values=values,
            )
        )
    return study


def rungs(epochs: int, first: int | None, factor: int) -> list[int]:
    """Return the epochs at which trials are judged, `first` times powers of `factor`.

    There are none where `factor` is 1. By default the first is a tenth of the epochs.
    """
    found: list[int] = []
    rung = first or max(1, epochs // 10)
    while factor > 1 and rung < epochs:
        found.append(rung)
        rung *= factor
    return found


def judged(trials: Sequence[Trial], rung: int, factor: int) -> list[Trial]:
    """Return the trials after a rung: the best go on, and the other running ones stop.

    One in `factor` of all trials that came so far go on, in earlier batches too; the
    number is rounded up. Optuna's own successive halving judges each trial by those
    before it, so that of a batch the first ones would always go on.
    """
    reached = [trial for trial in trials if len(trial.losses) >= rung]
    ranked = sorted(reached, key=lambda trial: (trial.value_at(rung), trial.number))
    kept = {trial.number for trial in ranked[: math.ceil(len(ranked) / factor)]}

    def after(trial: Trial) -> Trial:
        if trial.state != RUNNING or len(trial.losses) < rung:
            return trial
        if math.isinf(trial.value_at(rung)):
            return dataclasses.replace(trial, state=DIVERGED)
        if trial.number not in kept:
            return dataclasses.replace(trial, state=STOPPED)
        return trial

    return [after(trial) for trial in trials]


def finished(trials: Sequence[Trial], epochs: int) -> list[Trial]:
    """Return the trials with those complete, or diverged, that have had every epoch."""
    return [
        dataclasses.replace(
            trial, state=DIVERGED if math.isinf(trial.value) else COMPLETE
        )
        if trial.state == RUNNING and len(trial.losses) >= epochs
        else trial
        for trial in trials
    ]
