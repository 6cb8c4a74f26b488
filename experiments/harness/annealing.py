"""The annealed log p(x) of a few test examples, which shows the bias of the NLL bound.

Annealed importance sampling starts at q(z|x) and bounds log p(x) from below, far more
tightly than importance sampling with as many decodes. The examples are the same for
every model of the same test set, and models of one seed share their keys, so that
differences between models are paired.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.harness import keys
from experiments.harness.errors import UsageError
from experiments.harness.experiment import ONLY, Experiment, Trained
from experiments.harness.members import MEMBERS_AT_ONCE, in_pieces, lift
from experiments.harness.parts import in_parts, joined
from vaejax import estimators
from vaejax.base import VAE, Array, Key, Params, PyTree, batch_size_of
from vaejax.training import TrainState

# Chains from q(z|x) of 250 temperatures and 3 leapfrog steps are within 0.05 nats of
# chains eight times as long, on digits; half the temperatures show what is left.
PATH = estimators.AnnealingPath(
    num_temperatures=250, num_leapfrog=3, initial=estimators.start_at_posterior
)
NUM_CHAINS = 4
# Examples of the pilot run that finds the step sizes, and simulated examples, whose
# log p(x) is enclosed from both sides.
NUM_PILOT, NUM_SIMULATED = 16, 16
# Examples mapped together.
AT_ONCE = 16
# Models of one run that are annealed, all settings and seeds together.
MOST_MODELS = 12


def examples_to_anneal(num_examples: int, num_annealed: int) -> np.ndarray:
    """Return the places of random test examples, the same for every run.

    Args:
      num_examples: the size of the test set.
      num_annealed: how many of them are wanted, at most; fewer are the first of more.

    Returns:
      `[min(num_annealed, num_examples)]`, each once.
    """
    key = jax.random.key(keys.ANNEALED_EXAMPLES)
    return np.asarray(jax.random.permutation(key, num_examples))[:num_annealed]


def members_to_anneal(trained: Trained) -> list[int]:
    """Return the members to anneal: of each setting the first seeds.

    They are as many as leave at most `MOST_MODELS` models in all, and at least one.
    """
    members = trained.members
    num_models = len(trained.experiments) * len(members.settings)
    num_seeds = min(members.num_seeds, max(1, MOST_MODELS // num_models))
    return [
        setting * members.num_seeds + seed
        for setting in range(len(members.settings))
        for seed in range(num_seeds)
    ]


def anneal(
    trained: Trained, arm: str = ONLY, members: Sequence[int] | None = None
) -> dict[str, np.ndarray]:
    """Return log p(x) by annealing of `experiment.num_annealed` test examples.

    The step sizes come from a pilot run with a key and, where there are enough,
    examples of its own; temperatures and chains are fixed beforehand.

    Args:
      trained: what was trained.
      arm: the name of a model.
      members: numbers of the members to anneal, by default `members_to_anneal`.

    Returns:
      In nats, NaN for the other members: `annealed`, `[members, examples]`, stochastic
      lower bounds; `annealed_error`, their Monte-Carlo errors; `annealed_half`, with
      half the temperatures; `simulated_lower` and `simulated_upper`,
      `[members, NUM_SIMULATED]`, bounds of examples drawn from the model; and
      `acceptance`, `[members, examples]`, of the transitions.
    """
    experiment = trained.experiments[arm]
    chosen = members_to_anneal(trained) if members is None else list(members)
    states = _states_of(trained, arm, chosen)
    num = len(chosen)
    xs, pilot_xs = examples_of(experiment, experiment.num_annealed)

    def compiled(function: Callable) -> Callable:
        return in_pieces(jax.jit(lift(function, num)), num, MEMBERS_AT_ONCE)

    step_sizes = compiled(partial(pilot, experiment, PATH, NUM_CHAINS))(
        states, pilot_xs
    )
    trained.check_interrupts()
    on_test = compiled(partial(of_test, experiment, PATH, NUM_CHAINS))
    on_simulated = compiled(partial(_of_simulated, experiment))
    parts = [
        jax.device_get(on_test((states, step_sizes), first, part))
        for first, part in in_parts(
            xs,
            AT_ONCE,
            f"annealing, {PATH.num_temperatures} temperatures",
            trained.check_interrupts,
        )
    ]
    simulated = jax.device_get(on_simulated((states, step_sizes)))
    trained.check_interrupts()
    found = joined(parts, axis=-1)
    return {
        name: _for_all_members(values, chosen, trained.members.num)
        for name, values in (found | simulated).items()
    }


def _states_of(trained: Trained, arm: str, chosen: list[int]) -> TrainState:
    """The states of some members, stacked where they are several."""
    if len(chosen) == 1:
        return trained.state(arm, chosen[0])
    return jax.tree.map(lambda leaf: leaf[np.asarray(chosen)], trained.states[arm])


def examples_of(experiment: Experiment, num_annealed: int) -> tuple[PyTree, PyTree]:
    """Return the test examples to anneal, and those of the pilot run."""
    num = experiment.num_test_examples
    places = examples_to_anneal(num, num)
    of_pilot = places[num_annealed:][:NUM_PILOT]
    # In a small test set the pilot run shares the examples, and not the keys.
    of_pilot = of_pilot if len(of_pilot) else places[:NUM_PILOT]
    return tuple(
        jax.tree.map(lambda leaf, at=at: jnp.asarray(leaf[at]), experiment.test)
        for at in (places[:num_annealed], of_pilot)
    )


def pilot(
    experiment: Experiment,
    path: estimators.AnnealingPath,
    num_chains: int,
    state: TrainState,
    xs: PyTree,
) -> Array:
    """Return the step sizes of one model; see `smallest_step_sizes`."""
    key = jax.random.fold_in(state.key, keys.ANNEALING_PILOT)
    return smallest_step_sizes(experiment.vae, path, num_chains, state.params, key, xs)


def smallest_step_sizes(
    vae: VAE,
    path: estimators.AnnealingPath,
    num_chains: int,
    params: Params,
    key: Key,
    xs: PyTree,
) -> Array:
    """Return the smallest of the step sizes of some examples, one per temperature.

    Posteriors differ in width: the mean leaves the narrow ones with few acceptances.
    """
    adapt = partial(estimators.adapt_step_sizes, vae, path=path, num_chains=num_chains)
    each = jax.random.split(key, batch_size_of(xs))
    return jnp.min(jax.vmap(adapt, in_axes=(None, 0, 0))(params, each, xs), axis=0)


def halved(path: estimators.AnnealingPath) -> estimators.AnnealingPath:
    """Return a path with half the temperatures, an even number, and their step sizes.

    They are those of every second temperature.
    """
    assert path.step_sizes is not None
    return path._replace(
        num_temperatures=path.num_temperatures // 2, step_sizes=path.step_sizes[1::2]
    )


def check_temperatures(num_temperatures: int) -> None:
    """Raise UsageError unless the number of temperatures can be halved."""
    if num_temperatures % 2:
        raise UsageError(
            f"--num-temperatures is {num_temperatures}; give an even number, since "
            "half of them are tried too."
        )


def of_test(
    experiment: Experiment,
    path: estimators.AnnealingPath,
    num_chains: int,
    carried: tuple[TrainState, Array],
    first: Array,
    xs: PyTree,
) -> dict[str, Array]:
    """Return the annealed values of some examples, whose numbers begin with `first`.

    `path` has an even number of temperatures; its step sizes are those carried.
    """
    (state, step_sizes), vae = carried, experiment.vae
    key = jax.random.fold_in(state.key, keys.ANNEALING)
    whole_path = path._replace(step_sizes=step_sizes)

    def one(number: Array, x: PyTree) -> dict[str, Array]:
        whole_key, half_key = jax.random.split(jax.random.fold_in(key, number))
        run = partial(
            estimators.annealed_importance_sampling, vae, num_chains=num_chains
        )
        whole = run(state.params, whole_key, x, path=whole_path)
        shorter = run(state.params, half_key, x, path=halved(whole_path))
        return {
            "annealed": whole.log_marginal,
            "annealed_error": whole.standard_error,
            "annealed_half": shorter.log_marginal,
            "acceptance": whole.acceptance_rate,
        }

    numbers = jnp.arange(batch_size_of(xs), dtype=jnp.uint32) + jnp.uint32(first)
    return jax.vmap(one)(numbers, xs)


def _of_simulated(
    experiment: Experiment, carried: tuple[TrainState, Array]
) -> dict[str, Array]:
    state, step_sizes = carried
    key: Key = jax.random.fold_in(state.key, keys.ANNEALING_SIMULATED)
    run = partial(
        estimators.bidirectional_monte_carlo,
        experiment.vae,
        path=PATH._replace(step_sizes=step_sizes),
        num_chains=NUM_CHAINS,
    )
    found = jax.vmap(run, in_axes=(None, 0))(
        state.params, jax.random.split(key, NUM_SIMULATED)
    )
    return {"simulated_lower": found.lower, "simulated_upper": found.upper}


def _for_all_members(values: Any, chosen: list[int], num_members: int) -> np.ndarray:
    """The values at the members that were annealed, and NaN at the others."""
    values = np.asarray(values, float).reshape(len(chosen), -1)
    found = np.full((num_members, values.shape[1]), np.nan)
    found[chosen] = values
    return found
