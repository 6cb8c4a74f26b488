"""Bounds of log p(x), from below and from above, on the model of experiments.mnist.

On some test digits: the ELBO; the importance-weighted bound with more and more samples,
from q(z|x); the jackknife of one of them; annealed importance sampling. On digits drawn
from the model itself, where the z that each was drawn with is known: annealing from
below and, backwards, from above, which enclose log p(x) in expectation. The gap of the
ELBO is split into what the family of q cannot fit and what the encoder does not find,
and the KL into mutual information, total correlation and dimension-wise KL. While the
model trains, KL(q(z|x) || p(z|x)) is followed, which is log p(x) - ELBO: fitting the
model and fitting q to its posterior are one maximization.

Papers: Burda et al. 2016, Nowozin 2018, Wu et al. 2017, Grosse et al. 2015, Cremer et
al. 2018, Hoffman & Johnson 2016. Command: python -m experiments.bounds
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import vaejax
from experiments import harness
from experiments.harness import (
    annealing,
    averages,
    binary_images,
    cli,
    keys,
)
from experiments.harness.members import Members
from experiments.harness.parts import in_parts, joined
from vaejax import plots
from vaejax.base import VAE, Array, Key, Params, PyTree
from vaejax.estimators import (
    AggregateBounds,
    AggregateDecomposition,
    AnnealingPath,
    MonteCarloMean,
)
from vaejax.training import TrainState

ABOUT = harness.About(
    what=(
        "ELBO, importance-weighted bounds, annealing from below and above, on one model"
    ),
    paper="Wu et al. 2017, Cremer et al. 2018",
    cost="20 minutes on 2 cores",
    expected=(
        "annealing 0.6 nats above IWAE of 5,000 samples; 0.1 nats between the bounds "
        "of simulated digits"
    ),
)

COUNTS = (10, 100, 1000, 5000, 50_000)
JACKKNIFE_COUNT = 100
ELBO_SAMPLES = 1000
AT_ONCE = 8  # examples mapped together
PILOT = 16  # digits of the run that finds the step sizes
ANNEALED = "annealed importance sampling"
HALVED = "annealed importance sampling, half the temperatures"
JACKKNIFES = tuple(
    f"jackknife, order {order}, {JACKKNIFE_COUNT} samples" for order in (1, 2)
)
WEIGHTED = tuple(f"IWAE, {count:,} samples" for count in COUNTS)
GAPS = ("approximation gap", "amortization gap")
ENDS = {"lower": "at least", "upper": "at most"}
CHECKS = ("Pareto k of the largest IWAE", "acceptance rate of annealing")
# In the order of the table.
NAMES = ("ELBO", *WEIGHTED, *JACKKNIFES, HALVED, ANNEALED, *GAPS, *CHECKS)
NUM_LEAPFROG = 5
# While training: few examples, chains from q(z|x), which need few temperatures.
FOLLOWED, FOLLOWED_CHAINS = 32, 8
FOLLOWED_PATH = AnnealingPath(
    num_temperatures=100,
    num_leapfrog=5,
    initial=vaejax.estimators.start_at_posterior,
)


@dataclasses.dataclass(frozen=True)
class Config(binary_images.Config):
    num_examples: int = 64
    """Number of test digits, drawn once, and of simulated ones."""
    num_chains: int = 8
    """Chains of annealed importance sampling, from q(z|x)."""
    num_temperatures: int = 500
    """Temperatures of annealed importance sampling, an even number."""


def make_experiment(config: Config) -> harness.Experiment:
    experiment = binary_images.dense_experiment(config)
    if not 2 <= config.num_examples <= len(experiment.test):
        raise harness.UsageError(
            f"--num-examples is {config.num_examples}; give at least 2, and no more "
            f"than the {len(experiment.test)} "
            "test ones."
        )
    annealing.check_temperatures(config.num_temperatures)
    if config.num_annealed not in (Config.num_annealed, 0):
        raise harness.UsageError(
            "--num-annealed: every digit is annealed here; give --num-examples."
        )
    follow = partial(kl_to_posterior, experiment.vae, experiment.test[:FOLLOWED])
    return experiment._replace(diagnostics=follow)


def kl_to_posterior(vae: VAE, xs: Array, state: TrainState) -> dict[str, Array]:
    """Return the mean of KL(q(z|x) || p(z|x)) over examples, in nats.

    It is log p(x), by annealing, less the ELBO.
    """
    options = {"num_chains": FOLLOWED_CHAINS}
    # Adapted to one example and shared: the posteriors of digits are of one scale.
    adapt_key, keys_key = jax.random.split(
        jax.random.fold_in(state.key, keys.KL_TO_POSTERIOR)
    )
    step_sizes = vaejax.estimators.adapt_step_sizes(
        vae,
        state.params,
        adapt_key,
        xs[0],
        path=FOLLOWED_PATH,
        num_transitions=100,
        **options,
    )
    path = FOLLOWED_PATH._replace(step_sizes=step_sizes)

    def one(example: tuple[Key, Array]) -> Array:
        key, x = example
        annealing_key, elbo_key = jax.random.split(key)
        annealed = vaejax.estimators.annealed_importance_sampling(
            vae, state.params, annealing_key, x, path=path, **options
        )
        return annealed.log_marginal - mean_elbo(vae, state.params, elbo_key, x)

    each = jax.random.split(keys_key, len(xs))
    return {"kl_to_posterior": jnp.mean(jax.vmap(one)((each, xs)))}


def mean_elbo(vae: VAE, params: Params, key: Key, x: Array) -> Array:
    """Return the ELBO of one example from many samples, a hundred at a time."""
    terms = jax.lax.map(
        lambda key: vaejax.elbo_terms(vae, params, key, x),
        jax.random.split(key, ELBO_SAMPLES),
        batch_size=100,
    )
    return jnp.mean(terms.log_likelihood - terms.kl)


def test_bounds(
    config: Config, vae: VAE, params: Params, path: AnnealingPath, key: Key, x: Array
) -> dict[str, Array]:
    """Return every bound of one test example, in nats."""
    elbo_key, jackknife_key, annealing_key, half_key, gap_key, *iwae_keys = (
        jax.random.split(key, 5 + len(COUNTS))
    )
    weights = vaejax.objectives.log_weights(
        vae, params, jackknife_key, x, num_samples=JACKKNIFE_COUNT
    )
    annealed, halved = (
        vaejax.estimators.annealed_importance_sampling(
            vae, params, each, x, path=each_path, num_chains=config.num_chains
        )
        for each, each_path in (
            (annealing_key, path),
            (half_key, annealing.halved(path)),
        )
    )
    estimates = [
        vaejax.log_marginal(vae, params, key, x, num_samples=count)
        for count, key in zip(COUNTS, iwae_keys, strict=True)
    ]
    gap = vaejax.estimators.inference_gap(
        vae, params, gap_key, x, annealed.log_marginal, num_samples=ELBO_SAMPLES
    )
    values = (
        mean_elbo(vae, params, elbo_key, x),
        *(estimate.log_marginal for estimate in estimates),
        vaejax.estimators.jackknife(weights),
        vaejax.estimators.jackknife(weights, order=2),
        halved.log_marginal,
        annealed.log_marginal,
        gap.approximation,
        gap.amortization,
        estimates[-1].pareto_k,
        annealed.acceptance_rate,
    )
    return dict(zip(NAMES, values, strict=True))


def simulated_bounds(
    config: Config, vae: VAE, params: Params, path: AnnealingPath, key: Key
) -> dict[str, Array]:
    """Return the bounds of one example drawn from the model, in nats."""
    estimate = vaejax.estimators.bidirectional_monte_carlo(
        vae, params, key, path=path, num_chains=config.num_chains
    )
    return {"below": estimate.lower, "above": estimate.upper, "gap": estimate.gap}


def analyze(trained: harness.Trained) -> harness.Result:
    """Return every bound on test and on simulated examples, over seeds."""
    config, members = trained.config, trained.members
    experiment = trained.experiments[harness.ONLY]
    check_interrupts = trained.check_interrupts
    places = annealing.examples_to_anneal(
        experiment.num_test_examples, config.num_examples
    )
    vae, xs = experiment.vae, experiment.test[places]
    on_test, on_simulated, parts = [], [], []
    for index in range(members.num):
        state = trained.state(member=index)
        bounds_key = jax.random.fold_in(state.key, keys.BOUNDS)
        test_key, simulated_key, parts_key, adapt_key = jax.random.split(bounds_key, 4)
        path = adapted_path(config, vae, state.params, adapt_key, xs[:PILOT])
        check_interrupts()
        test_keys = jax.random.split(test_key, len(xs))
        one = partial(test_bounds, config, vae, state.params, path)
        on_test.append(
            over_examples(
                lambda example, one=one: one(*example),
                (test_keys, xs),
                "test",
                check_interrupts,
            )
        )
        simulated_keys = jax.random.split(simulated_key, len(xs))
        one = partial(simulated_bounds, config, vae, state.params, path)
        on_simulated.append(
            over_examples(one, simulated_keys, "simulated", check_interrupts)
        )
        decompose = partial(
            vaejax.estimators.aggregate_decomposition, vae, num_samples=1000
        )
        parts.append(
            jax.device_get(jax.jit(decompose)(state.params, parts_key, experiment.test))
        )
        check_interrupts()
    history = trained.history[harness.ONLY]
    return _result(config, members, history, on_test, on_simulated, parts)


def adapted_path(
    config: Config, vae: VAE, params: Params, key: Key, xs: Array
) -> AnnealingPath:
    """Return the path with the smallest step sizes of a pilot run on some digits."""
    path = AnnealingPath(
        num_temperatures=config.num_temperatures,
        num_leapfrog=NUM_LEAPFROG,
        initial=vaejax.estimators.start_at_posterior,
    )
    pilot = partial(annealing.smallest_step_sizes, vae, path, config.num_chains)
    return path._replace(step_sizes=jax.jit(pilot)(params, key, xs))


def over_examples(
    function: Callable[[Any], dict[str, Array]],
    examples: PyTree,
    name: str,
    check_interrupts: Callable[[], None],
) -> dict[str, np.ndarray]:
    """Apply a function a few examples at a time, with a progress bar.

    Returns:
      `{name: [examples]}`.
    """
    compiled = jax.jit(jax.vmap(function))
    found = [
        jax.device_get(compiled(part))
        for _, part in in_parts(examples, AT_ONCE, f"bounds, {name}", check_interrupts)
    ]
    return joined(found, axis=0)


def _result(
    config: Config,
    members: Members,
    history: list[dict],
    on_test: list,
    on_simulated: list,
    parts: list,
) -> harness.Result:
    """The numbers over seeds, with standard errors over examples of their mean."""

    def numbers(found: list[dict[str, np.ndarray]]) -> dict[str, dict[str, Any]]:
        return {
            name: averages.over_seeds(
                np.array([values[name].mean() for values in found]),
                standard_error_over_examples=_error([one[name] for one in found]),
            )
            for name in found[0]
        }

    test, simulated = numbers(on_test), numbers(on_simulated)
    # Trees of arrays come back in the order of the alphabet.
    test = {name: test[name] for name in NAMES}
    aggregate = _parts_of_kl(parts)
    steps = {
        f"{name} less ELBO": _difference(on_test, name)
        for name in (*WEIGHTED, *JACKKNIFES, HALVED, ANNEALED)
    }
    short = {
        f"{ANNEALED} less {name}": _difference(on_test, ANNEALED, name)
        for name in (*WEIGHTED, HALVED)
    }
    rows = [(name, *_cells(number)) for name, number in (test | steps | short).items()]
    rows += [
        (f"simulated: {name}", *_cells(number)) for name, number in simulated.items()
    ]
    # A capped estimate is no value of the model: what is known are its bounds.
    rows += [
        (f"{name.replace('_', ' ')}, {words} (all test digits)", *_cells(number[end]))
        for name, number in aggregate.items()
        for end, words in ENDS.items()
        if end in number
    ]
    rows.append(("kl (all test digits)", *_cells(aggregate["kl"])))
    best = test[ANNEALED]
    return harness.Result(
        summary={
            "units": "nats per example",
            "test": test,
            "less_elbo": steps,
            "annealed_less": short,
            "simulated": simulated,
        }
        | {
            "aggregate": aggregate,
            "aggregate_is_saturated": [bool(part.is_saturated) for part in parts],
            "num_examples": config.num_examples,
            "binarization": "dynamic",
        },
        headline=f"log p(x) {averages.text(best, 2)} nats by annealing, "
        f"{averages.text(test['ELBO'], 2)} by the ELBO",
        about=f"{config.num_examples} test digits and as many simulated; "
        f"{members.describe()}; nats per example; "
        f"annealing with {config.num_chains} chains of {config.num_temperatures:,} "
        "temperatures; ELBO of "
        f"{ELBO_SAMPLES:,} samples; the last column is the standard error over "
        "examples, of the mean over seeds",
        header=("bound", "log p(x), nats", "over examples"),
        rows=rows,
        figures=partial(_figures, history, test),
        captions={
            "kl_to_posterior": f"log p(x) by annealing less the ELBO, {FOLLOWED} test "
            "digits: KL(q(z|x) || p(z|x)) "
            "after every epoch.",
            "bounds": "Every bound on the same test digits, less the ELBO.",
        },
    )


def _parts_of_kl(parts: list[AggregateDecomposition]) -> dict[str, dict[str, Any]]:
    """The parts of the KL over seeds, four of them with `lower` and `upper`."""

    def over_seeds(estimates: list[MonteCarloMean], **about: Any) -> dict[str, Any]:
        return averages.over_seeds(
            np.array([float(estimate.value) for estimate in estimates]),
            standard_error=float(estimates[0].standard_error),
            **about,
        )

    def bounds(name: str) -> dict[str, dict[str, Any]]:
        return {
            end: over_seeds([getattr(getattr(part, end), name) for part in parts])
            for end in ENDS
        }

    numbers = {
        name: over_seeds([getattr(part, name) for part in parts], **bounds(name))
        for name in AggregateBounds._fields
    }
    return numbers | {"kl": over_seeds([part.kl for part in parts])}


def _difference(
    found: list[dict[str, np.ndarray]], name: str, other: str = "ELBO"
) -> dict[str, Any]:
    differences = [values[name] - values[other] for values in found]
    return averages.over_seeds(
        np.array([d.mean() for d in differences]),
        standard_error_over_examples=_error(differences),
    )


def _error(each: list[np.ndarray]) -> float:
    """The standard error over examples, `[examples]` of each seed, of the mean."""
    means = np.mean(each, axis=0)
    return float(np.std(means, ddof=1) / np.sqrt(len(means)))


def _cells(number: dict[str, Any]) -> tuple[str, str]:
    error = number.get("standard_error_over_examples", number.get("standard_error"))
    return averages.text(number, 3), f"± {error:.3f}"


def _figures(history: list[dict], test: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    values = np.asarray(
        [row["diagnostics"]["kl_to_posterior"] for row in history], float
    )

    def less_elbo(name: str) -> np.ndarray:
        return np.asarray(test[name]["values"]) - np.asarray(test["ELBO"]["values"])

    bounds = np.stack([less_elbo(name) for name in WEIGHTED])
    annealed = np.broadcast_to(less_elbo(ANNEALED), bounds.shape)
    return {
        "kl_to_posterior": plots.curves(
            [row["epoch"] for row in history],
            {"KL(q(z|x) || p(z|x))": values},
            xlabel="epoch",
            ylabel="log p(x) - ELBO (nats per example)",
        ),
        "bounds": plots.curves(
            COUNTS,
            {"importance-weighted": bounds, "annealed importance sampling": annealed},
            xlabel="importance samples",
            ylabel="bound less ELBO (nats per example)",
            log_x=True,
        ),
    }


if __name__ == "__main__":
    cli.train(Config, make_experiment, analyze)
