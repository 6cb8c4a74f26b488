"""The analysis of a single model: the numbers of the test set, or of a sweep."""

from functools import partial
from typing import Any

import jax
import numpy as np

from experiments.harness import evaluation, keys, sweeps
from experiments.harness.experiment import ONLY, Result, Trained


def analyze_model(trained: Trained) -> Result:
    """Return the test numbers and the figures of a single model.

    Where options were swept, every setting is compared; see `sweeps.analyze_sweep`.
    """
    return analyze_numbers(trained, evaluation.evaluate(trained))


def analyze_numbers(trained: Trained, numbers: dict[str, np.ndarray]) -> Result:
    """Return the result of a single model from its `evaluation.evaluate`."""
    experiment, members = trained.experiments[ONLY], trained.members
    summary = {
        "binarization": experiment.binarization,
        "num_test_examples": experiment.num_test_examples,
        "units": "nats per example",
    }
    about = f"{protocol(trained)}; {members.describe()}; nats per example"
    if members.swept:
        return sweeps.analyze_sweep(trained, numbers, summary, about)
    test = evaluation.summarize(numbers, experiment)
    first = trained.state()
    key = jax.random.fold_in(first.key, keys.FIGURES)
    history = trained.history[ONLY]
    return Result(
        summary=summary | {"test": test},
        headline=_headline(test),
        about=about,
        rows=evaluation.rows(test),
        figures=partial(experiment.figures, first.params, key, history),
        files=partial(experiment.files, first.params, key),
        captions=experiment.captions,
    )


def _headline(test: dict[str, dict[str, Any]]) -> str:
    """The negative ELBO, and the NLL corrected for its bias where that is known."""
    headline = f"test negative ELBO {test['negative_elbo']['mean']:.2f} nats"
    corrected = test.get("nll_corrected")
    if corrected is None or corrected["standard_error"] is None:
        return headline
    return (
        f"{headline}; NLL {corrected['mean']:.2f} ± {corrected['standard_error']:.2f}, "
        f"{corrected['num_examples']} examples annealed"
    )


def protocol(trained: Trained) -> str:
    """Return the test set and its binarization, in words."""
    experiment = trained.first_experiment
    drawn = "" if experiment.binarization == "none" else "; of the test set: drawn once"
    return (
        f"{experiment.num_test_examples:,} test examples, training binarization: "
        f"{experiment.binarization}{drawn}"
    )
