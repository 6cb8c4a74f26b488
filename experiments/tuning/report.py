"""The report of a search: the best trials, figures, and the command of the best one."""

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.distributions import BaseDistribution, CategoricalDistribution

from experiments.harness import Config, Result, RunError, averages, config_file
from experiments.tuning.search import Plan, Progress
from experiments.tuning.space import Space, ends
from experiments.tuning.trials import COMPLETE, ENDED_EARLY, STOPPED, Trial, best_of
from vaejax import plots

UNIT = "validation negative ELBO (nats per example)"
# Rows of the table; trials.json has all trials.
MOST_ROWS = 20


def result(plan: Plan, progress: Progress) -> Result:
    """Return the result of a search.

    Raises:
      RunError: no trial is complete.
    """
    trials, config = progress.trials, plan.config
    best = best_of(trials)
    if best is None:
        raise RunError(
            f"all of {len(trials)} trials have diverged; search smaller learning "
            "rates, or give --clip-norm after `--`."
        )
    command = shlex.join(command_of(plan.program.name, tuned(config, best.settings)))
    validation = [as_summary(trial) for trial in trials]
    trained = sum(len(trial.losses) for trial in trials) * config.num_seeds
    summary = {
        "program": plan.program.name,
        "epochs": config.epochs,
        "num_validation": config.num_validation,
        "best": validation[best.number],
        "command": command,
        "trials": validation,
        "rungs": list(plan.rungs),
        "member_epochs": trained,
        "all_member_epochs": len(trials) * config.epochs * config.num_seeds,
        "training_seconds": round(progress.seconds, 2),
    }
    ranked = sorted(trials, key=_rank)
    stopped = sum(trial.state in ENDED_EARLY for trial in trials)
    more = f"; the best {MOST_ROWS} of them" if len(trials) > MOST_ROWS else ""
    return Result(
        summary=summary,
        headline=f"smallest validation loss at {described(best.settings)}",
        about=f"{len(trials)} trials of {config.epochs} epochs, {stopped} of them "
        f"stopped early{more}; negative ELBO of {config.num_validation:,} validation "
        f"examples in nats, {_seeds(config)}; the test set was not looked at",
        header=("trial", *plan.space, "epochs", "validation", "state"),
        rows=[
            (
                str(trial.number),
                *(text_of(trial.settings[name]) for name in plan.space),
                str(len(trial.losses)),
                averages.text(validation[trial.number]["validation"], 2),
                trial.state,
            )
            for trial in ranked[:MOST_ROWS]
        ],
        figures=partial(figures, plan.space, trials, best),
        captions={
            "trials": "The validation loss of every trial over each searched option: "
            "those that had all epochs, and those that were stopped early, after fewer "
            "epochs. The largest losses lie outside.",
            "learning_curves": "The validation loss of every trial after each epoch, a "
            "mean over seeds. Lines that end early are stopped trials.",
        },
        listings={"Train at the best settings, on all training examples": [command]},
    )


def as_summary(trial: Trial) -> dict[str, Any]:
    """Return what a summary holds of a trial."""
    last = np.asarray(trial.losses[-1], float)
    return {
        "number": trial.number,
        "settings": trial.settings,
        "state": trial.state,
        "epochs": len(trial.losses),
        "validation": averages.over_seeds(last),
    }


