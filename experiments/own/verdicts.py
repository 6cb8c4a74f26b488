"""The verdict of a run on the user's own data, added to its result."""

from typing import Any

import jax
import numpy as np

from experiments import harness
from experiments.harness import keys, verdict
from experiments.harness.members import describe_setting
from vaejax.base import PyTree


def with_verdict(
    trained: harness.Trained, numbers: dict[str, np.ndarray], result: harness.Result
) -> harness.Result:
    """Return the result with the verdict on the model, or on each swept setting."""
    test: PyTree = trained.first_experiment.test
    alone = verdict.log_probs(trained.context.independent, test)
    num_seeds, settings = trained.members.num_seeds, trained.members.settings
    bounds = -np.asarray(numbers["nll_of_each"], np.float64)
    found = [
        verdict.judge(
            alone,
            bounds[i * num_seeds : (i + 1) * num_seeds].mean(axis=0),
            () if trained.members.swept else _gains(trained, test),
        )
        for i in range(max(len(settings), 1))
    ]
    if not trained.members.swept:
        return result._replace(
            summary=result.summary | {"verdict": found[0].as_dict()},
            verdict=[_sentence(line) for line in found[0].lines()] + _latents(result),
        )
    named = [describe_setting(setting) for setting in settings]
    return result._replace(
        summary=result.summary | {"verdict": [one.as_dict() for one in found]},
        verdict=[
            f"{name}: {one.lines()[0]}" for name, one in zip(named, found, strict=True)
        ],
    )


def _sentence(line: str) -> str:
    return line[0].upper() + line[1:]


def _gains(trained: harness.Trained, test: PyTree) -> tuple[verdict.ColumnGain, ...]:
    """Return the gain of each column by the latents of the first seed."""
    names, mask = trained.context.columns()
    if not names:
        return ()
    state = trained.state()
    return verdict.column_gains(
        trained.first_experiment.vae,
        state.params,
        jax.random.fold_in(state.key, keys.VERDICT),
        test,
        trained.context.independent,
        names,
        mask,
    )


def _latents(result: harness.Result) -> list[str]:
    """Return how many latents carry something, in words."""
    number: Any = result.summary["test"]["units_by_kl"]
    if number["mean"] is None:
        return []
    kl = result.summary["test"]["kl"]["mean"]
    return [
        f"{number['mean']:.1f} latents carry more than {number['threshold']} nats, "
        f"{kl:.2f} nats in all"
    ]
