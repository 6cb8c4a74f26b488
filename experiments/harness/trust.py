"""Trust in the NLL bound of a test set: its change, its bias, and its correction.

On a few random test examples, the same for every model, the bound with ten times the
samples shows how far the bound still moves, and annealing shows its bias. The bias of
the few examples is taken from the bound of all of them: the difference estimator, whose
error is that of the differences and not that of the examples.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vaejax
from experiments.harness import annealing, keys
from experiments.harness.averages import mean_or_none, number_or_none, over_seeds
from experiments.harness.experiment import Experiment, Trained
from experiments.harness.members import MEMBERS_AT_ONCE, in_pieces
from vaejax import estimators
from vaejax.base import Array, PyTree
from vaejax.training import TrainState

# Examples where none are annealed, and how many times the samples of the NLL they get.
NUM_EXAMPLES, MORE = 64, 10
# Examples mapped together, and samples of each.
AT_ONCE, CHUNK_SIZE = 4, 250


def of_few_examples(
    trained: Trained,
    arm: str,
    log_marginal: np.ndarray,
    annealed: Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """Return what a few test examples say of the bounds of all.

    Args:
      trained: what was trained.
      arm: the name of a model.
      log_marginal: the bounds of all test examples, `[members, examples]`.
      annealed: numbers of the members to anneal; see `annealing.anneal`.

    Returns:
      `log_marginal` as given; `more_samples`, `[members, few]`, the bound with `MORE`
      times the samples; `more_doubtful`, `[members]`, the share of them whose Pareto k
      is above the threshold; and, where the experiment anneals, the numbers of
      `annealing.anneal`.
    """
    experiment, members = trained.experiments[arm], trained.members
    num_samples = MORE * experiment.num_samples
    places = few_examples(experiment)

    def measure(state: TrainState, xs: PyTree) -> tuple[Array, Array]:
        key = jax.random.fold_in(state.key, keys.MORE_SAMPLES)
        one = partial(
            vaejax.log_marginal,
            experiment.vae,
            state.params,
            num_samples=num_samples,
            chunk_size=CHUNK_SIZE,
        )
        found = jax.lax.map(
            lambda example: one(*example),
            (jax.random.split(key, len(places)), xs),
            batch_size=AT_ONCE,
        )
        return found.log_marginal, found.pareto_k

    compiled = in_pieces(jax.jit(members.lift(measure)), members.num, MEMBERS_AT_ONCE)
    xs = jax.tree.map(lambda leaf: jnp.asarray(leaf[places]), experiment.test)
    more, ks = members.stack(jax.device_get(compiled(trained.states[arm], xs)))
    trained.check_interrupts()
    found = {
        "log_marginal": np.asarray(log_marginal, float),
        "more_samples": np.asarray(more, float),
        "more_doubtful": doubtful(ks, more.mean(axis=1), num_samples),
    }
    if experiment.num_annealed:
        found |= annealing.anneal(trained, arm, annealed)
    return found


def few_examples(experiment: Experiment) -> np.ndarray:
    """Return the places of the few test examples, `[few]`."""
    return annealing.examples_to_anneal(
        experiment.num_test_examples, experiment.num_annealed or NUM_EXAMPLES
    )


def doubtful(ks: np.ndarray, nll: np.ndarray, num_samples: int) -> np.ndarray:
    """Return the share of Pareto k that is not at most the threshold, of every member.

    Args:
      ks: `[members, examples]`; infinite where the samples are too few to tell.
      nll: `[members]`.
      num_samples: the number of samples, which decides the threshold.

    Returns:
      `[members]`, NaN where no k can tell or the NLL is not finite.
    """
    ks = np.asarray(ks)
    unknown = np.isposinf(ks).all(axis=1) | ~np.isfinite(nll)
    threshold = estimators.pareto_k_threshold(num_samples)
    return np.where(unknown, np.nan, np.mean(~(ks <= threshold), axis=1))


def pareto_k_summary(shares: np.ndarray, num_samples: int) -> dict[str, Any]:
    """Return the share of doubtful examples and the threshold, for a summary."""
    return {
        "pareto_k_threshold": number_or_none(
            round(estimators.pareto_k_threshold(num_samples), 3)
        ),
        "share_above_pareto_k_threshold": mean_or_none(shares),
    }


def summarize(
    numbers: Mapping[str, np.ndarray], experiment: Experiment
) -> dict[str, dict[str, Any]]:
    """Return the summary of the seeds of one setting, of the few examples.

    `standard_error` is over the examples, of the mean over seeds, as an estimate for
    the whole test set; `std` is over seeds.
    """
    bounds, more = numbers["log_marginal"], numbers["more_samples"]
    change = _correct(bounds, more, experiment)
    summary = {
        "nll_more_samples": over_seeds(
            -_corrected_of_each(bounds, more, experiment),
            num_samples=MORE * experiment.num_samples,
            num_examples=more.shape[1],
            change=number_or_none(-change.difference.value),
            standard_error=number_or_none(change.difference.standard_error),
            **pareto_k_summary(numbers["more_doubtful"], MORE * experiment.num_samples),
        )
    }
    if "annealed" in numbers:
        summary |= _of_annealed(numbers, experiment)
    return summary


def _of_annealed(
    numbers: Mapping[str, np.ndarray], experiment: Experiment
) -> dict[str, dict[str, Any]]:
    used = np.isfinite(numbers["annealed"]).all(axis=1)
    numbers = {name: values[used] for name, values in numbers.items()}
    annealed, bounds = numbers["annealed"], numbers["log_marginal"]
    few = {"num_examples": numbers["annealed"].shape[1]}
    corrected = _correct(bounds, annealed, experiment, numbers["annealed_error"])
    halved = numbers["annealed_half"] - annealed
    gaps = numbers["simulated_upper"] - numbers["simulated_lower"]
    path = {
        "num_temperatures": annealing.PATH.num_temperatures,
        "num_leapfrog": annealing.PATH.num_leapfrog,
        "num_chains": annealing.NUM_CHAINS,
        "acceptance_rate": mean_or_none(numbers["acceptance"]),
        "change_when_temperatures_are_doubled": over_examples(halved),
        "gap_on_simulated_examples": over_examples(gaps),
    }
    places = few_examples(experiment)
    each = {
        "nll_annealed": -annealed.mean(axis=1),
        "nll_bias": (annealed - bounds[:, places]).mean(axis=1),
        "nll_corrected": -_corrected_of_each(bounds, annealed, experiment),
    }
    estimates = {
        "nll_annealed": corrected.annealed,
        "nll_bias": corrected.difference,
        "nll_corrected": corrected.corrected,
    }
    return {
        name: over_seeds(
            each[name],
            standard_error=number_or_none(estimate.standard_error),
            **few,
            **(path if name == "nll_annealed" else {}),
        )
        for name, estimate in estimates.items()
    }


def paired(
    numbers: Mapping[str, np.ndarray],
    others: Mapping[str, np.ndarray],
    experiment: Experiment,
) -> dict[str, dict[str, Any]]:
    """Return NLL differences of two models, paired by seed and by example.

    Args:
      numbers: the numbers of the seeds of one model, from `evaluation.evaluate`.
      others: those of the model that is subtracted, seed by seed.
      experiment: either experiment; the test set is the same.

    Returns:
      `nll`, of the bounds, and `nll_corrected`, where both are annealed, of the seeds
      that are: mean and std over seeds, with `standard_error` over the few examples.
    """
    differences = {"nll": over_seeds(numbers["nll"] - others["nll"])}
    if "annealed" in numbers and "annealed" in others:
        used = np.isfinite(numbers["annealed"] - others["annealed"]).all(axis=1)
        bounds, annealed = (
            numbers[name][used] - others[name][used]
            for name in ("log_marginal", "annealed")
        )
        errors = np.hypot(numbers["annealed_error"], others["annealed_error"])[used]
        estimate = _correct(bounds, annealed, experiment, errors)
        differences["nll_corrected"] = over_seeds(
            -_corrected_of_each(bounds, annealed, experiment),
            standard_error=number_or_none(estimate.corrected.standard_error),
            num_examples=annealed.shape[1],
        )
    return differences


def exact(
    numbers: Mapping[str, np.ndarray], experiment: Experiment
) -> dict[str, np.ndarray]:
    """Return the numbers of a model whose bounds are log p(x), as if annealed too.

    Args:
      numbers: the numbers of its seeds.
      experiment: the experiment that it is compared with.
    """
    values = numbers["log_marginal"][:, few_examples(experiment)]
    return dict(numbers) | {
        "annealed": values,
        "annealed_error": np.zeros_like(values),
    }


def _correct(
    bounds: np.ndarray,
    values: np.ndarray,
    experiment: Experiment,
    errors: np.ndarray | None = None,
) -> estimators.CorrectedMarginal:
    """Correct the mean bound over seeds by values of the few examples."""
    if errors is not None:
        # The error of a mean over seeds, whose chains are independent.
        errors = np.sqrt(np.square(errors).mean(axis=0) / max(len(errors), 1))
    with jax.enable_x64(True):
        return jax.device_get(
            estimators.correct_bound(
                _mean_over_seeds(bounds),
                few_examples(experiment),
                _mean_over_seeds(values),
                annealed_errors=errors,
            )
        )


def _mean_over_seeds(values: np.ndarray) -> np.ndarray:
    """The mean over the seeds that have not diverged, `[examples]`; NaN of none."""
    finite = values[np.isfinite(values).all(axis=1)]
    return finite.mean(axis=0) if len(finite) else np.full(values.shape[1], np.nan)


def _corrected_of_each(
    bounds: np.ndarray, values: np.ndarray, experiment: Experiment
) -> np.ndarray:
    """The bound of every seed, moved by the mean change of its few examples."""
    change = values - bounds[:, few_examples(experiment)]
    return bounds.mean(axis=1) + change.mean(axis=1)


def over_examples(values: np.ndarray) -> dict[str, Any]:
    """Return the mean of `[seeds, examples]`, and its standard error over examples.

    Where every seed has its own examples too, the error is that of one seed's number.
    """
    each = values.mean(axis=0)
    error = np.std(each, ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.inf
    return {
        "mean": number_or_none(each.mean()),
        "standard_error": number_or_none(error),
        "num_examples": len(each),
    }


def notes(name: str, number: Mapping[str, Any]) -> list[str]:
    """Return remarks on a number of this module, for the row of a table."""
    found = []
    if name == "nll_more_samples":
        found.append(
            f"change {number['change']:+.2f}" if number["change"] is not None else ""
        )
    if number.get("standard_error") is not None and "num_examples" in number:
        found.append(
            f"standard error {number['standard_error']:.2f} over "
            f"{number['num_examples']} examples"
        )
    if name == "nll_annealed":
        found += _notes_of_path(number)
    return [note for note in found if note]


def _notes_of_path(number: Mapping[str, Any]) -> list[str]:
    found = [
        f"{number['num_chains']} chains of {number['num_temperatures']} temperatures"
    ]
    for what, key in (
        (
            f"change from {number['num_temperatures'] // 2} temperatures",
            "change_when_temperatures_are_doubled",
        ),
        ("gap between both bounds of simulated examples", "gap_on_simulated_examples"),
    ):
        value = number[key]
        if value["mean"] is not None:
            sign = "+" if key.startswith("change") else ""
            error = value["standard_error"]
            error = "" if error is None else f" ± {error:.2f}"
            found.append(f"{what} {value['mean']:{sign}.2f}{error}")
    return found