def tuned(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return the options of a program at some settings, with no data held out."""
    return dataclasses.replace(config, **settings, num_validation=0)


def command_of(program: str, config: Config) -> list[str]:
    """Return the shortest command that runs a program with some options."""
    return ["python", "-m", f"experiments.{program}", *changed_options(config)]


def changed_options(config: Config, without: Sequence[str] = ()) -> list[str]:
    """Return the words of a command line for the options that are not by default.

    Those named in `without` are left out.
    """
    default, words = type(config)(), config_file.arguments_of(config)
    changed = {
        config_file.flag(name)
        for name, value in vars(config).items()
        if value != getattr(default, name) and name not in without
    }
    starts = [place for place, word in enumerate(words) if word.startswith("--")]
    parts = [
        words[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)
    ]
    return [
        word
        for part in parts
        if part[0].partition("=")[0].replace("--no-", "--", 1) in changed
        for word in part
    ]


def described(settings: Mapping[str, Any]) -> str:
    """Return settings in words, such as "beta=0.5"."""
    return ", ".join(f"{name}={text_of(value)}" for name, value in settings.items())


def text_of(value: Any) -> str:
    """Return the value of a setting as text, a number with four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def figures(space: Space, trials: Sequence[Trial], best: Trial) -> dict[str, Figure]:
    """Draw the losses over epochs, and over every searched option."""
    return {
        "learning_curves": _curves(trials, best),
        "trials": _over_options(space, trials, best),
    }


def _curves(trials: Sequence[Trial], best: Trial) -> Figure:
    figure = Figure(figsize=(4.8, 3.2), layout="constrained")
    axes = figure.subplots()
    for trial in trials:
        values = [trial.value_at(epoch + 1) for epoch in range(len(trial.losses))]
        is_best, is_complete = trial is best, trial.state == COMPLETE
        axes.plot(
            range(1, len(values) + 1),
            np.where(np.isfinite(values), values, np.nan),
            color=plots.COLORS[1 if is_best else 0] if is_complete else "0.7",
            linewidth=1.8 if is_best else 0.9,
            marker="o",
            markersize=2.5,
            zorder=3 if is_best else 2 if is_complete else 1,
            label=f"trial {best.number}, the best"
            if is_best
            else "all epochs"
            if is_complete
            else "stopped early",
        )
    _frame(axes, trials, "epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(handles.values(), handles.keys(), frameon=False, fontsize=8)
    return figure


def _over_options(space: Space, trials: Sequence[Trial], best: Trial) -> Figure:
    num = len(space)
    figure = Figure(figsize=(0.8 + 2.6 * num, 3.0), layout="constrained")
    panels = figure.subplots(1, num, squeeze=False, sharey=True)[0]
    kinds = {
        "all epochs": ([t for t in trials if t.state == COMPLETE], plots.COLORS[0], 16),
        "stopped early": ([t for t in trials if t.state == STOPPED], "0.7", 12),
        "the best": ([best], plots.COLORS[1], 40),
    }
    for axes, (name, distribution) in zip(panels, space.items(), strict=True):
        for label, (shown, color, size) in kinds.items():
            places = [_place(distribution, trial.settings[name]) for trial in shown]
            values = [trial.value for trial in shown]
            axes.scatter(places, values, s=size, color=color, label=label)
        _frame(axes, trials, name.replace("_", " "))
        if isinstance(distribution, CategoricalDistribution):
            labels = [str(choice) for choice in distribution.choices]
            axes.set_xticks(range(len(labels)), labels)
            axes.set_xlim(-0.5, len(labels) - 0.5)
        elif getattr(distribution, "log", False):
            axes.set_xscale("log")
    for axes in panels[1:]:
        axes.set_ylabel("")
    panels[0].legend(frameon=False, fontsize=8)
    return figure


def _place(distribution: BaseDistribution, value: Any) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return ends(distribution).index(value)
    return value


def _frame(axes: Any, trials: Sequence[Trial], xlabel: str) -> None:
    """Label the axes; their scale covers the better three quarters of the trials."""
    values = np.asarray([trial.value for trial in trials])
    values = np.sort(values[np.isfinite(values)])
    low, high = values[0], values[int(0.75 * (len(values) - 1))]
    margin = 0.06 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + 2 * margin)
    axes.set_xlabel(xlabel, fontsize=8)
    axes.set_ylabel(UNIT, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _rank(trial: Trial) -> tuple[bool, float, float]:
    return trial.state != COMPLETE, -len(trial.losses), trial.value


def _seeds(config: Config) -> str:
    if config.num_seeds == 1:
        return f"seed {config.seed}"
    last = config.seed + config.num_seeds - 1
    return f"mean ± std over seeds {config.seed} to {last}"
