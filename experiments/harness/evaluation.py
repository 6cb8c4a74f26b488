"""The numbers of a test set, and their rows in a table.

They are the negative ELBO and its terms, importance-weighted NLL and latents in use.
Every test example draws from its own key, folded from its index, so that the batch size
of the evaluation changes nothing.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import vaejax
from experiments.harness import distributed, keys
from experiments.harness.experiment import ONLY, Experiment, Trained
from experiments.harness.members import MEMBERS_AT_ONCE, Members, in_pieces
from experiments.harness.units import CARRYING_KL, disagreement, units
from vaejax.base import Array, Example, Key, PyTree, batch_size_of
from vaejax.training import TrainState

# Posterior samples per test example for the ELBO and its terms; those of the NLL are
# the experiment's.
ELBO_SAMPLES = 10
# Pareto k above which neither the estimate of the NLL nor its error has converged
# (Vehtari et al. 2024).
DOUBTFUL_K = 0.7
# Examples mapped together: a thousand where one sample is decoded; few where many are,
# so that about a thousand decodes at a time stay in cache.
BATCH_SIZE, NLL_BATCH_SIZE, NLL_CHUNK_SIZE = 1000, 4, 250

# The numbers of a summary in the order of its table: label and meaning.
MEANINGS = {
    "negative_elbo": ("negative ELBO", "upper bound of -log p(x)"),
    "log_likelihood": ("expected log-likelihood", "E_q[log p(x|z)]"),
    "kl": ("KL", "KL(q(z|x) || p(z)), what the latents carry"),
    "nll": ("NLL", "-log p(x), importance-weighted upper bound"),
    "active_units": (
        "active units",
        "latents whose posterior mean has a variance above 0.01 over the test set",
    ),
    "units_by_kl": (
        f"units above {CARRYING_KL} nats",
        f"latents whose mean KL over the test set is above {CARRYING_KL} nats",
    ),
}
# Decimals of each number.
DIGITS = dict.fromkeys(MEANINGS, 2) | {"active_units": 1, "units_by_kl": 1}
ELBO_NUMBERS = ("negative_elbo", "log_likelihood", "kl")


def make_mean_elbo(
    experiment: Experiment, examples: PyTree, members: Members, at_once: int
) -> Callable[[TrainState], dict[str, list[float | None]]]:
    """Return a function of states: means of the ELBO and its terms over examples.

    One sample per example, with the same noise at every call; one mean per member.
    """

    def mean_terms(state: TrainState, examples: PyTree) -> vaejax.ElboTerms:
        terms_fn = partial(
            vaejax.elbo_terms, experiment.vae, state.params, kl_fn=experiment.kl_fn
        )
        key = jax.random.fold_in(state.key, keys.EPOCH_EVALUATION)
        return jax.tree.map(
            lambda leaf: jnp.mean(leaf, axis=0),
            _map_examples(terms_fn, key, 0, examples, BATCH_SIZE),
        )

    compiled = in_pieces(jax.jit(members.lift(mean_terms)), members.num, at_once)
    examples = jax.device_put(examples)

    def mean_elbo(states: TrainState) -> dict[str, list[float | None]]:
        means = members.stack(jax.device_get(compiled(states, examples)))
        return {name: plain(values) for name, values in _named(means).items()}

    return mean_elbo


def evaluate(trained: Trained, arm: str = ONLY) -> dict[str, np.ndarray]:
    """Return the numbers of every member of a model, `{name: [members]}`.

    They are in nats per example. `monte_carlo_error` is the standard error of the NLL
    that its importance samples leave, from the differences between two halves of them;
    the delta method of one example is far too small at the effective sample sizes of
    real models. It is NaN with one sample. `effective_sample_size` is the median over
    examples; `doubtful` is the share of examples whose Pareto k is above 0.7 or NaN; it
    is NaN itself where the samples are too few to tell, or the NLL is not finite.
    """
    experiment, members = trained.experiments[arm], trained.members
    states = trained.states[arm]

    def measure(
        state: TrainState, first: Array, examples: PyTree
    ) -> tuple[vaejax.ElboTerms, tuple[Array, ...]]:
        def one(key: Key, x: Example) -> tuple[vaejax.ElboTerms, tuple[Array, ...]]:
            elbo_key, marginal_key = jax.random.split(key)
            options = {"num_samples": ELBO_SAMPLES, "kl_fn": experiment.kl_fn}
            terms = vaejax.elbo_terms(
                experiment.vae, state.params, elbo_key, x, **options
            )
            return terms, log_marginal_in_halves(
                experiment.vae,
                state.params,
                marginal_key,
                x,
                num_samples=experiment.num_samples,
            )

        return _map_examples(
            one,
            jax.random.fold_in(state.key, keys.FINAL_EVALUATION),
            first,
            examples,
            NLL_BATCH_SIZE,
        )

    compiled = in_pieces(jax.jit(members.lift(measure)), members.num, MEMBERS_AT_ONCE)
    test = jax.device_put(experiment.test)
    num_examples, parts = batch_size_of(test), []
    with tqdm(
        total=num_examples,
        unit="example",
        dynamic_ncols=True,
        desc=f"NLL, {experiment.num_samples} samples",
        disable=not distributed.is_first(),
    ) as progress:
        for first in range(0, num_examples, BATCH_SIZE):
            examples = jax.tree.map(
                lambda leaf, first=first: leaf[first : first + BATCH_SIZE], test
            )
            parts.append(
                jax.device_get(members.stack(compiled(states, first, examples)))
            )
            progress.update(batch_size_of(examples))
            trained.check_interrupts()
    terms, (log_marginal, errors, sizes, ks) = jax.tree.map(
        lambda *leaves: np.concatenate(leaves, axis=1), *parts
    )
    means = jax.tree.map(lambda leaf: leaf.mean(axis=1), terms)
    nll = -log_marginal.mean(axis=1)
    active, by_kl = units(trained, arm, test)
    return _named(means) | {
        "nll": nll,
        "monte_carlo_error": np.sqrt(np.square(errors).sum(axis=1)) / num_examples,
        "effective_sample_size": np.median(sizes, axis=1),
        "doubtful": doubtful(ks, nll),
        "active_units": active,
        "units_by_kl": by_kl,
    }


def doubtful(ks: np.ndarray, nll: np.ndarray) -> np.ndarray:
    """Return the share of Pareto k that is not at most 0.7, of every member.

    Args:
      ks: `[members, examples]`; infinite where the samples are too few to tell.
      nll: `[members]`.

    Returns:
      `[members]`, NaN where no k can tell or the NLL is not finite.
    """
    unknown = np.isposinf(ks).all(axis=1) | ~np.isfinite(nll)
    return np.where(unknown, np.nan, np.mean(~(ks <= DOUBTFUL_K), axis=1))


def log_marginal_in_halves(
    vae: vaejax.VAE, params: PyTree, key: Key, x: Example, *, num_samples: int
) -> tuple[Array, Array, Array, Array]:
    """Return log p(x) of one example with its error from two halves of its samples.

    The samples are those of `vaejax.log_marginal` with one key for each half.

    Returns:
      The importance-weighted bound; its error, NaN with one sample; the effective
      sample size; and Pareto k. Both are of all samples.
    """
    counts = [
        count for count in (num_samples - num_samples // 2, num_samples // 2) if count
    ]
    halves = jnp.repeat(
        jax.random.split(key, len(counts)),
        np.array(counts),
        total_repeat_length=num_samples,
    )
    places = jnp.concatenate([jnp.arange(count, dtype=jnp.uint32) for count in counts])
    posterior, prior = vae.encode(params, x), vae.prior(params)

    def draw(sample: tuple[Key, Array]) -> Array:
        half, place = sample
        return vaejax.objectives.log_weight_given_posterior(
            vae, params, jax.random.fold_in(half, place), x, posterior, prior
        )

    log_weights = jax.lax.map(draw, (halves, places), batch_size=NLL_CHUNK_SIZE)
    parts = jnp.split(log_weights, np.cumsum(counts)[:-1])
    log_sums = jnp.stack([jax.nn.logsumexp(part) for part in parts])
    log_sum = jax.nn.logsumexp(log_sums)
    means = log_sums - jnp.log(jnp.array(counts, log_sums.dtype))
    error = jnp.abs(means[0] - means[-1]) * jnp.sqrt(
        jnp.sum(jnp.square(jax.nn.softmax(log_sums))) / 2
    )
    error = error if len(counts) > 1 else jnp.full_like(error, jnp.nan)
    size = jnp.exp(2 * log_sum - jax.nn.logsumexp(2 * log_weights))
    return (
        log_sum - jnp.log(num_samples),
        error,
        size,
        vaejax.estimators.pareto_k(log_weights),
    )


def summarize(
    numbers: dict[str, np.ndarray], experiment: Experiment
) -> dict[str, dict[str, Any]]:
    """Return the summary of the seeds of one setting.

    Each number is `{"mean", "std", "num_seeds", "values", ...}`.
    """
    about: dict[str, dict[str, Any]] = {
        name: {"num_samples": ELBO_SAMPLES} for name in ELBO_NUMBERS
    }
    if experiment.kl_fn is vaejax.kl_closed_form:
        about["kl"] = {"closed_form": True}
    finite = numbers["effective_sample_size"][
        np.isfinite(numbers["effective_sample_size"])
    ]
    errors = numbers["monte_carlo_error"][np.isfinite(numbers["monte_carlo_error"])]
    about["nll"] = {
        "num_samples": experiment.num_samples,
        "monte_carlo_error": float(np.max(errors)) if len(errors) else None,
        "effective_sample_size": float(np.median(finite)) if len(finite) else None,
        f"share_with_pareto_k_above_{DOUBTFUL_K}": _mean_or_none(numbers["doubtful"]),
    }
    summary = {
        name: over_seeds(numbers[name], **about.get(name, {})) for name in MEANINGS
    }
    summary["units_by_kl"] |= {"threshold": CARRYING_KL, "note": disagreement(summary)}
    return summary


def _mean_or_none(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(np.mean(finite)) if len(finite) else None


def over_seeds(values: np.ndarray, **about: Any) -> dict[str, Any]:
    """Return mean and std of a number over the seeds that have not diverged.

    The std is the sample standard deviation, None for a single seed; `about` is added.
    """
    values = np.asarray(values, float)
    finite = values[np.isfinite(values)]
    return {
        "mean": float(np.mean(finite)) if len(finite) else None,
        "std": float(np.std(finite, ddof=1)) if len(finite) > 1 else None,
        "num_seeds": len(finite),
        "num_diverged": len(values) - len(finite),
        "values": plain(values),
    } | about


def plain(values: np.ndarray) -> list:
    """Return an array as nested lists for JSON, with None in place of NaN."""
    found = np.asarray(values, object)
    found[~np.isfinite(values)] = None
    return found.tolist()


def text(number: dict[str, Any], digits: int, sign: str = "") -> str:
    """Return a number with its error bar, as text."""
    if number["mean"] is None:
        return "diverged"
    std = "" if number["std"] is None else f" ± {number['std']:.{digits}f}"
    diverged = f" ({number['num_diverged']} diverged)" if number["num_diverged"] else ""
    return f"{number['mean']:{sign}.{digits}f}{std}{diverged}"


def cells(
    numbers: Mapping[str, dict[str, Any]],
    digits: Mapping[str, int] = DIGITS,
    sign: str = "",
) -> list[str]:
    """Return a row of a table: the numbers in `digits`, with as many decimals.

    A number that is missing is blank.
    """
    return [
        text(numbers[name], decimals, sign) if name in numbers else ""
        for name, decimals in digits.items()
    ]


def rows(test: dict[str, dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return the rows of a summary: name, value with its error bar, and a note."""
    lines = []
    for name, (label, meaning) in MEANINGS.items():
        number = test[name]
        notes = [meaning]
        if number.get("closed_form"):
            notes.append("closed form")
        if "num_samples" in number:
            notes.append(f"{number['num_samples']} samples per example")
        if number.get("monte_carlo_error") is not None:
            notes.append(f"Monte-Carlo error {number['monte_carlo_error']:.3f}")
            notes.append(
                f"median effective sample size {number['effective_sample_size']:.1f}"
            )
        share = number.get(f"share_with_pareto_k_above_{DOUBTFUL_K}")
        if share is not None:
            notes.append(f"Pareto k above {DOUBTFUL_K} for {share:.0%} of examples")
        if number.get("note"):
            notes.append(number["note"])
        lines.append((label, text(number, DIGITS[name]), "; ".join(notes)))
    return lines


def _named(terms: vaejax.ElboTerms) -> dict[str, Any]:
    elbo = terms.log_likelihood - terms.kl
    return {
        "negative_elbo": -elbo,
        "log_likelihood": terms.log_likelihood,
        "kl": terms.kl,
    }


def _map_examples(
    function: Callable[[Key, Example], PyTree],
    key: Key,
    first: Any,
    examples: PyTree,
    batch_size: int,
) -> PyTree:
    num = batch_size_of(examples)
    keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(
        jnp.arange(num, dtype=jnp.uint32) + jnp.uint32(first)
    )
    return jax.lax.map(
        lambda example: function(*example), (keys, examples), batch_size=batch_size
    )
