"""The analysis of a sweep: every setting over its seeds.

Differences to a reference are paired by seed; a figure shows all.
"""

from functools import partial
from typing import Any

import numpy as np

from experiments.harness import evaluation
from experiments.harness.experiment import ONLY, Experiment, Result, Trained
from experiments.harness.members import Members, describe_setting
from experiments.harness.units import disagreements
from vaejax import plots

FIGURES = {
    "negative_elbo": "negative ELBO",
    "nll": "NLL bound",
    "nll_corrected": "NLL, corrected",
}


def analyze_sweep(
    trained: Trained,
    numbers: dict[str, np.ndarray],
    summary: dict[str, Any],
    about: str,
) -> Result:
    """Return the result of a sweep.

    Settings are compared with the one that the configuration itself names, where it is
    among them, else with the first. Members of one seed share their initial parameters,
    noise and order of the data, so that differences are paired.

    Args:
      trained: a single model at several settings.
      numbers: the numbers of every member, as `evaluation.evaluate` returns them.
      summary: the summary so far: protocol and unit.
      about: the sentence above the numbers.
    """
    experiment, members = trained.experiments[ONLY], trained.members
    names, reference = (
        [describe_setting(setting) for setting in members.settings],
        _reference(experiment, members),
    )
    parts = [_part(members, numbers, index) for index in range(len(names))]
    settings = []
    for setting, part in zip(members.settings, parts, strict=True):
        differences = evaluation.paired(part, parts[reference], experiment)
        test = evaluation.summarize(part, experiment)
        settings.append({"setting": setting, "test": test, "difference": differences})
    rows = [
        (name, *evaluation.cells(entry["test"]))
        for name, entry in zip(names, settings, strict=True)
    ]
    for index, (name, entry) in enumerate(zip(names, settings, strict=True)):
        if index != reference:
            rows.append(
                (
                    f"{name} minus {names[reference]}",
                    *evaluation.cells(entry["difference"], sign="+"),
                )
            )
    # A bound decides nothing where log p(x) is annealed.
    judged = "nll_corrected" if "nll_corrected" in settings[0]["test"] else "nll"
    best = min(settings, key=lambda entry: entry["test"][judged]["mean"] or np.inf)
    return Result(
        summary=summary | {"reference": members.settings[reference], "sweep": settings},
        headline=f"smallest {evaluation.MEANINGS[judged][0]} at "
        f"{describe_setting(best['setting'])}",
        about=f"{about}; {evaluation.ELBO_SAMPLES} samples per example, "
        f"{experiment.num_samples} of the NLL; "
        "differences are paired by seed"
        + disagreements(
            {name: entry["test"] for name, entry in zip(names, settings, strict=True)}
        ),
        header=("setting", *evaluation.COLUMNS),
        rows=rows,
        figures=partial(_figures, members, settings, trained.history[ONLY]),
        captions={
            "learning_curves": "Test negative ELBO over training. The bands, if any, "
            "are one standard deviation over "
            "seeds.",
            "sweep": (
                "The test numbers of every setting. The bands, if any, are one "
                "standard deviation over seeds."
            ),
        },
    )


def _reference(experiment: Experiment, members: Members) -> int:
    own = {name: experiment.hyperparameters[name] for name in members.swept}
    return members.settings.index(own) if own in members.settings else 0


def _part(
    members: Members, numbers: dict[str, np.ndarray], index: int
) -> dict[str, np.ndarray]:
    return {name: members.of_setting(values, index) for name, values in numbers.items()}


def _figures(
    members: Members, settings: list[dict], history: list[dict]
) -> dict[str, Any]:
    epochs = [row["epoch"] for row in history]
    curves = {}
    for index, setting in enumerate(members.settings):
        values = np.asarray([row["test"]["negative_elbo"] for row in history], float)
        curves[describe_setting(setting)] = _undiverged(
            values[:, index * members.num_seeds :][:, : members.num_seeds]
        )
    figures = {
        "learning_curves": plots.curves(
            epochs,
            curves,
            xlabel="epoch",
            ylabel="test negative ELBO (nats per example)",
            scale_from=len(epochs) // 10,
        )
    }
    if len(members.swept) == 1:
        figures["sweep"] = _figure_of_one(members, settings)
    return figures


def _figure_of_one(members: Members, settings: list[dict]) -> Any:
    """Numbers over the values of the one swept option."""
    (option, values), *_ = members.swept.items()
    order = np.argsort(values)
    series = {
        label: _undiverged(
            np.asarray(
                [settings[index]["test"][name]["values"] for index in order], float
            )
        )
        for name, label in FIGURES.items()
        if name in settings[0]["test"]
    }
    return plots.curves(
        [values[index] for index in order],
        series,
        xlabel=option.replace("_", " "),
        ylabel="nats per example",
    )


def _undiverged(values: np.ndarray) -> np.ndarray:
    """`[points, seeds]` without the seeds that have diverged anywhere.

    Where all have, one is kept, which breaks the line.
    """
    kept = values[:, np.all(np.isfinite(values), axis=0)]
    return kept if kept.shape[1] else values[:, :1]
